/** Judgement: what is worse by chance is not worse, what is worse for sure is, in numbers that people read. */

import fc from 'fast-check';

import {
  LATENCY_BOUNDS_MS,
  LATENCY_BUCKETS,
  atLeastShare,
  chanceOfErrors,
  countsOf,
  judgeRelease,
  latencyBucket,
  type ReleaseCounts,
} from '../../../domain/judgement';

const judge = { maxErrorPercent: 1, maxLatencyFactor: 2, minRequests: 5 };

const counts = (release: number, requests: number, errors: number, tookMs = 10): ReleaseCounts => {
  const latencies = Array<number>(LATENCY_BUCKETS).fill(0);
  latencies[latencyBucket(tookMs)] = requests;
  return { release, requests, errors, latencies };
};

describe('the chance of errors', () => {
  test.each([
    // Fisher's tea: 4 of 4 right.
    [4, 4, 0, 4, 1 / 70],
    [3, 4, 1, 4, 17 / 70],
    [3, 3, 0, 27, 1 / 4_060],
    [1, 10, 0, 90, 0.1],
    [0, 10, 5, 90, 1],
    [1, 10, 9, 90, 1],
  ])('of %i in %i, beside %i in %i, is exact', (errors, requests, others, of, chance) => {
    expect(chanceOfErrors(errors, requests, others, of)).toBeCloseTo(chance, 6);
  });

  test('is between 0 and 1, and falls with each error, for any numbers', () => {
    const input = fc.tuple(fc.integer({ min: 1, max: 2_000_000 }), fc.integer({ min: 1, max: 2_000_000 }));
    fc.assert(
      fc.property(input, fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(500), ([n, m], share, others) => {
        const errors = Math.floor((n - 1) * share);
        const otherErrors = Math.min(others, m);
        const [one, more] = [errors, errors + 1].map((k) => chanceOfErrors(k, n, otherErrors, m));
        expect(one).toBeGreaterThanOrEqual(0);
        expect(one).toBeLessThanOrEqual(1);
        expect(more).toBeLessThanOrEqual((one ?? 0) + 1e-9);
      }),
      { numRuns: 60 },
    );
  });
});

test('the lower limit of a share is below the share, and near it for many', () => {
  expect(atLeastShare(0, 10)).toBeCloseTo(0, 9);
  expect(atLeastShare(0, 0)).toBe(0);
  expect(atLeastShare(5, 5)).toBeGreaterThan(0.2);
  expect(atLeastShare(50_000, 100_000)).toBeGreaterThan(0.49);
  fc.assert(
    fc.property(fc.nat(1_000), fc.nat(1_000), (some, more) => {
      const of = some + more;
      if (of > 0) expect(atLeastShare(some, of)).toBeLessThanOrEqual(some / of + 1e-12);
    }),
  );
});

test('a release that errs much more is worse, in words', () => {
  expect(judgeRelease(judge, counts(7, 310, 25), counts(6, 2_790, 3))).toEqual({
    kind: 'worse',
    message: 'v7 answered 8.1% of 310 requests with errors, v6 0.1% of 2,790',
  });
  expect(judgeRelease(judge, counts(7, 5, 5), counts(6, 45, 0)).kind).toBe('worse');
});

test.each([
  ['there are too few requests', counts(7, 4, 4), counts(6, 100, 0), 'unknown'],
  ['there are none', counts(7, 0, 0), counts(6, 100, 0), 'unknown'],
  ['one error of six may be chance', counts(7, 6, 1), counts(6, 60, 0), 'fine'],
  ['the old one errs as much', counts(7, 100, 30), counts(6, 900, 270), 'fine'],
  ['it errs less than it may', counts(7, 100_000, 500), counts(6, 100_000, 0), 'fine'],
  ['the old one has no requests, and it errs', counts(7, 50, 50), counts(6, 0, 0), 'worse'],
  ['the old one has no requests, and it does not', counts(7, 50, 0), counts(6, 0, 0), 'fine'],
] as const)('%s', (_, now, before, kind) => {
  expect(judgeRelease(judge, now, before).kind).toBe(kind);
});

test('a release that is much slower is worse, and one that is a little slower is not', () => {
  expect(judgeRelease(judge, counts(7, 300, 0, 400), counts(6, 2_700, 0, 95))).toEqual({
    kind: 'worse',
    message:
      'of 100 requests to v7 95 took up to 414 ms, of those to v6 up to 108 ms (300 and 2,700 requests)',
  });
  expect(judgeRelease(judge, counts(7, 300, 0, 150), counts(6, 2_700, 0, 95)).kind).toBe('fine');
  // A few milliseconds are nothing, whatever the factor.
  expect(judgeRelease(judge, counts(7, 300, 0, 30), counts(6, 2_700, 0, 2)).kind).toBe('fine');
  const off = { ...judge, maxLatencyFactor: 0 };
  expect(judgeRelease(off, counts(7, 300, 0, 4_000), counts(6, 2_700, 0, 95)).kind).toBe('fine');
  expect(judgeRelease(judge, counts(7, 300, 0, 400), counts(6, 50, 0, 95)).kind).toBe('fine');
});

test('two releases that are alike hardly ever differ', () => {
  // A deterministic stream, so that the test cannot fail by chance.
  let state = 42;
  const random = () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  const draw = (requests: number, share: number) =>
    Array.from({ length: requests }, random).filter((value) => value < share).length;
  let worse = 0;
  for (let look = 0; look < 2_000; look += 1) {
    const verdict = judgeRelease(judge, counts(2, 100, draw(100, 0.05)), counts(1, 900, draw(900, 0.05)));
    if (verdict.kind === 'worse') worse += 1;
  }
  expect(worse).toBeLessThanOrEqual(2);
});

test('each latency is in the bucket of the first bound that it does not exceed', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 200_000, noNaN: true }), (ms) => {
      const bucket = latencyBucket(ms);
      expect(bucket).toBeLessThan(LATENCY_BUCKETS);
      const [bound = Infinity, below = 0] = [LATENCY_BOUNDS_MS[bucket], LATENCY_BOUNDS_MS[bucket - 1]];
      expect(ms).toBeLessThanOrEqual(bound * 1.000001);
      if (bucket > 0) expect(ms).toBeGreaterThan(below * 0.999999);
    }),
  );
});

test('counts of all nodes are added up, of one stage of one operation', () => {
  const node = (id: string, stage: number, requests: number) => ({
    id,
    splits: [{ operation: 'o', stage, releases: [counts(2, requests, 1)] }],
  });
  const sum = countsOf(
    [node('a', 1, 10), node('b', 1, 20), node('c', 2, 40)],
    { operation: 'o', stage: 1 },
    2,
  );
  expect([sum.requests, sum.errors]).toEqual([30, 2]);
  expect(countsOf([], { operation: 'o', stage: 1 }, 2).requests).toBe(0);
});
