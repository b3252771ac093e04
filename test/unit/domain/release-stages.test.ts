/** Stages in which a release takes over. */

import fc from 'fast-check';

import type { Desired } from '../../../domain/model';
import { outlineOf, stagesOf, takesOverInStages } from '../../../domain/release-stages';
import type { RawMicroserviceSpec } from '../../../domain/spec/schema';
import { buildRelease } from '../../support/builders';

const desiredOf = (
  number: number,
  update: RawMicroserviceSpec['update'],
  more: Partial<RawMicroserviceSpec> = {},
  scale = 10,
): Desired => ({
  project: 'default',
  name: 'web',
  scale,
  release: buildRelease(number, {
    containers: { app: { image: 'nginx:1.28', httpPorts: { '80': 'web.example.com' } } },
    update,
    ...more,
  }),
});

const OLD = desiredOf(6, undefined);

test.each([
  [
    { strategy: 'canary' },
    [
      'give v7 10% of the requests for 60 s',
      'give v7 50% of the requests for 60 s',
      'switch all requests to v7',
      'until then roll v7 back as soon as it errs in more than 1% of 5 requests or more, and more than v6, or is slower than v6 by a factor of 2',
      'stop v6',
    ],
  ],
  [
    { strategy: 'canary', judge: { maxErrorPercent: 5, maxLatencyFactor: 0 } },
    [
      'give v7 10% of the requests for 60 s',
      'give v7 50% of the requests for 60 s',
      'switch all requests to v7',
      'until then roll v7 back as soon as it errs in more than 5% of 5 requests or more, and more than v6',
      'stop v6',
    ],
  ],
  [
    { strategy: 'canary', promote: 'manual', judge: false, steps: [{ weight: 5, seconds: 0.5 }] },
    ['give v7 5% of the requests until it is promoted', 'switch all requests to v7', 'stop v6'],
  ],
  [
    { strategy: 'blue-green' },
    ['have v7 ready beside v6', 'switch all requests to v7, keep v6 for 30 s', 'stop v6'],
  ],
  [
    { strategy: 'blue-green', promote: 'manual', keepOldSeconds: 0 },
    ['have v7 ready beside v6 until it is promoted', 'switch all requests to v7', 'stop v6'],
  ],
] as const)('%j in words', (update, words) => {
  const raw = update as unknown as RawMicroserviceSpec['update'];
  expect(outlineOf(desiredOf(7, raw), OLD)).toEqual(words);
});

test('routes with options are split like plain hostnames', () => {
  const httpPorts = { '80': { hostnames: 'web.example.com', path: '/api', allow: ['10.0.0.0/8'] } };
  const containers = { app: { image: 'nginx:1.28', httpPorts } };
  const desired = desiredOf(7, { strategy: 'canary' }, { containers });
  expect(outlineOf(desired, OLD)).toEqual(outlineOf(desiredOf(7, { strategy: 'canary' }), OLD));
  expect(stagesOf(desired).map(({ oldScale }) => oldScale)).toEqual([10, 10, 10]);
});

test('public ports are split, and not judged, as nobody counts what goes well there', () => {
  const containers = { app: { image: 'nginx:1.28', publicPorts: { '80': 8080 } } };
  const stages = stagesOf(desiredOf(7, { strategy: 'canary' }, { containers }));
  expect(stages.map(({ weight, oldScale, isJudged }) => [weight, oldScale, isJudged])).toEqual([
    [10, 10, false],
    [50, 10, false],
    [100, 10, false],
  ]);
});

test('without hostnames a canary is a number of replicas', () => {
  const containers = { app: { image: 'nginx:1.28', ports: [5432] } };
  const desired = desiredOf(7, { strategy: 'canary' }, { containers });
  expect(outlineOf(desired, OLD)).toEqual([
    'run 1 of v7 beside 9 of v6 for 60 s',
    'run 5 of v7 beside 5 of v6 for 60 s',
    'stop v6',
  ]);
  expect(stagesOf(desired).some(({ isJudged }) => isJudged)).toBe(false);
});

test('there have to be two sets of replicas that may run beside each other', () => {
  const canary = desiredOf(7, { strategy: 'canary' });
  expect(takesOverInStages('deploy', canary, OLD)).toBe(true);
  expect(takesOverInStages('deploy', canary, undefined)).toBe(false);
  expect(takesOverInStages('scale', canary, OLD)).toBe(true);
  expect(takesOverInStages('rollback', canary, OLD)).toBe(false);
  expect(takesOverInStages('restart', canary, OLD)).toBe(false);
  expect(takesOverInStages('deploy', desiredOf(7, {}), OLD)).toBe(false);
  expect(takesOverInStages('deploy', { ...canary, scale: 0 }, { ...OLD, scale: 0 })).toBe(false);
  expect(takesOverInStages('deploy', canary, desiredOf(6, undefined, { daemon: true }))).toBe(false);
  expect(takesOverInStages('deploy', canary, desiredOf(6, undefined, { exclusive: true }))).toBe(false);
});

test('the old release can take everything back until the new one has everything, and shares only grow', () => {
  const weights = fc.uniqueArray(fc.integer({ min: 1, max: 99 }), { minLength: 1, maxLength: 6 });
  const input = fc.record({ weights, scale: fc.integer({ min: 1, max: 30 }), isCanary: fc.boolean() });
  fc.assert(
    fc.property(input, ({ weights: unsorted, scale, isCanary }) => {
      const steps = [...unsorted].sort((a, b) => a - b).map((weight) => ({ weight, seconds: 1 }));
      const update = isCanary ? { strategy: 'canary' as const, steps } : { strategy: 'blue-green' as const };
      const stages = stagesOf(desiredOf(7, update, {}, scale));
      expect(stages.at(-1)?.weight).toBe(100);
      stages.forEach(({ weight, newScale, oldScale }, index) => {
        expect(oldScale).toBe(scale);
        expect(newScale).toBeGreaterThanOrEqual(Math.max(1, Math.floor((scale * weight) / 100)));
        expect(newScale).toBeLessThanOrEqual(scale);
        expect(weight).toBeGreaterThan(stages[index - 1]?.weight ?? -1);
      });
    }),
  );
});
