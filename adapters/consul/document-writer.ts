/** Writes JSON documents to Consul KV, in the transactions of adapters/document-writer. */

import { createBatchingWriter, type DocumentWrite, type DocumentWriter } from '../document-writer';

import type { ConsulClient } from './consul-client';

interface TransactionAnswer {
  readonly Results?: readonly { readonly KV?: { readonly ModifyIndex: number } }[] | null;
  readonly Errors?: readonly { readonly OpIndex: number; readonly What: string }[] | null;
}

const toWire = (write: DocumentWrite): object => {
  switch (write.kind) {
    case 'put':
      return { KV: { Verb: 'set', Key: write.key, Value: Buffer.from(write.json).toString('base64') } };
    case 'remove':
      return { KV: { Verb: 'delete', Key: write.key } };
  }
};

export const createDocumentWriter = (consul: ConsulClient): DocumentWriter =>
  createBatchingWriter(async (writes) => {
    const { status, body, index } = await consul.request<TransactionAnswer>({
      method: 'PUT',
      path: '/txn',
      body: writes.map(toWire),
    });
    if (status !== 200) {
      throw new Error(`Consul refused a transaction: ${JSON.stringify(body.Errors ?? body).slice(0, 500)}`);
    }
    return Math.max(index, ...(body.Results ?? []).map(({ KV }) => KV?.ModifyIndex ?? 0));
  });
