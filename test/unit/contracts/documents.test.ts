/** Documents of Consul whose parts are not what their readers count on: which is found, and named by its place. */

import { checkDocument } from '../../../contracts/documents';
import { releaseKvKey, routesKvKey } from '../../../contracts/kv';
import { buildRelease } from '../../support/builders';

const WEB = { project: 'default', name: 'web' };

const RELEASE = buildRelease(1, {
  containers: {
    app: {
      image: 'nginx',
      httpPorts: {
        80: {
          hostnames: 'a.example.com',
          path: '/api',
          stripPath: true,
          sticky: true,
          allow: ['10.0.0.0/8'],
          rateLimit: { requests: 10, seconds: 1 },
          maxBodyBytes: 10,
        },
      },
    },
  },
  update: { strategy: 'canary', steps: [{ weight: 10, seconds: 60 }] },
});
const ROUTES = {
  ...WEB,
  releases: [
    {
      number: 1,
      createdAtMs: RELEASE.createdAtMs,
      routes: RELEASE.spec.containers[0]?.ports[0]?.routes?.map((route) => ({
        ...route,
        container: 'app',
        port: 80,
      })),
    },
  ],
};

/** The value with another one at a place. */
const changed = (value: unknown, [first = '', ...rest]: readonly string[], to: unknown): unknown => {
  const copy = structuredClone(value) as Record<string, unknown>;
  copy[first] = rest.length === 0 ? to : changed(copy[first], rest, to);
  return copy;
};

const OF_ROUTE = [
  ['stripPath', 'yes', 'is not true or false'],
  ['sticky', 1, 'is not true or false'],
  ['allow', '10.0.0.0/8', 'is not a list'],
  ['path', 5, 'is not text'],
  ['maxBodyBytes', 'many', 'is not a number'],
  ['rateLimit/perMs', '1s', 'is not a number'],
  ['hostnames', undefined, 'is missing'],
] as const;

test('what is as it was written is read', () => {
  expect(checkDocument('releases', releaseKvKey(WEB, 1), RELEASE)).toEqual({ document: RELEASE });
  expect(checkDocument('routes', routesKvKey(WEB), ROUTES)).toEqual({ document: ROUTES });
});

test.each(OF_ROUTE)('%s of a route that is %j %s', (field, value, words) => {
  const inRelease = `spec/containers/0/ports/0/routes/0/${field}`;
  expect(
    checkDocument('releases', releaseKvKey(WEB, 1), changed(RELEASE, inRelease.split('/'), value)),
  ).toEqual({ problem: `/${inRelease} ${words}` });
  const inRoutes = `releases/0/routes/0/${field}`;
  expect(checkDocument('routes', routesKvKey(WEB), changed(ROUTES, inRoutes.split('/'), value))).toEqual({
    problem: `/${inRoutes} ${words}`,
  });
});

test.each([
  ['routes', 'spec/containers/0/ports/0/routes', {}, 'is not a list'],
  ['steps', 'spec/update/steps/0/holdMs', 'a minute', 'is not a number'],
])('%s of a release that are something else', (_, place, value, words) => {
  expect(checkDocument('releases', releaseKvKey(WEB, 1), changed(RELEASE, place.split('/'), value))).toEqual({
    problem: `/${place} ${words}`,
  });
});
