import fc from 'fast-check';

import {
  backoffMs,
  CRASH_LOOP_ENDS,
  decideMending,
  type ContainerFacts,
  type Mending,
  type ReplicaFacts,
} from '../../../../workers/node/mending';
import { buildReleaseSpec } from '../../../support/builders';

const [spec] = buildReleaseSpec({
  containers: {
    app: {
      image: 'a',
      ports: [80],
      startupGraceSeconds: 10,
      check: { tcp: { port: 80 }, intervalSeconds: 2, failures: 3 },
    },
  },
}).containers;
if (spec === undefined) throw new Error('no container');

const well: ContainerFacts = {
  spec,
  status: 'running',
  end: 'exit code 1',
  exitCode: 1,
  endsInWindow: 0,
  startInMs: 0,
  runningForMs: 60_000,
  pausedForMs: 0,
  serves: true,
  isDoubted: false,
  probedForMs: 0,
  probes: 0,
  criticalForMs: undefined,
  failure: '',
  restartInMs: 0,
  isDetached: false,
};
const always = { policy: 'always', backoffMs: 100, maxBackoffMs: 60_000 } as const;
const decide = (changed: Partial<ContainerFacts>, rest: Partial<ReplicaFacts> = {}): Mending =>
  decideMending({
    containers: [{ ...well, ...changed }],
    restart: always,
    sandbox: undefined,
    wasEngineStopped: false,
    toldState: 'running',
    ...rest,
  });
const ensureApp = { kind: 'ensure', containers: ['app'] };

test.each<[string, Partial<ContainerFacts>, Partial<ReplicaFacts>, object]>([
  ['well', {}, {}, { state: 'running', steps: [] }],
  ['removed', { status: 'missing' }, {}, { state: 'restarting', steps: [ensureApp] }],
  ['ended', { status: 'ended' }, {}, { state: 'restarting', steps: [ensureApp] }],
  [
    'ended, too soon to start',
    { status: 'ended', startInMs: 400 },
    {},
    { state: 'restarting', steps: [], lookAgainInMs: 400 },
  ],
  ['Docker restarts it', { status: 'restarting' }, {}, { state: 'restarting', steps: [] }],
  [
    'keeps ending',
    { status: 'ended', endsInWindow: CRASH_LOOP_ENDS },
    {},
    { state: 'crash_looping', steps: [ensureApp] },
  ],
  [
    'runs for a moment in a crash loop',
    { endsInWindow: CRASH_LOOP_ENDS, runningForMs: 2_000 },
    {},
    { state: 'crash_looping', steps: [], lookAgainInMs: 8_000 },
  ],
  [
    'has left its crash loop',
    { endsInWindow: CRASH_LOOP_ENDS, runningForMs: 11_000 },
    {},
    { state: 'running', steps: [] },
  ],
  [
    'ended for good',
    { status: 'ended' },
    { restart: { ...always, policy: 'never' } },
    { state: 'exited', steps: [] },
  ],
  [
    'succeeded',
    { status: 'ended', exitCode: 0 },
    { restart: { ...always, policy: 'on-failure' } },
    { state: 'exited', steps: [] },
  ],
  [
    'failed',
    { status: 'ended', exitCode: 2 },
    { restart: { ...always, policy: 'on-failure' } },
    { state: 'restarting', steps: [ensureApp] },
  ],
  [
    'stopped with the engine',
    { status: 'ended', exitCode: 0 },
    { restart: { ...always, policy: 'on-failure' }, wasEngineStopped: true },
    { state: 'restarting', steps: [ensureApp] },
  ],
  [
    'paused just now',
    { status: 'paused', pausedForMs: 1_000 },
    {},
    { state: 'paused', steps: [], lookAgainInMs: 4_000 },
  ],
  [
    'paused for long',
    { status: 'paused', pausedForMs: 5_000 },
    {},
    { state: 'paused', steps: [{ kind: 'unpause', container: 'app' }] },
  ],
  [
    'does not serve yet',
    { serves: false, runningForMs: 100 },
    {},
    { state: 'starting', steps: [{ kind: 'probe', container: 'app' }] },
  ],
  [
    'has served, and Consul was away since',
    { serves: false, isDoubted: true },
    {},
    { state: 'running', steps: [{ kind: 'probe', container: 'app' }] },
  ],
  [
    'has served, Consul was away since, and a probe has failed',
    { serves: false, isDoubted: true, probedForMs: 5_900, probes: 9, failure: 'port 80 refused connections' },
    {},
    { state: 'running', steps: [{ kind: 'probe', container: 'app' }] },
  ],
  [
    'has served, Consul was away since, and two slow probes have failed, where three have to',
    { serves: false, isDoubted: true, probedForMs: 9_000, probes: 2, failure: 'port 80 timed out' },
    {},
    { state: 'running', steps: [{ kind: 'probe', container: 'app' }] },
  ],
  [
    'has served, Consul was away since, and probes have failed as long and as often as checks may',
    { serves: false, isDoubted: true, probedForMs: 6_000, probes: 9, failure: 'port 80 refused connections' },
    {},
    {
      state: 'unhealthy',
      reason: 'container app: port 80 refused connections',
      steps: [{ kind: 'restart', container: 'app', why: 'checks' }],
    },
  ],
  [
    'had not served when Consul went away',
    { serves: false, isDoubted: true },
    { toldState: 'starting' },
    { state: 'starting', steps: [{ kind: 'probe', container: 'app' }] },
  ],
  [
    'never served',
    { serves: false, probedForMs: 11_000, failure: 'port 80 refused connections' },
    {},
    {
      state: 'unhealthy',
      reason: 'container app: port 80 refused connections',
      steps: [{ kind: 'restart', container: 'app', why: 'checks' }],
    },
  ],
  [
    'has no checks, and has not been looked at for long',
    { spec: { ...spec, checks: [] }, serves: false, runningForMs: 600_000 },
    {},
    { state: 'starting', steps: [{ kind: 'probe', container: 'app' }] },
  ],
  ['fails its checks', { criticalForMs: 1_000 }, {}, { state: 'unhealthy', steps: [], lookAgainInMs: 5_000 }],
  [
    'fails its checks for long',
    { criticalForMs: 6_000 },
    {},
    { state: 'unhealthy', steps: [{ kind: 'restart', container: 'app', why: 'checks' }] },
  ],
  [
    'was restarted for its checks just now',
    { criticalForMs: 6_000, restartInMs: 3_000 },
    {},
    { state: 'unhealthy', steps: [], lookAgainInMs: 3_000 },
  ],
  [
    'is not to be restarted',
    { criticalForMs: 6_000 },
    { restart: { ...always, policy: 'never' } },
    { state: 'unhealthy', steps: [] },
  ],
  [
    'lost its network',
    { isDetached: true },
    { sandbox: 'running' },
    { state: 'restarting', steps: [{ kind: 'restart', container: 'app', why: 'network' }] },
  ],
  [
    'is cut off its network',
    { status: 'cut_off' },
    {},
    { state: 'restarting', steps: [{ kind: 'reattach', container: 'app' }] },
  ],
  [
    'its sandbox is cut off its network',
    {},
    { sandbox: 'cut_off' },
    { state: 'restarting', steps: [{ kind: 'reattach', container: undefined }] },
  ],
  ['its sandbox ended', {}, { sandbox: 'ended' }, { state: 'restarting', steps: [ensureApp] }],
  ['its sandbox was removed', {}, { sandbox: 'missing' }, { state: 'restarting', steps: [ensureApp] }],
  [
    'its sandbox is paused',
    {},
    { sandbox: 'paused' },
    { state: 'paused', steps: [{ kind: 'unpause', container: undefined }] },
  ],
])('%s', (_, changed, rest, expected) => {
  expect(decide(changed, rest)).toMatchObject(expected);
});

test('a replica is as well as the worst of its containers, and only that one is touched', () => {
  const side = { ...well, spec: { ...spec, name: 'side' }, status: 'ended' as const };
  const mending = decideMending({
    containers: [well, side],
    restart: always,
    sandbox: 'running',
    wasEngineStopped: false,
    toldState: 'running',
  });
  expect(mending).toMatchObject({ state: 'restarting', steps: [{ kind: 'ensure', containers: ['side'] }] });
});

const facts = fc.record({
  spec: fc.constantFrom(spec, { ...spec, checks: [] }),
  status: fc.constantFrom(
    'missing' as const,
    'running' as const,
    'cut_off' as const,
    'paused' as const,
    'restarting' as const,
    'ended' as const,
  ),
  end: fc.constant('exit code 1'),
  exitCode: fc.constantFrom(0, 1),
  endsInWindow: fc.nat(10),
  startInMs: fc.nat(1_000),
  runningForMs: fc.nat(100_000),
  pausedForMs: fc.nat(10_000),
  serves: fc.boolean(),
  isDoubted: fc.boolean(),
  probedForMs: fc.nat(100_000),
  probes: fc.nat(20),
  criticalForMs: fc.option(fc.nat(100_000), { nil: undefined }),
  failure: fc.constant('port 80 refused connections'),
  restartInMs: fc.nat(1_000),
  isDetached: fc.boolean(),
});

test('whatever is not as it should be is acted on, looked at again, or told by an event', () => {
  const restart = fc.record({
    policy: fc.constantFrom('always' as const, 'on-failure' as const, 'never' as const),
    backoffMs: fc.constant(100),
    maxBackoffMs: fc.constant(1_000),
  });
  fc.assert(
    fc.property(facts, restart, (container, policy) => {
      const mending = decideMending({
        containers: [container],
        restart: policy,
        sandbox: undefined,
        wasEngineStopped: false,
        toldState: 'running',
      });
      const isSettled = ['running', 'exited'].includes(mending.state) || container.status === 'restarting';
      const isLeft = mending.state === 'unhealthy' && policy.policy === 'never';
      const goesOn = mending.steps.length > 0 || mending.lookAgainInMs !== undefined;
      expect(isSettled || isLeft || goesOn).toBe(true);
      if (mending.state === 'running') {
        expect(container.status).toBe('running');
        // One that was told so before nobody looked is probed before it is told otherwise.
        const isProbed = mending.steps.some(({ kind }) => kind === 'probe');
        expect(container.serves || (container.isDoubted && isProbed)).toBe(true);
      }
      if (policy.policy === 'never')
        expect(mending.steps).not.toContainEqual(expect.objectContaining({ why: 'checks' }));
    }),
  );
});

test('back-off doubles up to its limit, and the first start is at once', () => {
  const restart = { policy: 'always', backoffMs: 100, maxBackoffMs: 1_000 } as const;
  expect([0, 1, 2, 3, 4, 5, 100].map((runs) => backoffMs(restart, runs))).toEqual([
    0, 100, 200, 400, 800, 1_000, 1_000,
  ]);
});
