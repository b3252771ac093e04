/**
 * Lets only so many go at a time for each key; the others wait for their turn, first come first served.
 *
 * Invariant: nothing is kept of a key that nobody uses.
 */

export interface KeyedLimiter {
  run<T>(key: string, body: () => Promise<T>): Promise<T>;
}

interface Gate {
  inside: number;
  readonly waiting: (() => void)[];
}

export const createKeyedLimiter = (limit: number): KeyedLimiter => {
  const gates = new Map<string, Gate>();
  return {
    run: async (key, body) => {
      const gate = gates.get(key) ?? { inside: 0, waiting: [] };
      gates.set(key, gate);
      if (gate.inside < limit) gate.inside += 1;
      // Whoever leaves hands over its place, so that nobody slips in between.
      else await new Promise<void>((resolve) => gate.waiting.push(resolve));
      try {
        return await body();
      } finally {
        const next = gate.waiting.shift();
        if (next) next();
        else {
          gate.inside -= 1;
          if (gate.inside === 0) gates.delete(key);
        }
      }
    },
  };
};
