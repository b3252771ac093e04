/**
 * What a node publishes, checked against whose certificate sent it, and written in one transaction.
 *
 * Invariants: a node writes its own document, its own replicas and events that name it, and nothing else; what stands
 * under a key and is of another node is never replaced, whoever is quicker; one wrong write refuses all of them.
 */

import { checkDocument } from '../../contracts/documents';
import type { KeyValueStore, KvOperation } from '../../contracts/key-value-store';
import { KV_PREFIX, eventKvKey, nodeKvKey } from '../../contracts/kv';
import {
  MAX_NODE_EVENTS_PER_MINUTE,
  MAX_NODE_WRITES,
  type NodeDocumentWrite,
} from '../../contracts/node-documents';
import { ContainerOsError } from '../../domain/errors';

export interface NodeDocuments {
  /**
   * @param body what the node sent
   * @returns the store's index of the transaction
   * @throws {ContainerOsError} `invalid`, `forbidden` or `too_large` for a write that must not be; `rate_limited` for
   *   too many events; `unavailable` when the store is away
   */
  write(nodeId: string, body: unknown): Promise<number>;
}

/** Consul's limit of a transaction is 512 KB, in which documents are base64. */
const MAX_TRANSACTION_BYTES = 500_000;
const BYTES_BESIDE_A_DOCUMENT = 150;
const MAX_EVENT_CHARACTERS = 16_384;
/** How far ahead the clock of a node may be: events are in the order of their times. */
const MAX_AHEAD_MS = 3_600_000;
const MAX_KNOWN_KEYS = 20_000;
const ATTEMPTS = 4;
const MINUTE_MS = 60_000;
/** The parts of a key, which is a path. */
const PART = /^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$/;

const wrong = (key: string, words: string) =>
  new ContainerOsError('invalid', `The write of ${key} is refused: ${words}.`);
const foreign = (key: string, words: string) =>
  new ContainerOsError('forbidden', `The write of ${key} is refused: ${words}.`);

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const parseWrite = (value: unknown, at: number): NodeDocumentWrite => {
  const problem = (words: string) => new ContainerOsError('invalid', `/writes/${at} ${words}.`);
  if (!isObject(value)) throw problem('is not an object');
  const { kind, key, document } = value;
  if (typeof key !== 'string' || key.length > 512) throw problem('has no valid key');
  if (kind === 'remove') return { kind, key };
  if (kind !== 'put') throw problem('is neither a put nor a remove');
  if (!isObject(document)) throw problem('has no document');
  return { kind, key, document };
};

/** @throws {ContainerOsError} `invalid` */
const parseWrites = (body: unknown): readonly NodeDocumentWrite[] => {
  const writes = isObject(body) ? body.writes : undefined;
  if (!Array.isArray(writes) || writes.length === 0 || writes.length > MAX_NODE_WRITES) {
    throw new ContainerOsError('invalid', `The body has to hold 1 to ${MAX_NODE_WRITES} writes.`);
  }
  const parsed = writes.map(parseWrite);
  if (new Set(parsed.map(({ key }) => key)).size < parsed.length) {
    throw new ContainerOsError('invalid', 'The writes name a key twice.');
  }
  return parsed;
};

const documentOf = <T>(key: string, read: { readonly document: T } | { readonly problem: string }): T => {
  if ('problem' in read) throw wrong(key, read.problem);
  return read.document;
};

/** Checks what can be told from the write alone. */
const assertOwn = (write: NodeDocumentWrite, nodeId: string, nowMs: number): void => {
  const { key } = write;
  const own = (owner: string | undefined) => {
    if (owner !== nodeId) throw foreign(key, `it is not of the node ${nodeId}`);
  };
  if (key.startsWith(KV_PREFIX.nodes)) {
    if (key !== nodeKvKey(nodeId)) own(undefined);
    if (write.kind === 'put') documentOf(key, checkDocument('nodes', key, write.document));
  } else if (key.startsWith(KV_PREFIX.replicas)) {
    if (write.kind === 'remove') return; // whose it is stands in the store
    const {
      project,
      name,
      id,
      nodeId: owner,
    } = documentOf(key, checkDocument('replicas', key, write.document));
    if (![project, name, id].every((part) => PART.test(part))) throw wrong(key, 'its names are not valid');
    own(owner);
  } else if (key.startsWith(KV_PREFIX.events)) {
    if (write.kind === 'remove') throw foreign(key, 'events are kept');
    const event = documentOf(key, checkDocument('events', key, write.document));
    own(event.node);
    const [, suffix = ''] = /-([0-9a-f]{8,64})$/.exec(key) ?? [];
    if (key !== eventKvKey(event.atMs, suffix) || event.atMs < 0)
      throw wrong(key, 'it belongs under another key');
    if (event.atMs > nowMs + MAX_AHEAD_MS) throw wrong(key, 'it is of the future. Set the clock of the node');
    if (JSON.stringify(event).length > MAX_EVENT_CHARACTERS) throw wrong(key, 'the event is too long');
  } else throw foreign(key, 'a node writes nodes, replicas and events only');
};

const ownerOf = (key: string, value: unknown): unknown => {
  if (!isObject(value)) return undefined;
  return key.startsWith(KV_PREFIX.replicas)
    ? value.nodeId
    : key.startsWith(KV_PREFIX.events)
      ? value.node
      : value.id;
};

/** Lets each node say so many things a minute. */
const createAllowance = (perMinute: number, nowMs: () => number) => {
  const spent = new Map<string, { readonly sinceMs: number; readonly count: number }>();
  return (nodeId: string, count: number): boolean => {
    const now = nowMs();
    const last = spent.get(nodeId);
    const current = last === undefined || now - last.sinceMs >= MINUTE_MS ? { sinceMs: now, count: 0 } : last;
    if (current.count + count > perMinute) return false;
    spent.set(nodeId, { ...current, count: current.count + count });
    return true;
  };
};

/** @param nowMs milliseconds since the epoch */
export const createNodeDocuments = (
  store: Pick<KeyValueStore, 'get' | 'transact'>,
  nowMs: () => number = Date.now,
): NodeDocuments => {
  /** Keys that are known to be of a node, at this index of the store; what is not here is asked for. */
  const known = new Map<string, { readonly nodeId: string; readonly index: number }>();
  const allows = createAllowance(MAX_NODE_EVENTS_PER_MINUTE, nowMs);

  const remember = (key: string, nodeId: string, index: number): void => {
    known.delete(key);
    known.set(key, { nodeId, index });
    for (const oldest of known.keys()) {
      if (known.size <= MAX_KNOWN_KEYS) break;
      known.delete(oldest);
    }
  };

  /** Learns what stands under a key. @throws {ContainerOsError} `forbidden` when it is of another node */
  const learn = async (key: string, nodeId: string): Promise<void> => {
    known.delete(key);
    const found = await store.get<unknown>(key);
    if (found === undefined) return;
    // A node's own document may be replaced even when it cannot be read; of a replica it would not be known whose it was.
    if (key !== nodeKvKey(nodeId) && ownerOf(key, found.value) !== nodeId) {
      throw foreign(key, `what stands there is not of the node ${nodeId}`);
    }
    remember(key, nodeId, found.index);
  };

  const isKnown = (key: string, nodeId: string) => known.get(key)?.nodeId === nodeId;

  const operationOf = (write: NodeDocumentWrite, nodeId: string): KvOperation => {
    const { key } = write;
    if (write.kind === 'remove') return { kind: 'delete', key };
    const at = isKnown(key, nodeId) ? known.get(key) : undefined;
    if (at === undefined) return { kind: 'create', key, value: write.document };
    return { kind: 'replace', key, value: write.document, ifIndex: at.index };
  };

  const commit = async (writes: readonly NodeDocumentWrite[], nodeId: string): Promise<number> => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const unsure = writes.filter(({ kind, key }) => {
        if (isKnown(key, nodeId)) return false;
        // Most of what is put and not known yet is new: that is tried before anything is asked.
        return attempt > 0 || kind === 'remove' || known.has(key);
      });
      await Promise.all(unsure.map(({ key }) => learn(key, nodeId)));
      const result = await store.transact(writes.map((write) => operationOf(write, nodeId)));
      if (result.kind === 'written') {
        for (const { kind, key } of writes) {
          if (kind === 'put') remember(key, nodeId, result.index);
          else known.delete(key);
        }
        return result.index;
      }
      for (const { key } of writes) if (result.key === '' || result.key === key) known.delete(key);
    }
    throw new ContainerOsError(
      'unavailable',
      'What these writes replace is changing all the time. Try again.',
    );
  };

  const assertSize = (writes: readonly NodeDocumentWrite[]): void => {
    const bytes = writes.reduce((sum, write) => {
      const json = write.kind === 'put' ? Buffer.byteLength(JSON.stringify(write.document)) : 0;
      return sum + Math.ceil(json / 3) * 4 + Buffer.byteLength(write.key) + BYTES_BESIDE_A_DOCUMENT;
    }, 0);
    if (bytes > MAX_TRANSACTION_BYTES) {
      throw new ContainerOsError('too_large', 'The documents are too large for one transaction. Send fewer.');
    }
  };

  return {
    write: async (nodeId, body) => {
      const writes = parseWrites(body);
      for (const write of writes) assertOwn(write, nodeId, nowMs());
      assertSize(writes);
      const events = writes.filter(({ key }) => key.startsWith(KV_PREFIX.events)).length;
      if (events > 0 && !allows(nodeId, events)) {
        throw new ContainerOsError(
          'rate_limited',
          `The node ${nodeId} tells more than ${MAX_NODE_EVENTS_PER_MINUTE} events a minute. Try again in a minute.`,
        );
      }
      return commit(writes, nodeId);
    },
  };
};
