/**
 * Losses of nodes that nobody has lost. A node that is cut off holds all others for failed after a while. What it reaches
 * first when the cut is mended hears that, and a node of which it is said is lost to everybody until it has contradicted,
 * some tenths of a second. So while another node has been lost for a while, or has just come back, a loss is believed
 * only when it has lasted. Pure.
 *
 * Invariants: every other loss is believed at once, and a doubted one when its time is over, unless the node was there meanwhile;
 * that a node is there is believed at once; who comes and goes alone, or is lost together with others, is never doubted.
 */

/** A node contradicts sooner: its word is gossip, too. */
export const DOUBT_MS = 1_000;
/** A node that is alone and still away takes longer to hold another one for failed: nobody confirms it. */
export const LOST_FOR_A_WHILE_MS = 5_000;
/** What such a node says is heard within tenths of a second of its return. */
export const JUST_BACK_MS = 3_000;

/** What is believed of the members. Times are of one clock that nobody sets. */
export interface BelievedMembers {
  /** By node: whether it is there. */
  readonly up: ReadonlyMap<string, boolean>;
  /** Since when nodes are lost. */
  readonly lostAtMs: ReadonlyMap<string, number>;
  /** When nodes came back that were away, if they have just done so: alone for longer than others have known it. */
  readonly backAtMs: ReadonlyMap<string, number>;
  /** Until when it is doubted that nodes are lost, which count as there. */
  readonly doubtedUntilMs: ReadonlyMap<string, number>;
}

export const NOBODY_KNOWN: BelievedMembers = {
  up: new Map(),
  lostAtMs: new Map(),
  backAtMs: new Map(),
  doubtedUntilMs: new Map(),
};

/**
 * What is believed after what is said now. To be asked again at the end of the next doubt (`doubtEndsAtMs`).
 *
 * @param said whether each node is there, by the membership; a node that is left out is taken out, which is believed
 */
export const afterSaying = (
  known: BelievedMembers,
  said: ReadonlyMap<string, boolean>,
  nowMs: number,
): BelievedMembers => {
  const lostForAWhile = [...known.lostAtMs]
    .filter(([, atMs]) => nowMs - atMs >= LOST_FOR_A_WHILE_MS)
    .map(([nodeId]) => nodeId);
  const backAtMs = new Map([
    ...[...known.backAtMs].filter(([, atMs]) => nowMs - atMs < JUST_BACK_MS),
    ...[...known.lostAtMs]
      .filter(([nodeId, atMs]) => said.get(nodeId) === true && nowMs - atMs >= DOUBT_MS)
      .map(([nodeId]) => [nodeId, nowMs] as const),
  ]);
  const doubters = new Set([...lostForAWhile, ...backAtMs.keys()]);

  const up = new Map<string, boolean>();
  const lostAtMs = new Map<string, number>();
  const doubtedUntilMs = new Map<string, number>();
  for (const [nodeId, isUp] of said) {
    const isLossNew = !isUp && known.up.get(nodeId) === true;
    const isDoubtful = doubters.size > (doubters.has(nodeId) ? 1 : 0);
    const untilMs = known.doubtedUntilMs.get(nodeId) ?? (isDoubtful ? nowMs + DOUBT_MS : nowMs);
    const isDoubted = isLossNew && nowMs < untilMs;
    up.set(nodeId, isUp || isDoubted);
    if (isDoubted) doubtedUntilMs.set(nodeId, untilMs);
    else if (!isUp) lostAtMs.set(nodeId, known.lostAtMs.get(nodeId) ?? nowMs);
  }
  return { up, lostAtMs, backAtMs, doubtedUntilMs };
};

/** When the next doubt ends; undefined when there is none. */
export const doubtEndsAtMs = ({ doubtedUntilMs }: BelievedMembers): number | undefined =>
  doubtedUntilMs.size === 0 ? undefined : Math.min(...doubtedUntilMs.values());
