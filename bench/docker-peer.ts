// The Docker API called directly: the physical limit. It plans nothing, remembers nothing and checks nothing.
// Invariant: it makes the very containers that ContainerOS makes, by ContainerOS's own pure function.
import type Docker from 'dockerode';
import { containerConfig, portKey, type ContainerSettings } from '../adapters/docker/container-config';
import { LABEL } from '../contracts/docker';
import type { ReleaseSpec } from '../domain/spec/schema';
import type { DockerEngine } from '../test/support/engine';
import { findContainers, releaseSpecOf, type Bed } from './bed';
import { pooled, timed, untilServing, type Deployed, type Peer } from './peer';

/** Apart from ContainerOS's own range, and from the ports that the kernel and Swarm give away. */
const FIRST_PORT = 10_000;
const PORT_COUNT = 9_000;
const CLUSTER_ID = 'benchmark-of-direct-calls';

interface Running {
  readonly engine: DockerEngine;
  readonly container: Docker.Container;
  readonly endpoint: string;
}

let portsGiven = 0;
const nextPort = (): number => FIRST_PORT + (portsGiven++ % PORT_COUNT);

/** @param width how many calls are under way at a time, in equal parts on each engine */
export const createDockerPeer = (bed: Bed, width: number): Peer => {
  const { engines } = bed;
  const widthOfEach = width / engines.length;
  if (!Number.isInteger(widthOfEach)) throw new Error(`${width} calls cannot be spread evenly`);
  let containersGiven = 0;
  const nextEngine = (): DockerEngine => engines[containersGiven++ % engines.length] ?? engines[0];

  const startOne = async (
    engine: DockerEngine,
    name: string,
    replicaId: string,
    spec: ReleaseSpec,
  ): Promise<Running> => {
    const settings: ContainerSettings = {
      clusterId: CLUSTER_ID,
      nodeId: engine.hostname,
      advertiseAddress: bed.publishAddress(engine),
      hostCpus: 1,
      architecture: '',
    };
    const [container] = spec.containers;
    const [port] = container?.ports ?? [];
    if (container === undefined || port === undefined)
      throw new Error('the image has one container, one port');
    const hostPort = nextPort();
    const replica = {
      project: 'default',
      name,
      replicaId,
      release: { number: 1, spec, createdAtMs: Date.now() },
      operation: `deploy:default/${name}`,
    };
    const hostPorts = new Map([[portKey(port), hostPort]]);
    const made = await engine.docker.createContainer(
      containerConfig(replica, container, settings, hostPorts, undefined),
    );
    await made.start();
    return { engine, container: made, endpoint: bed.outside(`${settings.advertiseAddress}:${hostPort}`) };
  };

  /** All engines work at the same time, each with its part of the calls. */
  const onEachEngine = async <T extends { readonly engine: DockerEngine }, R>(
    items: readonly T[],
    work: (item: T) => Promise<R>,
  ): Promise<R[]> => {
    const parts = engines.map((engine) => items.filter((item) => item.engine === engine));
    return (await Promise.all(parts.map((part) => pooled(part, widthOfEach, work)))).flat();
  };

  /** Whoever has started one goes on with the next; that it serves is waited for beside it. */
  const startAll = async (
    wanted: readonly { readonly name: string; readonly id: string }[],
  ): Promise<Running[]> => {
    const waits: Promise<void>[] = [];
    const placed = wanted.map((one) => ({ ...one, engine: nextEngine() }));
    const running = await onEachEngine(placed, async ({ engine, name, id }) => {
      const one = await startOne(engine, name, id, releaseSpecOf(bed, name));
      waits.push(untilServing(one.endpoint));
      return one;
    });
    await Promise.all(waits);
    return running;
  };

  const named = (name: string, first: number, count: number) =>
    Array.from({ length: count }, (_, index) => ({ name, id: `${name}-${first + index}` }));

  const deploy = async (name: string, replicas: number): Promise<Deployed> => {
    let running = await startAll(named(name, 0, replicas));
    return {
      scale: async (count) => {
        const surplus = running.slice(count);
        running = running.slice(0, count);
        // Waiting for a container to end costs the engine nothing, so all are asked at once; removing does.
        await Promise.all(surplus.map(({ container }) => container.stop()));
        await onEachEngine(surplus, ({ container }) => container.remove({ v: true }));
        running.push(...(await startAll(named(name, running.length, count - running.length))));
      },
      killAndRecover: async () => {
        const [one] = running;
        if (one === undefined) throw new Error('nothing runs');
        const ended = one.container.wait({ condition: 'next-exit' });
        return {
          servesMs: await timed(async () => {
            await one.container.kill();
            await ended;
            await one.container.start();
            await untilServing(one.endpoint);
          }),
        };
      },
    };
  };

  return {
    id: `docker-${width}`,
    deploy,
    // There is no request to send: the calls themselves are what is bounded.
    deployMany: async (names) => {
      await startAll(names.map((name) => ({ name, id: `${name}-0` })));
    },
    clear: async () => {
      const found = await findContainers(bed, [`${LABEL.cluster}=${CLUSTER_ID}`]);
      await onEachEngine(found, ({ engine, container }) =>
        engine.docker.getContainer(container.Id).remove({ force: true, v: true }),
      );
    },
  };
};
