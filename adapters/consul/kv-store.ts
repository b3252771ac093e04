/**
 * JSON documents in Consul KV: consistent reads, and transactions that write all or nothing.
 *
 * Invariants: every failure to reach Consul is `unavailable`; a lost race is an answer, not an error; a document that
 * cannot be read is left out, or has no value, and is told; a request that Consul refuses is a defect and stays raw.
 */

import Consul from 'consul';

import { createDocumentReader, kindOfKey } from '../../contracts/documents';
import { isFolderKvKey } from '../../contracts/kv';
import type { KeyValueStore, KvFound, KvOperation, TransactionResult } from '../../contracts/key-value-store';
import { ContainerOsError } from '../../domain/errors';

import type { ConsulClientOptions } from './consul-client';
import {
  assertOperationCount,
  conflictOf,
  kvOnWire,
  writtenIndexOf,
  type TransactionAnswer,
} from './transactions';

const TIMEOUT_MS = 8_000;

interface RawEntry {
  readonly Key: string;
  readonly Value: string | null;
  readonly ModifyIndex: number;
}

/** Refusals that an operator, or time, can mend while it runs: a token without the right, too many requests. */
const PASSING = [403, 429];

interface HttpError {
  readonly statusCode?: number;
  readonly response?: { readonly body?: unknown };
  readonly message?: string;
  readonly isValidation?: boolean;
}

/**
 * @param options Consul's HTTP address, like http://127.0.0.1:8500, and the token for it
 * @param onUnreadable called with what counts as not there because it cannot be read, and why
 * @returns the store; each of its methods throws ContainerOsError `unavailable` when Consul cannot be reached, has no
 *   leader, takes too long, or does not let the token do it
 */
export const createKeyValueStore = (
  { address, token }: ConsulClientOptions,
  onUnreadable: (message: string) => void,
): KeyValueStore => {
  const url = new URL(address);
  const consul = new Consul({
    host: url.hostname,
    port: Number(url.port || 8500),
    secure: url.protocol === 'https:',
    ...(token === undefined ? {} : { defaults: { token } }),
  });

  const read = createDocumentReader(onUnreadable);

  const entryOf = <T>({ Key: key, Value: text, ModifyIndex: index }: RawEntry): KvFound<T> => {
    const kind = kindOfKey(key);
    if (kind === undefined) throw new Error(`${key} is no document of ContainerOS`);
    return { key, value: read(kind, { key, text: text ?? '' }) as T | undefined, index };
  };

  const attempt = async <T>(what: string, body: () => Promise<T>): Promise<T> => {
    try {
      return await body();
    } catch (error) {
      const { message, statusCode, isValidation } = error as HttpError;
      const isRefused = statusCode !== undefined && statusCode < 500 && !PASSING.includes(statusCode);
      if (isValidation === true || isRefused) throw error; // a defect of ours
      throw new ContainerOsError(
        'unavailable',
        `Consul at ${address} did not ${what}: ${statusCode ?? ''} ${message ?? String(error)}`.trim(),
        [],
        { cause: error },
      );
    }
  };

  return {
    get: async <T>(key: string) => {
      const found = await attempt(`read ${key}`, () =>
        consul.kv.get({ key, consistent: true, timeout: TIMEOUT_MS } as never),
      );
      return found ? entryOf<T>(found) : undefined;
    },

    list: async <T>(prefix: string) => {
      const found = await attempt(`list ${prefix}`, () =>
        consul.kv.get({ key: prefix, recurse: true, consistent: true, timeout: TIMEOUT_MS } as never),
      );
      return ((found ?? []) as unknown as RawEntry[]).flatMap((entry) => {
        if (isFolderKvKey(entry.Key)) return [];
        const { value, ...found } = entryOf<T>(entry);
        return value === undefined ? [] : [{ ...found, value }];
      });
    },

    transact: async (operations: readonly KvOperation[]): Promise<TransactionResult> => {
      assertOperationCount(operations.length);
      return attempt('write', async () => {
        let answer: TransactionAnswer;
        try {
          // The package's types lag behind its two arguments.
          answer = await consul.transaction.create(
            operations.map(kvOnWire) as never,
            {
              timeout: TIMEOUT_MS,
            } as never,
          );
        } catch (error) {
          // 409: a check failed, or a right is lacking; nothing was written.
          const { statusCode, response } = error as HttpError;
          if (statusCode !== 409) throw error;
          return conflictOf(response?.body ?? {}, (at) => {
            const failed = operations[at];
            return failed === undefined || failed.kind === 'deletePrefix' ? '' : failed.key;
          });
        }
        return { kind: 'written', index: writtenIndexOf(answer) };
      });
    },

    close: () => consul.destroy(),
  };
};
