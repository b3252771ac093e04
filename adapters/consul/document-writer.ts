/**
 * Writes JSON documents to Consul KV, many writers sharing few transactions.
 *
 * Invariants: writes to one key arrive in the order of the calls; at most one transaction is under way, and what is
 * asked meanwhile goes with the next; a promise resolves when its own write is committed. When one transaction
 * fails, only the writes in it fail.
 */

import type { ConsulClient } from './consul-client';

const MAX_OPERATIONS = 64; // Consul takes no more in one transaction
const MAX_BYTES = 400_000; // and not more than 512 KB of a request

export interface DocumentWriter {
  put(key: string, document: unknown): Promise<{ readonly index: number }>;
  remove(key: string): Promise<{ readonly index: number }>;
}

interface PendingWrite {
  readonly operation: object;
  readonly key: string;
  readonly bytes: number;
  readonly resolve: (written: { readonly index: number }) => void;
  readonly reject: (error: unknown) => void;
}

interface TransactionAnswer {
  readonly Results?: readonly { readonly KV?: { readonly ModifyIndex: number } }[] | null;
  readonly Errors?: readonly { readonly OpIndex: number; readonly What: string }[] | null;
}

export const createDocumentWriter = (consul: ConsulClient): DocumentWriter => {
  const pending: PendingWrite[] = [];
  let isWriting = false;

  const commit = async (batch: readonly PendingWrite[]): Promise<void> => {
    try {
      const { status, body, index } = await consul.request<TransactionAnswer>({
        method: 'PUT',
        path: '/txn',
        body: batch.map(({ operation }) => operation),
      });
      if (status !== 200) {
        throw new Error(`Consul refused a transaction: ${JSON.stringify(body.Errors ?? body).slice(0, 500)}`);
      }
      const indexes = (body.Results ?? []).map(({ KV }) => KV?.ModifyIndex ?? 0);
      const written = { index: Math.max(index, ...indexes) };
      for (const { resolve } of batch) resolve(written);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  };

  const run = async (): Promise<void> => {
    if (isWriting) return;
    isWriting = true;
    // Calls of the same turn of the event loop go together.
    await new Promise((resolve) => setImmediate(resolve));
    while (pending.length > 0) await commit(takeBatch(pending));
    isWriting = false;
  };

  const add = (key: string, operation: object, bytes: number): Promise<{ readonly index: number }> =>
    new Promise((resolve, reject) => {
      pending.push({ key, operation, bytes, resolve, reject });
      void run();
    });

  return {
    put: (key, document) => {
      const value = Buffer.from(JSON.stringify(document), 'utf8').toString('base64');
      return add(key, { KV: { Verb: 'set', Key: key, Value: value } }, value.length);
    },
    remove: (key) => add(key, { KV: { Verb: 'delete', Key: key } }, 0),
  };
};

/** Takes the longest beginning that fits one transaction; one key twice in a transaction would be ambiguous. */
const takeBatch = (pending: PendingWrite[]): PendingWrite[] => {
  const keys = new Set<string>();
  let bytes = 0;
  let count = 0;
  for (const write of pending) {
    bytes += write.bytes;
    if (count === MAX_OPERATIONS || keys.has(write.key) || (count > 0 && bytes > MAX_BYTES)) break;
    keys.add(write.key);
    count += 1;
  }
  return pending.splice(0, count);
};
