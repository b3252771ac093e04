/** How many connections, or clients, each endpoint has. */
export interface OpenCounts {
  readonly of: (key: string) => number;
  add(key: string): void;
  remove(key: string): void;
}

export const createOpenCounts = (): OpenCounts => {
  const counts = new Map<string, number>();
  return {
    of: (key) => counts.get(key) ?? 0,
    add: (key) => void counts.set(key, (counts.get(key) ?? 0) + 1),
    remove: (key) => {
      const left = (counts.get(key) ?? 0) - 1;
      if (left > 0) counts.set(key, left);
      else counts.delete(key);
    },
  };
};
