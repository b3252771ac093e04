/** How many requests of a client pass, and how long it has to wait. */

import fc from 'fast-check';

import { createRateCounter } from '../../../../domain/ingress/rate-counter';

const LIMIT = { requests: 3, perMs: 1_000 };

const takeAll = (count: number, nowMs: number, counter = createRateCounter(), limit = LIMIT) =>
  Array.from({ length: count }, () => counter.take('a', limit, nowMs));

test('all come at once, and then one after the other', () => {
  const counter = createRateCounter();
  expect(takeAll(3, 0, counter)).toEqual([0, 0, 0]);
  expect(counter.take('a', LIMIT, 0)).toBeCloseTo(1_000 / 3);
  expect(counter.take('a', LIMIT, 300)).toBeCloseTo(1_000 / 3 - 300);
  expect(counter.take('a', LIMIT, 334)).toBe(0);
  expect(counter.take('a', LIMIT, 334)).toBeGreaterThan(0);
  expect(takeAll(4, 5_000, counter).map((waitMs) => waitMs === 0)).toEqual([true, true, true, false]);
});

test('others are not held up', () => {
  const counter = createRateCounter();
  takeAll(4, 0, counter);
  expect(counter.take('b', LIMIT, 0)).toBe(0);
});

test('what was sent counts when the limit changes, and as much of it as the new one has', () => {
  const counter = createRateCounter();
  takeAll(3, 0, counter);
  const larger = { requests: 5, perMs: 60_000 };
  expect(takeAll(3, 0, counter, larger).map((waitMs) => waitMs === 0)).toEqual([true, true, false]);
  const smaller = { requests: 2, perMs: 100 };
  expect(counter.take('a', smaller, 0)).toBeCloseTo(50);
  expect(counter.take('a', smaller, 50)).toBe(0);
});

test('whoever has not come for the longest time is forgotten, and nobody of the last half', () => {
  const counter = createRateCounter(10);
  const once = { requests: 1, perMs: 1_000 };
  for (let client = 0; client < 20; client += 1) counter.take(`c${client}`, once, 0);
  const forgotten = Array.from({ length: 20 }, (_, client) => client).filter(
    (client) => client >= 15 && counter.take(`c${client}`, once, 0) === 0,
  );
  expect(forgotten).toEqual([]);
  expect(counter.take('c0', once, 0)).toBe(0);
});

test('who comes again and again is never forgotten, whoever else comes', () => {
  const counter = createRateCounter(10);
  const once = { requests: 1, perMs: 1_000 };
  counter.take('a', once, 0);
  for (let client = 0; client < 1_000; client += 1) {
    counter.take(`c${client}`, once, 0);
    expect(counter.take('a', once, 0)).toBeGreaterThan(0);
  }
});

const limit = fc.record({
  requests: fc.integer({ min: 1, max: 1_000_000 }),
  perMs: fc.integer({ min: 1, max: 3_600 }).map((seconds) => seconds * 1_000),
});

test('in any stretch of time no more pass than the limit and what it has room for again', () => {
  fc.assert(
    fc.property(
      fc.record({
        requests: fc.integer({ min: 1, max: 20 }),
        perMs: fc.integer({ min: 1_000, max: 60_000 }),
      }),
      fc.array(fc.double({ min: 0, max: 5_000, noNaN: true }), { minLength: 1, maxLength: 80 }),
      (one, gaps) => {
        const counter = createRateCounter();
        let nowMs = 1_000_000;
        const passed: number[] = [];
        for (const gap of gaps) {
          nowMs += gap;
          if (counter.take('a', one, nowMs) === 0) passed.push(nowMs);
        }
        passed.forEach((from, first) =>
          passed.slice(first).forEach((to, further) => {
            const room = one.requests + ((to - from) * one.requests) / one.perMs;
            expect(further + 1).toBeLessThanOrEqual(room + 1e-3);
          }),
        );
      },
    ),
  );
});

test('who waits as long as was said gets through, also when the limit has changed meanwhile', () => {
  fc.assert(
    fc.property(limit, limit, fc.integer({ min: 0, max: 1e9 }), (first, then, startMs) => {
      const counter = createRateCounter();
      let nowMs = startMs;
      // Enough to be full, without a million of steps.
      for (let sent = 0; sent < Math.min(first.requests, 1_000); sent += 1) counter.take('a', first, nowMs);
      const waitMs = counter.take('a', then, nowMs);
      expect(waitMs).toBeLessThanOrEqual(then.perMs);
      nowMs += waitMs;
      if (waitMs > 0) expect(counter.take('a', then, nowMs)).toBe(0);
    }),
  );
});
