/**
 * Counts the requests of clients, and says who has to wait. Pure: time is an argument.
 *
 * It is the continuous-state leaky bucket of ITU-T Recommendation I.371, annex A (the generic cell rate algorithm), with
 * its level in requests, so that it means the same when a limit changes: each request adds one, and they drain evenly, as
 * many as the limit has in its time. Who is full waits until there is room for one; what has to wait adds nothing.
 *
 * Invariants: from any moment on, a client gets no more than `requests` and those that drain meanwhile; who waits as long
 * as was said, and sends nothing else, gets through; a smaller limit makes nobody wait for longer than its own time;
 * memory is bounded, and whoever was among the last `MAX_CLIENTS / 2` is remembered.
 */

import type { RateLimit } from './route-options';

/** A few megabytes. */
export const MAX_CLIENTS = 20_000;

/** Far below one request, far above what is lost by rounding. */
const ROUNDING = 1e-6;

interface Bucket {
  level: number;
  atMs: number;
}

export interface RateCounter {
  /**
   * @param client whose requests are counted together
   * @param nowMs of a clock that never goes back
   * @returns 0: the request may pass, and is counted; otherwise how many milliseconds the client has to wait
   */
  take(client: string, limit: RateLimit, nowMs: number): number;
}

export const createRateCounter = (maxClients = MAX_CLIENTS): RateCounter => {
  // Those who have come since the last turn, and those of the turn before who have not.
  let recent = new Map<string, Bucket>();
  let before = new Map<string, Bucket>();

  const bucketOf = (client: string, nowMs: number): Bucket => {
    const known = recent.get(client);
    if (known !== undefined) return known;
    if (recent.size >= maxClients / 2) {
      before = recent;
      recent = new Map();
    }
    const bucket = before.get(client) ?? { level: 0, atMs: nowMs };
    recent.set(client, bucket);
    return bucket;
  };

  return {
    take: (client, { requests, perMs }, nowMs) => {
      const bucket = bucketOf(client, nowMs);
      const drained = ((nowMs - bucket.atMs) * requests) / perMs;
      bucket.level = Math.max(0, Math.min(bucket.level, requests) - drained);
      bucket.atMs = nowMs;
      const tooMany = bucket.level + 1 - requests;
      if (tooMany > ROUNDING) return (tooMany * perMs) / requests;
      bucket.level += 1;
      return 0;
    },
  };
};
