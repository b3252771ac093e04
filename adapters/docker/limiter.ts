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
