/** What one replica of a release asks of a node. */

import type { ReleaseSpec } from '../spec/schema';

export interface ReplicaNeeds {
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Labels that the node has to have. */
  readonly constraints: Readonly<Record<string, string>>;
  /** Images, each once, in the order of their names. */
  readonly images: readonly string[];
  /** Whether it uses ports of the host, so that a node can run it only once. */
  readonly hostPorts: boolean;
  /** Whether it keeps data in volumes, which stay on their node. */
  readonly keepsData: boolean;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** @param spec release that is to run */
export const needsOf = (spec: ReleaseSpec): ReplicaNeeds => {
  const { containers } = spec;
  return {
    cpus: sum(containers.map(({ cpusReserved }) => cpusReserved)),
    memoryBytes: sum(containers.map(({ memoryReservedBytes }) => memoryReservedBytes)),
    constraints: spec.constraints,
    images: [...new Set(containers.map(({ image }) => image))].sort(),
    hostPorts: spec.hostNetwork && containers.some(({ ports }) => ports.length > 0),
    keepsData: containers.some(({ volumes }) => volumes.some(({ kind }) => kind === 'named')),
  };
};
