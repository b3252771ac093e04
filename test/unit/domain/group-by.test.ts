import { groupBy } from '../../../domain/group-by';

test('groups and what is in them keep their order', () => {
  const groups = groupBy([3, 1, 4, 6, 5], (number) => number % 2 === 0);
  expect([...groups]).toEqual([
    [false, [3, 1, 5]],
    [true, [4, 6]],
  ]);
  expect(groupBy([], String).size).toBe(0);
});

test('a group may be large: it is not copied for each item', () => {
  const items = Array.from({ length: 200_000 }, (_, index) => index);
  const startedAt = performance.now();
  expect(groupBy(items, () => 'all').get('all')).toHaveLength(items.length);
  // Copied for each, it would take more than ten seconds.
  expect(performance.now() - startedAt).toBeLessThan(2_000);
});
