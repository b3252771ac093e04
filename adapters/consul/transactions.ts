/**
 * Transactions of Consul on the wire.
 *
 * Invariant: a failed condition is an answer, and a right that is lacking is not one of those.
 */

import type { KvOperation, TransactionResult } from '../../contracts/key-value-store';

/** Consul's limit of operations in one transaction. */
export const MAX_OPERATIONS = 64;

interface Changed {
  readonly ModifyIndex: number;
}

export interface TransactionAnswer {
  readonly Results?:
    readonly { readonly KV?: Changed; readonly Service?: Changed; readonly Check?: Changed }[] | null;
  readonly Errors?: readonly { readonly OpIndex: number; readonly What: string }[] | null;
}

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64');

export const kvOnWire = (operation: KvOperation): object => {
  switch (operation.kind) {
    case 'set':
      return { KV: { Verb: 'set', Key: operation.key, Value: encode(operation.value) } };
    case 'create':
      return { KV: { Verb: 'cas', Key: operation.key, Value: encode(operation.value), Index: 0 } };
    case 'replace':
      return {
        KV: { Verb: 'cas', Key: operation.key, Value: encode(operation.value), Index: operation.ifIndex },
      };
    case 'unchanged':
      return operation.index === undefined
        ? { KV: { Verb: 'check-not-exists', Key: operation.key } }
        : { KV: { Verb: 'check-index', Key: operation.key, Index: operation.index } };
    case 'delete':
      return { KV: { Verb: 'delete', Key: operation.key } };
    case 'deletePrefix':
      return { KV: { Verb: 'delete-tree', Key: operation.prefix } };
  }
};

export const assertOperationCount = (count: number): void => {
  if (count <= MAX_OPERATIONS) return;
  throw new Error(`a transaction of ${count} operations; Consul takes ${MAX_OPERATIONS}`);
};

/**
 * What an answer with status 409 says, with which nothing was written.
 *
 * @param keyAt the key of the operation at that place on the wire; '' when it has none
 * @throws {Error} when it is no condition that failed but a right that is lacking
 */
export const conflictOf = (
  answer: TransactionAnswer,
  keyAt: (index: number) => string,
): TransactionResult => {
  const denied = answer.Errors?.find(({ What }) => /permission denied/i.test(What));
  if (denied !== undefined) throw new Error(denied.What);
  return { kind: 'conflict', key: keyAt(answer.Errors?.[0]?.OpIndex ?? 0) };
};

export const writtenIndexOf = ({ Results }: TransactionAnswer): number =>
  Math.max(0, ...(Results ?? []).map(({ KV, Service, Check }) => (KV ?? Service ?? Check)?.ModifyIndex ?? 0));
