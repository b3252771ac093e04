import type { ObservedReplica, OperationKind, Plan, Snapshot, Step } from '../../../domain/model';
import { computePlan, describePlan, describePreview } from '../../../domain/plan';
import { limitsOf } from '../../../domain/rollout';
import type { RawMicroserviceSpec } from '../../../domain/spec/schema';
import {
  GB,
  NOW_MS,
  applyPlan,
  buildNode,
  buildRelease,
  buildReleaseSpec,
  buildReplica,
  buildRequest,
  buildSnapshot,
} from '../../support/builders';

const stepsOf = (plan: Plan): readonly Step[] => plan.phases.flatMap(({ steps }) => steps);

/** "start a", "stop web-1 outdated", one for each step, in order. */
const summary = (plan: Plan): readonly string[] =>
  stepsOf(plan).map((step) => {
    switch (step.kind) {
      case 'pull':
        return `pull ${step.nodeId}`;
      case 'start':
        return `start ${step.nodeId}`;
      case 'stop':
        return `stop ${step.replicaId} ${step.reason}`;
    }
  });

const kinds: readonly OperationKind[] = ['deploy', 'scale', 'reschedule', 'restart', 'rollback'];
const healing: readonly ObservedReplica['state'][] = [
  'starting',
  'restarting',
  'unhealthy',
  'paused',
  'crash_looping',
];

describe('limits of a change', () => {
  test.each<[scale: number, update: RawMicroserviceSpec['update'], maxTotal: number, minRunning: number]>([
    [1, {}, 2, 1],
    [3, {}, 4, 3],
    [8, {}, 10, 8],
    [10, { maxSurge: 0, maxUnavailable: '25%' }, 10, 8],
    // 25% of one is none; without this nothing could ever change.
    [1, { maxSurge: 0, maxUnavailable: '25%' }, 1, 0],
    [4, { maxSurge: '100%', maxUnavailable: '100%' }, 8, 0],
    [2, { maxSurge: 5, maxUnavailable: 7 }, 7, 0],
  ])('scale %p with %p', (scale, update, maxTotal, minRunning) => {
    expect(limitsOf(buildReleaseSpec({ update }), scale)).toEqual({ maxTotal, minRunning });
  });
});

describe('what exists', () => {
  test.each(healing)('a replica that is %s counts as there, and as not yet what is desired', (state) => {
    const snapshot = buildSnapshot([buildNode('a')], [buildReplica('web-1', 'a', { state })]);
    const plan = computePlan(buildRequest({ kind: 'reschedule' }), snapshot);
    expect(plan).toMatchObject({ phases: [], unplaced: 0, converged: false });
    const more = computePlan(buildRequest({ kind: 'reschedule', scale: 2 }), snapshot);
    expect(summary(more)).toEqual(['start a']);
  });

  test.each(healing)('a deploy answers also for a replica that is %s', (state) => {
    const snapshot = buildSnapshot([buildNode('a')], [buildReplica('web-1', 'a', { state })]);
    const plan = computePlan(buildRequest({ kind: 'deploy' }), snapshot);
    expect(describePlan(plan, snapshot)).toEqual(['node a: wait for web-1 (v1)']);
  });

  test('a change of scale waits for what is starting, and stops what is too much without waiting', () => {
    const snapshot = buildSnapshot(
      [buildNode('a')],
      ['1', '2', '3'].map((id) => buildReplica(`web-${id}`, 'a', { state: 'starting' })),
    );
    const plan = computePlan(buildRequest({ kind: 'scale', scale: 1 }), snapshot);
    expect(describePlan(plan, snapshot)).toEqual([
      'node a: stop web-1 (scaled down)',
      'node a: stop web-2 (scaled down)',
      'node a: wait for web-3 (v1)',
    ]);
    const unhealthy = buildSnapshot([buildNode('a')], [buildReplica('web-1', 'a', { state: 'unhealthy' })]);
    expect(summary(computePlan(buildRequest({ kind: 'scale' }), unhealthy))).toEqual([]);
  });

  test('broken replicas do not heap up when their replacements break too', () => {
    let snapshot = buildSnapshot([buildNode('a')], [buildReplica('web-0', 'a', { state: 'broken' })]);
    for (let attempt = 1; attempt <= 9; attempt += 1) {
      const request = buildRequest({ kind: 'reschedule', operation: `reschedule.${attempt}` });
      const plan = computePlan(request, snapshot);
      // The operation ends with the start that fails; what would come after it is not done.
      const failing = plan.phases.findIndex(({ kind }) => kind === 'start') + 1;
      const after = applyPlan(plan, request, snapshot, failing);
      snapshot = { ...after, replicas: after.replicas.map((one) => ({ ...one, state: 'broken' })) };
      expect(snapshot.replicas.length).toBeLessThanOrEqual(2);
    }
  });

  test.each(kinds)('a broken replica is replaced by a %s', (kind) => {
    const operation = 'this';
    const snapshot = buildSnapshot(
      [buildNode('a'), buildNode('b')],
      [buildReplica('web-1', 'a', { operation, state: 'broken' }), buildReplica('web-2', 'b', { operation })],
    );
    const plan = computePlan(buildRequest({ kind, scale: 2, operation }), snapshot);
    expect(summary(plan)).toEqual(['start a', 'stop web-1 broken']);
  });

  test.each([
    ['always', ['start a', 'stop web-1 exited']],
    ['on-failure', []],
    ['never', []],
  ] as const)('with the restart policy %s an exited replica means %p', (policy, expected) => {
    const request = buildRequest({ kind: 'reschedule', release: buildRelease(1, { restart: { policy } }) });
    const snapshot = buildSnapshot([buildNode('a')], [buildReplica('web-1', 'a', { state: 'exited' })]);
    expect(summary(computePlan(request, snapshot))).toEqual(expected);
  });

  test('what was left stopping is stopped again, and does not count', () => {
    const snapshot = buildSnapshot([buildNode('a')], [buildReplica('web-1', 'a', { state: 'stopping' })]);
    const plan = computePlan(buildRequest({ kind: 'reschedule' }), snapshot);
    expect(summary(plan)).toEqual(['start a', 'stop web-1 surplus']);
  });

  test('a replica on a node that nobody knows is replaced and left alone', () => {
    const snapshot = buildSnapshot([buildNode('a')], [buildReplica('web-1', 'gone')]);
    expect(summary(computePlan(buildRequest({ kind: 'reschedule' }), snapshot))).toEqual(['start a']);
  });

  describe('a crash-looping replica', () => {
    const LONG_AGO = { createdAtMs: NOW_MS - 5 * 60_000 };
    const looping = (id: string, node: string, overrides: Partial<ObservedReplica> = {}) =>
      buildReplica(id, node, { state: 'crash_looping', ...LONG_AGO, ...overrides });
    const healthy = [buildNode('a'), buildNode('b'), buildNode('c')];
    const keepsData = buildRelease(1, {
      containers: { db: { image: 'postgres:17', volumes: [{ name: 'data', path: '/data' }] } },
    });

    test.each<[title: string, kind: OperationKind, snapshot: Snapshot, moved: readonly string[]]>([
      [
        'is tried elsewhere when the release runs on another node',
        'reschedule',
        buildSnapshot(healthy, [looping('web-1', 'a'), buildReplica('web-2', 'b')]),
        ['start c', 'stop web-1 broken'],
      ],
      [
        'is tried elsewhere when its node is degraded',
        'reschedule',
        buildSnapshot([buildNode('a', { health: 'degraded' }), buildNode('b')], [looping('web-1', 'a')]),
        ['start b', 'stop web-1 broken'],
      ],
      [
        'is moved one at a time, the one that has failed most first',
        'reschedule',
        buildSnapshot(healthy, [
          looping('web-1', 'a', { restartCount: 3 }),
          looping('web-2', 'a', { restartCount: 7 }),
          buildReplica('web-3', 'b'),
        ]),
        ['start c', 'stop web-2 broken'],
      ],
      [
        'stays where nothing says that it is the node',
        'reschedule',
        buildSnapshot(healthy, [looping('web-1', 'a')]),
        [],
      ],
      [
        'stays for a while first',
        'reschedule',
        buildSnapshot(healthy, [
          looping('web-1', 'a', { createdAtMs: NOW_MS - 4 * 60_000 }),
          buildReplica('web-2', 'b'),
        ]),
        [],
      ],
      [
        'stays when no other node has room',
        'reschedule',
        buildSnapshot(
          [buildNode('a'), buildNode('b', { diskFreeBytes: 0 })],
          [looping('web-1', 'a'), buildReplica('web-2', 'b')],
        ),
        [],
      ],
      [
        'is not moved by a change of scale',
        'scale',
        buildSnapshot(healthy, [looping('web-1', 'a'), buildReplica('web-2', 'b')]),
        [],
      ],
    ])('%s', (_title, kind, snapshot, moved) => {
      const request = buildRequest({ kind, scale: snapshot.replicas.length });
      expect(summary(computePlan(request, snapshot))).toEqual(moved);
    });

    test('stays with its data', () => {
      const snapshot = buildSnapshot(healthy, [looping('web-1', 'a'), buildReplica('web-2', 'b')]);
      const request = buildRequest({ kind: 'reschedule', release: keepsData, scale: 2 });
      expect(summary(computePlan(request, snapshot))).toEqual([]);
    });
  });

  test('in a deploy a crash-looping replica of its own has failed; one from before may yet become ready', () => {
    const own = buildReplica('web-1', 'a', { state: 'crash_looping', operation: 'this' });
    const older = buildReplica('web-2', 'b', { state: 'crash_looping', operation: 'before' });
    const snapshot = buildSnapshot([buildNode('a'), buildNode('b')], [own, older]);
    const plan = computePlan(buildRequest({ operation: 'this', scale: 2 }), snapshot);
    expect(describePlan(plan, snapshot)).toEqual([
      expect.stringMatching(/^node a: start web-/),
      'node b: wait for web-2 (v1)',
      'node a: stop web-1 (failed)',
    ]);
  });
});

describe('a new release', () => {
  const release = buildRelease(2);

  test('does not stop an old replica for one that finds no place', () => {
    const full = buildRelease(2, {
      containers: { app: { image: 'nginx:1.27', cpus: 2, reserve: { cpus: 2 } } },
      update: { maxSurge: 0, maxUnavailable: 1 },
    });
    const snapshot = buildSnapshot(
      [buildNode('a', { capacity: { cpus: 2, memoryBytes: 8 * GB, diskBytes: 100 * GB } })],
      [buildReplica('web-1', 'a')],
    );
    const plan = computePlan(buildRequest({ release: full }), snapshot);
    expect(summary(plan)).toEqual([]);
    expect(plan).toMatchObject({
      unplaced: 1,
      converged: false,
      rejections: [{ nodeId: 'a', reason: 'needs 2 CPUs, 1.9 are free' }],
    });
  });

  test('takes the room of the old one where it may be unavailable', () => {
    const reserve = { cpus: 1, reserve: { cpus: 1 } };
    const tight = buildRelease(2, {
      containers: { app: { image: 'nginx:1.27', ...reserve } },
      update: { maxSurge: 0, maxUnavailable: 1 },
    });
    const snapshot = buildSnapshot(
      [buildNode('a', { capacity: { cpus: 2, memoryBytes: 8 * GB, diskBytes: 100 * GB } })],
      [buildReplica('web-1', 'a', { cpusReserved: 1 })],
    );
    expect(summary(computePlan(buildRequest({ release: tight }), snapshot))).toEqual([
      'stop web-1 outdated',
      'start a',
    ]);
  });

  test('with recreate leaves the old replicas when not one new one would find a place', () => {
    const impossible = buildRelease(2, {
      containers: { app: { image: 'nginx:1.27' } },
      update: { strategy: 'recreate' },
      constraints: { gpu: 'yes' },
    });
    const snapshot = buildSnapshot([buildNode('a')], [buildReplica('web-1', 'a')]);
    const plan = computePlan(buildRequest({ release: impossible }), snapshot);
    expect(summary(plan)).toEqual([]);
    expect(plan.rejections[0]?.reason).toBe('needs the label gpu=yes, which is not set');
  });

  test('clears old replicas that do not serve, and more than one at a time', () => {
    const old = ['1', '2', '3', '4'].map((id) => buildReplica(`web-${id}`, 'a', { state: 'crash_looping' }));
    const plan = computePlan(buildRequest({ release, scale: 4 }), buildSnapshot([buildNode('a')], old));
    expect(plan.phases.map(({ kind, steps }) => [kind, steps.length])).toEqual([
      ['start', 1],
      ['stop', 4],
      ['start', 3],
    ]);
  });

  test('with a lower scale first stops what is too much', () => {
    const old = ['1', '2', '3', '4', '5'].map((id) => buildReplica(`web-${id}`, 'a'));
    const plan = computePlan(buildRequest({ release, scale: 2 }), buildSnapshot([buildNode('a')], old));
    expect(plan.phases.map(({ kind, steps }) => [kind, steps.length])).toEqual([
      ['stop', 3],
      ['start', 1],
      ['stop', 1],
      ['start', 1],
      ['stop', 1],
    ]);
  });
});

describe('placement', () => {
  const nodeOf = (plan: Plan) =>
    stepsOf(plan).flatMap((step) => (step.kind === 'start' ? [step.nodeId] : []));

  test('prefers, in this order: spread, image, fewer replicas, lower load', () => {
    const place = (a: Parameters<typeof buildNode>[1], b: Parameters<typeof buildNode>[1]) =>
      nodeOf(computePlan(buildRequest(), buildSnapshot([buildNode('a', a), buildNode('b', b)])));
    expect(place({ images: [] }, { replicaCount: 9, cpuPercent: 90 })).toEqual(['b']);
    expect(place({ replicaCount: 2 }, { replicaCount: 1, cpuPercent: 90 })).toEqual(['b']);
    expect(place({ cpuPercent: 55 }, { cpuPercent: 20 })).toEqual(['b']);
    const spread = computePlan(
      buildRequest({ kind: 'scale', scale: 2 }),
      buildSnapshot(
        [buildNode('a'), buildNode('b', { images: [], replicaCount: 9 })],
        [buildReplica('web-1', 'a')],
      ),
    );
    expect(nodeOf(spread)).toEqual(['b']);
  });

  test('of equal nodes the seed chooses, and not always the same', () => {
    const nodes = ['a', 'b', 'c', 'd'].map((id) => buildNode(id));
    const chosen = Array.from({ length: 40 }, (_, index) =>
      nodeOf(computePlan(buildRequest({ seed: `seed-${index}` }), buildSnapshot(nodes))).join(),
    );
    expect(new Set(chosen).size).toBe(4);
  });

  test('replaces a replica with data on the node that has the data', () => {
    const release = buildRelease(2, {
      containers: { db: { image: 'postgres:17', volumes: [{ name: 'data', path: '/data' }] } },
      update: { strategy: 'recreate' },
    });
    const snapshot = buildSnapshot(
      ['a', 'b', 'c', 'd'].map((id) => buildNode(id, id === 'c' ? { replicaCount: 9, cpuPercent: 99 } : {})),
      [buildReplica('web-1', 'c')],
    );
    expect(nodeOf(computePlan(buildRequest({ release }), snapshot))).toEqual(['c']);
  });

  test('gives a node one replica that uses ports of the host', () => {
    const release = buildRelease(1, { hostNetwork: true });
    const plan = computePlan(
      buildRequest({ release, scale: 3 }),
      buildSnapshot([buildNode('a'), buildNode('b')]),
    );
    expect(nodeOf(plan)).toEqual(['a', 'b']);
    expect(plan.unplaced).toBe(1);
  });

  test('has ids that differ between attempts and operations', () => {
    const ids = [{}, { attempt: 2 }, { operation: 'deploy.default.web.other' }, { seed: 'other' }].flatMap(
      (change) =>
        stepsOf(computePlan(buildRequest({ scale: 3, ...change }), buildSnapshot([buildNode('a')]))).flatMap(
          (step) => (step.kind === 'start' ? [step.replicaId] : []),
        ),
    );
    expect(new Set(ids).size).toBe(12);
  });

  test('keeps the name of the microservice as it is written', () => {
    const request = buildRequest();
    const plan = computePlan(
      { ...request, desired: { ...request.desired, name: 'My-Web' } },
      buildSnapshot([buildNode('a')]),
    );
    expect(stepsOf(plan)[0]).toMatchObject({
      replicaId: expect.stringMatching(/^My-Web-[a-z0-9]{6}$/) as string,
    });
  });
});

describe('nodes that come and go', () => {
  const unstable = { unstableUntilMs: NOW_MS + 60_000 };
  const startsOn = (plan: Plan) =>
    stepsOf(plan).flatMap((step) => (step.kind === 'start' ? [step.nodeId] : []));

  test('are used when no other node will do, degraded ones before them', () => {
    const nodes = [buildNode('a', unstable), buildNode('b', { health: 'degraded' }), buildNode('c')];
    const place = (...refusing: readonly string[]) =>
      startsOn(
        computePlan(
          buildRequest({ scale: 2, refusals: Object.fromEntries(refusing.map((id) => [id, 'it is full'])) }),
          buildSnapshot(nodes),
        ),
      );
    expect(place()).toEqual(['c', 'c']);
    expect(place('c')).toEqual(['b', 'b']);
    expect(place('b', 'c')).toEqual(['a', 'a']);
  });

  test('are used like others when their time is over', () => {
    const nodes = [buildNode('a', { unstableUntilMs: NOW_MS }), buildNode('b', { replicaCount: 1 })];
    expect(startsOn(computePlan(buildRequest(), buildSnapshot(nodes)))).toEqual(['a']);
  });

  test('keep the data that is there: a replica comes back to it', () => {
    const release = buildRelease(2, {
      containers: { db: { image: 'postgres:17', volumes: [{ name: 'data', path: '/data' }] } },
      update: { strategy: 'recreate' },
    });
    const snapshot = buildSnapshot(
      [buildNode('a', unstable), buildNode('b')],
      [buildReplica('web-1', 'a', { state: 'broken' })],
    );
    expect(startsOn(computePlan(buildRequest({ release }), snapshot))).toEqual(['a']);
  });

  test('get nothing for the sake of balance, and lose what is too much first', () => {
    const nodes = [buildNode('a'), buildNode('b', unstable)];
    const even = buildSnapshot(nodes, [buildReplica('web-1', 'a'), buildReplica('web-2', 'a')]);
    expect(computePlan(buildRequest({ kind: 'reschedule', scale: 2 }), even).converged).toBe(true);
    const back = buildSnapshot(nodes, [
      buildReplica('web-1', 'b'),
      buildReplica('web-2', 'a'),
      buildReplica('web-3', 'a', { createdAtMs: NOW_MS - 1 }),
    ]);
    expect(summary(computePlan(buildRequest({ kind: 'reschedule', scale: 2 }), back))).toEqual([
      'stop web-1 surplus',
    ]);
    const calm = { ...back, nodes: back.nodes.map((node) => ({ ...node, unstableUntilMs: NOW_MS })) };
    expect(summary(computePlan(buildRequest({ kind: 'reschedule', scale: 2 }), calm))).toEqual([
      'stop web-2 surplus',
    ]);
  });
});

describe('a plan in words', () => {
  test('is told by node when it has hundreds of steps', () => {
    const snapshot = buildSnapshot([buildNode('a'), buildNode('b')]);
    const lines = describePlan(computePlan(buildRequest({ scale: 500 }), snapshot), snapshot);
    expect(lines).toEqual(['node a: start 250 replicas (v1)', 'node b: start 250 replicas (v1)']);
  });

  test('that is only to be looked at counts what it would start, and names what is there', () => {
    const snapshot = buildSnapshot(
      [buildNode('a'), buildNode('b')],
      [buildReplica('web-1', 'a'), buildReplica('web-2', 'b', { release: 2, state: 'starting' })],
    );
    const release = buildRelease(2, {
      containers: { app: { image: 'nginx:1.28' } },
      update: { maxSurge: '100%' },
    });
    const plan = computePlan(buildRequest({ release, scale: 4 }), snapshot);
    expect(describePreview(plan, snapshot)).toEqual([
      'node a: pull nginx:1.28',
      'node b: pull nginx:1.28',
      'node a: start 2 replicas (v2)',
      'node b: wait for web-2 (v2)',
      'node b: start 1 replica (v2)',
      'node a: stop web-1 (outdated)',
    ]);
    const lines = describePreview(computePlan(buildRequest({ scale: 500 }), snapshot), snapshot);
    expect(lines).toContain('node a: start 249 replicas (v1)');
  });

  test('says when there is no node at all', () => {
    const snapshot = buildSnapshot([]);
    expect(describePlan(computePlan(buildRequest({ scale: 2 }), snapshot), snapshot)).toEqual([
      '2 replicas find no node: there is none',
    ]);
  });

  test('of a state that is as desired has no line', () => {
    const snapshot = buildSnapshot([buildNode('a')], [buildReplica('web-1', 'a')]);
    expect(describePlan(computePlan(buildRequest(), snapshot), snapshot)).toEqual([]);
  });
});

describe('what keeps data on a node that takes nothing new', () => {
  const raw = { containers: { db: { image: 'postgres:17', volumes: [{ name: 'data', path: '/data' }] } } };

  test.each([
    ['cordoned', 'rolling'],
    ['cordoned', 'recreate'],
    ['draining', 'rolling'],
    ['draining', 'recreate'],
  ] as const)('is renewed beside its data: %s, %s', (availability, strategy) => {
    const request = buildRequest({ release: buildRelease(2, { ...raw, update: { strategy } }) });
    const snapshot = buildSnapshot(
      [buildNode('a', { availability }), buildNode('b')],
      [buildReplica('web-1', 'a')],
    );
    const plan = computePlan(request, snapshot);
    expect([...summary(plan)].sort()).toEqual(['pull a', 'start a', 'stop web-1 outdated']);
  });

  test('gets no more replicas there than have left data', () => {
    const request = buildRequest({ scale: 3, release: buildRelease(2, raw) });
    const snapshot = buildSnapshot(
      [buildNode('a', { availability: 'cordoned' }), buildNode('b')],
      [buildReplica('web-1', 'a')],
    );
    const after = applyPlan(computePlan(request, snapshot), request, snapshot);
    expect(after.replicas.map(({ nodeId }) => nodeId).sort()).toEqual(['a', 'b', 'b']);
  });
});

test('a drain without surge leaves as many as there were, whatever room there is elsewhere', () => {
  const release = buildRelease(1, {
    containers: { app: { image: 'nginx:1.27', reserve: { cpus: 1 } } },
    update: { maxSurge: 0, maxUnavailable: '50%' },
  });
  const request = buildRequest({ kind: 'reschedule', scale: 4, release });
  const capacity = { cpus: 8, memoryBytes: 8 * GB, diskBytes: 100 * GB };
  for (const [cpusReserved, moved] of [
    [2, 1],
    [1, 2],
    [0, 3],
  ] as const) {
    const snapshot = buildSnapshot(
      [buildNode('a', { availability: 'draining', capacity }), buildNode('b', { cpusReserved })],
      ['1', '2', '3', '4'].map((id) => buildReplica(`web-${id}`, 'a', { cpusReserved: 1 })),
    );
    const after = applyPlan(computePlan(request, snapshot), request, snapshot);
    expect(after.replicas).toHaveLength(4);
    expect(after.replicas.filter(({ nodeId }) => nodeId === 'b')).toHaveLength(moved);
    expect(computePlan({ ...request, attempt: 2 }, after).phases).toEqual([]);
  }
});

test('what a drain has started in vain goes before it tries again', () => {
  const snapshot = buildSnapshot(
    [buildNode('a', { availability: 'draining' }), buildNode('b'), buildNode('c')],
    [
      buildReplica('web-1', 'a'),
      buildReplica('web-2', 'b'),
      buildReplica('web-3', 'b', { state: 'crash_looping' }),
    ],
  );
  const plan = computePlan(buildRequest({ kind: 'reschedule', scale: 2 }), snapshot);
  expect(summary(plan)).toEqual(['stop web-3 surplus', 'start c', 'stop web-1 drained']);
});

test('what becomes a daemon elsewhere serves until the daemon does', () => {
  const release = buildRelease(2, { daemon: true, constraints: { 'node.id': 'c' } });
  const snapshot = buildSnapshot(
    ['a', 'b', 'c'].map((id) => buildNode(id)),
    [buildReplica('web-1', 'a'), buildReplica('web-2', 'b')],
  );
  expect(summary(computePlan(buildRequest({ release }), snapshot))).toEqual([
    'start c',
    'stop web-1 surplus',
    'stop web-2 surplus',
  ]);
});

describe('a large cluster', () => {
  const nodes = Array.from({ length: 1_000 }, (_, index) => buildNode(`node-${index}`));
  const replicas = Array.from({ length: 1_000 }, (_, index) => buildReplica(`web-${index}`, `node-${index}`));
  const release = buildRelease(2, { containers: { app: { image: 'nginx:1.28', reserve: { cpus: 0.5 } } } });

  test.each([
    ['first deploy', 200, buildRequest({ scale: 1_000, release }), buildSnapshot(nodes)],
    ['rolling deploy', 200, buildRequest({ scale: 1_000, release }), buildSnapshot(nodes, replicas)],
    ['no room for 10,000', 1_000, buildRequest({ scale: 10_000, release }), buildSnapshot(nodes)],
    ['scale down', 200, buildRequest({ kind: 'scale', scale: 1 }), buildSnapshot(nodes, replicas)],
    ['as desired', 200, buildRequest({ kind: 'scale', scale: 1_000 }), buildSnapshot(nodes, replicas)],
  ])('is planned for quickly: %s in under %p ms', (_title, limitMs, request, snapshot) => {
    const timesMs = Array.from({ length: 5 }, () => {
      // Time of the processor: other tests share the machine.
      const before = process.cpuUsage();
      computePlan(request, snapshot);
      const { user, system } = process.cpuUsage(before);
      return (user + system) / 1_000;
    });
    // The best of five: the first ones run before they are compiled.
    expect(Math.min(...timesMs)).toBeLessThan(limitMs);
  });
});
