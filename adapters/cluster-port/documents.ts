/**
 * Writes a node's documents and services through the cluster port, where they are checked against the node's
 * certificate.
 *
 * Invariants: as of port-client; the same batches as those that go to Consul itself, but that events go apart from all
 * else: who has told too many of them may still say how it is. Writing the same twice does no harm.
 */

import {
  nodeDocumentsPath,
  operationsOf,
  targetOf,
  type NodeDocumentsAnswer,
  type NodeServiceWrite,
} from '../../contracts/node-documents';
import { KV_PREFIX } from '../../contracts/kv';
import { createBatcher, type WriteWeight } from '../batcher';
import {
  documentBytes,
  documentWriterOver,
  type DocumentWrite,
  type DocumentWriter,
} from '../document-writer';

import { createPortClient, type ClusterPortOptions } from './port-client';

export interface ClusterPortWriter extends DocumentWriter {
  /**
   * In one transaction with the documents that are written in the same turn.
   *
   * @returns false when what it removes, or reports on, was not there
   */
  writeService(write: NodeServiceWrite): Promise<boolean>;
  /** How far this machine's clock is ahead of the head node's, as of the last answer; 0 before there is one. */
  clockAheadMs(): number;
  /** Closes idle connections. */
  close(): void;
}

const TIMEOUT_MS = 10_000;
const MAX_ANSWER_CHARACTERS = 64_000;
/** A check in a transaction of Consul repeats ids and names of its service. */
const BYTES_BESIDE_AN_OPERATION = 1_000;

type Write = DocumentWrite | NodeServiceWrite;

const isDocument = (write: Write): write is DocumentWrite => write.kind === 'put' || write.kind === 'remove';

const isEvent = (write: Write): boolean => isDocument(write) && write.key.startsWith(KV_PREFIX.events);

const weigh = (write: Write): WriteWeight =>
  isDocument(write)
    ? { target: write.key, operations: 1, bytes: documentBytes(write) }
    : {
        target: targetOf(write),
        operations: operationsOf(write),
        bytes: Buffer.byteLength(JSON.stringify(write)) + operationsOf(write) * BYTES_BESIDE_AN_OPERATION,
      };

/** The documents are JSON already: they are put together, not parsed again. */
const bodyOf = (writes: readonly Write[], sentAtMs: number): string => {
  const items = writes.map((write) => {
    if (!isDocument(write)) return JSON.stringify(write);
    const key = JSON.stringify(write.key);
    return write.kind === 'put'
      ? `{"kind":"put","key":${key},"document":${write.json}}`
      : `{"kind":"remove","key":${key}}`;
  });
  return `{"sentAtMs":${sentAtMs},"writes":[${items.join(',')}]}`;
};

/** @returns a writer whose promises reject with ContainerOsError: the server's own, or `unavailable` */
export const createClusterPortWriter = (options: ClusterPortOptions): ClusterPortWriter => {
  const client = createPortClient(options, {
    method: 'PUT',
    path: nodeDocumentsPath(options.nodeId),
    timeoutMs: TIMEOUT_MS,
    maxAnswerCharacters: MAX_ANSWER_CHARACTERS,
    maxSockets: 1,
    failing: 'does not take what the node writes',
  });
  let aheadMs = 0;

  const send = async (body: string): Promise<NodeDocumentsAnswer> => {
    const answer = ((await client.send(body)) ?? {}) as Readonly<Record<string, unknown>>;
    const { index, absent, clockAheadMs } = answer;
    if (typeof index !== 'number') throw client.away('it says 200');
    if (typeof clockAheadMs === 'number') aheadMs = clockAheadMs;
    return { index, absent: Array.isArray(absent) ? absent.map(String) : [] };
  };

  const createLane = () =>
    createBatcher(weigh, (writes: readonly Write[]) => send(bodyOf(writes, Date.now())));
  const [addEvent, addOther] = [createLane(), createLane()];
  const add = (write: Write) => (isEvent(write) ? addEvent(write) : addOther(write));

  return {
    ...documentWriterOver(add),
    writeService: async (write) => {
      const { absent } = await add(write);
      switch (write.kind) {
        case 'putService':
          return true;
        case 'reportCheck':
          return !absent.includes(write.checkId);
        case 'removeService':
          return !absent.includes(write.serviceId);
      }
    },
    clockAheadMs: () => aheadMs,
    close: () => client.close(),
  };
};
