/** Two releases beside each other: whatever has come apart, each gets the replicas that it is to have. */

import fc from 'fast-check';

import type { ObservedReplica, Plan, PlanRequest, Snapshot } from '../../../domain/model';
import { describePlan } from '../../../domain/plan';
import { planFor } from '../../../domain/plan-beside';
import {
  GB,
  NOW_MS,
  applyPlan,
  buildNode,
  buildRelease,
  buildReplica,
  buildRequest,
  buildSnapshot,
} from '../../support/builders';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 300);

const OLD = buildRelease(1, { containers: { app: { image: 'nginx:1.27' } } });
const FRESH = buildRelease(2, { containers: { app: { image: 'nginx:1.28' } } });

const requestOf = (scale: number, oldScale: number, more: Partial<PlanRequest> = {}): PlanRequest =>
  buildRequest({ release: FRESH, scale, beside: { release: OLD, scale: oldScale }, ...more });

const roomy = (id: string, up = true, availability: 'active' | 'draining' = 'active') =>
  buildNode(id, {
    up,
    availability,
    capacity: { cpus: 64, memoryBytes: 64 * GB, diskBytes: 64 * GB },
    memoryAvailableBytes: 60 * GB,
  });

const isUp = ({ nodes }: Snapshot, nodeId: string) => nodes.some(({ id, up }) => id === nodeId && up);

const of = (snapshot: Snapshot, release: number, isCounted: (replica: ObservedReplica) => boolean) =>
  snapshot.replicas.filter(
    (replica) => replica.release === release && isUp(snapshot, replica.nodeId) && isCounted(replica),
  ).length;

const running = (snapshot: Snapshot, release: number) =>
  of(snapshot, release, ({ state }) => state === 'running');

const statesOf = (plan: Plan, request: PlanRequest, snapshot: Snapshot): readonly Snapshot[] =>
  [0, ...plan.phases.map((_, index) => index + 1)].map((count) => applyPlan(plan, request, snapshot, count));

test('a plan for two releases in words', () => {
  const request = requestOf(2, 2);
  const snapshot = buildSnapshot(
    [roomy('a'), roomy('b')],
    [
      buildReplica('web-1', 'a', { release: 1 }),
      buildReplica('web-7', 'b', { release: 7 }),
      buildReplica('web-2', 'b', { release: 2 }),
    ],
  );
  const lines = describePlan(planFor(request, snapshot), snapshot).map((line) =>
    line.replace(/web-[a-z0-9]{5,}/, 'web-new'),
  );
  expect(lines).toEqual([
    'node b: start web-new (v1)',
    'node b: stop web-7 (outdated)',
    'node a: pull nginx:1.28',
    'node a: start web-new (v2)',
  ]);
});

const situation = fc.record({
  replicas: fc.array(
    fc.record({
      nodeId: fc.constantFrom('a', 'b', 'c'),
      release: fc.constantFrom(1, 1, 2, 2, 3),
      state: fc.constantFrom<ObservedReplica['state']>(
        ...(['running', 'running', 'running', 'starting', 'unhealthy', 'broken', 'stopping'] as const),
      ),
    }),
    { maxLength: 10 },
  ),
  lost: fc.constantFrom<string | undefined>(undefined, 'c'),
  drained: fc.constantFrom<string | undefined>(undefined, undefined, 'b'),
  scale: fc.integer({ min: 0, max: 5 }),
  oldScale: fc.integer({ min: 0, max: 5 }),
  kind: fc.constantFrom('deploy' as const, 'reschedule' as const),
});

const made = situation.map(({ replicas, lost, drained, scale, oldScale, kind }) => ({
  request: requestOf(scale, oldScale, { kind }),
  scale,
  oldScale,
  snapshot: buildSnapshot(
    ['a', 'b', 'c'].map((id) => roomy(id, id !== lost, id === drained ? 'draining' : 'active')),
    replicas.map((one, index) => buildReplica(`web-${index}`, one.nodeId, one)),
  ),
}));

/** Nothing is on its way to be mended where it is, so that all that there is can be counted on. */
const isCalm = ({ replicas }: Snapshot) =>
  replicas.every(({ state }) => state !== 'starting' && state !== 'unhealthy');

test('of neither release fewer run, at any time, than did and are to run', () => {
  fc.assert(
    fc.property(made, ({ request, snapshot, scale, oldScale }) => {
      const plan = planFor(request, snapshot);
      const [oldAtFirst, freshAtFirst] = [running(snapshot, 1), running(snapshot, 2)];
      for (const state of statesOf(plan, request, snapshot)) {
        expect(running(state, 1)).toBeGreaterThanOrEqual(Math.min(oldAtFirst, oldScale));
        expect(running(state, 2)).toBeGreaterThanOrEqual(Math.min(freshAtFirst, scale));
      }
    }),
    { numRuns: RUNS },
  );
});

test('in the end each has the replicas that it is to have, no other release has any, and nothing is left to do', () => {
  fc.assert(
    fc.property(made, ({ request, snapshot, scale, oldScale }) => {
      fc.pre(isCalm(snapshot));
      const plan = planFor(request, snapshot);
      expect(plan.unplaced).toBe(0);
      const after = applyPlan(plan, request, snapshot);
      expect([running(after, 1), running(after, 2), of(after, 3, () => true)]).toEqual([oldScale, scale, 0]);
      expect(planFor({ ...request, attempt: 2 }, after)).toMatchObject({ phases: [], converged: true });
    }),
    { numRuns: RUNS },
  );
});

test('what is held with a shared scale keeps its numbers: what is missing comes back as the old release', () => {
  fc.assert(
    fc.property(made, ({ snapshot, oldScale }) => {
      fc.pre(isCalm(snapshot));
      const beside = { release: OLD, scale: oldScale, isShared: true } as const;
      const request = requestOf(oldScale, oldScale, { beside, isHeld: true });
      const standing = of(snapshot, 2, ({ state }) => state !== 'broken');
      const after = applyPlan(planFor(request, snapshot), request, snapshot);
      const fresh = Math.min(standing, oldScale);
      expect(running(after, 1) + running(after, 2)).toBe(oldScale);
      expect(running(after, 2)).toBe(fresh);
    }),
    { numRuns: RUNS },
  );
});

test('what is held beside all of the old release starts no more of the new one', () => {
  fc.assert(
    fc.property(made, ({ request, snapshot, scale, oldScale }) => {
      fc.pre(isCalm(snapshot));
      const standing = of(snapshot, 2, ({ state }) => state !== 'broken');
      const held = { ...request, isHeld: true as const };
      const after = applyPlan(planFor(held, snapshot), held, snapshot);
      expect([running(after, 1), running(after, 2)]).toEqual([oldScale, Math.min(scale, standing)]);
    }),
    { numRuns: RUNS },
  );
});

test('the same for any order of what is observed', () => {
  fc.assert(
    fc.property(made, ({ request, snapshot }) => {
      const turned = {
        nodes: [...snapshot.nodes].reverse(),
        replicas: [...snapshot.replicas].reverse(),
      };
      expect(planFor(request, turned)).toEqual(planFor(request, snapshot));
    }),
    { numRuns: RUNS },
  );
});

test('a replica starts only where the other release leaves room', () => {
  const full = buildNode('a', { capacity: { cpus: 2, memoryBytes: 8 * GB, diskBytes: 32 * GB } });
  const reserve = (number: number, cpus: number) =>
    buildRelease(number, { containers: { app: { image: 'nginx:1.28', reserve: { cpus } } } });
  const request = buildRequest({
    release: reserve(2, 1),
    scale: 1,
    beside: { release: reserve(1, 1), scale: 2 },
  });
  const old = buildReplica('web-1', 'a', { release: 1, releasedAtMs: NOW_MS, cpusReserved: 1 });
  const plan = planFor(request, buildSnapshot([full], [old]));
  expect(plan.unplaced).toBeGreaterThan(0);
  expect(plan.rejections[0]?.reason).toContain('CPU');
});
