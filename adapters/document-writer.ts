/** Writes of JSON documents in the transactions of adapters/batcher; where a transaction goes is the caller's. */

import { createBatcher } from './batcher';

export interface DocumentWriter {
  put(key: string, document: unknown): Promise<{ readonly index: number }>;
  remove(key: string): Promise<{ readonly index: number }>;
}

/** One write as its transaction gets it. */
export type DocumentWrite =
  | { readonly kind: 'put'; readonly key: string; readonly json: string }
  | { readonly kind: 'remove'; readonly key: string };

/** Documents are base64 in Consul's requests. */
const base64Bytes = (json: string): number => Math.ceil(Buffer.byteLength(json) / 3) * 4;

export const documentBytes = (write: DocumentWrite): number =>
  write.kind === 'put' ? base64Bytes(write.json) : 0;

/** @param add takes a write; resolves with the store's index of its transaction */
export const documentWriterOver = (
  add: (write: DocumentWrite) => Promise<{ readonly index: number }>,
): DocumentWriter => ({
  put: (key, document) => add({ kind: 'put', key, json: JSON.stringify(document) }),
  remove: (key) => add({ kind: 'remove', key }),
});

/** @param commit writes all or nothing, at most 64 writes, no key twice; returns the store's index of it */
export const createBatchingWriter = (
  commit: (writes: readonly DocumentWrite[]) => Promise<number>,
): DocumentWriter =>
  documentWriterOver(
    createBatcher(
      (write: DocumentWrite) => ({ target: write.key, operations: 1, bytes: documentBytes(write) }),
      async (writes) => ({ index: await commit(writes) }),
    ),
  );
