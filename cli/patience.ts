/** What a command that waits does while the API is away, which is restarted now and then. */

import { setTimeout as delay } from 'node:timers/promises';

import { CommandError } from './command';

export interface Patience {
  /** Between two tries to reach an API that does not answer. */
  readonly retryMs: number;
  /** For how long it may not answer at a stretch. */
  readonly limitMs: number;
}

/** An API that is restarted is back within seconds. */
export const PATIENCE: Patience = { retryMs: 1_000, limitMs: 120_000 };

/**
 * Does something that only reads, again and again while the API does not answer.
 *
 * @param warn told once that it does not
 * @param meanwhile what goes on all the same, and how it is looked at again, for people
 * @throws {CommandError} what the step throws; `unavailable` when the API has not answered for too long
 */
export const patiently = async <T>(
  step: () => Promise<T>,
  { retryMs, limitMs }: Patience,
  warn: (line: string) => void,
  meanwhile: { readonly goesOn: string; readonly again: string },
): Promise<T> => {
  let awaySinceMs: number | undefined;
  for (;;) {
    try {
      return await step();
    } catch (error) {
      if (!(error instanceof CommandError) || error.code !== 'unavailable') throw error;
      if (awaySinceMs === undefined) {
        awaySinceMs = performance.now();
        warn(`${error.message} ${meanwhile.goesOn} goes on meanwhile; trying again.`);
      } else if (performance.now() - awaySinceMs > limitMs) {
        throw new CommandError(
          error.code,
          `${error.message} ${meanwhile.goesOn} goes on by itself; ${meanwhile.again}.`,
          { cause: error },
        );
      }
      await delay(retryMs);
    }
  }
};
