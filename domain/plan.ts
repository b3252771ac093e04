/**
 * The planner: from what is desired and what is observed to the typed steps between them.
 *
 * Invariants: pure (a request and a snapshot always give the same plan, in whatever order the snapshot lists
 * things); a plan for a state that is as desired has no steps, and only then is it converged; nothing is planned for a node
 * that does not answer, or whose Docker Engine does not.
 */

import { groupBy } from './group-by';
import {
  placedAt,
  type ObservedReplica,
  type Plan,
  type PlanRequest,
  type Snapshot,
  type SnapshotNode,
  type Step,
  type StopReason,
} from './model';
import { withMissingBuilds } from './placement/builds';
import { needsOf } from './placement/needs';
import { createPlacer, type Placer } from './placement/placer';
import { imageInWords } from './release-images';
import { reconcile, type Buckets } from './reconcile';
import { limitsOf, planRollout } from './rollout';

/** How long a node may try before another one does; also how often at most a replica that fails everywhere moves. */
const CRASH_LOOP_PATIENCE_MS = 5 * 60_000;

/**
 * The crash-looping replica that another node should try. A replica that keeps ending mostly does so anywhere, and
 * moving it would only make noise: it is the node's doing when the release runs on another one, or when the node is
 * degraded.
 */
const findMovable = (
  { nowMs }: PlanRequest,
  { keep, starting }: Buckets,
  nodes: readonly SnapshotNode[],
): ObservedReplica | undefined => {
  const degraded = new Set(nodes.filter(({ health }) => health === 'degraded').map(({ id }) => id));
  return starting
    .filter(
      (replica) =>
        replica.state === 'crash_looping' &&
        nowMs - placedAt(replica) >= CRASH_LOOP_PATIENCE_MS &&
        (degraded.has(replica.nodeId) ||
          keep.some((one) => one.state === 'running' && one.nodeId !== replica.nodeId)),
    )
    .reduce<ObservedReplica | undefined>(
      (worst, one) => (worst === undefined || one.restartCount > worst.restartCount ? one : worst),
      undefined,
    );
};

/** Whether all is well but for what its nodes are mending. */
const isCalm = (
  { kind, desired }: PlanRequest,
  { keep, starting, missing, outdated, moving, broken, surplus, missingOn }: Buckets,
): boolean =>
  kind === 'reschedule' &&
  missingOn === undefined &&
  // More stay only until it is known what of them serves.
  keep.length + starting.length <= desired.scale &&
  missing + outdated.length + moving.length + broken.length + surplus.length === 0;

/** Moves at most one crash-looping replica, and only when all else is well. */
const moveCrashLoop = (
  request: PlanRequest,
  buckets: Buckets,
  snapshot: Snapshot,
  mayMove: () => boolean,
): Buckets => {
  if (!isCalm(request, buckets)) return buckets;
  const movable = findMovable(request, buckets, snapshot.nodes);
  if (movable === undefined || !mayMove()) return buckets;
  return {
    ...buckets,
    starting: buckets.starting.filter((replica) => replica !== movable),
    broken: [{ replica: movable, reason: 'broken' }],
    missing: 1,
  };
};

/**
 * Moves at most one replica to a node that has two fewer, and only when nothing at all is to be mended. It starts
 * there before it stops here, so what may not be more than the scale, or may not run twice, stays.
 */
const levelOut = (request: PlanRequest, buckets: Buckets, createAccount: () => Placer): Buckets => {
  const { release, scale } = request.desired;
  const { spec } = release;
  const mayMove =
    isCalm(request, buckets) &&
    buckets.starting.length === 0 &&
    spec.rebalance !== false &&
    spec.restart.policy === 'always' &&
    spec.update.strategy === 'rolling' &&
    limitsOf(spec, scale).maxTotal > scale;
  if (!mayMove) return buckets;
  const move = createAccount().level(({ noMovesUntilMs }) => (noMovesUntilMs ?? 0) <= request.nowMs);
  const newest = buckets.keep
    .filter(({ nodeId, state }) => nodeId === move?.from && state === 'running')
    .reduce<ObservedReplica | undefined>(
      (best, one) => (best === undefined || placedAt(one) > placedAt(best) ? one : best),
      undefined,
    );
  if (move === undefined || newest === undefined) return buckets;
  return {
    ...buckets,
    keep: buckets.keep.filter((replica) => replica !== newest),
    moving: [{ replica: newest, reason: 'rebalanced' }],
    moveTo: move.to,
    missing: 1,
  };
};

/**
 * @param request what is desired, and by which operation
 * @param observed what is observed: all nodes, and all replicas of the microservice
 * @returns the steps in phases; when some replicas found no node, also why each node would not take them
 */
export const computePlan = (request: PlanRequest, observed: Snapshot): Plan => {
  // Who restarts what runs wants what there is now.
  const asksAnew = request.kind === 'restart';
  const snapshot = withMissingBuilds(observed, request.desired.release, request.missingBuilds, asksAnew);
  const observedBuckets = reconcile(request, snapshot);
  const needs = needsOf(request.desired.release.spec, request.desired);
  const lost = new Set(observedBuckets.lost);
  const createAccount = (buckets: Buckets) =>
    createPlacer({
      nodes: snapshot.nodes,
      observed: snapshot.replicas.filter((replica) => !lost.has(replica)),
      staying: [...buckets.keep, ...buckets.starting],
      needs,
      refusals: request.refusals,
      seed: request.seed,
      nowMs: request.nowMs,
    });

  // Data in volumes does not move, so a replica that keeps some goes on where it is.
  const calmed = moveCrashLoop(
    request,
    observedBuckets,
    snapshot,
    () => !needs.keepsData && createAccount(observedBuckets).hasRoomAwayFromCrashes(),
  );
  const buckets = needs.keepsData ? calmed : levelOut(request, calmed, () => createAccount(calmed));
  const placer = createAccount(buckets);
  const { missingOn } = buckets;
  // Of a daemon only those nodes are of interest that should have it.
  const explain = () =>
    placer.explain().filter(({ nodeId }) => missingOn === undefined || missingOn.includes(nodeId));
  const before = buckets.missing === 0 ? [] : explain();
  const { phases, unplaced } = planRollout(request, snapshot, buckets, placer);
  return {
    phases,
    unplaced,
    rejections: unplaced === 0 ? before : explain(),
    // What its node is still mending needs no step, but it is not what is desired; nor is what cannot move yet.
    converged:
      phases.length === 0 && unplaced === 0 && buckets.starting.length === 0 && buckets.moving.length === 0,
  };
};

const REASON_WORDS: Readonly<Record<StopReason, string>> = {
  scaled_down: 'scaled down',
  outdated: 'outdated',
  removed: 'removed',
  surplus: 'surplus',
  broken: 'broken',
  failed_release: 'failed',
  exited: 'exited',
  drained: 'drained',
  rebalanced: 'moved to where there are fewer',
};

/** A plan for hundreds of replicas is told by node; nobody reads it step by step, and it has to fit a KV value. */
const MAX_SINGLE_STEPS = 200;
const MAX_LINES = 400;

const describeStep = (step: Step, existing: ReadonlySet<string>): string => {
  switch (step.kind) {
    case 'pull':
      return `node ${step.nodeId}: pull ${step.images.map(imageInWords).join(', ')}`;
    case 'start':
      return existing.has(step.replicaId)
        ? `node ${step.nodeId}: wait for ${step.replicaId} (v${step.release})`
        : `node ${step.nodeId}: start ${step.replicaId} (v${step.release})`;
    case 'stop':
      return `node ${step.nodeId}: stop ${step.replicaId} (${REASON_WORDS[step.reason]})`;
  }
};

const describeByNode = (steps: readonly Step[]): readonly string[] => {
  const counts = new Map<string, number>();
  for (const step of steps) {
    if (step.kind === 'pull') continue;
    const what = step.kind === 'start' ? `(v${step.release})` : `(${REASON_WORDS[step.reason]})`;
    const key = JSON.stringify([step.nodeId, step.kind, what]);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].map(([key, count]) => {
    const [nodeId, kind, what] = JSON.parse(key) as [string, string, string];
    return `node ${nodeId}: ${kind} ${count} ${count === 1 ? 'replica' : 'replicas'} ${what}`;
  });
};

const describeUnplaced = ({ unplaced, rejections }: Plan): readonly string[] => {
  if (unplaced === 0) return [];
  const found = `${unplaced} ${unplaced === 1 ? 'replica finds' : 'replicas find'} no node`;
  return rejections.length === 0
    ? [`${found}: there is none`]
    : [found, ...rejections.map(({ nodeId, reason }) => `node ${nodeId}: ${reason}`)];
};

/** Starts of new replicas are counted, by node and where the first of them stands: nobody knows their ids yet. */
const describeUnnamed = (steps: readonly Step[], existing: ReadonlySet<string>): readonly string[] => {
  const isNew = (step: Step) => step.kind === 'start' && !existing.has(step.replicaId);
  const counted = groupBy(steps.filter(isNew), ({ nodeId }) => nodeId);
  return steps.flatMap((step) => {
    if (!isNew(step)) return [describeStep(step, existing)];
    const together = counted.get(step.nodeId) ?? [];
    return together[0] === step ? describeByNode(together) : [];
  });
};

const describePhases = (
  plan: Plan,
  describeSteps: (steps: readonly Step[]) => readonly string[],
): readonly string[] => {
  const isLarge = plan.phases.flatMap(({ steps }) => steps).length > MAX_SINGLE_STEPS;
  const lines = plan.phases.flatMap(({ kind, steps }) =>
    isLarge && kind !== 'pull' ? describeByNode(steps) : describeSteps(steps),
  );
  const all = [...lines, ...describeUnplaced(plan)];
  return all.length <= MAX_LINES
    ? all
    : [...all.slice(0, MAX_LINES), `… and ${all.length - MAX_LINES} more lines`];
};

const idsIn = ({ replicas }: Snapshot): ReadonlySet<string> => new Set(replicas.map(({ id }) => id));

/**
 * @param plan what is to be done
 * @param snapshot what it was planned for
 * @returns the plan in words, in its order, a step a line ("node a: pull nginx:1.27"); then, when replicas are
 *   unplaced, how many and why each node would not take them
 */
export const describePlan = (plan: Plan, snapshot: Snapshot): readonly string[] => {
  const existing = idsIn(snapshot);
  return describePhases(plan, (steps) => steps.map((step) => describeStep(step, existing)));
};

/** @returns the same of a plan that is only to be looked at: what it would start has other ids when it is done */
export const describePreview = (plan: Plan, snapshot: Snapshot): readonly string[] => {
  const existing = idsIn(snapshot);
  return describePhases(plan, (steps) => describeUnnamed(steps, existing));
};
