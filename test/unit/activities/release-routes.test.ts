/** Which releases nodes are told of. */

import { releaseRoutesOf } from '../../../activities/release-routes';
import type { Microservice } from '../../../domain/model';
import { buildRelease } from '../../support/builders';

const release = (number: number, options?: object) =>
  buildRelease(number, {
    containers: {
      app: {
        image: 'nginx:1',
        env: ['SECRET=1'],
        httpPorts: { 80: options === undefined ? 'a.b' : { hostnames: 'a.b', ...options } },
      },
    },
  });

const microservice = (one: ReturnType<typeof release>, more: Partial<Microservice> = {}): Microservice => ({
  project: 'default',
  name: 'web',
  generation: 1,
  scale: 1,
  release: one,
  releaseNumbers: Array.from({ length: one.number }, (_, index) => index + 1),
  state: 'steady',
  message: '',
  operation: '',
  createdAtMs: 0,
  updatedAtMs: 0,
  ...more,
});

test('plain releases are told to nobody', () => {
  expect(releaseRoutesOf(microservice(release(1)), undefined)).toBeUndefined();
});

test('all that may run is in it, and nothing of a release but its routes', () => {
  const first = releaseRoutesOf(microservice(release(1, { path: '/x' })), undefined);
  expect(first?.releases).toEqual([
    {
      number: 1,
      createdAtMs: release(1).createdAtMs,
      routes: [{ container: 'app', port: 80, hostnames: ['a.b'], path: '/x' }],
    },
  ]);
  const numbers = (of: typeof first) => of?.releases.map(({ number }) => number);
  const second = releaseRoutesOf(microservice(release(2), { settledRelease: 1 }), first);
  expect(numbers(second)).toEqual([2, 1]);
  const third = releaseRoutesOf(microservice(release(3, { sticky: true }), { settledRelease: 1 }), second);
  expect(numbers(third)).toEqual([3, 2, 1]);
  expect(
    numbers(releaseRoutesOf(microservice(release(3, { sticky: true }), { settledRelease: 3 }), third)),
  ).toEqual([3]);
  // The same again is the same.
  expect(releaseRoutesOf(microservice(release(3, { sticky: true }), { settledRelease: 1 }), third)).toEqual(
    third,
  );
  expect(releaseRoutesOf(microservice(release(4), { settledRelease: 4 }), third)).toBeUndefined();
});

test('large pages of releases in between do not fill the transaction', () => {
  const large = { errorPage: 'x'.repeat(32_000) };
  let known = releaseRoutesOf(microservice(release(1, large)), undefined);
  for (const number of [2, 3, 4, 5, 6]) {
    known = releaseRoutesOf(microservice(release(number, large), { settledRelease: 1 }), known);
  }
  expect(known?.releases.map(({ number }) => number)).toEqual([6, 5, 1]);
});
