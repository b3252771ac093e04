// Where everything is measured: one test machine with one Docker Engine, one image that is there already, and
// ContainerOS on it.
// Invariant: whatever ends the benchmark, the world's janitor removes all of it.
import { parseMicroserviceSpec } from '../domain/spec/parse';
import type { ReleaseSpec } from '../domain/spec/schema';
import { startDockerEngine, type DockerEngine } from '../test/support/engine';
import { pullImage, webImage } from '../test/support/images';
import { startInstance, type Instance } from '../test/support/instance';
import { webSpec } from '../test/support/product';
import { startRegistry, type Registry } from '../test/support/registry';

export interface Bed {
  readonly engine: DockerEngine;
  readonly instance: Instance;
  /** As users write it. */
  readonly image: string;
  /** By its digest: with it Swarm too takes the image that is there, and asks no registry. */
  readonly imageDigest: string;
  /** Where an endpoint on the machine's loopback is reached from here. */
  outside(address: string): string;
  dispose(): Promise<void>;
}

export const startBed = async (): Promise<Bed> => {
  const engine = await startDockerEngine();
  let registry: Registry | undefined;
  try {
    registry = await startRegistry();
    const image = await registry.push(await webImage());
    await pullImage(engine.docker, image);
    const imageDigest = (await engine.docker.getImage(image).inspect()).RepoDigests[0];
    if (imageDigest === undefined) throw new Error(`${image} was pulled without a digest`);
    const instance = await startInstance({ engine });
    const running = registry;
    return {
      engine,
      instance,
      image,
      imageDigest,
      outside: (address) => instance.outside(address),
      dispose: async () => {
        await instance.dispose().finally(() => Promise.all([engine.dispose(), running.dispose()]));
      },
    };
  } catch (error) {
    await Promise.all([engine.dispose(), registry?.dispose()]);
    throw error;
  }
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
