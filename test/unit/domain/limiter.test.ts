/** So many at a time for each key, in the order in which they came. */

import { createKeyedLimiter } from '../../../domain/limiter';

test('lets so many in, and the next when one leaves, also when it leaves in anger', async () => {
  const limiter = createKeyedLimiter(2);
  const entered: number[] = [];
  const leave: ((error?: Error) => void)[] = [];
  const enter = (number: number, key = 'a') =>
    limiter.run(
      key,
      () =>
        new Promise<number>((resolve, reject) => {
          entered.push(number);
          leave[number] = (error) => (error ? reject(error) : resolve(number));
        }),
    );
  const all = [0, 1, 2, 3].map((number) => enter(number));
  const other = enter(9, 'b');
  await Promise.resolve();
  expect(entered).toEqual([0, 1, 9]);
  leave[0]?.(new Error('no'));
  await expect(all[0]).rejects.toThrow('no');
  expect(entered).toEqual([0, 1, 9, 2]);
  leave[2]?.();
  expect(await all[2]).toBe(2);
  leave[3]?.();
  leave[1]?.();
  leave[9]?.();
  expect(await Promise.all([all[1], all[3], other])).toEqual([1, 3, 9]);
});
