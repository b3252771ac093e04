/** Which hostnames under a split get a lane, and which are left to their places. */

import type { Route } from '../../../../domain/ingress/routes';
import type { TrafficSplits } from '../../../../domain/traffic';
import { splitRoutes } from '../../../../workers/node/split-lanes';

const SPLITS: TrafficSplits = new Map([
  [
    'default/web',
    {
      project: 'default',
      name: 'web',
      operation: 'op-1',
      release: 2,
      stage: 1,
      isJudged: true,
      shares: [
        { release: 1, weight: 90 },
        { release: 2, weight: 10 },
      ],
      writtenAtMs: 0,
    },
  ],
]);

const route = (hostname: string, overrides: Partial<Route> = {}): Route => ({
  hostname,
  project: 'default',
  name: 'web',
  endpoints: [1, 2].map((release) => ({
    replicaId: `web-${release}`,
    nodeId: 'node-1',
    release,
    address: '10.0.0.1',
    port: 20_000 + release,
  })),
  ...overrides,
});

const hostnamesIn = (routes: readonly Route[]) =>
  splitRoutes(routes, SPLITS).flatMap(({ hostnames }) => hostnames);

test('plain hostnames under a split are in a lane, others are not', () => {
  expect(hostnamesIn([route('a.example.com'), route('b.example.com', { name: 'other' })])).toEqual([
    'a.example.com',
  ]);
});

test('a hostname of which one path has options is in none: the lane would take what is for that path', () => {
  const withUsers = { path: '/admin', basicAuth: { anna: 'hash' } };
  const routes = [
    route('a.example.com'),
    route('a.example.com', { options: withUsers }),
    route('b.example.com'),
    // Also one that leads to somebody else.
    route('b.example.com', { name: 'other', options: { path: '/api' } }),
    route('c.example.com'),
  ];
  expect(hostnamesIn(routes)).toEqual(['c.example.com']);
});

test('a wildcard is in a lane as long as there is no exact hostname below it, whoever has that', () => {
  expect(hostnamesIn([route('*.example.com')])).toEqual(['*.example.com']);
  const routes = [
    route('*.example.com'),
    route('a.example.com', { name: 'other' }),
    route('a.b.example.org'),
  ];
  expect(hostnamesIn(routes)).toEqual(['a.b.example.org']);
});
