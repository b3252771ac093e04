/**
 * On which nodes a daemon has its replica: one on every node that matches. Pure.
 *
 * Invariants: the answer depends on what is observed only, so whoever asks (planner, API) counts the same nodes; a
 * node that does not answer, or whose Docker Engine does not, is not among them, so that what it loses is not made good
 * elsewhere.
 */

import type { Release, Snapshot, SnapshotNode } from '../model';
import type { ReleaseSpec } from '../spec/schema';
import { lackingBuilds } from './builds';
import { unmetConstraints } from './constraints';
import { imagesOf } from './needs';

/**
 * Whether a daemon has to have a replica on the node.
 *
 * @param hasReplica whether one of its replicas is there
 */
const wants = (spec: ReleaseSpec, node: SnapshotNode, hasReplica: boolean): boolean => {
  if (!node.up || node.engineLostAtMs !== undefined) return false;
  if (unmetConstraints(node, spec.constraints).length > 0) return false;
  switch (node.availability) {
    case 'active':
      return true;
    case 'cordoned':
      // It takes nothing new; what it has is renewed where it is.
      return hasReplica;
    case 'draining':
      // What serves its node goes after all others.
      return hasReplica && node.movableReplicas > 0;
  }
};

/** @returns ids of the nodes that have, or are to have, a replica of the daemon, in their order */
export const daemonNodes = (
  { spec, number }: Pick<Release, 'spec' | 'number'>,
  { nodes, replicas }: Snapshot,
): readonly string[] => {
  const has = new Set(replicas.filter(({ state }) => state !== 'stopping').map(({ nodeId }) => nodeId));
  const images = imagesOf(spec);
  const wanting = nodes.filter((node) => wants(spec, node, has.has(node.id)));
  // A node that it has no build for does without it. But no release takes it from a node that an earlier one runs on,
  // and when there is no node left, somebody has to be told why.
  const runs = new Set(replicas.filter(({ release }) => release <= number).map(({ nodeId }) => nodeId));
  const able = wanting.filter((node) => runs.has(node.id) || lackingBuilds(node, images).length === 0);
  return (able.length === 0 ? wanting : able).map(({ id }) => id).sort();
};

/** What is shown as the scale of a daemon: how many nodes have, or are to have, a replica of it. */
export const daemonScale = (release: Pick<Release, 'spec' | 'number'>, snapshot: Snapshot): number =>
  daemonNodes(release, snapshot).length;
