// Where everything is measured: test machines with a Docker Engine each, one image that is there already, and
// ContainerOS on them.
// Invariant: whatever ends the benchmark, the world's janitor removes all of it.
import type { ContainerInfo } from 'dockerode';
import { parseMicroserviceSpec } from '../domain/spec/parse';
import type { ReleaseSpec } from '../domain/spec/schema';
import { startCluster } from '../test/support/cluster/cluster';
import { startDockerEngine, type DockerEngine } from '../test/support/engine';
import { pullImage, webImage } from '../test/support/images';
import { startInstance, type Instance } from '../test/support/instance';
import { webSpec } from '../test/support/product';
import { ROLES, type ProductProcess, type Role } from '../test/support/product-process';
import { startRegistry, type Registry } from '../test/support/registry';

/** ContainerOS on one machine. */
export interface Installation {
  readonly engine: DockerEngine;
  readonly product: ProductProcess;
  readonly roles: readonly Role[];
}

export interface Bed {
  /** The first one's machine has ContainerOS's control plane, and Swarm's manager. */
  readonly engines: readonly [DockerEngine, ...DockerEngine[]];
  /** The way into ContainerOS. */
  readonly instance: Instance;
  /** On every machine, the first one's first. */
  readonly installations: readonly Installation[];
  /** As users write it. */
  readonly image: string;
  /** By its digest: with it Swarm too takes the image that is there, and asks no registry. */
  readonly imageDigest: string;
  /** Where ContainerOS, and so all others, publish the ports of an engine's containers. */
  publishAddress(engine: DockerEngine): string;
  /** Where an endpoint on the machine's loopback is reached from here. */
  outside(address: string): string;
  /** What ContainerOS has written, on all machines. */
  log(): string;
  dispose(): Promise<void>;
}

const HEAD_ROLES: readonly Role[] = ['supervisor', ...ROLES];
const MEMBER_ROLES: readonly Role[] = ['supervisor', 'consul', 'caddy', 'node'];

/** One machine, with `containeros up --dev`. */
export const startBed = async (): Promise<Bed> => {
  const engine = await startDockerEngine();
  let registry: Registry | undefined;
  try {
    registry = await startRegistry();
    const image = await registry.push(await webImage());
    const imageDigest = await pullEverywhere([engine], image);
    const instance = await startInstance({ engine });
    const running = registry;
    return {
      engines: [engine],
      instance,
      installations: [{ engine, product: instance, roles: HEAD_ROLES }],
      image,
      imageDigest,
      publishAddress: () => '127.0.0.1',
      outside: (address) => instance.outside(address),
      log: () => instance.log(),
      dispose: async () => {
        await instance.dispose().finally(() => Promise.all([engine.dispose(), running.dispose()]));
      },
    };
  } catch (error) {
    await Promise.all([engine.dispose(), registry?.dispose()]);
    throw error;
  }
};

/** Several machines in one network: `containeros up` on the first one, which the others have joined. */
export const startClusterBed = async (nodes: number, say: (line: string) => void): Promise<Bed> => {
  const cluster = await startCluster({ nodes, onProgress: say });
  try {
    const { head, instance } = cluster;
    const members = cluster.nodes.filter((node) => node !== head);
    const engines: Bed['engines'] = [head.engine, ...members.map(({ engine }) => engine)];
    const image = await cluster.web();
    const imageDigest = await pullEverywhere(engines, image);
    return {
      engines,
      instance,
      installations: [
        { engine: head.engine, product: instance, roles: HEAD_ROLES },
        ...members.map(({ engine, product }) => ({ engine, product, roles: MEMBER_ROLES })),
      ],
      image,
      imageDigest,
      publishAddress: ({ address }) => address,
      outside: (address) => instance.outside(address),
      log: () => cluster.nodes.map(({ name, product }) => `=== ${name}\n${product.log()}`).join('\n'),
      dispose: () => cluster.dispose(),
    };
  } catch (error) {
    await cluster.dispose();
    throw error;
  }
};

/** @returns the image by its digest */
const pullEverywhere = async (engines: readonly DockerEngine[], image: string): Promise<string> => {
  const digests = await Promise.all(
    engines.map(async ({ docker }) => {
      await pullImage(docker, image);
      return (await docker.getImage(image).inspect()).RepoDigests[0];
    }),
  );
  const [digest] = digests;
  if (digest === undefined) throw new Error(`${image} was pulled without a digest`);
  return digest;
};

export interface Placed {
  readonly engine: DockerEngine;
  readonly container: ContainerInfo;
}

/** Containers with these labels, on every engine. */
export const findContainers = async (
  { engines }: Pick<Bed, 'engines'>,
  labels: readonly string[],
  which: 'all' | 'running' = 'all',
): Promise<readonly Placed[]> => {
  const found = await Promise.all(
    engines.map(async (engine) => {
      const filters = { label: [...labels] };
      const containers = await engine.docker.listContainers({ all: which === 'all', filters });
      return containers.map((container) => ({ engine, container }));
    }),
  );
  return found.flat();
};

/** What ContainerOS is asked for: an image and a port, everything else as it is by default. */
export const specOf = (bed: Pick<Bed, 'image'>, name: string, scale: number): Record<string, unknown> =>
  webSpec(name, bed.image, { scale });

/** The same, with every default filled in. */
export const releaseSpecOf = (bed: Pick<Bed, 'image'>, name: string): ReleaseSpec => {
  const outcome = parseMicroserviceSpec(specOf(bed, name, 1), { allowHostAccess: false });
  if (outcome.kind === 'invalid') throw new Error(JSON.stringify(outcome.problems));
  return outcome.spec.release;
};
