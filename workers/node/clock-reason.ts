/**
 * When a node says of itself that its clock is wrong, and in which words. Pure, but for what it has said last.
 *
 * Invariant: what is measured is a little different each time, and is said anew only when it has changed by much.
 */

import { MAX_CLOCK_DIFFERENCE_MS, clockDifferenceInWords, isClockOff } from '../../domain/clock-difference';

/** Once said, it is so until the clock is nearer than that. */
const LEAVE_MS = 0.8 * MAX_CLOCK_DIFFERENCE_MS;
/** Of what was said, or this long: less is not said again. */
const CHANGE = 0.1;
const CHANGE_MS = 60_000;

/** @returns the reason for a node to be degraded, by how far its clock is ahead of the head node's; undefined: none */
export const createClockReason = (): ((aheadMs: number) => string | undefined) => {
  let said: number | undefined;
  return (aheadMs) => {
    if (said === undefined ? !isClockOff(aheadMs) : Math.abs(aheadMs) <= LEAVE_MS) said = undefined;
    else if (said === undefined || Math.abs(aheadMs - said) > Math.max(CHANGE_MS, CHANGE * Math.abs(said))) {
      said = aheadMs;
    }
    if (said === undefined) return undefined;
    return `its clock is ${clockDifferenceInWords(said)} that of the head node: set it, for example by NTP`;
  };
};
