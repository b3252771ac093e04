/** The wire format of server-sent events, and keeping a silent connection from being taken for a dead one. */

import type { Exchange } from './exchange';

export const EVENT_STREAM = 'text/event-stream';
const KEEP_ALIVE_MS = 15_000;

export interface SseMessage {
  readonly id?: string;
  readonly event?: string;
  /** One line. */
  readonly data: string;
}

export const sseMessage = ({ id, event, data }: SseMessage): string =>
  `${id === undefined ? '' : `id: ${id}\n`}${event === undefined ? '' : `event: ${event}\n`}data: ${data}\n\n`;

/**
 * Writes something without a meaning now and then.
 *
 * @returns how to stop it
 */
export const keepAlive = ({ res }: Exchange, text: string): (() => void) => {
  const timer = setInterval(() => {
    // A reader that does not even take what there is needs nothing more.
    if (!res.writableEnded && !res.destroyed && !res.writableNeedDrain) res.write(text);
  }, KEEP_ALIVE_MS);
  timer.unref();
  return () => clearInterval(timer);
};
