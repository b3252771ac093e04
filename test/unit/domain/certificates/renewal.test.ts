import fc from 'fast-check';

import type { IssueFailureKind } from '../../../../domain/certificates/acme-problem';
import {
  asksAnyway,
  nextAttemptAtMs,
  reliesUntilMs,
  renewAtMs,
  UPLOADED_MARGIN_MS,
} from '../../../../domain/certificates/renewal';

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
const lifetime = { notBeforeMs: 0, notAfterMs: 90 * DAY_MS };

test('a certificate is renewed when two thirds are over, and before the last quarter', () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 1, max: 400 }), (hostname, days) => {
      const atMs = renewAtMs(hostname, { notBeforeMs: 0, notAfterMs: days * DAY_MS });
      expect(atMs).toBeGreaterThanOrEqual((days * DAY_MS * 2) / 3 - 1);
      expect(atMs).toBeLessThanOrEqual(days * DAY_MS * 0.75 + 1);
      expect(renewAtMs(hostname, { notBeforeMs: 0, notAfterMs: days * DAY_MS })).toBe(atMs);
    }),
  );
});

test('hostnames that were issued together are renewed at different times', () => {
  const times = Array.from({ length: 100 }, (_, index) => renewAtMs(`${index}.example.com`, lifetime));
  expect(new Set(times).size).toBe(100);
  expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(5 * DAY_MS);
});

test('a window of the authority decides, also when it is over, but not when it comes too late', () => {
  const latestMs = (lifetime.notAfterMs * 11) / 12;
  fc.assert(
    fc.property(
      fc.string(),
      fc.integer({ min: -lifetime.notAfterMs, max: 2 * lifetime.notAfterMs }),
      fc.integer({ min: 0, max: DAY_MS }),
      (hostname, startMs, lasts) => {
        const atMs = renewAtMs(hostname, lifetime, { startMs, endMs: startMs + lasts });
        expect(atMs).toBeGreaterThanOrEqual(Math.min(startMs, latestMs));
        expect(atMs).toBeLessThanOrEqual(Math.min(startMs + lasts, latestMs));
      },
    ),
  );
});

test('somebody’s own certificate is relied on until a week before its end, a short one until its last tenth', () => {
  expect(reliesUntilMs({ notBeforeMs: 0, notAfterMs: 365 * DAY_MS })).toBe(365 * DAY_MS - UPLOADED_MARGIN_MS);
  expect(reliesUntilMs({ notBeforeMs: 0, notAfterMs: 10 * DAY_MS })).toBe(9 * DAY_MS);
});

const attempt = (kind: IssueFailureKind, failures: number, more: object = {}) =>
  nextAttemptAtMs({ hostname: 'a.example.com', kind, failures, isCounted: false, nowMs: 0, ...more });

test('attempts become rarer, up to a day, and depend on what is wrong', () => {
  expect(attempt('pointing', 1)).toBeGreaterThanOrEqual(MINUTE_MS);
  expect(attempt('pointing', 1)).toBeLessThanOrEqual(1.1 * MINUTE_MS);
  expect(attempt('pointing', 100)).toBeLessThanOrEqual(66 * MINUTE_MS);
  expect(attempt('refused', 100)).toBeGreaterThanOrEqual(DAY_MS);
  expect(attempt('refused', 100)).toBeLessThanOrEqual(1.1 * DAY_MS);
  expect(attempt('pointing', 1)).toBeLessThan(attempt('refused', 1));
});

test('what the authority counts is not tried more often than it lets fail', () => {
  expect(attempt('pointing', 1, { isCounted: true })).toBeGreaterThanOrEqual(15 * MINUTE_MS);
});

test('a limit is waited for as it is told, not more; an authority in trouble at least as long as it asks for', () => {
  const notBeforeMs = 30 * MINUTE_MS;
  expect(attempt('rate_limited', 9, { notBeforeMs })).toBeGreaterThanOrEqual(notBeforeMs);
  expect(attempt('rate_limited', 9, { notBeforeMs })).toBeLessThanOrEqual(notBeforeMs * 1.1);
  expect(attempt('authority', 1, { notBeforeMs })).toBeGreaterThanOrEqual(notBeforeMs);
  expect(attempt('authority', 9, { notBeforeMs })).toBeGreaterThanOrEqual(240 * MINUTE_MS);
  expect(attempt('rate_limited', 1, { notBeforeMs: 365 * DAY_MS })).toBeLessThan(9 * DAY_MS);
});

test('the authority is asked anyway each fourth time', () => {
  expect([0, 1, 2, 3, 4, 5, 6, 7].map(asksAnyway)).toEqual([
    false,
    false,
    false,
    true,
    false,
    false,
    false,
    true,
  ]);
});
