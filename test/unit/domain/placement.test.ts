/** Which node a replica goes to by what else runs there: ports of the host, reservations, and neighbours. */

import type { ObservedPort, ObservedReplica, Snapshot } from '../../../domain/model';
import { explainPlacement } from '../../../domain/placement/explain';
import { snapshotNodes } from '../../../domain/placement/snapshot';
import { computePlan } from '../../../domain/plan';
import type { RawMicroserviceSpec } from '../../../domain/spec/schema';
import {
  GB,
  NOW_MS,
  buildNode,
  buildRelease,
  buildReplica,
  buildRequest,
  buildSnapshot,
} from '../../support/builders';

const KEY = { project: 'default', name: 'web' };
const SEEDS = Array.from({ length: 12 }, (_, at) => `seed-${at}`);

const startsOf = (plan: ReturnType<typeof computePlan>): readonly string[] =>
  plan.phases.flatMap(({ steps }) => steps.flatMap((step) => (step.kind === 'start' ? [step.nodeId] : [])));

/** The nodes that one replica goes to, whatever the seed. */
const chosen = (raw: Partial<RawMicroserviceSpec>, nodes: readonly ReturnType<typeof buildNode>[]) => {
  const release = buildRelease(1, raw);
  const all = SEEDS.flatMap((seed) =>
    startsOf(computePlan(buildRequest({ release, seed }), buildSnapshot(nodes))),
  );
  return [...new Set(all)].sort();
};

describe('ports of the host', () => {
  const port = (hostPort: number, protocol: ObservedPort['protocol'] = 'tcp'): ObservedPort => ({
    container: 'app',
    port: 80,
    protocol,
    address: '10.0.0.1',
    hostPort,
    serviceId: 's',
    hostnames: [],
  });
  const replica = (
    nodeId: string,
    name: string,
    ports: readonly ObservedPort[],
    overrides: Partial<ObservedReplica> = {},
  ) => buildReplica(`${name}-${nodeId}`, nodeId, { name, ports, ...overrides });
  /** As the cluster is seen by who plans for web. */
  const snapshotOf = (ids: readonly string[], replicas: readonly ObservedReplica[]): Snapshot => ({
    nodes: snapshotNodes(
      ids.map((id) => buildNode(id)),
      replicas,
      {
        isUp: () => true,
        availabilityOf: () => undefined,
        unstableUntilMs: () => undefined,
        returnedAtMs: () => undefined,
        lostWithAll: () => undefined,
      },
    ),
    replicas: replicas.filter(({ name }) => name === KEY.name),
  });
  const release = buildRelease(1, {
    hostNetwork: true,
    containers: { app: { image: 'nginx:1.27', ports: [8080, '5353/udp'] } },
  });
  const verdicts = (snapshot: Snapshot) =>
    Object.fromEntries(
      explainPlacement(release.spec, snapshot, NOW_MS, KEY).map(({ nodeId, fits, reason }) => [
        nodeId,
        fits ? 'fits' : reason,
      ]),
    );

  test('that others have are not had a second time, and who has them is named', () => {
    const snapshot = snapshotOf(
      ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'],
      [
        replica('a', 'proxy', [port(8080)]),
        replica('b', 'proxy', [port(8080)], { project: 'team' }),
        replica('c', 'proxy', [port(8080)]),
        replica('c', 'resolver', [port(5353, 'udp')]),
        replica('d', 'proxy', [port(8080, 'udp'), port(5353, 'tcp'), port(8081)]),
        replica('e', 'web', [port(8080), port(5353, 'udp')]),
        replica('f', 'proxy', [port(8080)], { state: 'exited' }),
        // A release that ends there, and somebody else.
        replica('g', 'web', [port(8080)], { state: 'stopping' }),
        replica('g', 'proxy', [port(8080)]),
      ],
    );
    expect(verdicts(snapshot)).toEqual({
      a: 'cannot give it its ports: port 8080/tcp of the host is used by proxy',
      b: 'cannot give it its ports: port 8080/tcp of the host is used by team/proxy',
      c: 'cannot give it its ports: port 5353/udp of the host is used by resolver; port 8080/tcp of the host is used by proxy',
      d: 'fits',
      e: 'runs a replica already, and two cannot share the ports of the host',
      f: 'fits',
      g: 'cannot give it its ports: port 8080/tcp of the host is used by proxy',
      h: 'fits',
    });
  });

  test('are those that were chosen for others by chance, too', () => {
    const spec = buildRelease(1, {
      hostNetwork: true,
      containers: { app: { image: 'nginx:1.27', ports: [25_000] } },
    });
    const snapshot = snapshotOf(['a', 'b'], [replica('a', 'shop', [port(25_000)])]);
    const plan = computePlan(buildRequest({ release: spec, scale: 2 }), snapshot);
    expect(startsOf(plan)).toEqual(['b']);
    expect(plan).toMatchObject({ unplaced: 1 });
    expect(plan.rejections).toContainEqual({
      nodeId: 'a',
      reason: 'cannot give it its ports: port 25000/tcp of the host is used by shop',
    });
  });

  test('do not matter to who uses none of the host', () => {
    const snapshot = snapshotOf(['a'], [replica('a', 'proxy', [port(80)])]);
    expect(startsOf(computePlan(buildRequest(), snapshot))).toEqual(['a']);
  });

  test('do not keep a replica from being renewed where it is', () => {
    const snapshot = snapshotOf(['a'], [replica('a', 'web', [port(8080)], { release: 0 })]);
    const recreated = buildRelease(1, {
      hostNetwork: true,
      containers: { app: { image: 'nginx:1.27', ports: [8080] } },
      update: { strategy: 'recreate' },
    });
    expect(startsOf(computePlan(buildRequest({ release: recreated }), snapshot))).toEqual(['a']);
  });
});

describe('reservations', () => {
  const nodes = [
    buildNode('empty', { replicaCount: 0 }),
    buildNode('half', { replicaCount: 2, cpusReserved: 2, cpuPercent: 50 }),
    buildNode('full', { replicaCount: 4, cpusReserved: 3.7, cpuPercent: 90 }),
  ];
  const small = { containers: { app: { image: 'nginx:1.27', reserve: { cpus: 0.5 } } } };

  test('go where it is fullest and they still fit', () => {
    expect(chosen(small, nodes)).toEqual(['half']);
    const memory = [
      buildNode('empty'),
      buildNode('half', { memoryReservedBytes: 4 * GB, replicaCount: 1 }),
      buildNode('full', { memoryReservedBytes: 7.5 * GB, replicaCount: 1 }),
    ];
    const raw = { containers: { app: { image: 'nginx:1.27', reserve: { memory: GB } } } };
    expect(chosen(raw, memory)).toEqual(['half']);
  });

  test('leave a place for what is larger', () => {
    const release = buildRelease(1, small);
    const first = buildSnapshot(nodes.slice(0, 2));
    const [place] = startsOf(computePlan(buildRequest({ release }), first));
    expect(place).toBe('half');
    const large = { containers: { app: { image: 'nginx:1.27', cpus: 4, reserve: { cpus: 3.5 } } } };
    expect(chosen(large, nodes)).toEqual(['empty']);
  });

  test('do not decide over what says nothing of its size, nor before the spread and the images', () => {
    expect(chosen({}, nodes)).toEqual(['empty']);
    const [empty, half] = [buildNode('empty'), buildNode('half', { cpusReserved: 2, images: [] })];
    expect(chosen(small, [empty, half])).toEqual(['empty']);
    const spread = buildSnapshot(
      [buildNode('empty'), buildNode('half', { cpusReserved: 2 })],
      [buildReplica('web-1', 'half')],
    );
    const plan = computePlan(
      buildRequest({ kind: 'scale', scale: 2, release: buildRelease(1, small) }),
      spread,
    );
    expect(startsOf(plan)).toEqual(['empty']);
  });
});

describe('neighbours that are wished for', () => {
  const db = { microservices: { 'default/orders-db': 1 } };
  const busy = { replicaCount: 9, cpuPercent: 90, images: [] };

  test('decide before images, and load', () => {
    expect(chosen({ near: ['orders-db'] }, [buildNode('a'), buildNode('b', { ...db, ...busy })])).toEqual([
      'b',
    ]);
    expect(chosen({ apart: ['orders-db'] }, [buildNode('a', busy), buildNode('b', db)])).toEqual(['a']);
    expect(chosen({}, [buildNode('a'), buildNode('b', { ...db, ...busy })])).toEqual(['a']);
  });

  test('are wishes: without one, or without room beside it, a replica runs elsewhere', () => {
    expect(chosen({ near: ['orders-db'] }, [buildNode('a'), buildNode('b')])).toEqual(['a', 'b']);
    expect(chosen({ apart: ['orders-db'] }, [buildNode('b', db)])).toEqual(['b']);
    const full = buildNode('b', { ...db, cpusReserved: 4 });
    const raw = {
      near: ['orders-db'],
      containers: { app: { image: 'nginx:1.27', reserve: { cpus: 1 } } },
    };
    expect(chosen(raw, [buildNode('a'), full])).toEqual(['a']);
  });

  test('do not put two of the same replica beside each other', () => {
    const release = buildRelease(1, { near: ['orders-db'] });
    const plan = computePlan(
      buildRequest({ release, scale: 2 }),
      buildSnapshot([buildNode('a'), buildNode('b', db)]),
    );
    expect([...startsOf(plan)].sort()).toEqual(['a', 'b']);
  });
});
