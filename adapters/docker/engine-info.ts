/** What the engine says of itself and its images. */

import type Docker from 'dockerode';

import { SANDBOX_IMAGE } from './container-config';
import { imageArchitecture } from './sandbox-image';

const TIMEOUT_MS = 10_000;

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
    docker.info as unknown as (options: { abortSignal: AbortSignal }) => Promise<RawInfo>
  ).call(docker, { abortSignal: AbortSignal.timeout(TIMEOUT_MS) });
  return {
    cpus: info.NCPU,
    memoryBytes: info.MemTotal,
    architecture: imageArchitecture(info.Architecture),
    version: info.ServerVersion,
    rootDir: info.DockerRootDir,
  };
};

/** Every reference that names an image of the engine; `name:latest` also as `name`. */
export const listImageReferences = async (docker: Docker): Promise<string[]> => {
  const images = await docker.listImages({ abortSignal: AbortSignal.timeout(TIMEOUT_MS) });
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
