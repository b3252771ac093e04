/** A store in memory whose prefixes can be followed, as Consul's can. */

import type { KvStore } from '../../contracts/kv-store';
import { createMemoryStore, type MemoryStore } from './memory-store';

export interface WatchableStore {
  readonly store: MemoryStore;
  /** Only `watch`, whose first telling, and every later one, comes in a turn of its own. */
  readonly kv: Pick<KvStore, 'watch'>;
  /** How often followers were told something. */
  readonly told: () => number;
}

export const watchableStore = (): WatchableStore => {
  const memory = createMemoryStore();
  const tellers = new Set<() => void>();
  let told = 0;
  return {
    told: () => told,
    // As it is: that it can be away, and what it counts, has to be that of the store itself.
    store: new Proxy(memory, {
      get: (target, name) =>
        name === 'transact'
          ? async (...given: Parameters<MemoryStore['transact']>) => {
              const result = await target.transact(...given);
              for (const tell of tellers) setImmediate(tell);
              return result;
            }
          : (Reflect.get(target, name) as unknown),
    }),
    kv: {
      watch: (prefix, handlers) => {
        const known = new Map<string, number>();
        let isFirst = true;
        const tell = (): void => {
          if (!tellers.has(tell)) return;
          const entries = memory.peek(prefix);
          const present = new Set(entries.map(({ key }) => key));
          const news = entries.filter(({ key, index }) => known.get(key) !== index);
          const removed = [...known.keys()].filter((key) => !present.has(key));
          for (const { key, index } of news) known.set(key, index);
          for (const key of removed) known.delete(key);
          if (!isFirst && news.length + removed.length === 0) return;
          isFirst = false;
          told += 1;
          handlers.changed({
            index: Math.max(0, ...entries.map(({ index }) => index)),
            changed: news.map(({ key, value, index }) => ({ key, text: JSON.stringify(value), index })),
            removed,
          });
        };
        tellers.add(tell);
        setImmediate(tell);
        return {
          refresh: () => Promise.resolve(tell()),
          catchUp: () => Promise.resolve(tell()),
          close: () => void tellers.delete(tell),
        };
      },
    },
  };
};
