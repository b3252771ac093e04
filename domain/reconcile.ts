/**
 * Desired and observed state side by side: which replica is what.
 *
 * Invariants: every observed replica is in exactly one bucket; buckets are in the order of replica ids (surplus: in
 * the order in which they should go); `keep`, `starting` and `missing` together make the desired scale, once those that
 * are to move have been replaced.
 */

import { scaleOf } from './exclusive';
import { hasReturnedWith, isUnheard, isUnstable, wasMadeAlone } from './flapping';
import { groupBy } from './group-by';
import {
  isOfRelease,
  placedAt,
  type ObservedReplica,
  type PlanRequest,
  type Snapshot,
  type StopReason,
} from './model';
import { daemonNodes, daemonScale } from './placement/daemon';
import { keepsData } from './placement/needs';
import { enginelessNodes } from './placement/snapshot';

export interface Doomed {
  readonly replica: ObservedReplica;
  readonly reason: StopReason;
}

export interface Buckets {
  /** Of the desired release, and as it should be: running, or ended where the restart policy lets it end. */
  readonly keep: readonly ObservedReplica[];
  /** Of the desired release, not running now; its node is at it, so it is not replaced. */
  readonly starting: readonly ObservedReplica[];
  /** Of another release, or from before the restart asked for. To be replaced with care: it serves. */
  readonly outdated: readonly ObservedReplica[];
  /** Of the desired release, but to be elsewhere: replaced with care, like outdated ones. */
  readonly moving: readonly Doomed[];
  /** The node that those that move go to; left out when the placer chooses. */
  readonly moveTo?: string;
  /** Beyond mending where it is: replaced, and in nobody's way. */
  readonly broken: readonly Doomed[];
  /** More than desired, or on its way out already. */
  readonly surplus: readonly Doomed[];
  /**
   * On nodes that do not answer, or whose engines do not: others take their place, and nothing can be done there now.
   */
  readonly lost: readonly ObservedReplica[];
  /** How many replicas have to be started. */
  readonly missing: number;
  /** Of a daemon: the nodes on which they have to be, in the order of their ids. */
  readonly missingOn?: readonly string[];
}

export const byId = (left: ObservedReplica, right: ObservedReplica): number =>
  left.id < right.id ? -1 : left.id > right.id ? 1 : 0;

export const desiredScale = ({ kind, desired }: PlanRequest): number =>
  kind === 'remove' ? 0 : scaleOf(desired.release.spec, desired.scale);

/** How many replicas there have to be; of a daemon the nodes decide. */
export const scaleIn = (request: PlanRequest, snapshot: Snapshot): number =>
  request.kind !== 'remove' && request.desired.release.spec.daemon === true
    ? daemonScale(request.desired.release, snapshot)
    : desiredScale(request);

/** What goes first when there are too many, from the least useful state to the most. */
const STOP_RANK: Readonly<Record<ObservedReplica['state'], number>> = {
  broken: 0,
  stopping: 0,
  crash_looping: 1,
  exited: 2,
  unhealthy: 3,
  paused: 4,
  restarting: 5,
  starting: 6,
  running: 7,
};

/** Orders replicas by what should go first: less than 0 when the left one should. */
type Order = (left: ObservedReplica, right: ObservedReplica) => number;

const byUse: Order = (left, right) => STOP_RANK[left.state] - STOP_RANK[right.state];

const byAge: Order = (left, right) => placedAt(left) - placedAt(right);

const byRank =
  (rankOf: (replica: ObservedReplica) => number): Order =>
  (left, right) =>
    rankOf(left) - rankOf(right);

/**
 * Tells what was started on a node that was alone because others were held for lost. What somebody has asked for
 * meanwhile stays, and so does what is exclusive, which has stopped elsewhere.
 */
const madeAlone = (
  { desired, nowMs }: PlanRequest,
  nodes: Snapshot['nodes'],
): ((replica: ObservedReplica) => boolean) => {
  const timesAlone = nodes.flatMap(({ lostWithAll }) => lostWithAll ?? []);
  if (timesAlone.length === 0 || desired.release.spec.exclusive === true) return () => false;
  const nodesById = new Map(nodes.map((node) => [node.id, node]));
  return (replica) =>
    replica.operation.startsWith('reschedule.') &&
    wasMadeAlone(nodesById.get(replica.nodeId), timesAlone, placedAt(replica), nowMs);
};

/**
 * In which order replicas go that are too many. What does not run always goes first, so that no newer replica takes
 * the place of one that serves before it serves itself.
 *
 * What a user scales down is taken from nodes that are being drained, then from those that come and go, then from the
 * one that has most, the newest first. Otherwise there are too many because others have taken the place of what is back
 * now: the newest placement stays, so what has come back with its node goes first, and then the oldest; where replicas
 * stand decides only between those of one age. But when all nodes but one were lost at once, and are back, it was that
 * one which was cut off, and nobody has had to do without what the others ran: what was started on it meanwhile goes.
 */
const surplusOrder = (
  request: PlanRequest,
  { nodes }: Snapshot,
  crowdOn: (nodeId: string) => number,
): readonly Order[] => {
  const { kind, nowMs } = request;
  const nodesById = new Map(nodes.map((node) => [node.id, node]));
  const unlessDrained = byRank(({ nodeId }) => (nodesById.get(nodeId)?.availability === 'draining' ? 0 : 1));
  const unlessUnstable = byRank(({ nodeId }) => (isUnstable(nodesById.get(nodeId) ?? {}, nowMs) ? 0 : 1));
  const byCrowd = byRank(({ nodeId }) => -crowdOn(nodeId));
  const unlessReturned = byRank((replica) =>
    hasReturnedWith(nodesById.get(replica.nodeId), placedAt(replica), nowMs) ? 0 : 1,
  );
  const isMadeAlone = madeAlone(request, nodes);
  const unlessMadeAlone = byRank((replica) => (isMadeAlone(replica) ? 0 : 1));
  return kind === 'scale'
    ? [byUse, unlessDrained, unlessUnstable, byCrowd, (left, right) => byAge(right, left)]
    : [byUse, unlessDrained, unlessMadeAlone, unlessReturned, byAge, unlessUnstable, byCrowd];
};

/** Whether what was started by a node that was alone may be all that serves: of what is back elsewhere, nobody knows yet. */
const isTooEarly = (
  replicas: readonly ObservedReplica[],
  request: PlanRequest,
  { nodes }: Snapshot,
): boolean => {
  const unheard = new Set(nodes.filter((node) => isUnheard(node, request.nowMs)).map(({ id }) => id));
  return (
    unheard.size > 0 &&
    replicas.some(({ nodeId }) => unheard.has(nodeId)) &&
    replicas.some(madeAlone(request, nodes))
  );
};

/** Chooses what goes, in the order in which it should. */
const chooseSurplus = (
  replicas: readonly ObservedReplica[],
  count: number,
  request: PlanRequest,
  snapshot: Snapshot,
): readonly ObservedReplica[] => {
  if (count <= 0 || isTooEarly(replicas, request, snapshot)) return [];
  const crowd = new Map<string, number>();
  for (const { nodeId } of replicas) crowd.set(nodeId, (crowd.get(nodeId) ?? 0) + 1);
  const orders = surplusOrder(request, snapshot, (nodeId) => crowd.get(nodeId) ?? 0);
  const isBefore = (left: ObservedReplica, right: ObservedReplica): boolean => {
    for (const order of orders) {
      const difference = order(left, right);
      if (difference !== 0) return difference < 0;
    }
    return left.id < right.id;
  };
  // Within a node the order never changes, so only the first of each node has to be compared.
  const queues = groupBy(replicas, ({ nodeId }) => nodeId);
  for (const queue of queues.values()) queue.sort((left, right) => (isBefore(left, right) ? 1 : -1));
  const chosen: ObservedReplica[] = [];
  while (chosen.length < count) {
    let first: ObservedReplica | undefined;
    for (const queue of queues.values()) {
      const head = queue.at(-1);
      if (head !== undefined && (first === undefined || isBefore(head, first))) first = head;
    }
    if (first === undefined) break;
    queues.get(first.nodeId)?.pop();
    crowd.set(first.nodeId, (crowd.get(first.nodeId) ?? 1) - 1);
    chosen.push(first);
  }
  return chosen;
};

/** Why surplus replicas of an operation go. */
const surplusReason = ({ kind }: PlanRequest): StopReason => {
  switch (kind) {
    case 'remove':
      return 'removed';
    case 'reschedule':
      return 'surplus';
    case 'deploy':
    case 'scale':
    case 'restart':
    case 'rollback':
      return 'scaled_down';
  }
};

/** Whether an operation brings replicas of its own, so that one of them which crash-loops is its failure. */
const brings = ({ kind }: PlanRequest): boolean =>
  kind === 'deploy' || kind === 'restart' || kind === 'rollback';

const isOutdatedIn = ({ desired, operation, kind }: PlanRequest, replica: ObservedReplica): boolean =>
  !isOfRelease(replica, desired.release) || (kind === 'restart' && replica.operation !== operation);

const mayEnd = ({ desired }: PlanRequest): boolean => desired.release.spec.restart.policy !== 'always';

const drainingNodes = ({ nodes }: Snapshot): ReadonlySet<string> =>
  new Set(nodes.filter(({ availability }) => availability === 'draining').map(({ id }) => id));

const isDone = ({ state }: ObservedReplica): boolean => state === 'running' || state === 'exited';

/**
 * Which replicas on nodes whose engines do not answer count as lost. Containers may go on without their engine: what
 * serves as it should is as good as elsewhere, but all that would have to be started or stopped there is out of reach.
 * An exclusive one that its node would mend is left to it: it has the lease and goes on renewing it, so that nobody
 * else could start.
 */
const isLostWithEngine = (
  request: PlanRequest,
  replica: ObservedReplica,
  draining: ReadonlySet<string>,
): boolean => {
  const { kind, desired } = request;
  const { spec } = desired.release;
  if (spec.daemon === true || desiredScale(request) === 0) return true;
  if (isOutdatedIn(request, replica) || movesFrom(request, draining)(replica)) return true;
  switch (replica.state) {
    case 'running':
      return false;
    case 'exited':
      return !mayEnd(request);
    case 'starting':
    case 'unhealthy':
    case 'restarting':
    case 'paused':
      return !(spec.exclusive === true && kind === 'reschedule');
    case 'crash_looping':
    case 'stopping':
    case 'broken':
      return true;
  }
};

/** Replicas that something can be done about, by what they are, before anything is counted. */
interface Sorted {
  readonly ending: readonly ObservedReplica[];
  readonly outdated: readonly ObservedReplica[];
  readonly broken: readonly Doomed[];
  /** Of the desired release, and not beyond mending. */
  readonly current: readonly ObservedReplica[];
  readonly isOutdated: (replica: ObservedReplica) => boolean;
}

const sortReplicas = (request: PlanRequest, reachable: readonly ObservedReplica[]): Sorted => {
  const { operation } = request;
  const isOutdated = (replica: ObservedReplica) => isOutdatedIn(request, replica);
  const isBroken = ({ state }: ObservedReplica) => state === 'broken';

  const ending = reachable.filter(({ state }) => state === 'stopping');
  const present = reachable.filter(({ state }) => state !== 'stopping');
  const outdated = present.filter((replica) => isOutdated(replica) && !isBroken(replica));
  // While a release is being rolled out, one of its replicas that keeps ending has failed. Otherwise its node goes on
  // trying, with growing delays.
  const rollingOut = (replica: ObservedReplica) =>
    outdated.length > 0 || (brings(request) && replica.operation === operation);

  const broken: Doomed[] = [];
  const current: ObservedReplica[] = [];
  for (const replica of present) {
    if (isBroken(replica)) broken.push({ replica, reason: 'broken' });
    else if (isOutdated(replica)) continue;
    else if (replica.state === 'exited' && !mayEnd(request)) broken.push({ replica, reason: 'exited' });
    else if (replica.state === 'crash_looping' && rollingOut(replica)) {
      broken.push({ replica, reason: 'failed_release' });
    } else current.push(replica);
  }
  return { ending, outdated, broken, current, isOutdated };
};

/** What is on its way out already. */
const endingAs = ({ ending, isOutdated }: Sorted, reason: StopReason): readonly Doomed[] =>
  ending.map((replica) => ({ replica, reason: isOutdated(replica) ? 'outdated' : reason }));

/** One replica on each node that wants one; where there are more, the one that serves longest stays. */
const reconcileDaemon = (
  request: PlanRequest,
  snapshot: Snapshot,
  sorted: Sorted,
  lost: readonly ObservedReplica[],
): Buckets => {
  const wanted = new Set(daemonNodes(request.desired.release, snapshot));
  const isWanted = ({ nodeId }: ObservedReplica) => wanted.has(nodeId);
  const draining = drainingNodes(snapshot);
  const leaves = (replica: ObservedReplica): Doomed => ({
    replica,
    reason: draining.has(replica.nodeId) ? 'drained' : 'surplus',
  });

  const first = new Map<string, ObservedReplica>();
  const isBetter = (left: ObservedReplica, right: ObservedReplica): boolean => {
    const [leftRank, rightRank] = [STOP_RANK[left.state], STOP_RANK[right.state]];
    if (leftRank !== rightRank) return leftRank > rightRank;
    return placedAt(left) < placedAt(right);
  };
  for (const replica of sorted.current) {
    const known = first.get(replica.nodeId);
    if (known === undefined || isBetter(replica, known)) first.set(replica.nodeId, replica);
  }
  const staying = sorted.current.filter(
    (replica) => isWanted(replica) && first.get(replica.nodeId) === replica,
  );
  const kept = new Set(staying);
  const outdated = sorted.outdated.filter(isWanted);
  const leaving = [...sorted.current, ...sorted.outdated]
    .filter((replica) => !kept.has(replica) && !outdated.includes(replica))
    .map(leaves)
    .sort((left, right) => byId(left.replica, right.replica));
  const missingOn = [...wanted].filter((nodeId) => !first.has(nodeId));
  return {
    keep: staying.filter(isDone),
    starting: staying.filter((replica) => !isDone(replica)),
    outdated,
    moving: [],
    broken: sorted.broken,
    surplus: [...endingAs(sorted, surplusReason(request)), ...leaving],
    lost,
    missing: missingOn.length,
    missingOn,
  };
};

/**
 * Whether a replica has to move because its node is being drained. Only the periodic look moves it, so that no change
 * fails of another node's drain; what has ended, and what keeps data in volumes, stays where it is.
 */
const movesFrom = (
  { kind, desired }: PlanRequest,
  draining: ReadonlySet<string>,
): ((replica: ObservedReplica) => boolean) => {
  const mayMove = kind === 'reschedule' && !keepsData(desired.release.spec);
  return ({ nodeId, state }) => mayMove && state !== 'exited' && draining.has(nodeId);
};

/**
 * @param request what is desired
 * @param snapshot what is observed
 */
export const reconcile = (request: PlanRequest, snapshot: Snapshot): Buckets => {
  const scale = desiredScale(request);
  const isDaemon = request.desired.release.spec.daemon === true && request.kind !== 'remove';
  const up = new Set(snapshot.nodes.filter((node) => node.up).map(({ id }) => id));
  const replicas = [...snapshot.replicas].sort(byId);
  const draining = drainingNodes(snapshot);
  const engineless = enginelessNodes(snapshot.nodes);
  const isStoppable = ({ nodeId }: ObservedReplica) => !engineless.has(nodeId);
  const isLost = (replica: ObservedReplica) =>
    !up.has(replica.nodeId) || (!isStoppable(replica) && isLostWithEngine(request, replica, draining));
  const lost = replicas.filter(isLost);
  const reachable = replicas.filter((replica) => !isLost(replica));
  const reason = surplusReason(request);

  if (scale === 0 && !isDaemon) {
    const surplus = reachable.map((replica) => ({ replica, reason }));
    return { keep: [], starting: [], outdated: [], moving: [], broken: [], surplus, lost, missing: 0 };
  }
  const sorted = sortReplicas(request, reachable);
  if (isDaemon) return reconcileDaemon(request, snapshot, sorted, lost);

  const { outdated, broken, current } = sorted;
  const tooMany = chooseSurplus(current, current.length - scale, request, snapshot);
  const leaving = new Set(tooMany);
  const left = current.filter((replica) => !leaving.has(replica));
  const moves = movesFrom(request, draining);
  const moving = left.filter(moves).map((replica): Doomed => ({ replica, reason: 'drained' }));
  const staying = moving.length === 0 ? left : left.filter((replica) => !moves(replica));
  return {
    keep: staying.filter(isDone),
    starting: staying.filter((replica) => !isDone(replica)),
    outdated,
    moving,
    broken,
    surplus: [
      ...endingAs(sorted, reason),
      ...tooMany.filter(isStoppable).map((replica) => ({ replica, reason })),
    ],
    lost: [...lost, ...tooMany.filter((replica) => !isStoppable(replica))].sort(byId),
    missing: Math.max(0, scale - staying.length),
  };
};
