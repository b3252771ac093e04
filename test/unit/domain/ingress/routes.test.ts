/** What leads where, by what releases and replicas say. */

import fc from 'fast-check';

import { splitClaim, type PortRoute, type ReleaseRoutes } from '../../../../domain/ingress/route-options';
import { routesOf, type ObservedRoutes, type Route } from '../../../../domain/ingress/routes';
import type { ObservedReplica } from '../../../../domain/model';
import { buildReplica } from '../../../support/builders';

const WEB = { project: 'default', name: 'web' };

const replica = (
  id: string,
  release: number,
  hostnames: readonly string[] = [],
  more: Partial<ObservedReplica> = {},
): ObservedReplica =>
  buildReplica(id, 'node', {
    ...WEB,
    release,
    releasedAtMs: 0,
    ports: [
      {
        container: 'main',
        port: 80,
        protocol: 'tcp',
        address: '10.0.0.1',
        hostPort: 20_000 + release,
        serviceId: id,
        hostnames,
      },
    ],
    ...more,
  });

const released = (releases: Readonly<Record<number, readonly Partial<PortRoute>[]>>): ReleaseRoutes => ({
  ...WEB,
  releases: Object.entries(releases).map(([number, routes]) => ({
    number: Number(number),
    createdAtMs: 0,
    routes: routes.map((route): PortRoute => ({ container: 'main', port: 80, hostnames: ['a.b'], ...route })),
  })),
});

const routes = (
  claims: readonly string[],
  replicas: readonly ObservedReplica[],
  known?: ReleaseRoutes,
  more: Partial<ObservedRoutes> = {},
): readonly Route[] =>
  routesOf({
    hostnames: new Map(claims.map((claim) => [claim, WEB])),
    replicas,
    isUp: () => true,
    ...(known === undefined ? {} : { routes: new Map([['default/web', known]]) }),
    ...more,
  });

const shown = (all: readonly Route[]) =>
  all.map(({ hostname, options, endpoints }) => [
    hostname,
    options,
    endpoints.map(({ replicaId }) => replicaId),
  ]);

test('a hostname without options leads to all replicas that serve', () => {
  const all = [
    replica('r1', 1, ['a.b']),
    replica('r2', 2, ['a.b']),
    replica('r3', 1, ['a.b'], { state: 'unhealthy' }),
  ];
  expect(shown(routes(['a.b'], all))).toEqual([['a.b', undefined, ['r1', 'r2']]]);
});

test('a microservice that came back under its name in other capitals, while the old one was removed, is led to', () => {
  const [route] = routes(['a.b'], [replica('one', 1, ['a.b'], { name: 'Web' })]);
  expect(route?.endpoints).toHaveLength(1);
});

test('options are those of the newest release that serves, for the replicas of older ones too', () => {
  const known = released({ 2: [{ allow: ['10.0.0.0/8'] }] });
  const old = replica('r1', 1, ['a.b']);
  expect(shown(routes(['a.b'], [old, replica('r2', 2, [], { state: 'starting' })], known))).toEqual([
    ['a.b', undefined, ['r1']],
  ]);
  expect(shown(routes(['a.b'], [old, replica('r2', 2)], known))).toEqual([
    ['a.b', { allow: ['10.0.0.0/8'] }, ['r1', 'r2']],
  ]);
});

test('where two releases are spoken to in different ways, the newer one gets the requests', () => {
  const known = released({ 1: [{}], 2: [{ protocol: 'h2c' }], 3: [{ protocol: 'h2c', sticky: true }] });
  const all = [replica('r1', 1), replica('r2', 2), replica('r3', 3)];
  expect(shown(routes(['a.b'], all, known))).toEqual([
    ['a.b', { protocol: 'h2c', sticky: true }, ['r2', 'r3']],
  ]);
});

test('without a replica that serves, the newest release that is known says what is answered', () => {
  const known = released({
    2: [{ basicAuth: { alice: 'x' }, redirectFrom: ['www.a.b'] }],
    1: [{ path: '/old' }],
  });
  expect(shown(routes(['a.b', 'a.b/gone', 'a.b/old', 'www.a.b'], [], known))).toEqual([
    ['a.b', { basicAuth: { alice: 'x' } }, []],
    ['a.b', { path: '/gone' }, []],
    ['a.b', { path: '/old' }, []],
    ['www.a.b', { redirectTo: 'a.b' }, []],
  ]);
});

test('replicas of a release of which nothing is known are led to by plain hostnames only', () => {
  const all = [replica('r1', 1), replica('r2', 1, ['c.d'])];
  expect(shown(routes(['a.b', 'c.d'], all))).toEqual([
    ['a.b', undefined, []],
    ['c.d', undefined, ['r2']],
  ]);
  // Numbers begin anew with a microservice that is made anew.
  const known = released({ 1: [{ allow: ['::1'] }] });
  expect(shown(routes(['a.b'], [replica('r1', 1, [], { releasedAtMs: 5 })], known))[0]?.[2]).toEqual([]);
});

test('maintenance is of everything that a microservice holds but its redirects', () => {
  const state = { ...WEB, text: 'later', retryAfterSeconds: 1, allow: [], setAtMs: 0 };
  const known = released({ 1: [{ path: '/x', redirectFrom: ['www.a.b'] }] });
  const all = [replica('r1', 1, ['a.b'])];
  const under = routes(['a.b', 'a.b/x', 'www.a.b'], all, known, {
    maintenance: new Map([['default/web', state]]),
  });
  expect(under.map(({ options }) => options)).toEqual([
    { maintenance: state },
    { path: '/x', maintenance: state },
    { redirectTo: 'a.b' },
  ]);
});

test('whatever is observed: all that is held has one route, and leads to its holder only', () => {
  const names = ['web', 'api', 'shop'];
  const claims = ['a.b', 'a.b/x', 'a.b/x/y', 'c.d'];
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...claims), fc.constantFrom(...names)),
      fc.array(
        fc.record({
          name: fc.constantFrom(...names),
          release: fc.integer({ min: 1, max: 3 }),
          plain: fc.subarray(['a.b', 'c.d']),
          path: fc.constantFrom('/x', '/x/y'),
          protocol: fc.constantFrom<'h2c' | 'https'>('h2c', 'https'),
        }),
        { maxLength: 10 },
      ),
      (held, all) => {
        const replicas = all.map(({ name, release, plain }, index) =>
          replica(`r${index}`, release, plain, { name }),
        );
        const known = new Map(
          names.map((name) => [
            `default/${name}`,
            {
              project: 'default',
              name,
              releases: all
                .filter((one) => one.name === name)
                .map(({ release, path, protocol }) => ({
                  number: release,
                  createdAtMs: 0,
                  routes: [{ container: 'main', port: 80, hostnames: ['a.b'], path, protocol }],
                })),
            },
          ]),
        );
        const hostnames = new Map(
          Object.entries(held).map(([claim, name]) => [claim, { project: 'default', name }]),
        );
        const found = routesOf({ hostnames, replicas, isUp: () => true, routes: known });
        expect(found.map(({ hostname, options }) => `${hostname}${options?.path ?? ''}`).sort()).toEqual(
          [...hostnames.keys()].sort(),
        );
        for (const { name, hostname, options, endpoints } of found) {
          expect(held[`${hostname}${options?.path ?? ''}`]).toBe(name);
          for (const { replicaId } of endpoints) {
            expect(replicas.find(({ id }) => id === replicaId)?.name).toBe(name);
          }
        }
        expect(splitClaim('a.b/x/y')).toEqual({ hostname: 'a.b', path: '/x/y' });
      },
    ),
  );
});
