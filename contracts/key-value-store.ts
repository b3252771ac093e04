/** What activities and the API need of a store of JSON documents; Consul KV implements it. */

export interface KvEntry<T> {
  readonly key: string;
  readonly value: T;
  /** The store's index of its last change; grows with every write to the store. */
  readonly index: number;
}

/** What is under one key. */
export interface KvFound<T> {
  readonly key: string;
  /** Undefined when there is something that cannot be read; it may be replaced. */
  readonly value: T | undefined;
  readonly index: number;
}

export type KvOperation =
  | { readonly kind: 'set'; readonly key: string; readonly value: unknown }
  /** Only when there is nothing under the key. */
  | { readonly kind: 'create'; readonly key: string; readonly value: unknown }
  /** Only when the entry has this index still. */
  | { readonly kind: 'replace'; readonly key: string; readonly value: unknown; readonly ifIndex: number }
  /** Writes nothing, and holds only when the entry has this index still; undefined: when there is none. */
  | { readonly kind: 'unchanged'; readonly key: string; readonly index: number | undefined }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'deletePrefix'; readonly prefix: string };

export type TransactionResult =
  | { readonly kind: 'written'; readonly index: number }
  /** A condition did not hold; nothing was written. */
  | { readonly kind: 'conflict'; readonly key: string };

export interface KeyValueStore {
  get<T>(key: string): Promise<KvFound<T> | undefined>;
  /** Without what cannot be read. */
  list<T>(prefix: string): Promise<readonly KvEntry<T>[]>;
  /** All or nothing; at most 64 operations. */
  transact(operations: readonly KvOperation[]): Promise<TransactionResult>;
  close(): void;
}
