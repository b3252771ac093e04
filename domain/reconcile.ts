/**
 * Desired and observed state side by side: which replica is what.
 *
 * Invariants: every observed replica is in exactly one bucket; buckets are in the order of replica ids (surplus: in
 * the order in which they should go); `keep`, `starting` and `missing` together make the desired scale.
 */

import { isOfRelease, type ObservedReplica, type PlanRequest, type Snapshot, type StopReason } from './model';

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
  /** Beyond mending where it is: replaced, and in nobody's way. */
  readonly broken: readonly Doomed[];
  /** More than desired, or on its way out already. */
  readonly surplus: readonly Doomed[];
  /** On nodes that do not answer: others take their place, and nothing can be done there now. */
  readonly lost: readonly ObservedReplica[];
  /** How many replicas have to be started. */
  readonly missing: number;
}

export const byId = (left: ObservedReplica, right: ObservedReplica): number =>
  left.id < right.id ? -1 : left.id > right.id ? 1 : 0;

export const desiredScale = ({ kind, desired }: PlanRequest): number =>
  kind === 'remove' ? 0 : desired.scale;

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

/**
 * Chooses what goes: those that do not run first, then those on the node that has most, then the newest, or the
 * oldest when a node has come back (the newest placement stays).
 */
const chooseSurplus = (
  replicas: readonly ObservedReplica[],
  count: number,
  oldestFirst: boolean,
): readonly ObservedReplica[] => {
  if (count <= 0) return [];
  const crowd = new Map<string, number>();
  for (const { nodeId } of replicas) crowd.set(nodeId, (crowd.get(nodeId) ?? 0) + 1);
  const isBefore = (left: ObservedReplica, right: ObservedReplica): boolean => {
    const [leftRank, rightRank] = [STOP_RANK[left.state], STOP_RANK[right.state]];
    if (leftRank !== rightRank) return leftRank < rightRank;
    const [leftCrowd, rightCrowd] = [crowd.get(left.nodeId) ?? 0, crowd.get(right.nodeId) ?? 0];
    if (leftCrowd !== rightCrowd) return leftCrowd > rightCrowd;
    if (left.createdAtMs !== right.createdAtMs) return left.createdAtMs < right.createdAtMs === oldestFirst;
    return left.id < right.id;
  };
  // Within a node the order never changes, so only the first of each node has to be compared.
  const queues = new Map<string, ObservedReplica[]>();
  for (const replica of replicas)
    queues.set(replica.nodeId, [...(queues.get(replica.nodeId) ?? []), replica]);
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

/**
 * @param request what is desired
 * @param snapshot what is observed
 */
export const reconcile = (request: PlanRequest, snapshot: Snapshot): Buckets => {
  const { desired, operation, kind } = request;
  const scale = desiredScale(request);
  const up = new Set(snapshot.nodes.filter((node) => node.up).map(({ id }) => id));
  const replicas = [...snapshot.replicas].sort(byId);
  const lost = replicas.filter(({ nodeId }) => !up.has(nodeId));
  const reachable = replicas.filter(({ nodeId }) => up.has(nodeId));

  if (scale === 0) {
    const reason = surplusReason(request);
    const surplus = reachable.map((replica) => ({ replica, reason }));
    return { keep: [], starting: [], outdated: [], broken: [], surplus, lost, missing: 0 };
  }

  const isOutdated = (replica: ObservedReplica) =>
    !isOfRelease(replica, desired.release) || (kind === 'restart' && replica.operation !== operation);
  const isBroken = ({ state }: ObservedReplica) => state === 'broken';
  const mayEnd = desired.release.spec.restart.policy !== 'always';

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
    else if (replica.state === 'exited' && !mayEnd) broken.push({ replica, reason: 'exited' });
    else if (replica.state === 'crash_looping' && rollingOut(replica)) {
      broken.push({ replica, reason: 'failed_release' });
    } else current.push(replica);
  }

  const reason = surplusReason(request);
  const tooMany = chooseSurplus(current, current.length - scale, kind === 'reschedule');
  const leaving = new Set(tooMany);
  const staying = current.filter((replica) => !leaving.has(replica));
  const isDone = ({ state }: ObservedReplica) => state === 'running' || state === 'exited';
  return {
    keep: staying.filter(isDone),
    starting: staying.filter((replica) => !isDone(replica)),
    outdated,
    broken,
    surplus: [
      ...ending.map((replica) => ({ replica, reason: isOutdated(replica) ? ('outdated' as const) : reason })),
      ...tooMany.map((replica) => ({ replica, reason })),
    ],
    lost,
    missing: Math.max(0, scale - current.length),
  };
};
