/**
 * Tells people that a node asked for what it may not have: either it is broken, or it is not what it says it is.
 *
 * Invariant: one event a minute of each node, however often it asks; what could not be told is in the log.
 */

import { randomBytes } from 'node:crypto';

import type { Logger } from 'pino';

import type { KeyValueStore } from '../../contracts/key-value-store';
import { eventKvKey } from '../../contracts/kv';
import type { ClusterEvent } from '../../domain/model';

export interface Refusals {
  /** @param words why it was refused */
  tell(nodeId: string, words: string): void;
}

const QUIET_MS = 60_000;

export const createRefusals = (
  store: Pick<KeyValueStore, 'transact'>,
  log: Logger,
  nowMs: () => number = Date.now,
): Refusals => {
  const saidAtMs = new Map<string, number>();
  return {
    tell: (nodeId, words) => {
      const now = nowMs();
      for (const [node, atMs] of saidAtMs) if (now - atMs >= QUIET_MS) saidAtMs.delete(node);
      if (saidAtMs.has(nodeId)) return;
      saidAtMs.set(nodeId, now);
      const event: ClusterEvent = {
        atMs: now,
        level: 'warning',
        type: 'node.refused',
        message: `The node ${nodeId} was refused something: ${words}`,
        node: nodeId,
      };
      log.warn({ event: event.type, node: nodeId }, event.message);
      const key = eventKvKey(now, randomBytes(5).toString('hex'));
      store
        .transact([{ kind: 'create', key, value: event }])
        .catch((error: unknown) => log.warn({ err: error, node: nodeId }, 'could not tell of a refusal'));
    },
  };
};
