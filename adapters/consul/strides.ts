/**
 * How long a follower pauses between two readings. Where every change costs the reading of everything, a burst of changes
 * is read in strides that grow; but what comes after a calm is told at once, and so is what follows on it, like the end
 * of a replica on its replacement. Pure.
 *
 * Invariant: under changes without end, all but a few pauses are whole ones.
 */

const WHOLE_MS_PER_ENTRY = 0.1;
const WHOLE_MAX_MS = 500;
/** The first pause is that part of a whole one; each doubles. */
const FIRST_PART = 1 / 8;

/** The whole pause of who reads so many entries each time, in milliseconds. */
export const wholePauseMs = (entries: number): number => Math.min(WHOLE_MAX_MS, entries * WHOLE_MS_PER_ENTRY);

/**
 * @param beforeMs the last pause
 * @param wholeMs the longest one
 * @param waitedMs how long the reading took, with the wait for a change
 */
export const nextPauseMs = (beforeMs: number, wholeMs: number, waitedMs: number): number => {
  const firstMs = wholeMs * FIRST_PART;
  return waitedMs >= wholeMs ? firstMs : Math.min(wholeMs, Math.max(firstMs, beforeMs * 2));
};
