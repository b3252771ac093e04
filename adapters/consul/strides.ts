/**
 * How long a follower of a prefix pauses between two readings. Every change costs the reading of the whole prefix, so a
 * burst of changes is read in strides that grow with the prefix; but what comes after a calm is told at once, and so is
 * what follows on it, like the end of a replica on its replacement. Pure.
 *
 * Invariant: under changes without end, all but a few pauses are whole ones.
 */

const WHOLE_MS_PER_ENTRY = 0.1;
const WHOLE_MAX_MS = 500;
/** The first pause is that part of a whole one; each doubles. */
const FIRST_PART = 1 / 8;

/**
 * @param beforeMs the last pause
 * @param entries how many were read
 * @param waitedMs how long that took, with the wait for a change
 */
export const nextStride = (beforeMs: number, entries: number, waitedMs: number): number => {
  const wholeMs = Math.min(WHOLE_MAX_MS, entries * WHOLE_MS_PER_ENTRY);
  const firstMs = wholeMs * FIRST_PART;
  return waitedMs >= wholeMs ? firstMs : Math.min(wholeMs, Math.max(firstMs, beforeMs * 2));
};
