/**
 * How a daemon's replicas come to be on every node that wants one, and how they are renewed.
 *
 * Invariants: a replica is renewed on its own node, the old one stops before the new one starts (it may use ports of
 * the machine); no more nodes are without a running one at a time than `maxUnavailable` allows, but one at least; a
 * node that has no room for the new one keeps the old one; old ones on nodes that want none go last of all.
 */

import { groupBy } from './group-by';
import { isOfRelease, type ObservedReplica } from './model';
import type { Batch, RolloutContext, StartStep } from './rollout';
import { OLD_RANKS, oldRank } from './old-rank';
import { byId, type Doomed } from './reconcile';

export interface DaemonRollout {
  readonly batches: readonly Batch[];
  /** Nodes that want one and have no room for it. */
  readonly unplaced: number;
}

/** @param unavailable how many nodes may be without a running one at a time, of so many that have one */
export const planDaemon = (
  { request, buckets, placer, nextId }: RolloutContext,
  awaited: readonly StartStep[],
  unavailable: (scale: number) => number,
): DaemonRollout => {
  const { outdated, broken, surplus } = buckets;
  const wanting = new Set(buckets.missingOn);
  const release = request.desired.release.number;
  const oldOn = groupBy(outdated, ({ nodeId }) => nodeId);
  const had = new Set([...outdated, ...broken.map(({ replica }) => replica)].map(({ nodeId }) => nodeId));

  // Old ones that nobody wants where they are may be all that serves until the new ones do.
  const serves = ({ replica, reason }: Doomed): boolean =>
    reason === 'surplus' && replica.state === 'running' && !isOfRelease(replica, request.desired.release);
  const gone = [...broken, ...surplus.filter((one) => !serves(one))];
  for (const { replica } of gone) placer.free(replica);
  const start = (nodeId: string): StartStep | undefined =>
    placer.placeOn(nodeId, had.has(nodeId))
      ? { kind: 'start', nodeId, replicaId: nextId(), release }
      : undefined;
  const fresh = [...wanting].filter((nodeId) => !oldOn.has(nodeId));
  const starts = fresh.map(start).filter((step) => step !== undefined);
  const asOutdated = (replica: ObservedReplica): Doomed => ({ replica, reason: 'outdated' });
  // A node whose new one runs already only has to lose the old one.
  const done = outdated.filter(({ nodeId }) => !wanting.has(nodeId)).map(asOutdated);

  interface Renewal {
    readonly doomed: readonly Doomed[];
    readonly step: StartStep;
  }
  const rankOf = (olds: readonly ObservedReplica[]): number =>
    Math.max(...olds.map(({ state }) => OLD_RANKS.indexOf(oldRank(state))));
  const renewals = [...oldOn]
    .filter(([nodeId]) => wanting.has(nodeId))
    .sort(([leftId, left], [rightId, right]) =>
      rankOf(left) !== rankOf(right) ? rankOf(left) - rankOf(right) : leftId < rightId ? -1 : 1,
    )
    .map(([nodeId, olds]): Renewal | undefined => {
      for (const old of olds) placer.free(old);
      const step = start(nodeId);
      return step && { step, doomed: [...olds].sort(byId).map(asOutdated) };
    })
    .filter((renewal) => renewal !== undefined);

  const unplaced = wanting.size - starts.length - renewals.length;
  const reached = buckets.keep.length + buckets.starting.length + starts.length + renewals.length;
  const atOnce =
    request.desired.release.spec.update.strategy === 'recreate'
      ? Math.max(1, renewals.length)
      : Math.max(1, unavailable(reached));
  const batches: Batch[] = [
    { kind: 'stop', doomed: gone },
    { kind: 'start', steps: [...awaited, ...starts] },
    { kind: 'stop', doomed: done },
  ];
  for (let index = 0; index < renewals.length; index += atOnce) {
    const group = renewals.slice(index, index + atOnce);
    batches.push({ kind: 'stop', doomed: group.flatMap(({ doomed }) => doomed) });
    batches.push({ kind: 'start', steps: group.map(({ step }) => step) });
  }
  batches.push({ kind: 'stop', doomed: surplus.filter(serves) });
  return { batches, unplaced };
};
