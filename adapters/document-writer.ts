/**
 * Writes of JSON documents, many writers sharing few transactions; where a transaction goes is the caller's.
 *
 * Invariants: writes to one key arrive in the order of the calls; at most one transaction is under way, and what is
 * asked meanwhile goes with the next; a promise resolves when its own write is committed. When one transaction
 * fails, only the writes in it fail.
 */

const MAX_OPERATIONS = 64; // Consul takes no more in one transaction
const MAX_BYTES = 400_000; // and not more than 512 KB of a request, in which documents are base64

export interface DocumentWriter {
  put(key: string, document: unknown): Promise<{ readonly index: number }>;
  remove(key: string): Promise<{ readonly index: number }>;
}

/** One write as its transaction gets it. */
export type DocumentWrite =
  | { readonly kind: 'put'; readonly key: string; readonly json: string }
  | { readonly kind: 'remove'; readonly key: string };

interface PendingWrite {
  readonly write: DocumentWrite;
  readonly bytes: number;
  readonly resolve: (written: { readonly index: number }) => void;
  readonly reject: (error: unknown) => void;
}

const base64Bytes = (json: string): number => Math.ceil(Buffer.byteLength(json) / 3) * 4;

/** @param commit writes all or nothing, at most 64 writes, no key twice; returns the store's index of it */
export const createBatchingWriter = (
  commit: (writes: readonly DocumentWrite[]) => Promise<number>,
): DocumentWriter => {
  const pending: PendingWrite[] = [];
  let isWriting = false;

  const commitBatch = async (batch: readonly PendingWrite[]): Promise<void> => {
    try {
      const index = await commit(batch.map(({ write }) => write));
      for (const { resolve } of batch) resolve({ index });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  };

  const run = async (): Promise<void> => {
    if (isWriting) return;
    isWriting = true;
    // Calls of the same turn of the event loop go together.
    await new Promise((resolve) => setImmediate(resolve));
    while (pending.length > 0) await commitBatch(takeBatch(pending));
    isWriting = false;
  };

  const add = (write: DocumentWrite, bytes: number): Promise<{ readonly index: number }> =>
    new Promise((resolve, reject) => {
      pending.push({ write, bytes, resolve, reject });
      void run();
    });

  return {
    put: (key, document) => {
      const json = JSON.stringify(document);
      return add({ kind: 'put', key, json }, base64Bytes(json));
    },
    remove: (key) => add({ kind: 'remove', key }, 0),
  };
};

/** Takes the longest beginning that fits one transaction; one key twice in a transaction would be ambiguous. */
const takeBatch = (pending: PendingWrite[]): PendingWrite[] => {
  const keys = new Set<string>();
  let bytes = 0;
  let count = 0;
  for (const write of pending) {
    bytes += write.bytes;
    if (count === MAX_OPERATIONS || keys.has(write.write.key) || (count > 0 && bytes > MAX_BYTES)) break;
    keys.add(write.write.key);
    count += 1;
  }
  return pending.splice(0, count);
};
