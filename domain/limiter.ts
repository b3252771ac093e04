/**
 * Lets at most so many pieces of work run at the same time; the rest wait in the order in which they came.
 */

export type Limiter = <T>(work: () => Promise<T>) => Promise<T>;

export const createLimiter = (maximum: number): Limiter => {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (work) => {
    if (running < maximum) running += 1;
    else await new Promise<void>((resolve) => waiting.push(resolve)); // the place is handed over
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  };
};

export interface KeyedLimiter {
  run<T>(key: string, work: () => Promise<T>): Promise<T>;
}

/** A limiter for each key; nothing is kept of a key that nobody uses. */
export const createKeyedLimiter = (maximum: number): KeyedLimiter => {
  const limiters = new Map<string, { readonly run: Limiter; users: number }>();
  return {
    run: async (key, work) => {
      const limiter = limiters.get(key) ?? { run: createLimiter(maximum), users: 0 };
      limiters.set(key, limiter);
      limiter.users += 1;
      try {
        return await limiter.run(work);
      } finally {
        limiter.users -= 1;
        if (limiter.users === 0) limiters.delete(key);
      }
    },
  };
};
