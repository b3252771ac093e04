/**
 * What a node sends to be written, as far as it can be judged from the request alone. Pure.
 *
 * Invariants: a node writes its own document, its own replicas, services of those (./node-services) and events that
 * name it, and nothing else, each as it can be (./node-claims).
 */

import { checkDocument } from '../../contracts/documents';
import { KV_PREFIX, eventKvKey, ingressKvKey, nodeKvKey, requestCountsKvKey } from '../../contracts/kv';
import {
  MAX_NODE_OPERATIONS,
  MAX_NODE_WRITES,
  operationsOf,
  targetOf,
  type NodeDocumentWrite,
  type NodeWrite,
} from '../../contracts/node-documents';
import { ContainerOsError } from '../../domain/errors';
import { isObject } from '../../domain/is-object';

import { assertPossible } from './node-claims';
import { isServiceKind, isServiceWrite, parseServiceWrite } from './node-services';

/** Consul's limit of a transaction is 512 KB, in which documents are base64. */
const MAX_TRANSACTION_BYTES = 500_000;
const BYTES_BESIDE_A_DOCUMENT = 150;
/** Each check repeats ids and names of its service. */
const BYTES_BESIDE_AN_OPERATION = 1_000;
const MAX_EVENT_CHARACTERS = 16_384;
/** The parts of a key, which is a path. */
const PART = /^[a-z0-9]([a-z0-9._-]{0,126}[a-z0-9])?$/;

const wrong = (key: string, words: string) =>
  new ContainerOsError('invalid', `The write of ${key} is refused: ${words}.`);
export const foreign = (key: string, words: string) =>
  new ContainerOsError('forbidden', `The write of ${key} is refused: ${words}.`);

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
export const parseWrites = (body: unknown): readonly NodeWrite[] => {
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

/**
 * Checks what can be told from the write alone.
 *
 * @throws {ContainerOsError} `forbidden`, or `invalid`
 */
export const assertOwn = (write: NodeDocumentWrite, nodeId: string): void => {
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
    if (JSON.stringify(event).length > MAX_EVENT_CHARACTERS) throw wrong(key, 'the event is too long');
  } else throw foreign(key, 'a node writes nodes, replicas, ingresses, request counts and events only');
};

const bytesOf = (write: NodeWrite): number => {
  if (isServiceWrite(write)) {
    return Buffer.byteLength(JSON.stringify(write)) + operationsOf(write) * BYTES_BESIDE_AN_OPERATION;
  }
  const json = write.kind === 'put' ? Buffer.byteLength(JSON.stringify(write.document)) : 0;
  return Math.ceil(json / 3) * 4 + Buffer.byteLength(write.key) + BYTES_BESIDE_A_DOCUMENT;
};

/** @throws {ContainerOsError} `too_large` */
export const assertSize = (writes: readonly NodeWrite[]): void => {
  const bytes = writes.reduce((sum, write) => sum + bytesOf(write), 0);
  const operations = writes.reduce((sum, write) => sum + operationsOf(write), 0);
  if (bytes > MAX_TRANSACTION_BYTES || operations > MAX_NODE_OPERATIONS) {
    throw new ContainerOsError('too_large', 'The writes are too large for one transaction. Send fewer.');
  }
};
