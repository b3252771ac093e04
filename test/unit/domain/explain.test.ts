/** What is said of each node when somebody asks where a replica could go. */

import type { Snapshot } from '../../../domain/model';
import { explainPlacement } from '../../../domain/placement/explain';
import type { ReleaseSpec } from '../../../domain/spec/schema';
import { NOW_MS, buildNode, buildReleaseSpec, buildReplica, buildSnapshot } from '../../support/builders';

const reasonsOf = (spec: ReleaseSpec, snapshot: Snapshot, project = 'default') =>
  Object.fromEntries(
    explainPlacement(spec, snapshot, NOW_MS, { project, name: 'web' }).map(({ nodeId, fits, reason }) => [
      nodeId,
      `${fits ? 'yes' : 'no'}: ${reason}`,
    ]),
  );

test('every node has a reason, also the one that is chosen', () => {
  const spec = buildReleaseSpec({
    containers: { app: { image: 'nginx:1.27', reserve: { cpus: 1 } } },
    constraints: { 'node.arch': 'x86_64' },
    near: ['orders-db'],
    apart: [{ microservice: 'batch', required: true }],
  });
  const snapshot = buildSnapshot(
    [
      buildNode('a', { labels: { zone: 'east' }, microservices: { 'default/orders-db': 1 } }),
      buildNode('b', { labels: { zone: 'west' }, images: [], cpuPercent: 57 }),
      buildNode('c', { availability: 'cordoned' }),
      buildNode('d', { availability: 'draining' }),
      buildNode('e', { architecture: 'arm64' }),
      buildNode('f', { microservices: { 'default/batch': 2 } }),
    ],
    [buildReplica('web-1', 'b', { cpusReserved: 1 })],
  );
  expect(reasonsOf(spec, snapshot)).toEqual({
    a: 'yes: has room for one more replica and is the first choice: its zone east runs 0 replicas of it, runs none of it yet, is near orders-db, has its images, is 0% reserved, runs 0 replicas in all, uses about 10% of its CPUs',
    b: 'yes: has room for one more replica: its zone west runs 1 replica of it, runs 1 replica of it, is not near orders-db, has to get 1 image, is 26% reserved, runs 1 replica in all, uses about 50% of its CPUs',
    c: 'no: is cordoned, so it takes nothing new',
    d: 'no: is being drained',
    e: 'no: is arm64, but node.arch has to be x86_64',
    f: 'no: runs batch, which it has to be apart from',
  });
});

test('a neighbour that is required and not there is named', () => {
  const spec = buildReleaseSpec({ near: [{ microservice: 'Orders-DB', required: true }] });
  const snapshot = buildSnapshot([buildNode('a', { microservices: { 'other/orders-db': 1 } })]);
  expect(reasonsOf(spec, snapshot)).toEqual({
    a: 'no: has no replica of orders-db, which it has to be near',
  });
  expect(reasonsOf(spec, snapshot, 'other')['a']).toMatch(/^yes/);
});

test('of a daemon it is said where it is already', () => {
  const spec = buildReleaseSpec({ daemon: true });
  const snapshot = buildSnapshot([buildNode('a'), buildNode('b')], [buildReplica('web-1', 'a')]);
  expect(reasonsOf(spec, snapshot)).toMatchObject({
    a: 'no: runs its replica: a daemon has one on each node',
    b: expect.stringMatching(/^yes: has room/) as string,
  });
});

test('of a node without its engine it is said since when, also when it runs one', () => {
  const lost = buildNode('a', { health: 'degraded', engineLostAtMs: NOW_MS });
  const snapshot = buildSnapshot([lost], [buildReplica('web-1', 'a')]);
  const words = 'no: has had no answer from its Docker Engine since 2026-01-01T00:00:00Z';
  for (const daemon of [true, false]) {
    expect(reasonsOf(buildReleaseSpec({ daemon }), snapshot)).toEqual({ a: words });
  }
});

test('what keeps data on a node that is drained is said to stay', () => {
  const spec = buildReleaseSpec({
    containers: { app: { image: 'nginx:1.27', volumes: [{ name: 'data', path: '/data' }] } },
  });
  const snapshot = buildSnapshot(
    [buildNode('a', { availability: 'draining' })],
    [buildReplica('web-1', 'a')],
  );
  expect(reasonsOf(spec, snapshot)).toEqual({
    a: 'no: is being drained; what it runs stays, because its data is in volumes there',
  });
});

test('of a node that comes and goes it is said until when others come first', () => {
  const unstable = { unstableUntilMs: NOW_MS + 600_000 };
  const snapshot = buildSnapshot([
    buildNode('a', unstable),
    buildNode('b', { ...unstable, health: 'degraded' }),
    buildNode('c', { health: 'degraded' }),
    buildNode('d', { unstableUntilMs: NOW_MS }),
  ]);
  const comesAndGoes =
    'yes: has room for one more replica, but comes and goes: until 2026-01-01T00:10:00Z nodes that stay come first';
  expect(reasonsOf(buildReleaseSpec(), snapshot)).toEqual({
    a: comesAndGoes,
    b: comesAndGoes,
    c: 'yes: has room for one more replica, but is degraded: healthy nodes come first',
    d: expect.stringContaining('is the first choice') as string,
  });
});
