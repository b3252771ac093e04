/**
 * A KV store in memory, with watches and blocking reads as Consul has them, that can be away and lose its data.
 *
 * Invariants: every write has an index of its own; a watch is told asynchronously, as over a wire.
 */

import type { KvDocument, KvStore, KvWatchHandlers } from '../../../contracts/kv-store';
import { ContainerOsError } from '../../../domain/errors';

export interface FakeKv extends KvStore {
  /** @returns the index of the write, which is that of all these documents */
  put(documents: Readonly<Record<string, unknown>>): number;
  delete(...keys: string[]): number;
  /** Text as it is, for documents that are broken. */
  putText(key: string, text: string): number;
  away(isAway: boolean): void;
  /** While held back, watches are told nothing; `refresh` still reads. */
  holdWatches(isHeld: boolean): void;
  /** Everything is gone, and writes are numbered from the beginning. */
  wipe(): void;
  /** Blocking reads under way. */
  readonly blocked: number;
}

export const createFakeKv = (): FakeKv => {
  let documents = new Map<string, KvDocument>();
  let index = 1;
  let isAway = false;
  let isHeld = false;
  let blocked = 0;
  const watches = new Set<() => void>();
  const blockedReads = new Set<() => void>();

  const unavailable = () => new ContainerOsError('unavailable', 'Consul is away.');
  const under = (prefix: string) =>
    [...documents.values()].filter(({ key }) => key.startsWith(prefix)).sort((a, b) => a.index - b.index);
  const stir = () => {
    for (const look of [...watches, ...blockedReads]) look();
  };

  const watch = (prefix: string, handlers: KvWatchHandlers) => {
    const told = new Map<string, number>();
    let toldIndex = 0;
    let isClosed = false;
    const tell = () => {
      if (isClosed) return;
      if (isAway) {
        handlers.unreachable(unavailable());
        return;
      }
      const present = under(prefix);
      const everything = index < toldIndex;
      const changed = present.filter((one) => everything || told.get(one.key) !== one.index);
      const keys = new Set(present.map(({ key }) => key));
      const removed = [...told.keys()].filter((key) => !keys.has(key));
      told.clear();
      for (const one of present) told.set(one.key, one.index);
      toldIndex = index;
      handlers.changed({ index, changed, removed });
    };
    const look = () => {
      setImmediate(() => {
        if (!isHeld) tell();
      });
    };
    watches.add(look);
    look();
    return {
      refresh: async () => {
        await new Promise((resolve) => setImmediate(resolve));
        if (isAway) throw unavailable();
        tell();
      },
      catchUp: () => Promise.resolve(),
      close: () => {
        isClosed = true;
        watches.delete(look);
      },
    };
  };

  const write = (change: () => void): number => {
    index += 1;
    change();
    stir();
    return index;
  };

  return {
    put: (values) =>
      write(() => {
        for (const [key, value] of Object.entries(values)) {
          documents.set(key, { key, text: JSON.stringify(value), index });
        }
      }),
    putText: (key, text) => write(() => documents.set(key, { key, text, index })),
    delete: (...keys) =>
      write(() => {
        for (const key of keys) documents.delete(key);
      }),
    away: (value) => {
      isAway = value;
      stir();
    },
    holdWatches: (value) => {
      isHeld = value;
      stir();
    },
    wipe: () => {
      documents = new Map();
      index = 1;
      stir();
    },
    get blocked() {
      return blocked;
    },
    watch,
    list: async (prefix) => {
      if (isAway) throw unavailable();
      return { index, documents: under(prefix) };
    },
    get: (key, wait) =>
      new Promise((resolve, reject) => {
        let timer: NodeJS.Timeout | undefined;
        const end = () => {
          clearTimeout(timer);
          if (blockedReads.delete(look)) blocked -= 1;
          wait?.signal?.removeEventListener('abort', abort);
        };
        const answer = () => {
          end();
          const document = documents.get(key);
          resolve({ index, ...(document === undefined ? {} : { document }) });
        };
        const abort = () => {
          end();
          reject(new Error('aborted'));
        };
        const look = () => {
          if (isAway) {
            end();
            reject(unavailable());
          } else if (wait === undefined || (documents.get(key)?.index ?? Infinity) > wait.afterIndex)
            answer();
        };
        if (wait !== undefined) {
          blockedReads.add(look);
          blocked += 1;
          timer = setTimeout(answer, wait.waitMs);
          wait.signal?.addEventListener('abort', abort);
        }
        look();
      }),
  };
};
