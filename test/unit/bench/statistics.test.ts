// The benchmarks' figures are only as good as this arithmetic.
import { best, median, orderOf, percentile, ratio, summarise } from '../../../bench/statistics';

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
