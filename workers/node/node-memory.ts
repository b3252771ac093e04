/**
 * The replicas that run on this node or should, as this process knows them. Docker's labels are what it is made from
 * after a restart.
 */

import type { FoundContainer } from '../../adapters/docker/engine-containers';
import type { KnownReplica } from '../../adapters/docker/replica-containers';
import type { StartReplica } from '../../contracts/activities';
import { LABEL } from '../../contracts/docker';
import { createUpkeep, type ContainerUpkeep } from './upkeep';

export type ReplicaPhase =
  /** An activity is starting it. */
  | 'starting'
  /** The keeper keeps it. */
  | 'kept'
  /** It did not become ready; it is left as it is until somebody stops it. */
  | 'failed'
  /** Its removal has begun, by an activity of this process or an earlier one; an activity has to finish it. */
  | 'stopping';

export interface NodeReplica extends KnownReplica {
  /** As its document says, once that is known; before, when its first container was made. */
  createdAtMs: number;
  phase: ReplicaPhase;
  /** Why it failed. */
  failure?: string;
  /** Attempts in a row to make, start or attach what was missing, all in vain. */
  mendFailures: number;
  /** Runs of its containers beyond their first. */
  restartCount: number;
  /** The container whose network the replica uses, as of the last look. */
  networkOwnerId?: string | undefined;
  /** It was stopped because it had no lease: whatever it ended with, it did not end by itself. */
  isHalted?: boolean;
  /** An activity has seen all of it to serve, and nothing has happened to it since. */
  isJustSeen: boolean;
  /** By the container's name. */
  readonly upkeeps: Map<string, ContainerUpkeep>;
}

export type NodeMemory = Map<string, NodeReplica>;

export const rememberReplica = (
  memory: NodeMemory,
  spec: StartReplica,
  createdAtMs: number,
  phase: ReplicaPhase,
): NodeReplica => {
  const known = memory.get(spec.replicaId);
  if (known !== undefined) return known;
  const replica: NodeReplica = {
    spec,
    createdAtMs,
    hostPorts: new Map(),
    phase,
    mendFailures: 0,
    restartCount: 0,
    isJustSeen: false,
    upkeeps: new Map(),
  };
  memory.set(spec.replicaId, replica);
  return replica;
};

export const upkeepOf = (replica: NodeReplica, container: string): ContainerUpkeep => {
  const known = replica.upkeeps.get(container);
  if (known !== undefined) return known;
  const upkeep = createUpkeep();
  replica.upkeeps.set(container, upkeep);
  return upkeep;
};

/** The specification in a container's labels; undefined when there is none that can be read. */
export const specFromLabels = (labels: FoundContainer['labels']): StartReplica | undefined => {
  try {
    const spec = JSON.parse(labels[LABEL.replicaSpec] ?? '') as Partial<StartReplica>;
    const isWhole =
      spec.replicaId === labels[LABEL.replica] &&
      typeof spec.name === 'string' &&
      Array.isArray(spec.release?.spec.containers);
    return isWhole ? (spec as StartReplica) : undefined;
  } catch {
    return undefined;
  }
};

export const groupByReplica = (
  found: readonly FoundContainer[],
): ReadonlyMap<string, readonly FoundContainer[]> => {
  const groups = new Map<string, FoundContainer[]>();
  for (const container of found) {
    const replicaId = container.labels[LABEL.replica];
    if (replicaId === undefined) continue;
    const group = groups.get(replicaId);
    if (group === undefined) groups.set(replicaId, [container]);
    else group.push(container);
  }
  return groups;
};
