/** What the engine says of itself and its images. */

import type Docker from 'dockerode';
import type { ImageInspectInfo } from 'dockerode';

import { SANDBOX_IMAGE } from './container-config';
import { engineReference } from '../../domain/release-images';
import { asUnavailable, isNotFound } from './docker-error';
import { quickLimit } from './limits';

export interface EngineInfo {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly architecture: string;
  readonly version: string;
  /** Where it keeps images and containers. */
  readonly rootDir: string;
}

interface RawInfo {
  readonly NCPU: number;
  readonly MemTotal: number;
  readonly Architecture: string;
  readonly ServerVersion: string;
  readonly DockerRootDir: string;
}

export const readEngineInfo = async (docker: Docker): Promise<EngineInfo> => {
  // The client's types know no signal here; its code does.
  const info = await (
    docker.info as unknown as (options: ReturnType<typeof quickLimit>) => Promise<RawInfo>
  ).call(docker, quickLimit());
  return {
    cpus: info.NCPU,
    memoryBytes: info.MemTotal,
    architecture: imageArchitecture(info.Architecture),
    version: info.ServerVersion,
    rootDir: info.DockerRootDir,
  };
};

/** Docker's name of a processor architecture, and uname's, as images name them. */
export const imageArchitecture = (architecture: string): string => {
  switch (architecture) {
    case 'x86_64':
      return 'amd64';
    case 'aarch64':
      return 'arm64';
    default:
      return architecture;
  }
};

/** @throws {ContainerOsError} `unavailable` when the engine does not answer */
export const inspectImage = async (docker: Docker, image: string): Promise<ImageInspectInfo | undefined> => {
  try {
    // The client's own method takes no signal.
    return await new Promise((resolve, reject) => {
      docker.modem.dial(
        {
          path: `/images/${engineReference(image)}/json`,
          method: 'GET',
          ...quickLimit(),
          statusCodes: { 200: true, 404: 'no such image', 500: 'server error' },
        },
        (error: Error | null, found: unknown) => {
          if (error === null) resolve(found as ImageInspectInfo);
          else reject(error);
        },
      );
    });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw asUnavailable(error);
  }
};

/**
 * What an image of the engine says that it is for.
 *
 * @returns undefined when it says nothing, or is not there
 * @throws {ContainerOsError} `unavailable` when the engine does not answer
 */
export const readImageArchitecture = async (docker: Docker, image: string): Promise<string | undefined> => {
  const found = await inspectImage(docker, image);
  return found === undefined || found.Architecture === '' ? undefined : found.Architecture;
};

interface Platform {
  readonly architecture?: string;
  readonly os?: string;
  readonly variant?: string;
}

/** "amd64", "arm/v7", "windows/amd64"; undefined of what is no program, as the papers of a build are. */
const platformWords = ({ architecture = '', os = '', variant = '' }: Platform): string | undefined => {
  if (architecture === '' || architecture === 'unknown') return undefined;
  return `${os === '' || os === 'linux' ? '' : `${os}/`}${architecture}${architecture === 'arm' && variant !== '' ? `/${variant}` : ''}`;
};

/**
 * Has the engine ask the registry for which platforms there are builds of an image.
 *
 * @param image with its tag or digest
 * @returns their architectures as words, sorted, each once
 * @throws when the engine or the registry does not answer, or does not have it
 */
export const readPlatforms = async (
  docker: Docker,
  image: string,
  auth: object | undefined,
  signal: AbortSignal,
): Promise<readonly string[]> => {
  const answer = await readDistribution(docker, image, auth, signal);
  const words = (answer.Platforms ?? []).map(platformWords).filter((one) => one !== undefined);
  return [...new Set(words)].sort();
};

/**
 * Has the engine ask the registry for the digest of an image: the one for all its architectures together.
 *
 * @param image with its tag
 * @throws when the engine or the registry does not answer, or does not have it
 */
export const readDigest = async (
  docker: Docker,
  image: string,
  auth: object | undefined,
  signal: AbortSignal,
): Promise<string> => {
  const { Descriptor } = await readDistribution(docker, image, auth, signal);
  return Descriptor.digest;
};

interface Distribution {
  readonly Descriptor: { readonly digest: string };
  readonly Platforms?: readonly Platform[] | null;
}

const readDistribution = (
  docker: Docker,
  image: string,
  auth: object | undefined,
  signal: AbortSignal,
): Promise<Distribution> => {
  const { abortSignal } = quickLimit();
  return new Promise((resolve, reject) => {
    docker.modem.dial(
      {
        path: `/distribution/${image}/json`,
        method: 'GET',
        ...(auth === undefined ? {} : { authconfig: auth }),
        abortSignal: AbortSignal.any([abortSignal, signal]),
        statusCodes: {
          200: true,
          401: 'no access',
          403: 'no access',
          404: 'no such image',
          500: 'server error',
        },
      },
      (error: Error | null, found: unknown) => {
        if (error === null) resolve(found as Distribution);
        else reject(error);
      },
    );
  });
};

/** Every reference that names an image of the engine; `name:latest` also as `name`. */
export const listImageReferences = async (docker: Docker): Promise<string[]> => {
  const images = await docker.listImages(quickLimit());
  const references = new Set<string>();
  for (const { RepoTags, RepoDigests } of images) {
    for (const reference of [...(RepoTags ?? []), ...(RepoDigests ?? [])]) {
      if (reference.includes('<none>') || reference === SANDBOX_IMAGE) continue;
      references.add(reference);
      if (reference.endsWith(':latest')) references.add(reference.slice(0, -':latest'.length));
    }
  }
  return [...references].sort();
};
