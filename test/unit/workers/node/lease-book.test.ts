// How long a node believes in a lease, against what everybody else may know of it.
import fc from 'fast-check';

import { LEASE_LASTS_MS, type Lease } from '../../../../contracts/leases';
import {
  createLeaseBook,
  GUARD_LEAD_MS,
  HALT_GRACE_MS,
  RENEW_EVERY_MS,
  STOP_LEAD_MS,
} from '../../../../workers/node/lease-book';

const lease = (replicaId = 'clock-1'): Lease => ({ project: 'default', name: 'clock', replicaId });

test('there is time to renew, then to stop, then to kill, then for the guard, before a lease is over', () => {
  expect(STOP_LEAD_MS).toBeLessThanOrEqual(LEASE_LASTS_MS - 2 * RENEW_EVERY_MS);
  expect(HALT_GRACE_MS).toBeLessThan(STOP_LEAD_MS - GUARD_LEAD_MS);
  expect(GUARD_LEAD_MS).toBeGreaterThan(0);
});

test('a lease counts from before it was asked for, and what is over is over', () => {
  const book = createLeaseBook();
  book.grant(lease(), 1_000, LEASE_LASTS_MS);
  const dueAt = 1_000 + LEASE_LASTS_MS - STOP_LEAD_MS;
  expect(book.dueInMs(2_000)).toBe(dueAt - 2_000);
  expect(book.mayRun('clock-1', dueAt - 1)).toBe(true);
  expect(book.takeDue(dueAt - 1)).toEqual([]);
  expect(book.mayRun('clock-1', dueAt)).toBe(false);
  expect(book.takeDue(dueAt)).toEqual([lease()]);
  expect(book.takeDue(dueAt)).toEqual([]);
  expect([book.has('clock-1'), book.dueInMs(dueAt), book.deadlines()]).toEqual([false, undefined, {}]);
});

test('an answer that comes late neither shortens a lease nor gives back one that is over', () => {
  const book = createLeaseBook();
  book.grant(lease(), 0, LEASE_LASTS_MS);
  const before = book.held();
  book.renewed(before, 3_000, LEASE_LASTS_MS);
  book.renewed(before, 1_000, LEASE_LASTS_MS);
  expect(book.deadlines()).toEqual({ 'clock-1': 3_000 + LEASE_LASTS_MS });
  book.takeDue(3_000 + LEASE_LASTS_MS);
  book.renewed(before, 20_000, LEASE_LASTS_MS);
  expect(book.has('clock-1')).toBe(false);
  // Nor does it prolong the one that was had meanwhile, which the renewal was not about.
  book.grant(lease(), 30_000, LEASE_LASTS_MS);
  book.renewed(before, 40_000, LEASE_LASTS_MS);
  expect(book.deadlines()).toEqual({ 'clock-1': 30_000 + LEASE_LASTS_MS });
});

/** Consul, as far as it matters here: a lease is free a time after it was last renewed there. */
test('whatever is slow or lost, nothing runs when somebody else may have the lease', () => {
  const turn = fc.record({
    pauseMs: fc.integer({ min: 0, max: 8_000 }),
    toConsulMs: fc.integer({ min: 0, max: 10_000 }),
    backMs: fc.integer({ min: 0, max: 10_000 }),
    isLost: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(turn, { maxLength: 30 }), (turns) => {
      const book = createLeaseBook();
      let now = 0;
      let freeAt = LEASE_LASTS_MS;
      book.grant(lease(), 0, LEASE_LASTS_MS);
      for (const { pauseMs, toConsulMs, backMs, isLost } of turns) {
        now += pauseMs;
        const askedAt = now;
        const held = book.held();
        const isRenewed = !isLost && askedAt + toConsulMs < freeAt;
        // Consul counts from when it has the question, which is never before it was sent.
        if (isRenewed) freeAt = askedAt + toConsulMs + LEASE_LASTS_MS;
        for (const at of [now, now + toConsulMs, now + toConsulMs + backMs]) {
          expect(book.mayRun('clock-1', at) && at + STOP_LEAD_MS > freeAt).toBe(false);
        }
        now += toConsulMs + backMs;
        if (isRenewed) book.renewed(held, askedAt, LEASE_LASTS_MS);
        else if (!isLost) book.drop('clock-1');
        book.takeDue(now);
        expect(book.mayRun('clock-1', now) && now + STOP_LEAD_MS > freeAt).toBe(false);
      }
    }),
  );
});
