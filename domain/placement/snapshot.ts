/** Nodes as the planner sees them, from what they, their replicas and their operators published. Pure. */

import type { LostWithAll } from '../flapping';
import {
  isSameMicroservice,
  microserviceId,
  type MicroserviceKey,
  type NodeAvailability,
  type ObservedNode,
  type ObservedReplica,
  type SnapshotNode,
} from '../model';

import { holdsHostPorts } from './needs';

/** What is known of nodes from elsewhere than themselves. */
export interface NodeKnowledge {
  /** Whether Consul's membership holds the node for alive. */
  readonly isUp: (nodeId: string) => boolean;
  /** What its operator said; undefined when nothing. */
  readonly availabilityOf: (nodeId: string) => NodeAvailability | undefined;
  /** Until when it counts as one that comes and goes, milliseconds since the epoch; undefined when it is calm. */
  readonly unstableUntilMs: (nodeId: string) => number | undefined;
  /** When it was back after its last loss, milliseconds since the epoch; undefined when none is remembered. */
  readonly returnedAtMs: (nodeId: string) => number | undefined;
  /** When another node was alone; undefined when it is not back from a loss of all nodes at once. */
  readonly lostWithAll: (nodeId: string) => LostWithAll | undefined;
}

interface Sums {
  cpus: number;
  memoryBytes: number;
  count: number;
  movable: number;
  readonly microservices: Record<string, number>;
  readonly hostPorts: Record<string, MicroserviceKey[]>;
}

const noSums = (): Sums => ({
  cpus: 0,
  memoryBytes: 0,
  count: 0,
  movable: 0,
  microservices: {},
  hostPorts: {},
});

/** Whether a drain of its node waits for it; what has ended does nothing any more that could move. */
export const isMovable = ({ daemon, state }: ObservedReplica): boolean =>
  daemon !== true && state !== 'exited';

const addHostPorts = (
  all: Record<string, MicroserviceKey[]>,
  { project, name, state, ports }: ObservedReplica,
): void => {
  if (!holdsHostPorts(state)) return;
  for (const { hostPort, protocol } of ports) {
    const users = (all[`${hostPort}/${protocol}`] ??= []);
    if (!users.some((one) => isSameMicroservice(one, { project, name }))) users.push({ project, name });
  }
};

/** @param replicas those of every microservice */
export const snapshotNodes = (
  nodes: readonly ObservedNode[],
  replicas: readonly ObservedReplica[],
  known: NodeKnowledge,
): readonly SnapshotNode[] => {
  const sums = new Map<string, Sums>();
  for (const replica of replicas) {
    const sum = sums.get(replica.nodeId) ?? noSums();
    sums.set(replica.nodeId, sum);
    const id = microserviceId(replica);
    sum.cpus += replica.cpusReserved;
    sum.memoryBytes += replica.memoryReservedBytes;
    sum.count += 1;
    if (isMovable(replica)) sum.movable += 1;
    sum.microservices[id] = (sum.microservices[id] ?? 0) + 1;
    addHostPorts(sum.hostPorts, replica);
  }
  return nodes.map((node) => {
    const sum = sums.get(node.id) ?? noSums();
    const unstableUntilMs = known.unstableUntilMs(node.id);
    const returnedAtMs = known.returnedAtMs(node.id);
    const lostWithAll = known.lostWithAll(node.id);
    return {
      ...node,
      up: known.isUp(node.id),
      availability: known.availabilityOf(node.id) ?? 'active',
      ...(unstableUntilMs === undefined ? {} : { unstableUntilMs }),
      ...(returnedAtMs === undefined ? {} : { returnedAtMs }),
      ...(lostWithAll === undefined ? {} : { lostWithAll }),
      cpusReserved: sum.cpus,
      memoryReservedBytes: sum.memoryBytes,
      replicaCount: sum.count,
      microservices: sum.microservices,
      hostPorts: sum.hostPorts,
      movableReplicas: sum.movable,
    };
  });
};

/** Nodes on which nothing can be started or stopped, as their Docker Engines do not answer. */
export const enginelessNodes = (
  nodes: readonly Pick<SnapshotNode, 'id' | 'engineLostAtMs'>[],
): ReadonlySet<string> =>
  new Set(nodes.filter(({ engineLostAtMs }) => engineLostAtMs !== undefined).map(({ id }) => id));
