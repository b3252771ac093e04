/**
 * Logs what goes wrong again and again once when it begins, and once when it is over.
 *
 * Invariant: what is over is only said of what was said to have begun.
 */

import type { Logger } from 'pino';

export interface Troubles {
  /**
   * It has gone wrong, maybe not for the first time.
   *
   * @param what tells one trouble from another
   * @param words for people, beside the error
   */
  note(what: string, error: unknown, words: string): void;
  /** It has gone well, maybe not for the first time. @param words for people */
  over(what: string, words: string): void;
  /** It is not tried any more: neither well nor wrong. */
  forget(what: string): void;
}

export const createTroubles = (logger: Pick<Logger, 'warn' | 'info'>): Troubles => {
  const begun = new Set<string>();
  return {
    note: (what, error, words) => {
      if (begun.has(what)) return;
      begun.add(what);
      logger.warn({ err: error }, words);
    },
    over: (what, words) => {
      if (begun.delete(what)) logger.info(words);
    },
    forget: (what) => {
      begun.delete(what);
    },
  };
};
