/** What one replica of a release asks of a node. */

import { microserviceId, type MicroserviceKey, type ReplicaState } from '../model';
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
  readonly of: MicroserviceKey;
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
  /** Ports of the host that it uses, as `port/protocol`: a node can run it only once, and not beside who has one of them. */
  readonly hostPorts: readonly string[];
  /** Whether it keeps data in volumes, which stay on their node. */
  readonly keepsData: boolean;
}

/** Each once, in the order of their names. */
export const imagesOf = ({ containers }: ReleaseSpec): readonly string[] =>
  [...new Set(containers.map(({ image }) => image))].sort();

/** Whether a replica has its ports of the host: what has ended has given them back. */
export const holdsHostPorts = (state: ReplicaState | undefined): boolean =>
  state !== 'exited' && state !== 'broken';

/** Whether a replica keeps data in volumes, which stay on their node. */
export const keepsData = ({ containers }: ReleaseSpec): boolean =>
  containers.some(({ volumes }) => volumes.some(({ kind }) => kind === 'named'));

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

const neighboursOf = (project: string, affinities: readonly AffinitySpec[] = []): readonly Neighbour[] =>
  affinities.map(({ microservice: name, required }) => ({
    name,
    id: microserviceId({ project, name }),
    required,
  }));

/**
 * @param spec release that is to run
 * @param of whose it is; the microservices that it names are in the same project
 */
export const needsOf = (spec: ReleaseSpec, of: MicroserviceKey): ReplicaNeeds => {
  const { containers } = spec;
  const { project, name } = of;
  return {
    of: { project, name },
    cpus: sum(containers.map(({ cpusReserved }) => cpusReserved)),
    memoryBytes: sum(containers.map(({ memoryReservedBytes }) => memoryReservedBytes)),
    constraints: spec.constraints,
    near: neighboursOf(project, spec.near),
    apart: neighboursOf(project, spec.apart),
    images: imagesOf(spec),
    hostPorts: spec.hostNetwork
      ? containers.flatMap(({ ports }) => ports.map(({ port, protocol }) => `${port}/${protocol}`))
      : [],
    keepsData: keepsData(spec),
  };
};
