/**
 * When what a node tells counts as having happened, by how far its clock is from the head node's. Pure.
 *
 * Invariants: no event is lost, or of the future, because a clock is wrong: it is dated when the cluster hears of it then,
 * and keeps what the node's clock said; events of one request stay in their order.
 */

import { KV_PREFIX, eventKvKey } from '../../contracts/kv';
import type { NodeDocumentWrite, NodeWrite } from '../../contracts/node-documents';
import { isClockOff } from '../../domain/clock-difference';
import { isObject } from '../../domain/is-object';
import type { ClusterEvent } from '../../domain/model';

type EventWrite = Extract<NodeDocumentWrite, { readonly kind: 'put' }>;

export const isEventWrite = (write: NodeWrite): write is EventWrite =>
  write.kind === 'put' && write.key.startsWith(KV_PREFIX.events);

/**
 * How far the clock of a node is ahead, by what its request says; undefined when it does not say.
 *
 * @param body a NodeDocumentsRequest
 */
export const clockAheadOf = (body: unknown, nowMs: number): number | undefined => {
  const sentAtMs = isObject(body) ? body.sentAtMs : undefined;
  return typeof sentAtMs === 'number' && Number.isFinite(sentAtMs) ? Math.round(sentAtMs - nowMs) : undefined;
};

/**
 * Dates the events among the writes.
 *
 * @param writes that may be written; their keys hold the time and a suffix
 * @param clockAheadMs of the node; undefined when it is not known
 */
export const dateEvents = (
  writes: readonly NodeWrite[],
  nowMs: number,
  clockAheadMs: number | undefined,
): readonly NodeWrite[] =>
  writes.map((write, position) => {
    if (!isEventWrite(write)) return write;
    const event = write.document as ClusterEvent;
    if (!isClockOff(clockAheadMs ?? 0) && (event.atMs < nowMs || !isClockOff(event.atMs - nowMs)))
      return write;
    // Events of the same millisecond have no order.
    const atMs = nowMs + position;
    const document: ClusterEvent = { ...event, atMs, nodeAtMs: event.atMs };
    return { ...write, key: eventKvKey(atMs, write.key.slice(write.key.lastIndexOf('-') + 1)), document };
  });
