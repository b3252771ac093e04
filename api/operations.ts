/**
 * Operations: read from Consul one by one, because there are many and few are looked at, and followed until they end.
 *
 * Invariants: following is a blocking query on the operation's key, shared by all who follow the same operation; an
 * agent of Consul takes a limited number of connections, so beyond a number of followed operations the rest is woken
 * by changes of their microservices (which are published together with their operations) and now and then. While an
 * operation has nothing to say itself, it says what stands in its way.
 */

import type { Logger } from 'pino';

import { createDocumentReader } from '../contracts/documents';
import { KV_PREFIX, operationKvKey, operationsKvPrefix } from '../contracts/kv';
import { parseOperationId } from '../contracts/workflows';
import { byText } from '../domain/by-text';
import type { MicroserviceKey, Operation } from '../domain/model';

import type { KvStore } from '../contracts/kv-store';
import { TOPIC } from './read-documents';
import type { ReadModel } from './read-model';
import { isFinal } from './views';

/** Below Consul's `limits.http_max_conns_per_client` (200), which everything on the machine shares. */
const MAX_BLOCKING = 64;
const BLOCKING_WAIT_MS = 60_000;
const BACKSTOP_MS = 2_000;
const RETRY_MS = 500;

export interface Operations {
  find(id: string): Promise<Operation | undefined>;
  /** Those that are kept, the newest first; of all microservices when no key is given. */
  list(key?: MicroserviceKey): Promise<readonly Operation[]>;
  /**
   * Yields the operation as it is, and again with every change, until it has ended, is no longer kept, or `signal`
   * aborts. Survives Consul being away.
   */
  follow(id: string, signal: AbortSignal): AsyncGenerator<Operation, void>;
}

export interface OperationsDeps {
  readonly kv: KvStore;
  readonly readModel: ReadModel;
  readonly log: Logger;
}

/** The order of lists of operations. */
export const newestFirst = (a: Operation, b: Operation): number =>
  b.createdAtMs - a.createdAtMs || byText(a.id, b.id);

interface SharedWait {
  readonly changed: Promise<void>;
  readonly abandoned: AbortController;
  readers: number;
}

const keyOf = (id: string): string | undefined => {
  const owner = parseOperationId(id);
  return owner && operationKvKey(owner, id);
};

export const createOperations = ({ kv, readModel, log }: OperationsDeps): Operations => {
  /** Blocking queries under way, by key and index. */
  const waiting = new Map<string, SharedWait>();

  const read = createDocumentReader((message) => log.error(message));

  /** With what stands in its way now, which only the events say. */
  const told = (operation: Operation): Operation => {
    if (isFinal(operation) || operation.message !== '') return operation;
    return { ...operation, message: readModel.troubleOf(operation.id) ?? '' };
  };

  const idOf = (key: string, afterIndex: number) => `${afterIndex} ${key}`;

  /** Resolves when the key has changed, or `signal` aborts; ends the query when nobody waits for it any more. */
  const changeOf = async (key: string, afterIndex: number, signal: AbortSignal): Promise<void> => {
    const id = idOf(key, afterIndex);
    const forget = (wait: SharedWait) => {
      if (waiting.get(id) === wait) waiting.delete(id);
    };
    let shared = waiting.get(id);
    if (!shared) {
      const abandoned = new AbortController();
      const changed = kv
        .get(key, { afterIndex, waitMs: BLOCKING_WAIT_MS, signal: abandoned.signal })
        .then(() => undefined)
        .finally(() => forget(made));
      const made: SharedWait = { changed, abandoned, readers: 0 };
      shared = made;
      waiting.set(id, made);
    }
    shared.readers += 1;
    let stop: () => void = () => undefined;
    const gone = new Promise<void>((resolve) => {
      stop = resolve;
      signal.addEventListener('abort', stop);
      if (signal.aborted) resolve();
    });
    try {
      await Promise.race([shared.changed, gone]);
    } finally {
      signal.removeEventListener('abort', stop);
      shared.readers -= 1;
      if (shared.readers === 0) {
        shared.changed.catch(() => undefined);
        forget(shared);
        shared.abandoned.abort();
      }
    }
  };

  const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
    readModel.versions.waitBeyond('nothing', readModel.versions.current(), ms, signal);

  /** Resolves when the document may have changed. */
  const mayHaveChanged = async (
    key: string,
    owner: MicroserviceKey,
    afterIndex: number,
    signal: AbortSignal,
  ): Promise<void> => {
    if (waiting.size < MAX_BLOCKING || waiting.has(idOf(key, afterIndex))) {
      await changeOf(key, afterIndex, signal);
      return;
    }
    const topic = TOPIC.microservice(owner);
    await readModel.versions.waitBeyond(topic, readModel.versions.of(topic), BACKSTOP_MS, signal);
  };

  return {
    find: async (id) => {
      const key = keyOf(id);
      if (key === undefined) return undefined;
      const { document } = await kv.get(key);
      const operation = document && read('operations', document);
      return operation && told(operation);
    },
    list: async (key) => {
      const { documents } = await kv.list(key ? operationsKvPrefix(key) : KV_PREFIX.operations);
      return documents
        .flatMap((document) => read('operations', document) ?? [])
        .map(told)
        .sort(newestFirst);
    },
    follow: async function* (id, signal) {
      const key = keyOf(id);
      const owner = parseOperationId(id);
      if (key === undefined || owner === undefined) return;
      const trouble = TOPIC.operation(id);
      let toldIndex = -1;
      let toldMessage: string | undefined;
      while (!signal.aborted) {
        const troubles = readModel.versions.of(trouble);
        const moved = new AbortController();
        const either = AbortSignal.any([signal, moved.signal]);
        try {
          const { document } = await kv.get(key);
          const known = document && read('operations', document);
          if (!known) return;
          const operation = told(known);
          if (document.index !== toldIndex || operation.message !== toldMessage) {
            toldIndex = document.index;
            toldMessage = operation.message;
            yield operation;
            if (isFinal(operation)) return;
          }
          await Promise.race([
            mayHaveChanged(key, owner, toldIndex, either),
            readModel.versions.waitBeyond(trouble, troubles, BLOCKING_WAIT_MS, either),
          ]);
        } catch (error) {
          log.debug({ err: error, operation: id }, 'following an operation goes on when Consul answers');
          await sleep(RETRY_MS, signal);
        } finally {
          moved.abort();
        }
      }
    },
  };
};
