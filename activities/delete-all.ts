import type { KeyValueStore, KvOperation } from '../contracts/key-value-store';

/** Consul takes 64 operations in one transaction. */
const DELETED_AT_ONCE = 60;

/** Deletes in portions that fit a transaction each: only for what need not go together. */
export const deleteAll = async (store: KeyValueStore, keys: readonly string[]): Promise<void> => {
  for (let first = 0; first < keys.length; first += DELETED_AT_ONCE) {
    const portion = keys.slice(first, first + DELETED_AT_ONCE);
    await store.transact(portion.map((key): KvOperation => ({ kind: 'delete', key })));
  }
};
