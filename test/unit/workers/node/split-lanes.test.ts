/** Which hostnames under a split get a lane, and which are left to their places. */

import { laneContents } from '../../../../domain/ingress/lanes';
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

/** Those that lanes lead. */
const hostnamesIn = (routes: readonly Route[]) =>
  splitRoutes(routes, SPLITS).flatMap(({ hostnames, isLedByPlaces }) => (isLedByPlaces ? [] : hostnames));

/** Those whose requests are only counted. */
const countedIn = (routes: readonly Route[], splits = SPLITS) =>
  splitRoutes(routes, splits).flatMap(({ hostnames, isLedByPlaces }) => (isLedByPlaces ? hostnames : []));

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
  // Its requests are counted on their way, behind the lanes of exact hostnames.
  expect(countedIn(routes)).toEqual(['*.example.com']);
  const own = [route('*.example.com'), route('a.example.com')];
  expect(splitRoutes(own, SPLITS).map(({ hostnames }) => hostnames)).toEqual([
    ['a.example.com'],
    ['*.example.com'],
  ]);
});

test('a hostname that places lead is counted once while its release is under judgement, and leads nowhere', () => {
  const routes = [
    route('a.example.com', { options: { path: '/api' } }),
    route('a.example.com', { options: { path: '/admin', stripPath: true } }),
    route('a.example.com', { name: 'other' }),
    route('www.example.com', { options: { redirectTo: 'a.example.com' } }),
    route('b.example.com'),
  ];
  expect(countedIn(routes)).toEqual(['a.example.com']);
  expect(hostnamesIn(routes)).toEqual(['b.example.com']);
  const contents = laneContents(120, splitRoutes(routes, SPLITS));
  expect(contents.map(({ hostnames, isJudged, slots }) => [hostnames, isJudged, slots.length])).toEqual([
    [['a.example.com'], true, 0],
    [['b.example.com'], true, 120],
  ]);
  const unjudged = new Map([...SPLITS].map(([id, split]) => [id, { ...split, isJudged: false }]));
  expect(countedIn(routes, unjudged)).toEqual([]);
});
