/**
 * Runs what follows Consul in turns: one at a time, when something was heard since the last one began, and when the last
 * one said that it is due again.
 *
 * Invariants: no turn before every source was heard once, because what is missing until then is not gone; one that failed
 * is done again, with growing pauses.
 */

import type { Logger } from 'pino';

import { pause } from '../adapters/pause';
import type { KvChange } from '../contracts/kv-store';

import { createTroubles } from './troubles';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
/** No timer waits for longer than that, whatever the clock does meanwhile. */
const LONGEST_WAIT_MS = 3_600_000;

export interface Turns {
  /** A source was heard. @param change what is new there; an index alone is nothing */
  heard(source: string, change: Pick<KvChange, 'changed' | 'removed'>): void;
  start(): void;
  stop(): void;
}

export interface TurnsOptions {
  /** What has to be heard before the first turn. */
  readonly sources: readonly string[];
  /** Begins to listen to them. */
  readonly follow: () => readonly { close(): void }[];
  /** @returns when it has to be done again, milliseconds since the epoch; undefined: not before something is heard */
  readonly turn: () => Promise<number | undefined>;
  /** For people, when turns fail, and when they succeed again. */
  readonly words: { readonly failing: string; readonly well: string };
  readonly nowMs: () => number;
  readonly logger: Logger;
}

export const createTurns = ({ sources, follow, turn, words, nowMs, logger }: TurnsOptions): Turns => {
  const troubles = createTroubles(logger);
  const stopped = new AbortController();
  const unread = new Set(sources);
  let wake: () => void = () => undefined;
  let isStale = false;

  const run = async (): Promise<void> => {
    let retryMs = FIRST_RETRY_MS;
    let againAtMs: number | undefined;
    while (!stopped.signal.aborted) {
      if (unread.size > 0 || !isStale) {
        const waitMs = againAtMs === undefined ? LONGEST_WAIT_MS : againAtMs - nowMs();
        const timer = setTimeout(
          () => {
            isStale = unread.size === 0;
            wake();
          },
          Math.min(Math.max(waitMs, 0), LONGEST_WAIT_MS),
        );
        timer.unref();
        await new Promise<void>((resolve) => (wake = resolve));
        clearTimeout(timer);
        continue;
      }
      isStale = false;
      try {
        againAtMs = await turn();
        troubles.over('turn', words.well);
        retryMs = FIRST_RETRY_MS;
      } catch (error) {
        isStale = true;
        troubles.note('turn', error, words.failing);
        await pause(retryMs, stopped.signal);
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  };

  return {
    heard: (source, { changed, removed }) => {
      if (!unread.delete(source) && changed.length + removed.length === 0) return;
      isStale = true;
      wake();
    },
    start: () => {
      const watches = follow();
      stopped.signal.addEventListener('abort', () => watches.forEach((watch) => watch.close()), {
        once: true,
      });
      void run();
    },
    stop: () => {
      stopped.abort();
      wake();
    },
  };
};
