/** When a stop that is cancelled has happened, and when not, over an engine that answers when the test says so. */

import { createReplicaLocks } from '../../../../adapters/docker/replica-locks';
import { LABEL } from '../../../../contracts/docker';
import type { FoundContainer } from '../../../../adapters/docker/engine-containers';
import { rememberReplica, type NodeMemory } from '../../../../workers/node/node-memory';
import { createReplicaRunner, type ReplicaRunnerDeps } from '../../../../workers/node/replica-runner';
import { GB, buildRelease } from '../../../support/builders';
import { whyNoPorts } from '../../../../workers/node/admission';
import { eventually } from '../../../support/wait';

const spec = {
  project: 'default',
  name: 'web',
  replicaId: 'web-1',
  release: buildRelease(),
  operation: 'deploy.default.web.1',
};

/** What is not made up here fails the test: nothing of a stop may be begun. */
const buildStop = () => {
  const memory: NodeMemory = new Map();
  const replica = rememberReplica(memory, spec, 0, 'kept');
  const locks = createReplicaLocks();
  const lists: ((found: FoundContainer[]) => void)[] = [];
  const runner = createReplicaRunner({
    memory,
    locks,
    containers: { list: () => new Promise<FoundContainer[]>((resolve) => lists.push(resolve)) },
    adopted: async () => undefined,
  } as unknown as ReplicaRunnerDeps);
  const abort = new AbortController();
  const stop = () =>
    runner.stop([{ ...spec, reason: 'outdated' }], abort.signal, () => {
      throw new Error('the stop has begun');
    });
  const cancel = () => abort.abort(new Error('cancelled'));
  return { replica, locks, lists, stop, cancel };
};

test('a stop that is cancelled while it looks has not begun', async () => {
  const { replica, lists, stop, cancel } = buildStop();
  const stopping = expect(stop()).rejects.toThrow('cancelled');
  await eventually(() => expect(lists).toHaveLength(1));
  cancel();
  lists[0]?.([]);
  await stopping;
  expect(replica.phase).toBe('kept');
});

test('a stop that is cancelled while it looks again, after other work, has not begun', async () => {
  const { replica, locks, lists, stop, cancel } = buildStop();
  let end: () => void = () => undefined;
  const other = locks.tryTake('web-1', () => new Promise<void>((resolve) => (end = resolve)));
  const stopping = expect(stop()).rejects.toThrow('cancelled');
  await eventually(() => expect(lists).toHaveLength(1));
  lists[0]?.([]);
  end();
  await other;
  await eventually(() => expect(lists).toHaveLength(2));
  cancel();
  lists[1]?.([]);
  await stopping;
  expect(replica.phase).toBe('kept');
});

test('of two that are planned at once with the same port of the host one is refused, and who has it is named', async () => {
  const memory: NodeMemory = new Map();
  const states = new Map<string, string>();
  let isAnswering = false;
  const runner = createReplicaRunner({
    memory,
    locks: createReplicaLocks(),
    adopted: async () => ({ cpus: 4, memoryBytes: GB }),
    hostStats: {
      read: async () => ({ memoryAvailableBytes: GB, diskBytes: 100 * GB, diskFreeBytes: 50 * GB }),
    },
    // Nothing is started: the engine does not answer, but for who is refused.
    containers: { list: () => (isAnswering ? Promise.resolve([]) : new Promise(() => undefined)) },
    publisher: { registry: { published: (id: string) => ({ state: states.get(id) }) } },
  } as unknown as ReplicaRunnerDeps);
  const named = (name: string, raw: Parameters<typeof buildRelease>[1]) => ({
    ...spec,
    name,
    replicaId: `${name}-1`,
    release: buildRelease(1, raw),
  });
  const onHost = { hostNetwork: true, containers: { app: { image: 'web', ports: [8080, '53/udp'] } } };
  const isTaken = async (replica: typeof spec) => {
    void runner.start([replica], new AbortController().signal, () => undefined);
    await new Promise((resolve) => setImmediate(resolve));
    return memory.has(replica.replicaId);
  };
  expect(await isTaken(named('proxy', onHost))).toBe(true);
  const web = named('web', onHost);
  isAnswering = true;
  expect(await runner.start([web], new AbortController().signal, () => undefined)).toEqual([
    { kind: 'refused', replicaId: 'web-1', reason: 'port 53/udp of the host is used by proxy' },
  ]);
  isAnswering = false;
  expect(
    await isTaken(named('other', { hostNetwork: true, containers: { app: { image: 'web', ports: [53] } } })),
  ).toBe(true);
  expect(await isTaken(named('plain', { containers: { app: { image: 'web', ports: [8080] } } }))).toBe(true);
  states.set('proxy-1', 'exited');
  expect(await isTaken(web)).toBe(true);
});

test('a port that was chosen for another one is not free either', async () => {
  const other = {
    spec: { ...spec, name: 'shop', project: 'team' },
    hostPorts: new Map([['80/tcp', 25_000]]),
  };
  const wanted = (port: number | string) => ({
    ...spec,
    release: buildRelease(1, { hostNetwork: true, containers: { app: { image: 'web', ports: [port] } } }),
  });
  expect(whyNoPorts(wanted(25_000), [other])).toBe('port 25000/tcp of the host is used by team/shop');
  expect(whyNoPorts(wanted('25000/udp'), [other])).toBeUndefined();
  expect(whyNoPorts(wanted(80), [other])).toBeUndefined();
  expect(whyNoPorts(wanted(25_000), [{ ...other, spec }])).toBeUndefined();
});

/** What a stop finds: a replica of which one container runs. */
const oneThatRuns = {
  list: async () => [{ labels: { [LABEL.replica]: 'web-1' }, createdAtMs: 0 }],
  inspect: async () => ({ sandbox: { State: { Running: true, Pid: 7 } }, containers: new Map() }),
};

test.each([
  { exclusive: false, lease: [] },
  { exclusive: true, lease: ['released'] },
])(
  'a stop that is done again waits for requests again, exclusive: $exclusive',
  async ({ exclusive, lease }) => {
    const memory: NodeMemory = new Map();
    const release = buildRelease(1, {
      exclusive,
      containers: { main: { image: 'web', httpPorts: { '80': 'web.localhost' } } },
    });
    const web = { ...spec, release };
    rememberReplica(memory, web, 0, 'kept');
    const order: string[] = [];
    const note = (what: string) => async () => void order.push(what);
    const runner = createReplicaRunner({
      memory,
      locks: createReplicaLocks(),
      containers: {
        ...oneThatRuns,
        removeAll: note('removed'),
      },
      publisher: {
        publish: async () => undefined,
        deregister: note('deregistered'),
        registry: { unpublish: note('unpublished') },
      },
      feeder: { stop: () => undefined },
      ports: { release: () => undefined },
      withdrawal: { drained: note('drained') },
      exclusive: { release: note('released') },
      adopted: async () => undefined,
    } as unknown as ReplicaRunnerDeps);
    await runner.stop([{ ...web, reason: 'outdated' }], new AbortController().signal, () => undefined);
    expect(order).toEqual(['deregistered', 'drained', 'removed', ...lease, 'unpublished']);
  },
);

test.each([
  { reason: 'outdated' as const, isPatient: true },
  { reason: 'scaled_down' as const, isPatient: false },
])('who may lead to a replica that has stopped is told: $reason', async ({ reason, isPatient }) => {
  const memory: NodeMemory = new Map();
  const release = buildRelease(1, {
    containers: { main: { image: 'web', httpPorts: { '80': 'web.localhost' }, ports: ['53/udp'] } },
  });
  const web = { ...spec, release };
  rememberReplica(memory, web, 0, 'kept');
  const events: { readonly type: string; readonly message: string }[] = [];
  const said: string[] = [];
  const runner = createReplicaRunner({
    memory,
    locks: createReplicaLocks(),
    containers: {
      ...oneThatRuns,
      removeAll: async () => undefined,
    },
    publisher: {
      publish: async () => 5,
      deregister: async () => undefined,
      registry: { unpublish: async () => undefined },
    },
    feeder: { stop: () => undefined },
    ports: { release: () => undefined },
    withdrawal: {
      confirmed: async (index, ways, _signal, onPatience) => {
        expect([index, ways]).toEqual([5, ['hostnames']]);
        onPatience?.(['n2', 'n3']);
        return ['n2'];
      },
      drained: async (_pid, ports) => {
        // Nobody is led to the other one by a node.
        expect(ports).toEqual({ tcp: new Set([80]), hasUdp: false });
      },
    } satisfies ReplicaRunnerDeps['withdrawal'],
    eventLog: { append: (event: (typeof events)[number]) => void events.push(event) },
    adopted: async () => undefined,
  } as unknown as ReplicaRunnerDeps);
  const outcomes = await runner.stop([{ ...web, reason }], new AbortController().signal, (_, words) =>
    said.push(words),
  );
  expect(outcomes).toEqual([{ replicaId: 'web-1', existed: true, behind: ['n2'] }]);
  expect(events).toMatchObject([{ type: 'ingress.behind', level: 'warning', microservice: 'web' }]);
  expect(events[0]?.message).toMatch(/^Replica web-1 of v1 stops, and the ingress of n2 has not confirmed/);
  expect(said.includes('waiting for the ingress of n2, n3')).toBe(isPatient);
});
