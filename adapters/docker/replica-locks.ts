/**
 * One piece of work at a time on each replica, so that an activity and the keeper never act on it together.
 *
 * Invariants: `take` asks the holder to give up (its signal aborts) and waits its turn, or until it is aborted itself;
 * `tryTake` never waits; listeners hear of a replica that is free again after a `take`, also one that gave up waiting,
 * or after a `tryTake` in vain.
 */

export class Superseded extends Error {
  constructor(replicaId: string) {
    super(`other work on replica ${replicaId} took over`);
  }
}

export interface ReplicaLocks {
  take<T>(replicaId: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
  /** Undefined when the replica is held. */
  tryTake<T>(replicaId: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> | undefined;
  isHeld(replicaId: string): boolean;
  onFree(listener: (replicaId: string) => void): void;
}

interface Held {
  readonly abort: AbortController;
  readonly waiting: (() => void)[];
  wasWanted: boolean;
}

export const createReplicaLocks = (): ReplicaLocks => {
  const held = new Map<string, Held>();
  const listeners: ((replicaId: string) => void)[] = [];

  const run = async <T>(
    replicaId: string,
    entry: Held,
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> => {
    try {
      return await work(
        signal === undefined ? entry.abort.signal : AbortSignal.any([signal, entry.abort.signal]),
      );
    } finally {
      const next = entry.waiting.shift();
      if (next !== undefined) {
        const heir: Held = {
          abort: new AbortController(),
          waiting: entry.waiting,
          wasWanted: entry.wasWanted,
        };
        held.set(replicaId, heir);
        next();
      } else {
        held.delete(replicaId);
        if (entry.wasWanted) for (const listener of listeners) listener(replicaId);
      }
    }
  };

  const hold = (replicaId: string, wasWanted: boolean): Held => {
    const entry: Held = { abort: new AbortController(), waiting: [], wasWanted };
    held.set(replicaId, entry);
    return entry;
  };

  return {
    take: async (replicaId, signal, work) => {
      const current = held.get(replicaId);
      if (current === undefined) return run(replicaId, hold(replicaId, true), signal, work);
      signal.throwIfAborted();
      current.abort.abort(new Superseded(replicaId));
      current.wasWanted = true;
      await untilOurTurn(current.waiting, signal);
      const entry = held.get(replicaId) as Held;
      return run(replicaId, entry, signal, work);
    },
    tryTake: (replicaId, work) => {
      const current = held.get(replicaId);
      if (current !== undefined) {
        current.wasWanted = true;
        return undefined;
      }
      return run(replicaId, hold(replicaId, false), undefined, work);
    },
    isHeld: (replicaId) => held.has(replicaId),
    onFree: (listener) => listeners.push(listener),
  };
};

/** @throws the reason of the signal when it aborts first */
const untilOurTurn = (waiting: (() => void)[], signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const begin = (): void => {
      signal.removeEventListener('abort', giveUp);
      resolve();
    };
    const giveUp = (): void => {
      waiting.splice(waiting.indexOf(begin), 1);
      reject(signal.reason as Error);
    };
    signal.addEventListener('abort', giveUp, { once: true });
    waiting.push(begin);
  });
