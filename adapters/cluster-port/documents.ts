/**
 * Writes a node's documents and services through the cluster port, where they are checked against the node's
 * certificate.
 *
 * Invariants: the same batches as those that go to Consul itself, but that events go apart from all else: who has told
 * too many of them may still say how it is; the server has to show a certificate of the
 * cluster's authority; a refusal keeps its code and its words, and whatever else goes wrong is `unavailable`, so that
 * callers need not know the words of sockets.
 */

import { Agent, request as httpsRequest } from 'node:https';

import {
  nodeDocumentsPath,
  operationsOf,
  targetOf,
  type NodeDocumentsAnswer,
  type NodeServiceWrite,
} from '../../contracts/node-documents';
import { KV_PREFIX } from '../../contracts/kv';
import { ContainerOsError, isErrorCode } from '../../domain/errors';
import { createBatcher, type WriteWeight } from '../batcher';
import {
  documentBytes,
  documentWriterOver,
  type DocumentWrite,
  type DocumentWriter,
} from '../document-writer';

/** PEM texts. */
export interface NodeCredentials {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly authorityPem: string;
}

export interface ClusterPortWriterOptions {
  /** Like https://10.0.0.1:7443. */
  readonly url: string;
  readonly nodeId: string;
  /** Asked for each request, so that a renewed certificate is used from then on. */
  credentials(): NodeCredentials;
  /** The name in the server's certificate, where it is not the one that is dialled. */
  readonly serverName?: string;
  /** Limit of one request, in milliseconds. */
  readonly timeoutMs?: number;
}

export interface ClusterPortWriter extends DocumentWriter {
  /**
   * In one transaction with the documents that are written in the same turn.
   *
   * @returns false when what it removes, or reports on, was not there
   */
  writeService(write: NodeServiceWrite): Promise<boolean>;
  /** Closes idle connections. */
  close(): void;
}

const TIMEOUT_MS = 10_000;
const MAX_ANSWER_BYTES = 64_000;
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
const bodyOf = (writes: readonly Write[]): string => {
  const items = writes.map((write) => {
    if (!isDocument(write)) return JSON.stringify(write);
    const key = JSON.stringify(write.key);
    return write.kind === 'put'
      ? `{"kind":"put","key":${key},"document":${write.json}}`
      : `{"kind":"remove","key":${key}}`;
  });
  return `{"writes":[${items.join(',')}]}`;
};

const read = (text: string): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
};

/** @returns a writer whose promises reject with ContainerOsError: the server's own, or `unavailable` */
export const createClusterPortWriter = (options: ClusterPortWriterOptions): ClusterPortWriter => {
  const url = new URL(nodeDocumentsPath(options.nodeId), options.url);
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const away = (why: string, cause?: unknown) =>
    new ContainerOsError(
      'unavailable',
      `The cluster port at ${url.host} does not take what the node writes: ${why}.`,
      [],
      {
        cause,
      },
    );

  const send = (body: string, isRepeated = false): Promise<NodeDocumentsAnswer> =>
    new Promise((resolve, reject) => {
      const { certificatePem, keyPem, authorityPem } = options.credentials();
      const request = httpsRequest(url, {
        method: 'PUT',
        agent,
        cert: certificatePem,
        key: keyPem,
        ca: authorityPem,
        minVersion: 'TLSv1.3',
        ...(options.serverName === undefined ? {} : { servername: options.serverName }),
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      });
      const timer = setTimeout(() => request.destroy(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        reject(error instanceof ContainerOsError ? error : away(error.message, error));
      };
      request.on('error', (error: NodeJS.ErrnoException) => {
        // The server ended the connection while it was idle; writing the same documents twice does no harm.
        if (error.code !== 'ECONNRESET' || !request.reusedSocket || isRepeated) return fail(error);
        clearTimeout(timer);
        return resolve(send(body, true));
      });
      request.on('response', (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
          if (text.length > MAX_ANSWER_BYTES) response.destroy(new Error('its answer has no end'));
        });
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          const { index, absent, code, detail } = read(text);
          if (response.statusCode === 200 && typeof index === 'number')
            resolve({ index, absent: Array.isArray(absent) ? absent.map(String) : [] });
          else if (isErrorCode(code) && typeof detail === 'string')
            reject(new ContainerOsError(code, detail));
          else fail(new Error(`it says ${response.statusCode ?? 0}`));
        });
      });
      request.end(body);
    });

  const createLane = () => createBatcher(weigh, (writes: readonly Write[]) => send(bodyOf(writes)));
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
    close: () => agent.destroy(),
  };
};
