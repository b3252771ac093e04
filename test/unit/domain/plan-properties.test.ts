/** What holds for every plan, whatever the situation; phases are executed on a simulated cluster. */

import fc from 'fast-check';
import type {
  NodeAvailability,
  ObservedReplica,
  OperationKind,
  Plan,
  PlanRequest,
  Release,
  Snapshot,
  Step,
} from '../../../domain/model';
import { allocatableCpus, allocatableMemoryBytes } from '../../../domain/placement/filters';
import { needsOf } from '../../../domain/placement/needs';
import { computePlan, describePlan } from '../../../domain/plan';
import { desiredScale, reconcile } from '../../../domain/reconcile';
import { limitsOf } from '../../../domain/rollout';
import {
  GB,
  MB,
  NOW_MS,
  applyPlan,
  buildNode,
  buildRelease,
  buildReleaseSpec,
  buildReplica,
  buildRequest,
  buildSnapshot,
} from '../../support/builders';

interface Situation {
  readonly request: PlanRequest;
  readonly snapshot: Snapshot;
}

/** Enough to find what a change broke; more for a thorough look. */
const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 300);

const OPERATION = 'deploy.default.web.now';

const reserves = [
  {},
  { reserve: { cpus: 0.5 } },
  { reserve: { cpus: 1, memory: 300 * MB } },
  { reserve: { memory: 900 * MB } },
];
const updates = [
  {},
  { update: { maxSurge: 0, maxUnavailable: 1 } },
  { update: { maxSurge: 0, maxUnavailable: '25%' } },
  { update: { maxSurge: 2, maxUnavailable: 2 } },
  { update: { maxSurge: '100%', maxUnavailable: 0 } },
  { update: { strategy: 'recreate' as const } },
];
const restarts = [{}, { restart: { policy: 'on-failure' as const } }];
const shapes = [
  {},
  { volumes: [{ name: 'data', path: '/data' }] },
  { pull: 'always' as const },
  { pull: 'never' as const },
];
const specs = reserves.flatMap((reserve) =>
  updates.flatMap((update) =>
    restarts.flatMap((restart) =>
      shapes.map((shape) =>
        buildReleaseSpec({
          containers: { app: { image: 'nginx:1.28', ports: [80], ...reserve, ...shape } },
          ...update,
          ...restart,
        }),
      ),
    ),
  ),
);

const kinds: readonly OperationKind[] = ['deploy', 'scale', 'reschedule', 'restart', 'rollback', 'remove'];
const nodeIds = ['a', 'b', 'c', 'd'];

const nodeArbitrary = fc.record({
  capacity: fc.record({
    cpus: fc.constantFrom(1, 2, 4),
    memoryBytes: fc.constantFrom(GB, 2 * GB, 8 * GB),
    diskBytes: fc.constant(32 * GB),
  }),
  cpuPercent: fc.integer({ min: 0, max: 100 }),
  memoryAvailableBytes: fc.constantFrom(40 * MB, GB, 6 * GB),
  diskFreeBytes: fc.constantFrom(100 * MB, 20 * GB),
  health: fc.constantFrom('healthy' as const, 'healthy' as const, 'degraded' as const),
  unstableUntilMs: fc.constantFrom(0, 0, NOW_MS + 60_000),
  images: fc.constantFrom<readonly string[]>([], ['nginx:1.28']),
  up: fc.constantFrom(true, true, true, false),
  availability: fc.constantFrom(
    'active' as const,
    'active' as const,
    'cordoned' as const,
    'draining' as const,
  ),
  labels: fc.constantFrom<Readonly<Record<string, string>>>({}, { zone: 'east' }, { zone: 'west' }),
  cpusReserved: fc.constantFrom(0, 0.5),
  memoryReservedBytes: fc.constantFrom(0, 500 * MB),
});

const replicaArbitrary = fc.record({
  nodeId: fc.constantFrom(...nodeIds),
  release: fc.constantFrom(1, 2, 2),
  operation: fc.constantFrom(OPERATION, 'deploy.default.web.old'),
  state: fc.constantFrom<ObservedReplica['state']>(
    'running',
    'running',
    'running',
    'starting',
    'unhealthy',
    'restarting',
    'crash_looping',
    'paused',
    'stopping',
    'exited',
    'broken',
  ),
  restartCount: fc.integer({ min: 0, max: 9 }),
  cpusReserved: fc.constantFrom(0, 0.5),
  memoryReservedBytes: fc.constantFrom(0, 300 * MB),
  createdAtMs: fc.integer({ min: NOW_MS - 5, max: NOW_MS }),
});

const situationArbitrary: fc.Arbitrary<Situation> = fc
  .record({
    nodes: fc.array(nodeArbitrary, { minLength: 1, maxLength: nodeIds.length }),
    replicas: fc.array(replicaArbitrary, { maxLength: 9 }),
    spec: fc.constantFrom(...specs),
    scale: fc.integer({ min: 0, max: 8 }),
    kind: fc.constantFrom(...kinds),
    refusals: fc.constantFrom({}, {}, { a: 'full' }),
    seed: fc.constantFrom('x', 'y'),
  })
  .map(({ nodes, replicas, spec, scale, kind, refusals, seed }) => ({
    request: buildRequest({
      kind,
      scale,
      refusals,
      seed,
      operation: OPERATION,
      release: { number: 2, spec, createdAtMs: NOW_MS },
    }),
    snapshot: buildSnapshot(
      nodes.map((node, index) => buildNode(nodeIds[index] ?? '', node)),
      replicas.map((replica, index) => buildReplica(`web-${index}`, replica.nodeId, replica)),
    ),
  }));

/** Whatever is asked, there is room for it. */
const roomySituationArbitrary = situationArbitrary.map(({ request, snapshot }) => ({
  request: { ...request, refusals: {} },
  snapshot: {
    ...snapshot,
    nodes: [
      ...snapshot.nodes,
      buildNode('z', {
        capacity: { cpus: 999, memoryBytes: 999 * GB, diskBytes: 999 * GB },
        memoryAvailableBytes: 900 * GB,
      }),
    ],
  },
}));

const check = (arbitrary: fc.Arbitrary<Situation>, property: (situation: Situation) => void) =>
  fc.assert(fc.property(arbitrary, property), { numRuns: RUNS });

const stepsOf = (plan: Plan): readonly Step[] => plan.phases.flatMap(({ steps }) => steps);

const isUp = ({ nodes }: Snapshot, nodeId: string) => nodes.some(({ id, up }) => id === nodeId && up);

/** The cluster before the plan and after each of its phases. */
const statesOf = (plan: Plan, { request, snapshot }: Situation): readonly Snapshot[] =>
  [0, ...plan.phases.map((_, index) => index + 1)].map((count) => applyPlan(plan, request, snapshot, count));

const countInState = ({ replicas, nodes }: Snapshot, wanted: ObservedReplica['state']): number =>
  replicas.filter(({ state, nodeId }) => state === wanted && isUp({ nodes, replicas }, nodeId)).length;

/** While a replica that stays does not run, one that is to leave its node goes on serving. */
const leavesLater = ({ request, snapshot }: Situation): boolean => {
  const isDrained = ({ nodeId }: ObservedReplica) =>
    snapshot.nodes.some(({ id, up, availability }) => id === nodeId && up && availability === 'draining');
  const isSettled = ({ state }: ObservedReplica) =>
    ['running', 'exited', 'broken', 'stopping'].includes(state);
  return (
    request.kind === 'reschedule' &&
    snapshot.replicas.some(isDrained) &&
    !snapshot.replicas.every((replica) => !isUp(snapshot, replica.nodeId) || isSettled(replica))
  );
};

describe('every plan', () => {
  test('fills no node above what it can allocate', () => {
    check(situationArbitrary, (situation) => {
      const plan = computePlan(situation.request, situation.snapshot);
      const needs = needsOf(situation.request.desired.release.spec, situation.request.desired);
      const existing = new Set(situation.snapshot.replicas.map(({ id }) => id));
      plan.phases.forEach((phase, index) => {
        const state = applyPlan(plan, situation.request, situation.snapshot, index + 1);
        for (const step of phase.steps) {
          if (step.kind !== 'start' || existing.has(step.replicaId)) continue;
          const node = state.nodes.find(({ id }) => id === step.nodeId);
          if (node === undefined) throw new Error(`plans for the unknown node ${step.nodeId}`);
          if (needs.cpus > 0) expect(node.cpusReserved).toBeLessThanOrEqual(allocatableCpus(node) + 1e-6);
          if (needs.memoryBytes > 0) {
            expect(node.memoryReservedBytes).toBeLessThanOrEqual(allocatableMemoryBytes(node));
          }
        }
      });
    });
  });

  test('keeps the minimum running', () => {
    check(situationArbitrary, (situation) => {
      const { request, snapshot } = situation;
      const { spec } = request.desired.release;
      const scale = desiredScale(request);
      if (spec.update.strategy === 'recreate') return;
      // Replicas that were allowed to end have done their work; they need no running one in their place.
      const { minRunning } = limitsOf(spec, scale);
      const floor = Math.min(
        countInState(snapshot, 'running'),
        minRunning - countInState(snapshot, 'exited'),
      );
      for (const state of statesOf(computePlan(request, snapshot), situation)) {
        expect(countInState(state, 'running')).toBeGreaterThanOrEqual(floor);
      }
    });
  });

  test('keeps within the surge', () => {
    check(situationArbitrary, (situation) => {
      const { request, snapshot } = situation;
      const { broken, surplus, moving } = reconcile(request, snapshot);
      const doomed = new Set([...broken, ...surplus].map(({ replica }) => replica.id));
      const count = ({ replicas }: Snapshot) =>
        replicas.filter(({ id, nodeId }) => !doomed.has(id) && isUp(snapshot, nodeId)).length;
      const ceiling = Math.max(
        count(snapshot),
        limitsOf(request.desired.release.spec, desiredScale(request)).maxTotal,
        // One that moves starts elsewhere first, also where an update has no surge.
        moving.length === 0 ? 0 : desiredScale(request) + 1,
      );
      for (const state of statesOf(computePlan(request, snapshot), situation)) {
        expect(count(state)).toBeLessThanOrEqual(ceiling);
      }
    });
  });

  test('has pulls first, phases of one kind, no step twice, and none for a node that is away', () => {
    check(situationArbitrary, ({ request, snapshot }) => {
      const plan = computePlan(request, snapshot);
      plan.phases.forEach((phase, index) => {
        expect(phase.steps.length).toBeGreaterThan(0);
        expect(phase.steps.every(({ kind }) => kind === phase.kind)).toBe(true);
        if (phase.kind === 'pull') expect(index).toBe(0);
      });
      const steps = stepsOf(plan);
      expect(steps.every(({ nodeId }) => isUp(snapshot, nodeId))).toBe(true);
      const keys = steps.map((step) =>
        JSON.stringify([step.kind, step.kind === 'pull' ? step.nodeId : step.replicaId]),
      );
      expect(new Set(keys).size).toBe(keys.length);
    });
  });

  test('gives each new replica an id of its own', () => {
    check(situationArbitrary, ({ request, snapshot }) => {
      const observed = new Map(snapshot.replicas.map((replica) => [replica.id, replica]));
      for (const step of stepsOf(computePlan(request, snapshot))) {
        if (step.kind !== 'start') continue;
        const existing = observed.get(step.replicaId);
        // A start of something that exists waits for it, where it is.
        if (existing !== undefined) expect(existing.nodeId).toBe(step.nodeId);
        else expect(step.replicaId).toMatch(/^web-[a-z0-9]{6}$/);
      }
    });
  });

  test('does not depend on the order of what is observed', () => {
    const shuffled = situationArbitrary.chain((situation) =>
      fc
        .record({
          nodes: fc.shuffledSubarray([...situation.snapshot.nodes], {
            minLength: situation.snapshot.nodes.length,
          }),
          replicas: fc.shuffledSubarray([...situation.snapshot.replicas], {
            minLength: situation.snapshot.replicas.length,
          }),
        })
        .map((snapshot) => ({ situation, snapshot })),
    );
    fc.assert(
      fc.property(shuffled, ({ situation: { request, snapshot }, snapshot: other }) => {
        expect(computePlan(request, other)).toEqual(computePlan(request, snapshot));
      }),
      { numRuns: RUNS },
    );
  });

  test('leads to a state that needs no step', () => {
    check(fc.oneof(situationArbitrary, roomySituationArbitrary), (situation) => {
      const { request } = situation;
      let { snapshot } = situation;
      // Crash-looping replicas are moved one at a time; all else takes one plan.
      const rounds = request.kind === 'reschedule' ? snapshot.replicas.length + 2 : 2;
      for (let attempt = 1; attempt <= rounds; attempt += 1) {
        const plan = computePlan({ ...request, attempt }, snapshot);
        if (plan.unplaced > 0) return;
        if (plan.phases.length === 0) {
          const present = snapshot.replicas.filter(({ nodeId }) => isUp(snapshot, nodeId));
          expect(plan.converged).toBe(
            present.every(({ state }) => state === 'running' || state === 'exited'),
          );
          return;
        }
        snapshot = applyPlan(plan, request, snapshot);
      }
      throw new Error(`did not converge: ${JSON.stringify(computePlan(request, snapshot))}`);
    });
  });

  test('reaches what is desired where there is room', () => {
    check(roomySituationArbitrary, (situation) => {
      const { request, snapshot } = situation;
      const plan = computePlan(request, snapshot);
      const after = applyPlan(plan, request, snapshot);
      const present = after.replicas.filter(({ nodeId }) => isUp(after, nodeId));
      if (leavesLater(situation)) {
        expect(present.length).toBeGreaterThanOrEqual(desiredScale(request));
        return;
      }
      expect(plan.unplaced).toBe(0);
      expect(present).toHaveLength(desiredScale(request));
      expect(present.every(({ release }) => release === 2)).toBe(true);
    });
  });

  test('says why, for every node, when a replica finds none', () => {
    check(situationArbitrary, ({ request, snapshot }) => {
      const plan = computePlan(request, snapshot);
      const lines = describePlan(plan, snapshot);
      if (plan.unplaced === 0) return;
      for (const { reason } of plan.rejections) expect(lines.join('\n')).toContain(reason);
      // While something may still be stopped or surged later, a node may have room that the limits do not let it use.
      if (plan.phases.length === 0 && snapshot.replicas.length === 0) {
        expect(plan.rejections).toHaveLength(snapshot.nodes.length);
      }
    });
  });
});

describe('while nodes are without their engines', () => {
  const withoutEngines = (arbitrary: fc.Arbitrary<Situation>): fc.Arbitrary<Situation> =>
    fc
      .tuple(arbitrary, fc.subarray(nodeIds, { minLength: 1 }), fc.boolean())
      .map(([{ request, snapshot }, lost, isDaemon]) => ({
        request: isDaemon
          ? { ...request, desired: { ...request.desired, release: asDaemon(request.desired.release) } }
          : request,
        snapshot: {
          nodes: snapshot.nodes.map((node) =>
            lost.includes(node.id) ? { ...node, engineLostAtMs: NOW_MS - 60_000 } : node,
          ),
          replicas: snapshot.replicas.map((one) => (isDaemon ? { ...one, daemon: true } : one)),
        },
      }));
  const asDaemon = (release: Release): Release => ({ ...release, spec: { ...release.spec, daemon: true } });

  test('nothing is planned for them', () => {
    check(withoutEngines(situationArbitrary), ({ request, snapshot }) => {
      const engineless = snapshot.nodes.flatMap(({ id, engineLostAtMs }) =>
        engineLostAtMs === undefined ? [] : [id],
      );
      const steps = stepsOf(computePlan(request, snapshot));
      expect(steps.filter(({ nodeId }) => engineless.includes(nodeId))).toEqual([]);
    });
  });

  test('as many serve as are desired, what serves there among them, once where there is room', () => {
    check(withoutEngines(roomySituationArbitrary), (situation) => {
      const { request, snapshot } = situation;
      if (request.desired.release.spec.daemon === true || leavesLater(situation)) return;
      const plan = computePlan(request, snapshot);
      expect(plan.unplaced).toBe(0);
      const after = applyPlan(plan, request, snapshot);
      const { keep, starting, outdated, missing } = reconcile({ ...request, attempt: 2 }, after);
      expect([keep.length + starting.length, outdated.length, missing]).toEqual([
        desiredScale(request),
        0,
        0,
      ]);
      // Whatever serves as desired stays among those that count.
      const served = reconcile(request, snapshot).keep.map(({ id }) => id);
      expect(keep.map(({ id }) => id)).toEqual(expect.arrayContaining(served));
    });
  });
});

/** Calm: everything that is observed runs, and every node can take more. */
const calmArbitrary = fc.record({
  zones: fc.array(fc.constantFrom('', 'east', 'west', 'north'), { minLength: 1, maxLength: 6 }),
  /** Indexes of nodes, one a replica. */
  places: fc.array(fc.nat({ max: 5 }), { maxLength: 12 }),
  availabilities: fc.array(fc.constantFrom('active' as const, 'cordoned' as const, 'draining' as const), {
    minLength: 6,
    maxLength: 6,
  }),
});

const calmNodes = (zones: readonly string[], availabilities: readonly NodeAvailability[] = []) =>
  zones.map((zone, index) =>
    buildNode(`n${index}`, {
      labels: zone === '' ? {} : { zone },
      availability: availabilities[index] ?? 'active',
    }),
  );

const replicasOn = (places: readonly number[], nodeCount: number, isDaemon = false) =>
  places.map((place, index) =>
    buildReplica(`web-${index}`, `n${place % nodeCount}`, {
      createdAtMs: NOW_MS - index,
      ...(isDaemon ? { daemon: true } : {}),
    }),
  );

const countsBy = (snapshot: Snapshot, keyOf: (nodeId: string) => string): readonly number[] => {
  const counts = new Map(snapshot.nodes.map(({ id }) => [keyOf(id), 0]));
  for (const { nodeId } of snapshot.replicas) {
    counts.set(keyOf(nodeId), (counts.get(keyOf(nodeId)) ?? 0) + 1);
  }
  return [...counts.values()];
};

const spreadOf = (counts: readonly number[]): number => Math.max(...counts) - Math.min(...counts);

/** Looks again and again until there is nothing to do; calls back on every state on the way. */
const settle = (request: PlanRequest, start: Snapshot, onState: (state: Snapshot) => void): Snapshot => {
  let snapshot = start;
  for (let attempt = 1; attempt <= 30; attempt += 1) {
    const plan = computePlan({ ...request, attempt }, snapshot);
    if (plan.phases.length === 0) return snapshot;
    for (const state of statesOf(plan, { request, snapshot })) onState(state);
    snapshot = applyPlan(plan, request, snapshot);
  }
  throw new Error(`there is always something to do: ${JSON.stringify(snapshot.replicas)}`);
};

test('a first deploy differs by one replica at most from zone to zone', () => {
  fc.assert(
    fc.property(calmArbitrary, fc.integer({ min: 1, max: 12 }), ({ zones }, scale) => {
      const snapshot = buildSnapshot(calmNodes(zones));
      const request = buildRequest({ scale });
      const after = applyPlan(computePlan(request, snapshot), request, snapshot);
      const zoneOf = (nodeId: string) => snapshot.nodes.find(({ id }) => id === nodeId)?.labels['zone'] ?? '';
      expect(after.replicas).toHaveLength(scale);
      expect(spreadOf(countsBy(after, zoneOf))).toBeLessThanOrEqual(1);
    }),
    { numRuns: RUNS },
  );
});

test('balancing ends, and takes nobody away on the way', () => {
  fc.assert(
    fc.property(calmArbitrary, ({ zones, places }) => {
      const snapshot = buildSnapshot(calmNodes(zones), replicasOn(places, zones.length));
      const request = buildRequest({ kind: 'reschedule', scale: places.length });
      const before = spreadOf(countsBy(snapshot, (id) => id));
      const after = settle(request, snapshot, (state) =>
        expect(countInState(state, 'running')).toBeGreaterThanOrEqual(places.length),
      );
      expect(after.replicas).toHaveLength(places.length);
      const spread = spreadOf(countsBy(after, (id) => id));
      expect(spread).toBeLessThanOrEqual(Math.max(1, before));
      if (new Set(zones).size === 1) expect(spread).toBeLessThanOrEqual(1);
    }),
    { numRuns: RUNS },
  );
});

const updateArbitrary = fc.constantFrom(
  {},
  { maxSurge: 0, maxUnavailable: 1 },
  { maxSurge: 0, maxUnavailable: '50%' },
  { maxSurge: 2, maxUnavailable: 2 },
  { maxSurge: '1%', maxUnavailable: '100%' },
);

test('a drain empties its nodes where others can take what is there, and nothing stops before', () => {
  fc.assert(
    fc.property(calmArbitrary, updateArbitrary, ({ zones, places, availabilities }, update) => {
      const nodes = calmNodes(zones, availabilities);
      const snapshot = buildSnapshot(nodes, replicasOn(places, zones.length));
      const release = buildRelease(1, { update });
      const request = buildRequest({ kind: 'reschedule', scale: places.length, release });
      const after = settle(request, snapshot, (state) =>
        expect(countInState(state, 'running')).toBeGreaterThanOrEqual(places.length),
      );
      const isDraining = (nodeId: string) =>
        nodes.some(({ id, availability }) => id === nodeId && availability === 'draining');
      const left = after.replicas.filter(({ nodeId }) => isDraining(nodeId));
      if (nodes.some(({ availability }) => availability === 'active')) expect(left).toEqual([]);
      else expect(after.replicas).toEqual(snapshot.replicas);
    }),
    { numRuns: RUNS },
  );
});

test('a daemon comes to have one replica on every node that takes it', () => {
  fc.assert(
    fc.property(calmArbitrary, ({ zones, places, availabilities }) => {
      const nodes = calmNodes(zones, availabilities);
      const snapshot = buildSnapshot(nodes, replicasOn(places, zones.length, true));
      const request = buildRequest({ kind: 'reschedule', release: buildRelease(1, { daemon: true }) });
      const had = new Set(snapshot.replicas.map(({ nodeId }) => nodeId));
      const after = settle(request, snapshot, () => undefined);
      const wanted = nodes.filter(
        ({ id, availability }) => availability === 'active' || (availability === 'cordoned' && had.has(id)),
      );
      expect(after.replicas.map(({ nodeId }) => nodeId).sort()).toEqual(wanted.map(({ id }) => id));
    }),
    { numRuns: RUNS },
  );
});

test('scaling down stops exactly the surplus, in one phase', () => {
  const arbitrary = fc.record({
    nodes: fc.array(fc.constantFrom(...nodeIds), { minLength: 1, maxLength: 12 }),
    scale: fc.integer({ min: 0, max: 12 }),
  });
  fc.assert(
    fc.property(arbitrary, ({ nodes, scale }) => {
      fc.pre(scale < nodes.length);
      const snapshot = buildSnapshot(
        nodeIds.map((id) => buildNode(id)),
        nodes.map((nodeId, index) => buildReplica(`web-${index}`, nodeId)),
      );
      const plan = computePlan(buildRequest({ kind: 'scale', scale }), snapshot);
      expect(plan.phases.map(({ kind }) => kind)).toEqual(['stop']);
      expect(stepsOf(plan)).toHaveLength(nodes.length - scale);
    }),
  );
});

describe('when a lost node is back with its replicas', () => {
  const oldArbitrary = fc.array(
    fc.record({ nodeId: fc.constantFrom(...nodeIds), ageMs: fc.integer({ min: 100_000, max: 9_000_000 }) }),
    { minLength: 1, maxLength: 10 },
  );
  const arbitrary = fc.record({
    olds: oldArbitrary,
    /** The node of each replacement, as far as there are replicas to be replaced, and whether it serves yet. */
    replacements: fc.array(
      fc.record({
        nodeId: fc.constantFrom('b', 'c', 'd'),
        state: fc.constantFrom<ObservedReplica['state']>('running', 'running', 'starting', 'unhealthy'),
      }),
      { minLength: 10, maxLength: 10 },
    ),
    unstable: fc.subarray(nodeIds),
    /** By how much the clock of each node is ahead. */
    clocks: fc.record(
      Object.fromEntries(
        nodeIds.map((id) => [id, fc.constantFrom(0, 0, 10_800_000, -10_800_000, 315_360_000_000)]),
      ),
    ),
  });
  type Input = typeof arbitrary extends fc.Arbitrary<infer T> ? T : never;
  const situationOf = ({ olds, replacements, unstable, clocks }: Input) => {
    const placed = (nodeId: string, placedAtMs: number) => ({
      placedAtMs,
      createdAtMs: placedAtMs + 500 + (clocks[nodeId] ?? 0),
    });
    const old = olds.map(({ nodeId, ageMs }, index) =>
      buildReplica(`web-old${index}`, nodeId, placed(nodeId, NOW_MS - ageMs)),
    );
    const away = old.filter(({ nodeId }) => nodeId === 'a');
    const fresh = replacements
      .slice(0, away.length)
      .map(({ nodeId, state }, index) =>
        buildReplica(`web-new${index}`, nodeId, { ...placed(nodeId, NOW_MS - 20_000 + index), state }),
      );
    const nodes = nodeIds.map((id) =>
      buildNode(id, {
        ...(id === 'a' ? { returnedAtMs: NOW_MS - 500 } : {}),
        ...(unstable.includes(id) ? { unstableUntilMs: NOW_MS + 60_000 } : {}),
      }),
    );
    const request = buildRequest({ kind: 'reschedule', scale: old.length });
    return { away, fresh, request, snapshot: buildSnapshot(nodes, [...old, ...fresh]) };
  };

  test('those that serve in their place stay, and as many of its own stop', () => {
    fc.assert(
      fc.property(arbitrary, (input) => {
        const { away, fresh, request, snapshot } = situationOf(input);
        fc.pre(away.length > 0);
        const { surplus } = reconcile(request, snapshot);
        const going = new Set(surplus.map(({ replica }) => replica.id));
        const serving = fresh.filter(({ state }) => state === 'running');
        const idle = fresh.filter(({ state }) => state !== 'running');
        expect(going.size).toBe(away.length);
        expect(serving.filter(({ id }) => going.has(id))).toEqual([]);
        expect(idle.filter(({ id }) => !going.has(id))).toEqual([]);
        expect(away.filter(({ id }) => going.has(id))).toHaveLength(serving.length);
      }),
      { numRuns: RUNS },
    );
  });

  test('no fewer serve at any time than are desired', () => {
    fc.assert(
      fc.property(arbitrary, (input) => {
        const { request, snapshot } = situationOf(input);
        const plan = computePlan(request, snapshot);
        plan.phases.forEach((_, index) => {
          const { replicas } = applyPlan(plan, request, snapshot, index + 1);
          const running = replicas.filter(({ state }) => state === 'running');
          expect(running.length).toBeGreaterThanOrEqual(request.desired.scale);
        });
      }),
      { numRuns: RUNS },
    );
  });
});

test('of what is too many for no user, no newer replica goes before one of the same use that is older', () => {
  const arbitrary = fc.record({
    scale: fc.integer({ min: 1, max: 6 }),
    replicas: fc.array(
      fc.record({
        nodeId: fc.constantFrom(...nodeIds),
        createdAtMs: fc.integer({ min: NOW_MS - 8, max: NOW_MS }),
        state: fc.constantFrom<ObservedReplica['state']>('running', 'running', 'starting', 'unhealthy'),
      }),
      { minLength: 2, maxLength: 10 },
    ),
    unstable: fc.subarray(nodeIds),
    kind: fc.constantFrom<OperationKind>('reschedule', 'deploy', 'rollback'),
  });
  fc.assert(
    fc.property(arbitrary, ({ scale, replicas, unstable, kind }) => {
      fc.pre(replicas.length > scale);
      const snapshot = buildSnapshot(
        nodeIds.map((id) => buildNode(id, unstable.includes(id) ? { unstableUntilMs: NOW_MS + 60_000 } : {})),
        replicas.map(({ nodeId, ...rest }, index) => buildReplica(`web-${index}`, nodeId, rest)),
      );
      const { surplus, keep, starting } = reconcile(buildRequest({ kind, scale }), snapshot);
      const staying = [...keep, ...starting];
      for (const { replica } of surplus) {
        for (const other of staying.filter(({ state }) => state === replica.state)) {
          expect(other.createdAtMs).toBeGreaterThanOrEqual(replica.createdAtMs);
        }
      }
      expect(surplus).toHaveLength(replicas.length - scale);
    }),
    { numRuns: RUNS },
  );
});
