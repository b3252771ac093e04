/**
 * Which timing the gossip of a cluster has, from measured round-trip times. Pure.
 *
 * Invariants: one timing for all members, as it is whoever probes that decides, and everybody probes everybody: so the
 * farthest pair counts, not the distance to the server; being wrong towards `wan` costs seconds at a loss, being wrong
 * towards `lan` costs nodes that are held for lost, so the cluster goes to `wan` soon and back late; between the two
 * limits it stays as it is.
 */

/** `lan` finds a cut link in about three seconds and gives a probe 250 ms; `wan` twice as long for both. */
export type GossipTiming = 'lan' | 'wan';

export interface GossipDecision {
  readonly timing: GossipTiming;
  /** How many measurements in a row have spoken for the other timing. */
  readonly dissent: number;
}

/**
 * A probe of `lan` has to be answered within 250 ms, also when the link is busy: at 100 ms of estimated round-trip
 * time there is room for two and a half times as much. Continents are farther apart, countries of one are not.
 */
export const WAN_ABOVE_MS = 100;
/** Well below the other limit, so that a round-trip time that varies around one of them changes nothing. */
export const LAN_BELOW_MS = 60;
/** Each change restarts agents, so a single measurement decides nothing. */
export const MEASUREMENTS_TO_WAN = 3;
export const MEASUREMENTS_TO_LAN = 30;

export const FIRST_DECISION: GossipDecision = { timing: 'lan', dissent: 0 };

const wanted = (timing: GossipTiming, longestMs: number): GossipTiming => {
  if (longestMs > WAN_ABOVE_MS) return 'wan';
  return longestMs < LAN_BELOW_MS ? 'lan' : timing;
};

/**
 * The decision after one more measurement. Measured every minute, a cluster goes to `wan` after three minutes and back
 * after half an hour.
 *
 * @param before the decision so far
 * @param roundTripsMs estimated round-trip times between members, milliseconds; none when nobody could be measured,
 *   which says nothing, and leaves the decision as it is. What is no time (negative, infinite, not a number) says
 *   nothing either.
 */
export const decideGossip = (before: GossipDecision, roundTripsMs: readonly number[]): GossipDecision => {
  const longestMs = roundTripsMs
    .filter((ms) => Number.isFinite(ms) && ms >= 0)
    .reduce<number | undefined>((longest, ms) => Math.max(longest ?? 0, ms), undefined);
  if (longestMs === undefined) return before;
  const timing = wanted(before.timing, longestMs);
  if (timing === before.timing) return { timing, dissent: 0 };
  const dissent = before.dissent + 1;
  const needed = timing === 'wan' ? MEASUREMENTS_TO_WAN : MEASUREMENTS_TO_LAN;
  return dissent >= needed ? { timing, dissent: 0 } : { timing: before.timing, dissent };
};
