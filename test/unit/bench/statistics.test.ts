// The benchmarks' figures are only as good as this arithmetic.
import { best, median, orderOf, percentile, ratio, summarise, takesPart } from '../../../bench/statistics';

test.each([
  [[3], 3],
  [[2, 1], 1.5],
  [[5, 1, 3], 3],
  [[10, 9, 1, 2], 5.5],
])('the median of %j is %d', (values, expected) => {
  expect(median(values)).toBe(expected);
});

test('values are sorted as numbers, and left as they were', () => {
  const values = [10, 9, 100];
  expect(median(values)).toBe(10);
  expect(values).toEqual([10, 9, 100]);
});

test.each([
  [50, 50],
  [90, 90],
  [99, 99],
  [99.5, 100],
  [100, 100],
])('of the numbers from 1 to 100, p%d is %d', (percent, expected) => {
  const values = Array.from({ length: 100 }, (_, index) => 100 - index);
  expect(percentile(values, percent)).toBe(expected);
});

test('of few values, a high percentile is the largest', () => {
  expect(percentile([1, 2, 3], 99)).toBe(3);
  expect(percentile([7], 50)).toBe(7);
});

test('nothing has neither median nor percentile, and is nothing to compare with', () => {
  expect(() => median([])).toThrow('no median');
  expect(() => percentile([], 50)).toThrow('no percentile');
  expect(() => percentile([1], 0)).toThrow('no 0th percentile');
  expect(() => ratio(1, 0)).toThrow('nothing to compare');
});

test('a summary has the middle, both ends and the number of values', () => {
  expect(summarise([3, 1, 2, 10])).toEqual({ median: 2.5, min: 1, max: 10, count: 4 });
});

test('the best has the smallest median, not the smallest value', () => {
  const candidates = new Map([
    ['lucky once', [1, 9, 9]],
    ['steady', [5, 5, 5]],
    ['not measured', []],
  ]);
  expect(best(candidates)).toBe('steady');
  expect(best(new Map([['not measured', []]]))).toBeUndefined();
});

test('the order of the peers turns round in every round', () => {
  const peers = ['a', 'b', 'c'];
  expect([0, 1, 2].map((round) => orderOf(peers, round).join(''))).toEqual(['abc', 'cba', 'abc']);
});

test('who has fewer rounds gets exactly so many, spread over all', () => {
  const rounds = (ofPeer: number, all: number) =>
    Array.from({ length: all }, (_, round) => round).filter((round) => takesPart(round, all, ofPeer));
  expect(rounds(5, 20)).toEqual([3, 7, 11, 15, 19]);
  expect(rounds(2, 5)).toEqual([2, 4]);
  expect(rounds(3, 3)).toEqual([0, 1, 2]);
  for (let all = 1; all < 30; all += 1)
    for (let own = 0; own <= all; own += 1) expect(rounds(own, all)).toHaveLength(own);
});
