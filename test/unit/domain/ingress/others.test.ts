/** Who is asked when a replica has failed. */

import fc from 'fast-check';

import { OTHERS, chooseOthers } from '../../../../domain/ingress/others';

/** As whoever reads them does it. */
const withoutFailed = (others: readonly string[], failed: string): readonly string[] => {
  const left = [...others];
  left.forEach((address, index) => {
    if (address === failed) left[index] = left[(index + 1) % left.length] ?? '';
  });
  return left;
};

test('few endpoints take turns, many are spread, and without one it is nowhere', () => {
  expect(chooseOthers(['b', 'a'], 0, 'nowhere')).toEqual(['a', 'b', 'a', 'b']);
  expect(chooseOthers(['a'], 5, 'nowhere')).toEqual(['a', 'a', 'a', 'a']);
  expect(chooseOthers([...'abcdefgh'], 1, 'nowhere')).toEqual(['b', 'd', 'f', 'h']);
  expect(chooseOthers([], 1, 'nowhere')).toEqual(Array(OTHERS).fill('nowhere'));
});

test('whoever fails, it is asked again only where it is all alone', () => {
  const endpoints = fc.uniqueArray(fc.integer({ min: 1, max: 60 }).map(String), { minLength: 1 });
  fc.assert(
    fc.property(endpoints, fc.nat(2 ** 31), (addresses, seed) => {
      const others = chooseOthers(addresses, seed, 'nowhere');
      for (const failed of addresses) {
        const left = withoutFailed(others, failed);
        if (addresses.length === 1) expect(left).toEqual(Array(OTHERS).fill(failed));
        else expect(left).not.toContain(failed);
        expect(addresses).toEqual(expect.arrayContaining([...left]));
      }
    }),
  );
});
