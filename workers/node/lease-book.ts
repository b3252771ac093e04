/**
 * Which replicas of this node hold their lease, and until when. Pure; the clock is the caller's.
 *
 * Invariants: a lease lasts from before it was asked for, so that it is over here before it is over for anybody else;
 * what is over is not held again by an answer that comes late, but only by a new grant.
 *
 * What happens within LEASE_LASTS_MS (15 s) of the last renewal: one is tried every 3 s; after 9 s without one the
 * replica is asked to end, after 12 s it is killed, and after 13 s the guard kills it, should this process not have.
 */

import type { Lease } from '../../contracts/leases';

export const RENEW_EVERY_MS = 3_000;
/** So long before its lease is over a replica begins to stop. */
export const STOP_LEAD_MS = 6_000;
/** How long it may take for that, whatever its stop grace is. */
export const HALT_GRACE_MS = 3_000;
/** So long before its lease is over the guard kills it: the rest is for a slow engine. */
export const GUARD_LEAD_MS = 2_000;

interface Entry {
  readonly lease: Lease;
  untilMs: number;
}

export interface LeaseBook {
  /** @param askedAtMs before the question was sent that the grant answers */
  grant(lease: Lease, askedAtMs: number, lastsMs: number): void;
  /** As it stood at the beginning of a renewal, for `renewed`. */
  held(): readonly Lease[];
  /** Of what was held at `askedAtMs`, and is held still. */
  renewed(leases: readonly Lease[], askedAtMs: number, lastsMs: number): void;
  drop(replicaId: string): void;
  has(replicaId: string): boolean;
  /** Whether it may run now. */
  mayRun(replicaId: string, nowMs: number): boolean;
  /** What has to stop now is held no more. */
  takeDue(nowMs: number): readonly Lease[];
  /** Until something has to stop; undefined when there is nothing. */
  dueInMs(nowMs: number): number | undefined;
  /** When the lease of each is over. */
  deadlines(): Readonly<Record<string, number>>;
}

export const createLeaseBook = (): LeaseBook => {
  const entries = new Map<string, Entry>();
  return {
    grant: (lease, askedAtMs, lastsMs) => {
      const untilMs = Math.max(askedAtMs + lastsMs, entries.get(lease.replicaId)?.untilMs ?? -Infinity);
      entries.set(lease.replicaId, { lease, untilMs });
    },
    held: () => [...entries.values()].map(({ lease }) => lease),
    renewed: (leases, askedAtMs, lastsMs) => {
      for (const lease of leases) {
        const entry = entries.get(lease.replicaId);
        // Another grant of the same replica is another lease.
        if (entry?.lease === lease) entry.untilMs = Math.max(entry.untilMs, askedAtMs + lastsMs);
      }
    },
    drop: (replicaId) => void entries.delete(replicaId),
    has: (replicaId) => entries.has(replicaId),
    mayRun: (replicaId, nowMs) => {
      const entry = entries.get(replicaId);
      return entry !== undefined && nowMs < entry.untilMs - STOP_LEAD_MS;
    },
    takeDue: (nowMs) => {
      const due = [...entries.values()].filter(({ untilMs }) => nowMs >= untilMs - STOP_LEAD_MS);
      for (const { lease } of due) entries.delete(lease.replicaId);
      return due.map(({ lease }) => lease);
    },
    dueInMs: (nowMs) =>
      entries.size === 0
        ? undefined
        : Math.min(...[...entries.values()].map(({ untilMs }) => untilMs - STOP_LEAD_MS)) - nowMs,
    deadlines: () =>
      Object.fromEntries([...entries.values()].map(({ lease, untilMs }) => [lease.replicaId, untilMs])),
  };
};
