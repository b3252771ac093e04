/**
 * Which nodes would take over when any one node is lost, so that they can have the images before. Pure.
 *
 * Invariants: the answer depends on the seed and on what is observed, not on the order in which it is listed; a node
 * that is not well, or is short of disk, is no spare.
 */

import { isUnstable } from '../flapping';
import { isOfRelease, type Desired, type ObservedReplica, type Snapshot } from '../model';
import { hasImage, withDigests } from '../release-images';
import { withMissingBuilds } from './builds';
import { needsOf } from './needs';
import { createPlacer } from './placer';

export interface Spare {
  readonly nodeId: string;
  /** Images of the release that it does not have, in the order of their names. */
  readonly images: readonly string[];
}

/** More would fill disks for what never happens; of the nodes that would do, the planner takes one that has the images. */
export const MAX_SPARES = 2;

const serves = ({ state }: ObservedReplica): boolean =>
  state === 'running' || state === 'starting' || state === 'unhealthy' || state === 'restarting';

/**
 * @param desired what runs now, as it should
 * @param snapshot what is observed
 * @param seed decides between nodes that are equal otherwise
 * @param nowMs the time, milliseconds since the epoch
 * @returns the nodes that would get the replacements, at most MAX_SPARES, those that serve for most losses first
 */
export const findSpares = (
  { project, name, release: asked, scale }: Desired,
  snapshot: Snapshot,
  seed: string,
  nowMs: number,
): readonly Spare[] => {
  const release = withDigests(asked);
  // A daemon belongs to its node: nothing of it starts elsewhere.
  if (scale === 0 || release.spec.daemon === true) return [];
  const { nodes, replicas } = withMissingBuilds(snapshot, release);
  const up = nodes.filter((node) => node.up);
  if (up.length < 2) return [];
  const upIds = new Set(up.map(({ id }) => id));
  const there = replicas.filter((one) => upIds.has(one.nodeId) && isOfRelease(one, release) && serves(one));
  const needs = needsOf(release.spec, { project, name });
  const losses = new Map<string, number>();
  for (const lost of [...new Set(there.map(({ nodeId }) => nodeId))].sort()) {
    const staying = there.filter(({ nodeId }) => nodeId !== lost);
    const placer = createPlacer({
      nodes: up.filter(({ id }) => id !== lost),
      observed: staying,
      staying,
      needs,
      refusals: {},
      seed,
      nowMs,
    });
    const chosen = new Set<string>();
    for (let missing = there.length - staying.length; missing > 0; missing -= 1) {
      const nodeId = placer.place();
      if (nodeId === undefined) break;
      chosen.add(nodeId);
    }
    for (const nodeId of chosen) losses.set(nodeId, (losses.get(nodeId) ?? 0) + 1);
  }
  const kept = new Set(
    release.spec.containers.filter(({ pull }) => pull !== 'never').map(({ image }) => image),
  );
  return up
    .filter((node) => losses.has(node.id) && node.health === 'healthy' && !isUnstable(node, nowMs))
    .sort((left, right) => {
      const [leftLosses, rightLosses] = [losses.get(left.id) ?? 0, losses.get(right.id) ?? 0];
      if (leftLosses !== rightLosses) return rightLosses - leftLosses;
      return left.id < right.id ? -1 : 1;
    })
    .slice(0, MAX_SPARES)
    .map(({ id, images }) => ({
      nodeId: id,
      images: needs.images.filter((image) => kept.has(image) && !hasImage(new Set(images), image)),
    }));
};
