/**
 * Refused joins, and which of them are told as events: few enough that nobody can flood the log with them.
 *
 * Invariants: at most one event for each reason and source in a minute, and at most MAX_PER_MINUTE altogether.
 */

import { ContainerOsError, type ErrorCode } from '../../domain/errors';

/** A machine is not let in. */
export class Refusal extends ContainerOsError {
  /** @param reason what events of the same kind have in common */
  constructor(
    code: ErrorCode,
    readonly reason: string,
    message: string,
  ) {
    super(code, message);
  }
}

/** A machine says itself why it does not ask: nothing is tried with it. */
export class GivenUp extends Refusal {}

export const MAX_PER_MINUTE = 60;
const MINUTE_MS = 60_000;

export interface RefusedJoins {
  /** Whether this one is to be told. */
  isNews(reason: string, source: string, nowMs: number): boolean;
}

export const createRefusedJoins = (): RefusedJoins => {
  const toldAtMs = new Map<string, number>();
  return {
    isNews: (reason, source, nowMs) => {
      for (const [key, atMs] of toldAtMs) if (nowMs - atMs >= MINUTE_MS) toldAtMs.delete(key);
      const key = `${reason} ${source}`;
      if (toldAtMs.has(key) || toldAtMs.size >= MAX_PER_MINUTE) return false;
      toldAtMs.set(key, nowMs);
      return true;
    },
  };
};
