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

/** A peer that is more than its calls: it keeps replicas running when a machine is lost. */
export interface Orchestrator extends Peer {
  deploy(name: string, replicas: number): Promise<Kept>;
  /** Until every machine counts as there, and nothing is being done; losses until then are forgotten. */
  untilWhole(): Promise<void>;
}

export interface Kept extends Deployed {
  /** A new look each time: directories of different lookers share nothing. */
  directory(): Directory;
  /** How many of its containers run on all machines, also on one that is cut off. */
  runningContainers(): Promise<number>;
}

/** What leads users to the replicas of a microservice. */
export interface Directory {
  /** The endpoints that are given out. May answer only when there are others than it has told before. */
  look(): Promise<readonly string[]>;
  /** How long to wait before it is asked again. */
  readonly pauseMs?: number;
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

/** Until a directory leads to so many replicas, and each, asked as soon as it is named, has answered. */
export const untilReplicasServe = async (
  name: string,
  directory: Directory,
  count: number,
): Promise<void> => {
  const pages = askForPages();
  let endpoints: readonly string[] = [];
  await untilListed(`${count} replicas of ${name} are given out`, directory, (listed) => {
    endpoints = listed;
    pages.ask(endpoints);
    return endpoints.length === count;
  });
  await pages.answered(endpoints);
};

/** Looks into a directory until what it lists is as wanted. */
export const untilListed = (
  what: string,
  directory: Directory,
  isAsWanted: (listed: readonly string[]) => boolean,
): Promise<void> => {
  const { pauseMs } = directory;
  const options = pauseMs === undefined ? {} : { pauseMs };
  return until(what, async () => isAsWanted(await directory.look()), options);
};

export interface PageRequests {
  /** Those that have not been asked yet. */
  ask(endpoints: readonly string[]): void;
  /** Until all of these have answered. */
  answered(endpoints: readonly string[]): Promise<void>;
}

/** Asks each endpoint until it serves. That one never does is told to whoever waits for it. */
export const askForPages = (): PageRequests => {
  const asked = new Map<string, Promise<void>>();
  return {
    ask: (endpoints) => {
      for (const endpoint of endpoints) {
        if (asked.has(endpoint)) continue;
        const answer = untilServing(endpoint);
        answer.catch(() => undefined); // nobody may wait for it, when it has been replaced
        asked.set(endpoint, answer);
      }
    },
    answered: async (endpoints) => {
      await Promise.all(
        endpoints.map(
          (endpoint) => asked.get(endpoint) ?? Promise.reject(new Error(`${endpoint} was not asked`)),
        ),
      );
    },
  };
};

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
