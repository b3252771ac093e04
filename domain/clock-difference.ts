/**
 * How far the clock of a machine is from that of the head node, from when on that matters, and how it is said. Pure.
 *
 * Invariant: a difference is that of the machine's clock to the head node's: above zero it is ahead.
 */

/** Up to that, certificates count on both sides, and events are in an order that people understand. */
export const MAX_CLOCK_DIFFERENCE_MS = 5 * 60_000;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

const amount = (ms: number): string => {
  if (ms < 2 * HOUR_MS) return `${Math.round(ms / 60_000)} minutes`;
  return ms < 2 * DAY_MS ? `${Math.round(ms / HOUR_MS)} hours` : `${Math.round(ms / DAY_MS)} days`;
};

/** "3 hours ahead of", "7 minutes behind": the clock that it is compared with follows. */
export const clockDifferenceInWords = (differenceMs: number): string =>
  `${amount(Math.abs(differenceMs))} ${differenceMs > 0 ? 'ahead of' : 'behind'}`;

export const isClockOff = (differenceMs: number): boolean => Math.abs(differenceMs) > MAX_CLOCK_DIFFERENCE_MS;
