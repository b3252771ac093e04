/** Nodes that come and go: how long each loss costs, in a table, and what holds for every history. */

import fc from 'fast-check';

import {
  FIRST_PERIOD_MS,
  FORGET_AFTER_MS,
  LONGEST_PERIOD_MS,
  afterLoss,
  afterPeriod,
  afterReturn,
  durationInWords,
  firstSeen,
  instabilityInWords,
  isPeriodOver,
  isUnstable,
  periodAfter,
  returnOf,
  timeAloneAt,
  wasMadeAlone,
  type NodeStability,
} from '../../../domain/flapping';
import { NOW_MS } from '../../support/builders';

const MINUTE_MS = 60_000;

/** One loss: how long the node had been there, and how long it was away. */
interface Flap {
  readonly upMs: number;
  readonly awayMs: number;
}

/** The node after its last return, each loss in its turn. */
const afterFlaps = (flaps: readonly Flap[]): NodeStability =>
  flaps.reduce(
    (known, { upMs, awayMs }) => {
      const lost = afterLoss(known, known.changedAtMs + upMs);
      return afterReturn(lost, lost.changedAtMs + awayMs);
    },
    firstSeen('a', NOW_MS),
  );

const periodOf = ({ unstableUntilMs, changedAtMs }: NodeStability): number =>
  unstableUntilMs === undefined ? 0 : unstableUntilMs - changedAtMs;

const quick: Flap = { upMs: MINUTE_MS, awayMs: 10_000 };

test.each([
  [1, 0],
  [2, 5],
  [3, 10],
  [4, 20],
  [5, 40],
  [6, 60],
  [7, 60],
  [2_000, 60],
])('%i losses in a row cost %i minutes', (count, minutes) => {
  expect(periodOf(afterFlaps(Array.from({ length: count }, () => quick)))).toBe(minutes * MINUTE_MS);
});

test('an hour of calm beyond the period makes the next loss a first one, and a moment less does not', () => {
  const twice = afterFlaps([quick, quick]);
  const enoughMs = FIRST_PERIOD_MS + FORGET_AFTER_MS;
  const lossAfter = (calmMs: number) => afterLoss(afterPeriod(twice), twice.changedAtMs + calmMs);
  expect(lossAfter(enoughMs)).toMatchObject({ losses: 1, firstLossAtMs: twice.changedAtMs + enoughMs });
  expect(lossAfter(enoughMs - 1)).toMatchObject({ losses: 3, firstLossAtMs: twice.firstLossAtMs });
});

test('the period begins when the node is back, however long it was away, and a lost node has none', () => {
  const known = afterFlaps([quick, { upMs: MINUTE_MS, awayMs: 3 * LONGEST_PERIOD_MS }]);
  expect(periodOf(known)).toBe(FIRST_PERIOD_MS);
  expect(afterLoss(known, known.changedAtMs + 1)).not.toHaveProperty('unstableUntilMs');
});

test('the same again changes nothing', () => {
  const there = afterFlaps([quick, quick]);
  expect(afterReturn(there, there.changedAtMs + MINUTE_MS)).toBe(there);
  const lost = afterLoss(there, there.changedAtMs + MINUTE_MS);
  expect(afterLoss(lost, lost.changedAtMs + MINUTE_MS)).toBe(lost);
});

describe('all nodes but one', () => {
  const AT_ONCE_MS = MINUTE_MS;
  const head = firstSeen('head', NOW_MS);
  const lostAt = (id: string, atMs: number, before = firstSeen(id, NOW_MS)) =>
    afterLoss(before, NOW_MS + atMs);
  const backAt = (lost: NodeStability, atMs: number, others: readonly NodeStability[]) =>
    afterReturn(lost, NOW_MS + atMs, timeAloneAt(lost, others, NOW_MS + atMs));
  const alone = { fromMs: NOW_MS + 1_000, untilMs: NOW_MS + 20_000 };

  test('that were lost at once have not lost themselves, in whatever order they are back', () => {
    const [a, b] = [lostAt('a', 1_000), lostAt('b', 2_000)];
    const first = backAt(b, 20_000, [head, a]);
    expect(first).toEqual({
      id: 'b',
      up: true,
      changedAtMs: NOW_MS + 20_000,
      losses: 0,
      lostWithAll: alone,
    });
    expect(returnOf(first)).toBeUndefined();
    expect(backAt(a, 21_000, [head, first])).toMatchObject({ losses: 0, lostWithAll: alone });
  });

  test('keep what they had lost before, and lose it all alone after that', () => {
    const flapped = afterFlaps([quick, quick]);
    const there = backAt(afterLoss(flapped, flapped.changedAtMs + 1_000), 200_000, [
      head,
      lostAt('b', flapped.changedAtMs + 1_000 - NOW_MS),
    ]);
    expect(there).toMatchObject({ losses: 2, firstLossAtMs: flapped.firstLossAtMs });
    expect(periodOf(there)).toBe(FIRST_PERIOD_MS);
    const again = afterLoss(there, there.changedAtMs + 1_000);
    expect(again).toMatchObject({ losses: 3 });
    expect(again).not.toHaveProperty('lostWithAll');
  });

  const [a, b] = [lostAt('a', 1_000), lostAt('b', 2_000)];
  test.each<[string, NodeStability, readonly NodeStability[], number]>([
    ['one of two nodes', a, [head], 20_000],
    ['while a third one was there', a, [head, b, firstSeen('c', NOW_MS)], 20_000],
    ['long after the others', lostAt('a', 2_001 + AT_ONCE_MS), [head, b], 2 * AT_ONCE_MS],
    ['while others were lost one by one', b, [head, lostAt('a', 2_001 + AT_ONCE_MS)], 2 * AT_ONCE_MS],
    ['after the other one was back', lostAt('a', 20_001), [head, backAt(b, 20_000, [head, a])], 30_000],
  ])('a loss of %s is one', (_words, lost, others, atMs) => {
    const back = backAt(lost, atMs, others);
    expect(back.losses).toBe(1);
    expect(returnOf(back)).toBe(back.changedAtMs);
  });

  test('one that stays away for longer was lost itself', () => {
    const first = backAt(b, 20_000, [head, a]);
    expect(backAt(a, 20_000 + AT_ONCE_MS, [head, first]).losses).toBe(0);
    expect(backAt(a, 20_001 + AT_ONCE_MS, [head, first]).losses).toBe(1);
  });

  test('what the one made that was alone is known by its time, for a quarter of an hour', () => {
    const made = (createdAtMs: number, nowMs = alone.untilMs + 1) =>
      wasMadeAlone({}, [alone], createdAtMs, nowMs);
    expect([alone.fromMs - 1, alone.fromMs, alone.untilMs - 1, alone.untilMs].map((at) => made(at))).toEqual([
      false,
      true,
      true,
      false,
    ]);
    expect(made(alone.fromMs, alone.untilMs + 15 * MINUTE_MS)).toBe(false);
    // What a node made that is back, it made of its own.
    expect(wasMadeAlone({ lostWithAll: alone }, [alone], alone.fromMs, alone.untilMs + 1)).toBe(false);
  });
});

test('a period is over at its end, and when the clock was set back before its beginning', () => {
  const known = afterFlaps([quick, quick]);
  const endsAtMs = known.changedAtMs + FIRST_PERIOD_MS;
  expect(isPeriodOver(known, endsAtMs - 1)).toBe(false);
  expect(isUnstable(known, endsAtMs - 1)).toBe(true);
  expect(isPeriodOver(known, endsAtMs)).toBe(true);
  expect(isUnstable(known, endsAtMs)).toBe(false);
  expect(isPeriodOver(known, endsAtMs - LONGEST_PERIOD_MS - 1)).toBe(true);
  expect(isPeriodOver(afterPeriod(known), endsAtMs)).toBe(false);
});

test('it is said how often it was lost, in what time, and what follows until when', () => {
  expect(instabilityInWords(afterFlaps([quick]))).toBeUndefined();
  const known = afterFlaps([
    { upMs: 0, awayMs: 30_000 },
    { upMs: 10 * MINUTE_MS, awayMs: 30_000 },
  ]);
  expect(instabilityInWords(known)).toBe(
    'was lost 2 times in 11 min: until 2026-01-01T00:16:00Z nodes that stay come first',
  );
});

test.each([
  [0, '0 s'],
  [89_499, '89 s'],
  [90_000, '2 min'],
  [3 * 3_600_000, '3 h'],
])('%i milliseconds are %s', (ms, words) => expect(durationInWords(ms)).toBe(words));

const flap = fc.record({
  upMs: fc.oneof(
    fc.integer({ min: 0, max: 20 * MINUTE_MS }),
    fc.integer({ min: 0, max: 4 * LONGEST_PERIOD_MS }),
  ),
  awayMs: fc.integer({ min: 0, max: 4 * LONGEST_PERIOD_MS }),
});
const flaps = fc.array(flap, { minLength: 1, maxLength: 30 });

test('however often a node was lost, it is used like others after an hour at most', () => {
  fc.assert(
    fc.property(flaps, (history) => {
      const known = afterFlaps(history);
      expect(periodOf(known)).toBeGreaterThanOrEqual(0);
      expect(periodOf(known)).toBeLessThanOrEqual(LONGEST_PERIOD_MS);
      expect(isPeriodOver(known, known.changedAtMs + LONGEST_PERIOD_MS)).toBe(
        known.unstableUntilMs !== undefined,
      );
    }),
  );
});

test('one loss more never costs less, and never more than twice as much, or the first period', () => {
  fc.assert(
    fc.property(flaps, (history) => {
      const before = afterFlaps(history);
      const lost = afterLoss(before, before.changedAtMs + periodOf(before));
      const after = afterReturn(lost, lost.changedAtMs);
      expect(periodOf(after)).toBeGreaterThanOrEqual(periodOf(before));
      expect(periodOf(after)).toBeLessThanOrEqual(Math.max(FIRST_PERIOD_MS, 2 * periodOf(before)));
    }),
  );
});

test('who stays longer between losses never pays more', () => {
  fc.assert(
    fc.property(
      flaps,
      fc.array(fc.integer({ min: 0, max: 4 * LONGEST_PERIOD_MS }), { maxLength: 30 }),
      (history, extra) => {
        const calmer = history.map(({ upMs, awayMs }, index) => ({
          upMs: upMs + (extra[index] ?? 0),
          awayMs,
        }));
        expect(periodOf(afterFlaps(calmer))).toBeLessThanOrEqual(periodOf(afterFlaps(history)));
      },
    ),
  );
});

test('whatever was before, calm makes it forgotten', () => {
  fc.assert(
    fc.property(flaps, (history) => {
      const known = afterFlaps(history);
      const enoughMs = LONGEST_PERIOD_MS + FORGET_AFTER_MS;
      const lost = afterLoss(known, known.changedAtMs + enoughMs);
      expect(lost.losses).toBe(1);
      expect(periodOf(afterReturn(lost, lost.changedAtMs))).toBe(0);
    }),
  );
});

test('a loss at a time before the last change, by a clock that was set back, counts as one right after it', () => {
  fc.assert(
    fc.property(flaps, fc.integer({ min: 1, max: 10 * LONGEST_PERIOD_MS }), (history, backMs) => {
      const known = afterFlaps(history);
      const lost = afterLoss(known, known.changedAtMs - backMs);
      expect(lost.losses).toBe(known.losses + 1);
      expect(periodAfter(lost.losses)).toBeLessThanOrEqual(LONGEST_PERIOD_MS);
    }),
  );
});
