// What every peer can do, so that a case is the same for all of them.
// Invariant: a promise is resolved when users would be served, seen from outside the machine; not when an API says so.
import { setTimeout as delay } from 'node:timers/promises';
import { httpRequest } from '../test/support/http';
import type { PeerId } from './measurements';

export interface Peer {
  readonly id: PeerId;
  /** Until every replica serves. */
  deploy(name: string, replicas: number): Promise<Deployed>;
  /** Services of one replica each, so many requests at once, until every one serves. */
  deployMany(names: readonly string[], requestsAtOnce: number): Promise<void>;
  /** Removes all that the peer made, and waits until it is gone. */
  clear(): Promise<void>;
}

export interface Deployed {
  /** Upwards until every replica serves; downwards until the other containers are gone. */
  scale(replicas: number): Promise<void>;
  /** Kills its only container. Resolves when it, or another in its place, serves; then may tell more. */
  killAndRecover(): Promise<KillReport>;
}

export interface KillReport {
  readonly servesMs: number;
  /** When whoever asks the service registry is led there too. */
  readonly knownMs?: number;
}

const REQUEST_TIMEOUT_MS = 2_000;
const SERVES_TIMEOUT_MS = 60_000;
const FIRST_PAUSE_MS = 5;
const LAST_PAUSE_MS = 40;

/** One look at an endpoint, over a connection of its own. */
export const isServing = async (endpoint: string): Promise<boolean> => {
  try {
    return (await httpRequest(`http://${endpoint}/`, { timeoutMs: REQUEST_TIMEOUT_MS })).status === 200;
  } catch {
    return false;
  }
};

/** Asks again and again until `look` says yes. */
export const until = async (
  what: string,
  look: () => Promise<boolean>,
  options: { readonly timeoutMs?: number; readonly pauseMs?: number } = {},
): Promise<void> => {
  const deadline = performance.now() + (options.timeoutMs ?? SERVES_TIMEOUT_MS);
  let pauseMs = options.pauseMs ?? FIRST_PAUSE_MS;
  while (!(await look())) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await delay(pauseMs);
    if (options.pauseMs === undefined) pauseMs = Math.min(pauseMs * 1.5, LAST_PAUSE_MS);
  }
};

export const untilServing = (endpoint: string): Promise<void> =>
  until(`${endpoint} serves`, () => isServing(endpoint));

/** Runs the work with so many at a time. After a failure nothing new is begun. */
export const pooled = async <T, R>(
  items: readonly T[],
  width: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> => {
  const results: R[] = [];
  let next = 0;
  let hasFailed = false;
  const lane = async (): Promise<void> => {
    while (next < items.length && !hasFailed) {
      const index = next;
      next += 1;
      try {
        results[index] = await work(items[index] as T, index);
      } catch (error) {
        hasFailed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, lane));
  return results;
};

/** Milliseconds that the work took. */
export const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
};
