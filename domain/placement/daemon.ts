/**
 * On which nodes a daemon has its replica: one on every node that matches. Pure.
 *
 * Invariants: the answer depends on what is observed only, so whoever asks (planner, API) counts the same nodes; a
 * node that does not answer is not among them, so that what it loses is not made good elsewhere.
 */

import type { Release, Snapshot, SnapshotNode } from '../model';
import type { ReleaseSpec } from '../spec/schema';
import { unmetConstraints } from './constraints';

/**
 * What a node is to a daemon.
 * - `wanted`: it has to have a replica;
 * - `last`: it is being drained, and keeps its replica for as long as others are there;
 * - `none`: it has to have none.
 */
export type DaemonRole = 'wanted' | 'last' | 'none';

/** @param hasReplica whether one of the daemon's replicas is there */
export const daemonRole = (spec: ReleaseSpec, node: SnapshotNode, hasReplica: boolean): DaemonRole => {
  if (!node.up || unmetConstraints(node, spec.constraints).length > 0) return 'none';
  switch (node.availability) {
    case 'active':
      return 'wanted';
    case 'cordoned':
      // It takes nothing new; what it has is renewed where it is.
      return hasReplica ? 'wanted' : 'none';
    case 'draining':
      return hasReplica && node.movableReplicas > 0 ? 'last' : 'none';
  }
};

/** Whether a replica is there that works for its node, or is about to. */
const hasReplicaOn = ({ replicas }: Snapshot, nodeId: string): boolean =>
  replicas.some((replica) => replica.nodeId === nodeId && replica.state !== 'stopping');

/** @returns how many nodes have, or are to have, a replica of the daemon: what is shown as its scale */
export const daemonScale = ({ spec }: Pick<Release, 'spec'>, snapshot: Snapshot): number =>
  snapshot.nodes.filter((node) => daemonRole(spec, node, hasReplicaOn(snapshot, node.id)) !== 'none').length;

/** @returns the role of each node, by its id */
export const daemonRoles = (
  { spec }: Pick<Release, 'spec'>,
  snapshot: Snapshot,
): ReadonlyMap<string, DaemonRole> =>
  new Map(snapshot.nodes.map((node) => [node.id, daemonRole(spec, node, hasReplicaOn(snapshot, node.id))]));
