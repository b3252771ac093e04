/** Tables of the read model, in memory. Pure but for what they hold. */

import { byText } from '../domain/by-text';

/** One kind of documents, by key, in the order of the keys. */
export const createTable = <T>() => {
  const rows = new Map<string, T>();
  let sorted: readonly T[] | undefined = [];
  return {
    get: (key: string) => rows.get(key),
    set: (key: string, row: T) => {
      rows.set(key, row);
      sorted = undefined;
    },
    delete: (key: string) => {
      if (rows.delete(key)) sorted = undefined;
    },
    size: () => rows.size,
    all: (): readonly T[] =>
      (sorted ??= [...rows.entries()].sort(([a], [b]) => byText(a, b)).map(([, row]) => row)),
  };
};

/** Documents that belong to a microservice, by the prefix of its keys. */
export const createGroups = <T>() => {
  const groups = new Map<string, Map<string, T>>();
  const groupOf = (key: string) => key.slice(0, key.lastIndexOf('/') + 1);
  return {
    set: (key: string, row: T) => {
      const group = groups.get(groupOf(key)) ?? new Map<string, T>();
      groups.set(groupOf(key), group);
      group.set(key, row);
    },
    delete: (key: string) => {
      const group = groups.get(groupOf(key));
      group?.delete(key);
      if (group?.size === 0) groups.delete(groupOf(key));
    },
    of: (prefix: string): readonly T[] =>
      [...(groups.get(prefix)?.entries() ?? [])].sort(([a], [b]) => byText(a, b)).map(([, row]) => row),
  };
};
