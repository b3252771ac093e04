/**
 * A store of JSON documents in memory, which can be away, and whose writes can be held back.
 *
 * Invariants: behaves as contracts/key-value-store says; what is read or written is copied, as over a wire.
 */

import type { KeyValueStore, KvEntry, KvOperation } from '../../contracts/key-value-store';
import { ContainerOsError } from '../../domain/errors';

export interface Hold {
  /** How many calls wait. */
  readonly waiting: number;
  /** Lets those that wait, and all later ones, through. */
  release(): void;
}

export interface MemoryStore extends KeyValueStore {
  /** While away, every call fails with `unavailable`. */
  away: boolean;
  /** How many calls failed because the store was away. */
  readonly failures: number;
  /** What is under a prefix, in the order of keys, also while the store is away: for the eyes of tests. */
  peek<T>(prefix: string): readonly KvEntry<T>[];
  /** Writes that match wait until they are released. */
  holdWrites(matches: (operations: readonly KvOperation[]) => boolean): Hold;
  /** Looks after every write; returns what ends it. */
  watchWrites(look: () => void): () => void;
}

export const createHold = (): Hold & { pass(): Promise<void> } => {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  let waiting = 0;
  return {
    get waiting() {
      return waiting;
    },
    release: () => open(),
    pass: async () => {
      waiting += 1;
      await opened;
      waiting -= 1;
    },
  };
};

const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value)) as T;

export const createMemoryStore = (): MemoryStore => {
  const entries = new Map<string, { readonly value: unknown; readonly index: number }>();
  const holds: {
    matches: (operations: readonly KvOperation[]) => boolean;
    hold: ReturnType<typeof createHold>;
  }[] = [];
  let index = 0;
  let failures = 0;

  const conflicts = (operation: KvOperation): boolean => {
    switch (operation.kind) {
      case 'create':
        return entries.has(operation.key);
      case 'replace':
        return entries.get(operation.key)?.index !== operation.ifIndex;
      case 'unchanged':
        return entries.get(operation.key)?.index !== operation.index;
      case 'set':
      case 'delete':
      case 'deletePrefix':
        return false;
    }
  };

  const apply = (operation: KvOperation): void => {
    switch (operation.kind) {
      case 'set':
      case 'create':
      case 'replace':
        entries.set(operation.key, { value: copy(operation.value), index });
        return;
      case 'unchanged':
        return;
      case 'delete':
        entries.delete(operation.key);
        return;
      case 'deletePrefix':
        for (const key of [...entries.keys()]) if (key.startsWith(operation.prefix)) entries.delete(key);
        return;
    }
  };

  const looks = new Set<() => void>();
  const store: MemoryStore = {
    away: false,
    get failures() {
      return failures;
    },
    holdWrites: (matches) => {
      const hold = createHold();
      holds.push({ matches, hold });
      return hold;
    },
    get: async <T>(key: string) => {
      checkPresent();
      const found = entries.get(key);
      return found && { key, value: copy(found.value) as T, index: found.index };
    },
    list: async <T>(prefix: string) => {
      checkPresent();
      return store.peek<T>(prefix);
    },
    peek: <T>(prefix: string) =>
      [...entries]
        .filter(([key]) => key.startsWith(prefix))
        .sort(([left], [right]) => (left < right ? -1 : 1))
        .map(([key, entry]): KvEntry<T> => ({ key, value: copy(entry.value) as T, index: entry.index })),
    transact: async (operations) => {
      for (const { matches, hold } of holds) if (matches(operations)) await hold.pass();
      checkPresent();
      if (operations.length > 64) throw new Error(`a transaction of ${operations.length} operations`);
      const refused = operations.find(conflicts);
      if (refused && refused.kind !== 'deletePrefix') return { kind: 'conflict', key: refused.key };
      index += 1;
      operations.forEach(apply);
      for (const look of looks) look();
      return { kind: 'written', index };
    },
    watchWrites: (look) => {
      looks.add(look);
      return () => void looks.delete(look);
    },
    close: () => undefined,
  };

  const checkPresent = () => {
    if (!store.away) return;
    failures += 1;
    throw new ContainerOsError('unavailable', 'the store is away');
  };
  return store;
};
