/**
 * Appends what happened on this node to the cluster's events.
 *
 * Invariants: an event that says what was said a moment ago of the same thing is dropped, so that a crash loop does
 * not flood the log; while Consul is away the newest events wait, oldest dropped first.
 */

import { randomBytes } from 'node:crypto';

import type { Logger } from 'pino';

import type { DocumentWriter } from '../../adapters/document-writer';
import { eventKvKey } from '../../contracts/kv';
import type { ClusterEvent } from '../../domain/model';

const QUIET_MS = 60_000;
const MAX_WAITING = 200;
const RETRY_MS = 2_000;

export interface EventLog {
  /** @param again further events with the same key are dropped for a minute; none: never dropped */
  append(event: Omit<ClusterEvent, 'atMs' | 'node'>, again?: { readonly key: string }): void;
  stop(): void;
}

export const createEventLog = (
  nodeId: string,
  documents: DocumentWriter,
  logger: Logger,
  nowMs: () => number = () => performance.now(),
): EventLog => {
  const saidAt = new Map<string, number>();
  const waiting: ClusterEvent[] = [];
  let retry: NodeJS.Timeout | undefined;
  let isStopped = false;

  const write = (event: ClusterEvent): void => {
    documents.put(eventKvKey(event.atMs, randomBytes(5).toString('hex')), event).catch((error: unknown) => {
      logger.debug({ err: error }, 'could not append an event');
      if (isStopped) return;
      waiting.push(event);
      if (waiting.length > MAX_WAITING) waiting.shift();
      retry ??= setTimeout(() => {
        retry = undefined;
        for (const one of waiting.splice(0)) write(one);
      }, RETRY_MS);
    });
  };

  return {
    append: (event, again) => {
      if (again !== undefined) {
        const now = nowMs();
        for (const [key, at] of saidAt) if (now - at > QUIET_MS) saidAt.delete(key);
        if (saidAt.has(again.key)) return;
        saidAt.set(again.key, now);
      }
      logger[event.level === 'info' ? 'info' : 'warn']({ event: event.type }, event.message);
      write({ atMs: Date.now(), ...event, node: nodeId });
    },
    stop: () => {
      isStopped = true;
      clearTimeout(retry);
    },
  };
};
