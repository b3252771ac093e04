/**
 * Versions of what the API shows, and waiting for the next one: the numbers behind `?watch=`.
 *
 * Invariants: a topic's version only grows; versions begin at the time of the start, so that a number that a client
 * got from an earlier process is never mistaken for a newer one; a wait never misses a change that came before it.
 */

export interface Versions {
  readonly current: () => number;
  /** The version at which the topic last changed; the first one when it never did. */
  of(topic: string): number;
  /** Makes one new version, in which all these topics have changed, and wakes who waits for them. */
  bump(topics: Iterable<string>): void;
  forget(topic: string): void;
  /** Resolves when the topic is beyond `version`, after `timeoutMs`, or when `signal` aborts. */
  waitBeyond(topic: string, version: number, timeoutMs: number, signal?: AbortSignal): Promise<void>;
  /** @returns how to stop listening */
  listen(topic: string, listener: () => void): () => void;
}

/** @param first more than a thousand changes a second, for ever, would be needed to catch up with the clock */
export const createVersions = (first: number): Versions => {
  let version = first;
  const topics = new Map<string, number>();
  const listeners = new Map<string, Set<() => void>>();

  const listen = (topic: string, listener: () => void) => {
    const set = listeners.get(topic) ?? new Set();
    listeners.set(topic, set);
    set.add(listener);
    return () => {
      set.delete(listener);
      if (set.size === 0 && listeners.get(topic) === set) listeners.delete(topic);
    };
  };

  const of = (topic: string) => topics.get(topic) ?? first;

  return {
    current: () => version,
    of,
    bump: (changed) => {
      version += 1;
      const woken = new Set(changed);
      for (const topic of woken) topics.set(topic, version);
      for (const topic of woken) for (const listener of [...(listeners.get(topic) ?? [])]) listener();
    },
    forget: (topic) => {
      topics.delete(topic);
    },
    listen,
    waitBeyond: (topic, beyond, timeoutMs, signal) =>
      new Promise((resolve) => {
        // A number from the future is one of another process: what it stood for is not known here.
        if (of(topic) > beyond || beyond > version || timeoutMs <= 0 || signal?.aborted === true) {
          resolve();
          return;
        }
        const done = () => {
          clearTimeout(timer);
          stop();
          signal?.removeEventListener('abort', done);
          resolve();
        };
        const timer = setTimeout(done, timeoutMs);
        const stop = listen(topic, done);
        signal?.addEventListener('abort', done);
      }),
  };
};
