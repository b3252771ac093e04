/** What followers need of the store that the cluster publishes to; adapters/consul/watch-kv.ts provides it. */

export interface KvDocument {
  readonly key: string;
  readonly text: string;
  /** Consul's index of the write that made it so. */
  readonly index: number;
}

export interface KvChange {
  /** Everything under the prefix that was written up to this index has been told. */
  readonly index: number;
  /** In the order of their indexes. */
  readonly changed: readonly KvDocument[];
  readonly removed: readonly string[];
}

export interface KvWatchHandlers {
  /** The first call tells everything that is there, also when that is nothing. */
  changed(change: KvChange): void;
  /** The store does not answer; told once for each failed attempt. */
  unreachable(error: unknown): void;
}

export interface KvWatch {
  /** Reads the prefix now, and resolves when the handler has been told what was there at the time of the call. */
  refresh(): Promise<void>;
  /**
   * Reads the prefix now if a pause between two readings is all that keeps the handler from what is there, and resolves
   * when it has been told; never rejects.
   */
  catchUp(): Promise<void>;
  close(): void;
}

export interface KvStore {
  /**
   * @param pace `calm`: under changes without end the prefix is read at most about four times a second, and by who needs
   *   what is there now, with `catchUp`; left out: as often as its size allows. What comes after a calm is told at once
   *   either way.
   */
  watch(prefix: string, handlers: KvWatchHandlers, pace?: 'calm'): KvWatch;
  list(prefix: string): Promise<{ readonly index: number; readonly documents: readonly KvDocument[] }>;
  /** Resolves at once, or when the document's index is beyond `afterIndex`, or after `waitMs`. */
  get(
    key: string,
    wait?: { readonly afterIndex: number; readonly waitMs: number; readonly signal?: AbortSignal },
  ): Promise<{ readonly index: number; readonly document?: KvDocument }>;
}
