/**
 * Whether a node is well, and whether what it said of itself has changed enough to say it again. Pure.
 *
 * Invariant: each threshold has two values, so that a node on the edge does not go back and forth.
 */

import type { ObservedNode } from '../../domain/model';

interface Threshold {
  /** Degraded below this share of the whole … */
  readonly enter: number;
  /** … until it is above this one again. */
  readonly leave: number;
}

const MEMORY: Threshold = { enter: 0.05, leave: 0.08 };
const DISK: Threshold = { enter: 0.05, leave: 0.08 };
const CPU_CHANGE_POINTS = 10;
const MEMORY_CHANGE = 0.05;
const DISK_CHANGE = 0.02;

export const ENGINE_REASON = 'the Docker Engine does not answer';
export const MEMORY_REASON = 'little memory is available';
export const DISK_REASON = 'little disk is free';

type Measured = Pick<ObservedNode, 'capacity' | 'memoryAvailableBytes' | 'diskFreeBytes'>;

/** @param before reasons given last time */
export const healthReasons = (node: Measured, before: readonly string[]): string[] => {
  const isLow = (part: number, whole: number, threshold: Threshold, reason: string): boolean =>
    whole > 0 && part / whole < (before.includes(reason) ? threshold.leave : threshold.enter);
  const reasons: string[] = [];
  if (isLow(node.memoryAvailableBytes, node.capacity.memoryBytes, MEMORY, MEMORY_REASON)) {
    reasons.push(MEMORY_REASON);
  }
  if (isLow(node.diskFreeBytes, node.capacity.diskBytes, DISK, DISK_REASON)) reasons.push(DISK_REASON);
  return reasons;
};

export const isMaterialChange = (before: ObservedNode, after: ObservedNode): boolean => {
  const moved = (a: number, b: number, whole: number, share: number): boolean =>
    whole > 0 && Math.abs(a - b) / whole >= share;
  return (
    JSON.stringify(steadyPart(before)) !== JSON.stringify(steadyPart(after)) ||
    Math.abs(before.cpuPercent - after.cpuPercent) > CPU_CHANGE_POINTS ||
    moved(
      before.memoryAvailableBytes,
      after.memoryAvailableBytes,
      after.capacity.memoryBytes,
      MEMORY_CHANGE,
    ) ||
    moved(before.diskFreeBytes, after.diskFreeBytes, after.capacity.diskBytes, DISK_CHANGE)
  );
};

/** What matters however little it changes. */
const steadyPart = (node: ObservedNode): object => ({
  ...node,
  cpuPercent: 0,
  memoryAvailableBytes: 0,
  diskFreeBytes: 0,
  updatedAtMs: 0,
});
