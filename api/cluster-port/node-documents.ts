/**
 * What a node publishes, checked against whose certificate sent it, and written in one transaction.
 *
 * Invariants: a node writes its own document, its own replicas, services of those (./node-services) and events that
 * name it, and nothing else, each as it can be (./node-claims); what stands under a key and is of another node is never replaced, whoever is quicker; one
 * wrong write refuses all of them.
 */

import { checkDocument } from '../../contracts/documents';
import type { KeyValueStore, KvOperation } from '../../contracts/key-value-store';
import { KV_PREFIX, eventKvKey, ingressKvKey, nodeKvKey, requestCountsKvKey } from '../../contracts/kv';
import {
  MAX_NODE_EVENTS_PER_MINUTE,
  MAX_NODE_OPERATIONS,
  MAX_NODE_WRITES,
  operationsOf,
  targetOf,
  type NodeDocumentsAnswer,
  type NodeDocumentWrite,
  type NodeServiceWrite,
  type NodeWrite,
} from '../../contracts/node-documents';
import type { ServiceCatalogue } from '../../contracts/service-catalogue';
import { nodeAliveCheckId } from '../../contracts/services';
import { ContainerOsError } from '../../domain/errors';
import type { ObservedNode } from '../../domain/model';

import { assertPossible } from './node-claims';
import type { NodeLiveness } from './node-liveness';
import {
  assertOwnService,
  isServiceKind,
  isServiceWrite,
  parseServiceWrite,
  planServices,
  replicaKeyOf,
  type ServicePlan,
} from './node-services';

export interface NodeDocuments {
  /**
   * @param body what the node sent
   * @throws {ContainerOsError} `invalid`, `forbidden` or `too_large` for a write that must not be; `rate_limited` for
   *   too many events; `unavailable` when the store is away, or what a service needs is not there yet
   */
  write(nodeId: string, body: unknown): Promise<NodeDocumentsAnswer>;
}

export interface NodeDocumentsDeps {
  readonly store: Pick<KeyValueStore, 'get' | 'transact'>;
  readonly catalogue: Pick<ServiceCatalogue, 'services' | 'checksOfNode' | 'transact'>;
  readonly liveness: Pick<NodeLiveness, 'heard' | 'isShownAlive'>;
  readonly clusterId: string;
  /** Milliseconds since the epoch. */
  readonly nowMs?: () => number;
}

/** Consul's limit of a transaction is 512 KB, in which documents are base64. */
const MAX_TRANSACTION_BYTES = 500_000;
const BYTES_BESIDE_A_DOCUMENT = 150;
/** Each check repeats ids and names of its service. */
const BYTES_BESIDE_AN_OPERATION = 1_000;
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

const parseWrite = (value: unknown, at: number): NodeWrite => {
  const problem = (words: string) => new ContainerOsError('invalid', `/writes/${at} ${words}.`);
  if (!isObject(value)) throw problem('is not an object');
  const { kind, key, document } = value;
  if (isServiceKind(kind)) return parseServiceWrite(value, at);
  if (typeof key !== 'string' || key.length > 512) throw problem('has no valid key');
  if (kind === 'remove') return { kind, key };
  if (kind !== 'put') throw problem('is no kind of write');
  if (!isObject(document)) throw problem('has no document');
  return { kind, key, document };
};

/** @throws {ContainerOsError} `invalid` */
const parseWrites = (body: unknown): readonly NodeWrite[] => {
  const writes = isObject(body) ? body.writes : undefined;
  if (!Array.isArray(writes) || writes.length === 0 || writes.length > MAX_NODE_WRITES) {
    throw new ContainerOsError('invalid', `The body has to hold 1 to ${MAX_NODE_WRITES} writes.`);
  }
  const parsed = writes.map(parseWrite);
  if (new Set(parsed.map(targetOf)).size < parsed.length) {
    throw new ContainerOsError('invalid', 'The writes name a key or a service twice.');
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
    if (write.kind === 'put') {
      assertPossible('nodes', key, documentOf(key, checkDocument('nodes', key, write.document)));
    }
  } else if (key.startsWith(KV_PREFIX.replicas)) {
    if (write.kind === 'remove') return; // whose it is stands in the store
    const replica = documentOf(key, checkDocument('replicas', key, write.document));
    const { project, name, id, nodeId: owner } = replica;
    if (![project, name, id].every((part) => PART.test(part))) throw wrong(key, 'its names are not valid');
    own(owner);
    assertPossible('replicas', key, replica);
  } else if (key.startsWith(KV_PREFIX.ingresses)) {
    if (key !== ingressKvKey(nodeId)) own(undefined);
    if (write.kind === 'put') {
      assertPossible('ingresses', key, documentOf(key, checkDocument('ingresses', key, write.document)));
    }
  } else if (key.startsWith(KV_PREFIX.requestCounts)) {
    if (key !== requestCountsKvKey(nodeId)) own(undefined);
    if (write.kind === 'put') {
      const read = checkDocument('requestCounts', key, write.document);
      assertPossible('requestCounts', key, documentOf(key, read));
    }
  } else if (key.startsWith(KV_PREFIX.events)) {
    if (write.kind === 'remove') throw foreign(key, 'events are kept');
    const event = documentOf(key, checkDocument('events', key, write.document));
    own(event.node);
    assertPossible('events', key, event);
    const [, suffix = ''] = /-([0-9a-f]{8,64})$/.exec(key) ?? [];
    if (key !== eventKvKey(event.atMs, suffix) || event.atMs < 0)
      throw wrong(key, 'it belongs under another key');
    if (event.atMs > nowMs + MAX_AHEAD_MS) throw wrong(key, 'it is of the future. Set the clock of the node');
    if (JSON.stringify(event).length > MAX_EVENT_CHARACTERS) throw wrong(key, 'the event is too long');
  } else throw foreign(key, 'a node writes nodes, replicas, ingresses, request counts and events only');
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

export const createNodeDocuments = ({
  store,
  catalogue,
  liveness,
  clusterId,
  nowMs = Date.now,
}: NodeDocumentsDeps): NodeDocuments => {
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

  /** The address that the node's document says, or will say. */
  const addressOf = async (
    nodeId: string,
    documents: readonly NodeDocumentWrite[],
  ): Promise<string | undefined> => {
    const key = nodeKvKey(nodeId);
    const sent = documents.find((write) => write.key === key);
    if (sent?.kind === 'put') return (sent.document as ObservedNode).address;
    return (await store.get<ObservedNode>(key))?.value?.address;
  };

  const plan = async (
    nodeId: string,
    documents: readonly NodeDocumentWrite[],
    services: readonly NodeServiceWrite[],
  ): Promise<ServicePlan> => {
    if (services.length === 0) return { operations: [], absent: [] };
    const holder = { nodeId, clusterId };
    const sent = new Set(documents.filter(({ kind }) => kind === 'put').map(({ key }) => key));
    const replicaKeys = services.flatMap((write) =>
      write.kind === 'putService' ? (replicaKeyOf(write.service, holder) ?? []) : [],
    );
    const isOwn = (key: string) => sent.has(key) || isKnown(key, nodeId);
    const isPut = services.some(({ kind }) => kind === 'putService');
    const reported = services.flatMap((write) => (write.kind === 'reportCheck' ? write.serviceId : []));
    const named = services.flatMap((write) => (write.kind === 'putService' ? [] : write.serviceId));
    const [address, found, checks] = await Promise.all([
      isPut ? addressOf(nodeId, documents) : undefined,
      // How many there are matters only where one may be added.
      catalogue.services(nodeId, isPut ? undefined : named),
      reported.length === 0 ? [] : catalogue.checksOfNode(nodeId, reported),
      ...[...new Set(replicaKeys)].filter((key) => !isOwn(key)).map((key) => learn(key, nodeId)),
    ]);
    return planServices(services, { ...holder, address, ownsReplica: isOwn, services: found, checks });
  };

  const commit = async (writes: readonly NodeWrite[], nodeId: string): Promise<NodeDocumentsAnswer> => {
    const services = writes.filter(isServiceWrite);
    const documents = writes.filter((write) => !isServiceWrite(write));
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const unsure = documents.filter(({ kind, key }) => {
        if (isKnown(key, nodeId)) return false;
        // Most of what is put and not known yet is new: that is tried before anything is asked.
        return attempt > 0 || kind === 'remove' || known.has(key);
      });
      await Promise.all(unsure.map(({ key }) => learn(key, nodeId)));
      const { operations, absent } = await plan(nodeId, documents, services);
      const kv = documents.map((write) => operationOf(write, nodeId));
      if (kv.length + operations.length === 0) return { index: 0, absent };
      const result =
        operations.length === 0 ? await store.transact(kv) : await catalogue.transact([...kv, ...operations]);
      if (result.kind === 'written') {
        for (const { kind, key } of documents) {
          if (kind === 'put') remember(key, nodeId, result.index);
          else known.delete(key);
        }
        return { index: result.index, absent };
      }
      for (const { key } of documents) if (result.key === '' || result.key === key) known.delete(key);
    }
    throw new ContainerOsError(
      'unavailable',
      'What these writes replace is changing all the time. Try again.',
    );
  };

  const bytesOf = (write: NodeWrite): number => {
    if (isServiceWrite(write)) {
      return Buffer.byteLength(JSON.stringify(write)) + operationsOf(write) * BYTES_BESIDE_AN_OPERATION;
    }
    const json = write.kind === 'put' ? Buffer.byteLength(JSON.stringify(write.document)) : 0;
    return Math.ceil(json / 3) * 4 + Buffer.byteLength(write.key) + BYTES_BESIDE_A_DOCUMENT;
  };

  const assertSize = (writes: readonly NodeWrite[]): void => {
    const bytes = writes.reduce((sum, write) => sum + bytesOf(write), 0);
    const operations = writes.reduce((sum, write) => sum + operationsOf(write), 0);
    if (bytes > MAX_TRANSACTION_BYTES || operations > MAX_NODE_OPERATIONS) {
      throw new ContainerOsError('too_large', 'The writes are too large for one transaction. Send fewer.');
    }
  };

  /** A node says that it lives every few seconds, and hardly ever changes anything by it. */
  const isNews = (write: NodeWrite, nodeId: string): boolean =>
    write.kind !== 'reportCheck' ||
    write.checkId !== nodeAliveCheckId(nodeId) ||
    write.status !== 'passing' ||
    !liveness.isShownAlive(nodeId);

  return {
    write: async (nodeId, body) => {
      liveness.heard(nodeId);
      const writes = parseWrites(body);
      const now = nowMs();
      for (const write of writes) {
        if (isServiceWrite(write)) assertOwnService(write, { nodeId, clusterId });
        else assertOwn(write, nodeId, now);
      }
      assertSize(writes);
      const events = writes.filter(
        (write) => write.kind === 'put' && write.key.startsWith(KV_PREFIX.events),
      ).length;
      if (events > 0 && !allows(nodeId, events)) {
        throw new ContainerOsError(
          'rate_limited',
          `The node ${nodeId} tells more than ${MAX_NODE_EVENTS_PER_MINUTE} events a minute. Try again in a minute.`,
        );
      }
      return commit(
        writes.filter((write) => isNews(write, nodeId)),
        nodeId,
      );
    },
  };
};
