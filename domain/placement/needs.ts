/** What one replica of a release asks of a node. */

import { DEFAULT_PROJECT, microserviceId } from '../model';
import type { AffinitySpec, ReleaseSpec } from '../spec/schema';

/** Another microservice of the same project, beside which a replica has to run, or must not. */
export interface Neighbour {
  readonly name: string;
  /** `project/name` in lower case, as nodes count their replicas. */
  readonly id: string;
  /** Whether a node that is otherwise is no option, or only a worse one. */
  readonly required: boolean;
}

export interface ReplicaNeeds {
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Labels and attributes that the node has to have. */
  readonly constraints: Readonly<Record<string, string>>;
  /** Microservices whose replicas it goes to. */
  readonly near: readonly Neighbour[];
  /** Microservices whose replicas it keeps away from. */
  readonly apart: readonly Neighbour[];
  /** Images, each once, in the order of their names. */
  readonly images: readonly string[];
  /** Whether it uses ports of the host, so that a node can run it only once. */
  readonly hostPorts: boolean;
  /** Whether it keeps data in volumes, which stay on their node. */
  readonly keepsData: boolean;
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

const neighboursOf = (project: string, affinities: readonly AffinitySpec[] = []): readonly Neighbour[] =>
  affinities.map(({ microservice: name, required }) => ({
    name,
    id: microserviceId({ project, name }),
    required,
  }));

/**
 * @param spec release that is to run
 * @param project where the microservices are that it names
 */
export const needsOf = (spec: ReleaseSpec, project: string = DEFAULT_PROJECT): ReplicaNeeds => {
  const { containers } = spec;
  return {
    cpus: sum(containers.map(({ cpusReserved }) => cpusReserved)),
    memoryBytes: sum(containers.map(({ memoryReservedBytes }) => memoryReservedBytes)),
    constraints: spec.constraints,
    near: neighboursOf(project, spec.near),
    apart: neighboursOf(project, spec.apart),
    images: [...new Set(containers.map(({ image }) => image))].sort(),
    hostPorts: spec.hostNetwork && containers.some(({ ports }) => ports.length > 0),
    keepsData: containers.some(({ volumes }) => volumes.some(({ kind }) => kind === 'named')),
  };
};
