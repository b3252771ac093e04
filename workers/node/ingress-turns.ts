/**
 * Does one part of what the ingress of a node has to do, in turns: one at a time, each with what is known then, and what
 * failed again.
 *
 * Invariant: a part waits for no other one.
 */

import type { Logger } from 'pino';

import { pause } from '../../adapters/pause';
import { createTroubles } from '../troubles';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2_000;

export interface IngressTurns {
  /** There is something new. */
  wake(): void;
  start(): void;
  stop(): void;
}

export interface IngressTurnsOptions {
  readonly turn: () => Promise<void>;
  /** Whether enough is known for a turn. */
  readonly isReady: () => boolean;
  /** Told of each turn. @param reason why it failed */
  readonly onTurn: (reason: string | undefined) => void;
  /** For people, when turns fail, and when they succeed again. */
  readonly words: { readonly failing: string; readonly well: string };
  readonly logger: Logger;
}

export const createIngressTurns = ({
  turn,
  isReady,
  onTurn,
  words,
  logger,
}: IngressTurnsOptions): IngressTurns => {
  const troubles = createTroubles(logger);
  const stopped = new AbortController();
  let isStale = false;
  let goOn: () => void = () => undefined;

  const run = async (): Promise<void> => {
    let retryMs = FIRST_RETRY_MS;
    while (!stopped.signal.aborted) {
      if (!isStale || !isReady()) {
        await new Promise<void>((resolve) => (goOn = resolve));
        continue;
      }
      isStale = false;
      try {
        await turn();
        troubles.over('turn', words.well);
        onTurn(undefined);
        retryMs = FIRST_RETRY_MS;
      } catch (error) {
        isStale = true;
        troubles.note('turn', error, words.failing);
        onTurn((error as Error).message);
        await pause(retryMs, stopped.signal);
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  };

  return {
    wake: () => {
      isStale = true;
      goOn();
    },
    start: () => void run(),
    stop: () => {
      stopped.abort();
      goOn();
    },
  };
};
