/**
 * From buckets to ordered phases: how the observed state becomes the desired one without an outage.
 *
 * Invariants, for the strategy `rolling` and under the assumption that each phase succeeds before the next begins:
 * - no fewer than scale - maxUnavailable replicas run at any time, or as many as did at first if that was less;
 * - no more than scale + maxSurge exist, or as many as did at first; broken ones do not count;
 * - of those that serve and are to be elsewhere, no more stop than have started there, also without surge: then one
 *   more than the scale exists meanwhile;
 * - images are pulled before anything is started or stopped;
 * - a change of scale alone is one phase: all that is missing starts, or all that is surplus stops; what is still
 *   starting from before is then waited for.
 * With `recreate` no old replica is left when the first new one starts. Daemons: daemon-rollout.ts.
 */

import { planDaemon } from './daemon-rollout';
import { shortId } from './hash';
import type { ObservedReplica, Phase, PlanRequest, Snapshot, Step } from './model';
import { OLD_RANKS, oldRank } from './old-rank';
import { hasDigest, hasImage } from './release-images';
import type { Placer } from './placement/placer';
import { scaleIn, type Buckets, type Doomed } from './reconcile';
import type { CountOrPercent, ReleaseSpec } from './spec/schema';

export type StartStep = Extract<Step, { kind: 'start' }>;

export interface UpdateLimits {
  /** How many replicas may exist at once. */
  readonly maxTotal: number;
  /** How many have to run at any time. */
  readonly minRunning: number;
}

const resolve = (count: CountOrPercent, scale: number, round: (value: number) => number): number =>
  count.kind === 'count' ? count.count : round((scale * count.percent) / 100);

const unavailableOf = ({ update }: ReleaseSpec, scale: number): number =>
  Math.min(scale, resolve(update.maxUnavailable, scale, Math.floor));

/**
 * @param spec release that is rolled out
 * @param scale replicas desired
 */
export const limitsOf = (spec: ReleaseSpec, scale: number): UpdateLimits => {
  const surge = resolve(spec.update.maxSurge, scale, Math.ceil);
  const unavailable = unavailableOf(spec, scale);
  // 25% of one replica is none: without any room nothing could ever change.
  const stuck = surge === 0 && unavailable === 0;
  return { maxTotal: scale + surge, minRunning: Math.max(0, scale - (stuck ? 1 : unavailable)) };
};

/** Ids that are stable for a request, and that nothing observed has. */
const createIdSource = ({ seed, operation, attempt, desired }: PlanRequest, snapshot: Snapshot) => {
  const taken = new Set(snapshot.replicas.map(({ id }) => id));
  let index = 0;
  return (): string => {
    for (let salt = 0; ; salt += 1) {
      const id = `${desired.name}-${shortId(`${seed}/${operation}/${attempt}/${index}/${salt}`)}`;
      if (taken.has(id)) continue;
      taken.add(id);
      index += 1;
      return id;
    }
  };
};

const byStep = (left: StartStep | StopStep, right: StartStep | StopStep): number =>
  left.nodeId !== right.nodeId
    ? left.nodeId < right.nodeId
      ? -1
      : 1
    : left.replicaId < right.replicaId
      ? -1
      : left.replicaId > right.replicaId
        ? 1
        : 0;
type StopStep = Extract<Step, { kind: 'stop' }>;

const startPhase = (steps: readonly StartStep[]): Phase => ({
  kind: 'start',
  steps: [...steps].sort(byStep),
});

const stopPhase = (doomed: readonly Doomed[]): Phase => ({
  kind: 'stop',
  steps: doomed
    .map(({ replica, reason }): StopStep => ({
      kind: 'stop',
      nodeId: replica.nodeId,
      replicaId: replica.id,
      reason,
    }))
    .sort(byStep),
});

/** One phase of starts, or of stops, before it is written down. */
export type Batch =
  | { readonly kind: 'start'; readonly steps: readonly StartStep[] }
  | { readonly kind: 'stop'; readonly doomed: readonly Doomed[] };

export interface Rollout {
  readonly phases: readonly Phase[];
  readonly unplaced: number;
}

/** What one rollout is planned with. */
export interface RolloutContext {
  readonly request: PlanRequest;
  readonly buckets: Buckets;
  readonly placer: Placer;
  readonly nextId: () => string;
  /** How many replicas there have to be. */
  readonly scale: number;
}

const placeUpTo = (
  { request, buckets, placer, nextId }: RolloutContext,
  count: number,
): readonly StartStep[] => {
  const steps: StartStep[] = [];
  while (steps.length < count) {
    const { moveTo } = buckets;
    const nodeId = moveTo === undefined ? placer.place() : placer.placeOn(moveTo, false) ? moveTo : undefined;
    if (nodeId === undefined) break;
    steps.push({ kind: 'start', nodeId, replicaId: nextId(), release: request.desired.release.number });
  }
  return steps;
};

const asOutdated = (replica: ObservedReplica): Doomed => ({ replica, reason: 'outdated' });

/**
 * Replicas that exist, and have to be ready before the operation has succeeded. A reschedule leaves what its nodes are
 * mending to them; an operation that brings a release answers for all of its replicas.
 */
const awaitedOf = ({ kind }: PlanRequest, { starting, outdated }: Buckets): readonly ObservedReplica[] => {
  if (outdated.length > 0) return starting;
  switch (kind) {
    case 'deploy':
    case 'restart':
    case 'rollback':
      return starting;
    case 'scale':
      return starting.filter(({ state }) => state === 'starting');
    case 'reschedule':
    case 'remove':
      return [];
  }
};

/** Starting a replica that exists waits until it is ready. */
const awaitStep = ({ id, nodeId, release }: ObservedReplica): StartStep => ({
  kind: 'start',
  nodeId,
  replicaId: id,
  release,
});

const planRecreate = (context: RolloutContext): { batches: readonly Batch[]; unplaced: number } => {
  const { request, buckets, placer } = context;
  const gone = [...buckets.broken, ...buckets.surplus];
  const old = buckets.outdated.map(asOutdated);
  for (const { replica } of [...gone, ...old, ...buckets.moving]) placer.free(replica);
  const steps = placeUpTo(context, buckets.missing);
  const awaited = awaitedOf(request, buckets).map(awaitStep);
  // Where not one new replica would find a place, the old ones are better than nothing.
  const hopeless = steps.length === 0 && buckets.missing > 0;
  // Those on nodes that are being drained go when there is a place for the new one, and not before.
  const unplaced = buckets.missing - steps.length;
  const moved = buckets.moving.slice(0, Math.max(0, buckets.moving.length - unplaced));
  return {
    batches: [
      { kind: 'stop', doomed: hopeless ? gone : [...gone, ...old, ...moved] },
      { kind: 'start', steps: [...awaited, ...steps] },
    ],
    unplaced,
  };
};

const planRolling = (context: RolloutContext): { batches: readonly Batch[]; unplaced: number } => {
  const { request, buckets, placer, scale } = context;
  const limits = limitsOf(request.desired.release.spec, scale);
  const { minRunning } = limits;
  // Nothing is updated by a move: what an update may do without is not taken from it.
  const maxTotal = buckets.moving.length === 0 ? limits.maxTotal : Math.max(limits.maxTotal, scale + 1);
  const moves = new Set(buckets.moving);
  const replaced = [...buckets.outdated.map(asOutdated), ...buckets.moving];
  let old = OLD_RANKS.flatMap((rank) => replaced.filter(({ replica }) => oldRank(replica.state) === rank));
  const batches: Batch[] = [];

  let total = buckets.keep.length + buckets.starting.length + old.length;
  let running = buckets.keep.length + old.filter(({ replica }) => replica.state === 'running').length;
  let missing = buckets.missing;
  let free: readonly Doomed[] = [...buckets.broken, ...buckets.surplus];
  // A broken replica is in nobody's way, but its containers may still run: replacements that break as well must not
  // heap up, so only as many start before it has gone as the surge allows. The same goes for what an earlier drain has
  // started in vain.
  let lingering =
    buckets.broken.length + buckets.surplus.filter(({ replica }) => replica.state !== 'stopping').length;
  // Old replicas may go only once the new ones serve. Where there is nothing to wait with, what is surplus goes first.
  const isWaitedWith = old.length > 0 || missing > 0;
  let awaited = isWaitedWith ? awaitedOf(request, buckets) : [];

  /** How many of those that move have been replaced; what is missing otherwise comes first. */
  let moved = 0;
  const mayMove = () => moved < moves.size - Math.min(moves.size, missing);
  const mayStop = (one: Doomed): boolean => {
    const rank = oldRank(one.replica.state);
    if (rank !== 'idle' && moves.has(one) && !mayMove()) return false;
    switch (rank) {
      case 'idle':
        return true;
      case 'faltering':
        return total - 1 >= minRunning;
      case 'running':
        return running - 1 >= minRunning;
    }
  };

  for (;;) {
    const placed = placeUpTo(context, Math.min(missing, Math.max(0, maxTotal - total - lingering)));
    const steps = [...awaited.map(awaitStep), ...placed];
    running += steps.length;
    total += placed.length;
    missing -= placed.length;
    awaited = [];
    if (steps.length > 0) batches.push({ kind: 'start', steps });

    const doomed = [...free];
    free = [];
    lingering = 0;
    for (const next of old) {
      if (!mayStop(next)) continue;
      doomed.push(next);
      total -= 1;
      if (next.replica.state === 'running') running -= 1;
      if (moves.has(next)) moved += 1;
    }
    const going = new Set(doomed);
    old = old.filter((one) => !going.has(one));
    for (const { replica } of doomed) placer.free(replica);
    if (doomed.length > 0) batches.push({ kind: 'stop', doomed });
    if (steps.length === 0 && doomed.length === 0) break;
  }
  if (!isWaitedWith) batches.push({ kind: 'start', steps: awaitedOf(request, buckets).map(awaitStep) });

  // What was stopped to make room that did not suffice had better go on. Room that an outdated one gave may have been
  // taken by what started after it; where those that move were, nothing has started.
  let spared = Math.min(missing, Math.max(0, scale - total));
  for (let index = batches.length - 1; index >= 0 && spared > 0; index -= 1) {
    const batch = batches[index];
    if (batch?.kind !== 'stop') continue;
    const mayGoOn = new Set(index === batches.length - 1 ? replaced : buckets.moving);
    const kept = new Set(batch.doomed.filter((one) => mayGoOn.has(one)).slice(-spared));
    spared -= kept.size;
    batches[index] = { kind: 'stop', doomed: batch.doomed.filter((one) => !kept.has(one)) };
  }
  return { batches, unplaced: missing };
};

/** Images of the release that each node of the plan may have to get first. */
const planPulls = ({ request }: RolloutContext, snapshot: Snapshot, starts: readonly StartStep[]): Phase => {
  const existing = new Set(snapshot.replicas.map(({ id }) => id));
  const nodeIds = new Set(
    starts.filter(({ replicaId }) => !existing.has(replicaId)).map(({ nodeId }) => nodeId),
  );
  const { number, spec } = request.desired.release;
  const steps = snapshot.nodes
    .filter(({ id }) => nodeIds.has(id))
    .map((node) => {
      const present = new Set(node.images);
      const needed = spec.containers.filter(
        ({ pull, image }) =>
          // What a digest names cannot have changed.
          (pull === 'always' && !hasDigest(image)) || (pull !== 'never' && !hasImage(present, image)),
      );
      const images = [...new Set(needed.map(({ image }) => image))].sort();
      return { kind: 'pull' as const, nodeId: node.id, images, release: number };
    })
    .filter(({ images }) => images.length > 0)
    .sort((left, right) => (left.nodeId < right.nodeId ? -1 : 1));
  return { kind: 'pull', steps };
};

/**
 * @param request what is desired
 * @param snapshot what is observed
 * @param buckets the two side by side
 * @param placer the account of the nodes, used up by this call
 */
export const planRollout = (
  request: PlanRequest,
  snapshot: Snapshot,
  buckets: Buckets,
  placer: Placer,
): Rollout => {
  const context: RolloutContext = {
    request,
    buckets,
    placer,
    nextId: createIdSource(request, snapshot),
    scale: scaleIn(request, snapshot),
  };
  const { spec } = request.desired.release;
  const planBatches = (): { batches: readonly Batch[]; unplaced: number } => {
    if (buckets.missingOn !== undefined) {
      return planDaemon(context, awaitedOf(request, buckets).map(awaitStep), (scale) =>
        unavailableOf(spec, scale),
      );
    }
    return spec.update.strategy === 'recreate' ? planRecreate(context) : planRolling(context);
  };
  const { batches, unplaced } = planBatches();
  const starts = batches.flatMap((batch) => (batch.kind === 'start' ? batch.steps : []));
  const phases = [
    planPulls(context, snapshot, starts),
    ...batches.map((batch) => (batch.kind === 'start' ? startPhase(batch.steps) : stopPhase(batch.doomed))),
  ];
  return { phases: phases.filter(({ steps }) => steps.length > 0), unplaced };
};
