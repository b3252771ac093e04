/**
 * Nodes that come and go: what is remembered of a node's losses, and until when it is used only where no other node
 * will do. Pure.
 *
 * Invariants: one loss costs nothing (machines are restarted for updates); each further one, before it is forgotten,
 * doubles the time that the node has to stay before it counts like others, up to an hour; that time begins when the
 * node is back, so being away does not serve it; after an hour of calm beyond it everything is forgotten; a loss of all
 * nodes at once is none of theirs, as it says more of the one that was left alone with nobody to see.
 *
 * The numbers are those of the damping of routes in BGP as vendors set it, where the same question has been asked for
 * longest: two or three flaps suppress a route, for about 20 minutes (penalties halve every 15) and never for more
 * than 60. That was found too harsh for what flaps twice by chance (RFC 7196), so here the second loss costs 5
 * minutes, and 20 are reached at the fourth.
 */

const MINUTE_MS = 60_000;

/** What the second loss costs; the third costs twice as much, and so on. */
export const FIRST_PERIOD_MS = 5 * MINUTE_MS;
export const LONGEST_PERIOD_MS = 60 * MINUTE_MS;
/** Calm of that long, after the period, makes the next loss a first one. */
export const FORGET_AFTER_MS = 60 * MINUTE_MS;

/** What is remembered of one node; written by the watch over the cluster, and by nothing else. */
export interface NodeStability {
  readonly id: string;
  /** Whether the node was there when it was last told of: a change is news when it differs. */
  readonly up: boolean;
  /** When it became so. */
  readonly changedAtMs: number;
  /** Losses that have not been forgotten. */
  readonly losses: number;
  /** When the first of them was. */
  readonly firstLossAtMs?: number;
  /** Left out when the node is calm, and while it is lost. */
  readonly unstableUntilMs?: number;
  /** Of a node that is back from a loss of all nodes at once but for one. */
  readonly lostWithAll?: LostWithAll;
}

/** When one node was alone, as all others were lost at once: from the first loss until the first return. */
export interface TimeAlone {
  readonly fromMs: number;
  readonly untilMs: number;
}

/** When one node was alone, as one that is back knows it. */
export interface LostWithAll extends TimeAlone {
  /**
   * When the node had last said how it is, by its own clock, at the moment at which it was back: what is known of its
   * replicas is of before then. Left out when that is not known.
   */
  readonly reportedAtMs?: number;
}

/** How long a node has to stay after so many losses, milliseconds. */
export const periodAfter = (losses: number): number =>
  losses < 2 ? 0 : Math.min(LONGEST_PERIOD_MS, FIRST_PERIOD_MS * 2 ** (losses - 2));

/** @param atMs when it was seen for the first time */
export const firstSeen = (id: string, atMs: number): NodeStability => ({
  id,
  up: true,
  changedAtMs: atMs,
  losses: 0,
});

const isForgotten = ({ changedAtMs, losses }: NodeStability, atMs: number): boolean =>
  atMs - changedAtMs >= periodAfter(losses) + FORGET_AFTER_MS;

/**
 * @param known a node that is there; one that is lost stays as it is
 * @param atMs when it was lost
 */
export const afterLoss = (known: NodeStability, atMs: number): NodeStability => {
  if (!known.up) return known;
  const before = isForgotten(known, atMs) ? firstSeen(known.id, atMs) : known;
  return {
    id: known.id,
    up: false,
    changedAtMs: atMs,
    losses: before.losses + 1,
    firstLossAtMs: before.firstLossAtMs ?? atMs,
  };
};

/** So far apart may losses be that are one, and returns: who is alone holds one of many nodes for failed after the other. */
const AT_ONCE_MS = MINUTE_MS;

/**
 * @param lost a node that is lost, and is back now
 * @param others all other nodes
 * @param atMs now
 * @returns when one node was alone, as two or more were lost at once, this one among them, and nobody else was left; undefined
 *   when that was not so, or when this one has stayed away for longer than others
 */
export const timeAloneAt = (
  lost: NodeStability,
  others: readonly NodeStability[],
  atMs: number,
): TimeAlone | undefined => {
  const away = others.flatMap(({ up, changedAtMs, lostWithAll }) => {
    if (!up) return [{ fromMs: changedAtMs, untilMs: atMs }];
    // It was lost with this one, and is back already.
    return lostWithAll !== undefined && lostWithAll.untilMs > lost.changedAtMs ? [lostWithAll] : [];
  });
  if (others.length - away.length !== 1) return undefined;
  const lossesMs = [lost.changedAtMs, ...away.map(({ fromMs }) => fromMs)];
  const lastMs = Math.max(...lossesMs);
  const atOnce = lossesMs.filter((lossMs) => lastMs - lossMs <= AT_ONCE_MS);
  const untilMs = Math.min(atMs, ...away.map((one) => one.untilMs));
  const isOne = atOnce.includes(lost.changedAtMs) && atMs - untilMs <= AT_ONCE_MS;
  return isOne && atOnce.length > 1 ? { fromMs: Math.min(...atOnce), untilMs } : undefined;
};

const withoutLastLoss = ({ firstLossAtMs, ...known }: NodeStability): NodeStability => ({
  ...known,
  losses: known.losses - 1,
  ...(firstLossAtMs === undefined || known.losses < 2 ? {} : { firstLossAtMs }),
});

/**
 * @param lost a node that is lost; one that is there stays as it is
 * @param atMs when it came back
 * @param lostWithAll as `timeAloneAt` has it: the loss does not count
 */
export const afterReturn = (lost: NodeStability, atMs: number, lostWithAll?: LostWithAll): NodeStability => {
  if (lost.up) return lost;
  const known = lostWithAll === undefined ? lost : { ...withoutLastLoss(lost), lostWithAll };
  const periodMs = periodAfter(known.losses);
  return {
    ...known,
    up: true,
    changedAtMs: atMs,
    ...(periodMs === 0 ? {} : { unstableUntilMs: atMs + periodMs }),
  };
};

/**
 * Whether the period of a node is over; also when it ends later than any can: the clock has been set back since.
 *
 * @param nowMs the time, milliseconds since the epoch
 */
export const isPeriodOver = ({ unstableUntilMs }: NodeStability, nowMs: number): boolean =>
  unstableUntilMs !== undefined && (unstableUntilMs <= nowMs || unstableUntilMs > nowMs + LONGEST_PERIOD_MS);

/** The node after its period: used like others, its losses not forgotten yet. */
export const afterPeriod = ({ unstableUntilMs: _over, ...known }: NodeStability): NodeStability => known;

/** Whether a node comes and goes now, so that others are to be preferred. */
export const isUnstable = (
  { unstableUntilMs }: { readonly unstableUntilMs?: number | undefined },
  nowMs: number,
): boolean => unstableUntilMs !== undefined && unstableUntilMs > nowMs;

/** When a node was back after its last loss, if that counts; undefined of one that was never lost, and of one that is. */
export const returnOf = ({ up, losses, changedAtMs, lostWithAll }: NodeStability): number | undefined =>
  up && losses > 0 && lostWithAll === undefined ? changedAtMs : undefined;

/** For how long what a node brings back with it counts as what others have replaced; every look is within it. */
const RETURN_MS = 15 * MINUTE_MS;

/**
 * Whether a replica was on its node when that was lost, and has just come back with it.
 *
 * @param placedAtMs when the replica was placed there
 */
export const hasReturnedWith = (
  node: { readonly returnedAtMs?: number | undefined } | undefined,
  placedAtMs: number,
  nowMs: number,
): boolean =>
  node?.returnedAtMs !== undefined && placedAtMs < node.returnedAtMs && nowMs - node.returnedAtMs < RETURN_MS;

/**
 * Whether a replica was started by a node that was alone, in the place of one that serves elsewhere, all of which are
 * back.
 *
 * @param node where it is
 * @param placedAtMs when the replica was placed there
 */
export const wasMadeAlone = (
  node: { readonly lostWithAll?: TimeAlone | undefined } | undefined,
  timesAlone: readonly TimeAlone[],
  placedAtMs: number,
  nowMs: number,
): boolean =>
  node?.lostWithAll === undefined &&
  timesAlone.some(
    ({ fromMs, untilMs }) => placedAtMs >= fromMs && placedAtMs < untilMs && nowMs - untilMs < RETURN_MS,
  );

/**
 * Whether a node has said nothing yet since it is back from a loss of all nodes at once: what it has may have stopped
 * with it.
 */
export const isUnheard = (
  node: { readonly lostWithAll?: LostWithAll | undefined; readonly updatedAtMs: number } | undefined,
  nowMs: number,
): boolean =>
  node?.lostWithAll !== undefined &&
  node.lostWithAll.reportedAtMs === node.updatedAtMs &&
  nowMs - node.lostWithAll.untilMs < RETURN_MS;

/** "45 s", "5 min", "3 h". */
export const durationInWords = (ms: number): string => {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
};

/** The time as people and programs read it, to the second. */
export const timeInWords = (atMs: number): string => `${new Date(atMs).toISOString().slice(0, 19)}Z`;

/** What it means for placement, as the end of a sentence about the node. */
export const consequenceInWords = (unstableUntilMs: number): string =>
  `until ${timeInWords(unstableUntilMs)} nodes that stay come first`;

/** Why a node is unstable, to follow its name; undefined when it is not. */
export const instabilityInWords = ({
  losses,
  firstLossAtMs,
  changedAtMs,
  unstableUntilMs,
}: NodeStability): string | undefined =>
  unstableUntilMs === undefined
    ? undefined
    : `was lost ${losses} times in ${durationInWords(changedAtMs - (firstLossAtMs ?? changedAtMs))}: ${consequenceInWords(unstableUntilMs)}`;
