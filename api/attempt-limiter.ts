/**
 * Makes guessing of passwords slow: each address may fail a number of times, and then once in a while.
 *
 * Invariants: while an address has no attempts left, nothing that it sends is compared at all, not even the right
 * password, or a guesser would see which one is right; memory is bounded, however many addresses there are. Join tokens
 * are compared all the same, as nobody guesses them (./join/join-node).
 *
 * The price is that somebody who shares the address waits too: seconds, told by Retry-After. For the machine's own
 * programs, which all share the loopback address, the allowance is ten times that of others.
 */

import { networkOf } from '../domain/client-network';

export interface AttemptLimiter {
  /** Milliseconds until the address may try again; 0 when it may now. */
  waitMs(address: string, nowMs: number): number;
  failed(address: string, nowMs: number): void;
}

export const FAILURES_PER_MINUTE = 10;
export const LOOPBACK_FAILURES_PER_MINUTE = 100;
const MINUTE_MS = 60_000;
const MAX_ADDRESSES = 10_000;

export const isLoopback = (address: string): boolean => {
  const bucket = networkOf(address);
  return bucket === '::1' || bucket.startsWith('127.');
};

export const createAttemptLimiter = (): AttemptLimiter => {
  /** When all of an address's failures will have been paid off. */
  const paidAtMs = new Map<string, number>();

  const costMs = (bucket: string) =>
    MINUTE_MS / (isLoopback(bucket) ? LOOPBACK_FAILURES_PER_MINUTE : FAILURES_PER_MINUTE);

  const makeRoom = (nowMs: number) => {
    for (const [bucket, atMs] of paidAtMs) if (atMs <= nowMs) paidAtMs.delete(bucket);
    // The oldest entries go first: a flood of addresses cannot push out the one that is failing now.
    for (const bucket of paidAtMs.keys()) {
      if (paidAtMs.size < MAX_ADDRESSES) break;
      paidAtMs.delete(bucket);
    }
  };

  return {
    waitMs: (address, nowMs) => {
      const bucket = networkOf(address);
      const debtMs = (paidAtMs.get(bucket) ?? 0) - nowMs;
      return Math.max(0, debtMs - (MINUTE_MS - costMs(bucket)));
    },
    failed: (address, nowMs) => {
      const bucket = networkOf(address);
      if (!paidAtMs.has(bucket) && paidAtMs.size >= MAX_ADDRESSES) makeRoom(nowMs);
      const atMs = Math.max(nowMs, paidAtMs.get(bucket) ?? 0) + costMs(bucket);
      paidAtMs.delete(bucket);
      paidAtMs.set(bucket, atMs);
    },
  };
};
