// A whole cluster on one machine: each node has a computer of its own as far as it can tell (machine.ts), a Docker
// Engine, and ContainerOS; the first one, the head, runs the control plane, and the others have joined it.
// Invariants: nodes are named node-1, node-2, … in every cluster, the head first; nothing of it outlives `dispose`, nor
// its owner's death (world.ts).
import { startDockerEngine, type DockerEngine, type DockerEngineOptions } from '../engine';
import { webImage } from '../images';
import { startInstance, type Instance, type InstancePassword } from '../instance';
import { cutBetween, healBetween, type Way } from '../links';
import { startRegistry, type Registry } from '../registry';
import { createClusterNode, prepareClock, type ClusterNode, type NodeClock } from './cluster-node';
import { startMember } from './member';

export interface ClusterOptions {
  /** How many, with the head. */
  readonly nodes: number;
  /** Of every engine. */
  readonly engine?: Omit<DockerEngineOptions, 'hostname'>;
  /** Further flags of `up` on the head. */
  readonly headFlags?: readonly string[];
  /** Further flags of `join`. */
  readonly memberFlags?: (name: string) => readonly string[];
  /** What the processes of ContainerOS find in their environment, on every node. */
  readonly env?: Readonly<Record<string, string>>;
  /** Lets `setClock` move the clocks. */
  readonly clocks?: boolean;
  /** Told of every step, in words. */
  readonly onProgress?: (text: string) => void;
}

export interface Cluster {
  readonly head: ClusterNode;
  /** All of them, the head first. */
  readonly nodes: readonly ClusterNode[];
  /** The way into the cluster: the head's API, with its password. */
  readonly instance: Instance;
  readonly registry: Registry;
  /** A reference to the web image with this tag, pushed to the registry. */
  readonly web: (tag?: string) => Promise<string>;
  /** @throws when there is none of that name */
  node(name: string): ClusterNode;
  /** Lets nothing pass between two nodes (links.ts), by their names. */
  cutBetween(from: string, to: string, way?: Way): Promise<void>;
  healBetween(from: string, to: string, way?: Way): Promise<void>;
  /** Takes back every fault of the network: pulled cables, cuts, delays. */
  healNetwork(): Promise<void>;
  /** One more machine joins. */
  addNode(): Promise<ClusterNode>;
  dispose(): Promise<void>;
}

const GENERATED: InstancePassword = { kind: 'generated' };

export async function startCluster(options: ClusterOptions): Promise<Cluster> {
  const { nodes: count, onProgress = () => undefined } = options;
  if (!Number.isInteger(count) || count < 1) throw new Error(`a cluster has one node at least, not ${count}`);
  const engines: DockerEngine[] = [];
  let registry: Registry | undefined;
  const disposeAll = async (): Promise<void> => {
    const ends = await Promise.allSettled([
      ...engines.map((engine) => engine.dispose()),
      registry?.dispose(),
    ]);
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
  };

  const startEngine = async (number: number): Promise<DockerEngine> => {
    const engine = await startDockerEngine({ ...options.engine, hostname: `node-${number}` });
    engines.push(engine);
    onProgress(`${engine.hostname} is there, with a Docker Engine, at ${engine.address}`);
    return engine;
  };
  const clockOf = (engine: DockerEngine): NodeClock | undefined =>
    options.clocks === true ? prepareClock(engine) : undefined;

  try {
    const started = await Promise.allSettled([
      startRegistry().then((made) => (registry = made)),
      ...Array.from({ length: count }, (_, i) => startEngine(i + 1)),
    ]);
    for (const outcome of started) if (outcome.status === 'rejected') throw outcome.reason;
    if (registry === undefined) throw new Error('the registry did not start');
    const images = registry;
    engines.sort((a, b) => numberOf(a) - numberOf(b));
    const [headEngine, ...others] = engines;
    if (headEngine === undefined) throw new Error('no engine started');

    const headClock = clockOf(headEngine);
    const instance = await startInstance({
      engine: headEngine,
      password: GENERATED,
      flags: [
        ...['--advertise-address', headEngine.address],
        ...['--node-name', headEngine.hostname],
        ...['--allowed-host', headEngine.loopbackAddress],
        ...(options.headFlags ?? []),
      ],
      env: { ...options.env, ...headClock?.env },
    });
    onProgress(`ContainerOS is ready on ${headEngine.hostname}`);

    const joinAs = async (engine: DockerEngine): Promise<ClusterNode> => {
      const clock = clockOf(engine);
      const product = await startMember({
        engine,
        head: instance,
        flags: options.memberFlags?.(engine.hostname) ?? [],
        env: { ...options.env, ...clock?.env },
      });
      onProgress(`${engine.hostname} has joined`);
      return createClusterNode(engine, product, clock);
    };

    const nodes: ClusterNode[] = [createClusterNode(headEngine, instance, headClock)];
    const joined = await Promise.allSettled(others.map(joinAs));
    for (const outcome of joined) {
      if (outcome.status === 'rejected') throw outcome.reason;
      nodes.push(outcome.value);
    }
    const [head] = nodes;
    if (head === undefined) throw new Error('no node started');

    const node = (name: string): ClusterNode => {
      const found = nodes.find((each) => each.name === name);
      if (found === undefined)
        throw new Error(`there is no node "${name}"; there are ${nodes.map((each) => each.name).join(', ')}`);
      return found;
    };

    const pushed = new Map<string, Promise<string>>();
    return {
      head,
      nodes,
      instance,
      registry: images,
      web: (tag = 'v1') => {
        const known = pushed.get(tag) ?? webImage(tag).then((image) => images.push(image));
        pushed.set(tag, known);
        return known;
      },
      node,
      cutBetween: (from, to, way) => cutBetween(node(from).engine, node(to).engine, way),
      healBetween: (from, to, way) => healBetween(node(from).engine, node(to).engine, way),
      healNetwork: async () => {
        for (const each of nodes) {
          await each.heal();
          await each.delay(0);
          for (const other of nodes) if (other !== each) await healBetween(each.engine, other.engine);
        }
      },
      addNode: async () => {
        const added = await joinAs(await startEngine(engines.length + 1));
        nodes.push(added);
        return added;
      },
      dispose: disposeAll,
    };
  } catch (error) {
    await disposeAll().catch((reason: unknown) => {
      (error as Error).message += `\nand then its machines could not be removed: ${String(reason)}`;
    });
    throw error;
  }
}

const numberOf = ({ hostname }: DockerEngine): number => Number(hostname.split('-')[1]);
