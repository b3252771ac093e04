/** Lanes: slots are shared by the weights of releases, and within a release evenly. */

import fc from 'fast-check';

import {
  FIRST_LANES,
  fillLane,
  laneContents,
  laneSizesFor,
  type SplitRoute,
} from '../../../../domain/ingress/lanes';

const endpointsOf = (release: number, count: number) =>
  Array.from({ length: count }, (_, index) => ({ address: `10.0.${release}.${index}:80`, release }));

const count = (slots: readonly string[], release: number) =>
  slots.filter((address) => address.startsWith(`10.0.${release}.`)).length;

test.each([
  [
    [90, 10],
    [108, 12],
  ],
  [
    [95, 5],
    [114, 6],
  ],
  [
    [99, 1],
    [119, 1],
  ],
  [
    [100, 0],
    [120, 0],
  ],
  [
    [0, 100],
    [0, 120],
  ],
  [
    [50, 50],
    [60, 60],
  ],
])('weights of %j get %j of 120 slots', ([old = 0, fresh = 0], [oldSlots, freshSlots]) => {
  const shares = [
    { release: 1, weight: old },
    { release: 2, weight: fresh },
  ];
  const slots = fillLane(120, [...endpointsOf(1, 3), ...endpointsOf(2, 2)], { shares }) ?? [];
  expect([count(slots, 1), count(slots, 2)]).toEqual([oldSlots, freshSlots]);
});

test('a split that names nobody who serves is not followed, and takes no lane', () => {
  const shares = [{ release: 3, weight: 100 }];
  expect(fillLane(120, endpointsOf(1, 2), { shares })).toBeUndefined();
  const split = { project: 'default', name: 'web', operation: 'o', release: 3, stage: 1, isJudged: true };
  const route: SplitRoute = {
    hostnames: ['a'],
    endpoints: endpointsOf(1, 2),
    split: { ...split, shares, writtenAtMs: 0 },
  };
  expect(laneContents(120, [route])).toEqual([]);
});

test('sizes grow for more hostnames and for more replicas, and never shrink', () => {
  const split = { project: 'default', name: 'web', operation: 'o', release: 2, stage: 1, isJudged: true };
  const route = (hostnames: number, replicas: number): SplitRoute => ({
    hostnames: Array.from({ length: hostnames }, (_, index) => `h${index}`),
    endpoints: endpointsOf(1, replicas),
    split: { ...split, shares: [{ release: 1, weight: 1 }], writtenAtMs: 0 },
  });
  expect(laneSizesFor(FIRST_LANES, [route(16, 60)])).toEqual(FIRST_LANES);
  expect(laneSizesFor(FIRST_LANES, [route(17, 61)])).toEqual({ count: 8, slots: 1_200 });
  expect(laneSizesFor({ count: 16, slots: 1_200 }, [])).toEqual({ count: 16, slots: 1_200 });
  expect(laneSizesFor(FIRST_LANES, [route(1, 5_000)])).toEqual({ count: 4, slots: 10_000 });
});

test('every lane is full, each release has its share to a slot, and its endpoints alike', () => {
  const releases = fc.array(fc.record({ weight: fc.nat(100), replicas: fc.integer({ min: 0, max: 60 }) }), {
    minLength: 1,
    maxLength: 3,
  });
  fc.assert(
    fc.property(releases, (made) => {
      const shares = made.map(({ weight }, index) => ({ release: index + 1, weight }));
      const endpoints = made.flatMap(({ replicas }, index) => endpointsOf(index + 1, replicas));
      const slots = fillLane(120, endpoints, { shares });
      const serving = made.map(({ weight, replicas }) => (replicas > 0 ? weight : 0));
      const all = serving.reduce((sum, weight) => sum + weight, 0);
      if (all === 0) return expect(slots).toBeUndefined();
      expect(slots).toHaveLength(120);
      serving.forEach((weight, index) => {
        const has = count(slots ?? [], index + 1);
        if (weight === 0) return expect(has).toBe(0);
        expect(has).toBeGreaterThan(0);
        const exact = (120 * weight) / all;
        expect(Math.abs(has - exact)).toBeLessThanOrEqual(made.length);
        const each = endpointsOf(index + 1, made[index]?.replicas ?? 0).map(
          ({ address }) => (slots ?? []).filter((one) => one === address).length,
        );
        expect(Math.max(...each) - Math.min(...each)).toBeLessThanOrEqual(1);
      });
    }),
  );
});
