// What the node keeps running by itself, with nobody telling it to.
import { createKvStore } from '../../adapters/consul/watch-kv';
import { KV_PREFIX } from '../../contracts/kv';
import type { ObservedReplica } from '../../domain/model';
import type { StartReplica } from '../../contracts/activities';
import { httpRequest } from '../support/http';
import { loadInto, webImage } from '../support/images';
import { eventually, eventuallyValue } from '../support/wait';
import { buildStart, startNodeMachine, startOne, stopOne, type NodeMachine } from './node-machine';

let machine: NodeMachine;

beforeAll(async () => {
  machine = await startNodeMachine();
  await loadInto(machine.engine, await webImage('v1'));
}, 60_000);
afterAll(() => machine?.dispose());

const app = { image: 'web:v1', ports: [80], stopGraceSeconds: 2 };
const quickCheck = { tcp: { port: 80 }, intervalSeconds: 1, failures: 1 };

let replica: StartReplica;
afterEach(() => stopOne(machine, replica));

const container = (name = 'app') => machine.engine.docker.getContainer(`${replica.replicaId}-${name}`);
const serves = async (): Promise<void> => {
  const document = await machine.document(replica);
  expect(document?.state).toBe('running');
  const port = document?.ports[0];
  const checks = (await machine.checks()).filter(({ ServiceID }) => ServiceID === port?.serviceId);
  expect(checks.map(({ Status }) => Status)).toEqual(['passing']);
  const page = await httpRequest(`http://${port?.address}:${port?.hostPort}/version`, { timeoutMs: 500 });
  expect(page.text.trim()).toBe('web v1');
};
const isIn = (state: ObservedReplica['state'], timeoutMs = 10_000) =>
  eventuallyValue(
    () => machine.document(replica),
    (document) => document?.state === state,
    { describe: `the replica is ${state}`, intervalMs: 10, timeoutMs },
  );
const startedAt = async (name = 'app') => (await container(name).inspect()).State.StartedAt;
const begin = async (raw: Parameters<typeof buildStart>[0] = { containers: { app } }) => {
  replica = buildStart(raw);
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
};
const withdrawn = async (): Promise<void> => {
  expect(await machine.services()).toEqual([]);
};

const failuresTold = async (): Promise<readonly string[]> =>
  (await machine.events()).flatMap(({ type, message }) => (type === 'replica.unhealthy' ? [message] : []));

test('a killed container serves again at once, on the same port', async () => {
  await begin();
  const before = await machine.document(replica);
  // More often than a crash loop would be allowed to: who is killed has not failed.
  const ways = ['kill', 'stop', 'restart', 'kill', 'kill', 'kill', 'kill'] as const;
  for (const how of ways) {
    const run = await startedAt();
    await container()[how]();
    await eventually(async () => expect(await startedAt()).not.toBe(run), { intervalMs: 5 });
    await eventually(serves, { intervalMs: 5, timeoutMs: 5_000 });
  }
  const after = await machine.document(replica);
  expect(after?.ports).toEqual(before?.ports);
  expect(after?.restartCount).toBe(ways.length);
}, 30_000);

test('a removed container is made again with its ports', async () => {
  await begin();
  const before = await machine.document(replica);
  await container().remove({ force: true });
  await eventually(serves, { intervalMs: 5 });
  expect((await machine.document(replica))?.ports).toEqual(before?.ports);
});

test('a container that was renamed is still the same one', async () => {
  await begin({ containers: { app, side: { image: 'web:v1', env: { PORT: 81 }, stopGraceSeconds: 0 } } });
  const { docker } = machine.engine;
  const names = async (): Promise<string[]> =>
    (await docker.listContainers({ all: true })).map(({ Names }) => Names[0] ?? '').sort();
  await container('app').rename({ name: 'by-hand' });
  await docker.getContainer(replica.replicaId).rename({ name: 'sandbox-by-hand' });
  // A look after each end, and one more in which it would be made again.
  for (let run = 0; run < 2; run += 1) {
    const before = (await docker.getContainer('by-hand').inspect()).State.StartedAt;
    await docker.getContainer('by-hand').kill();
    await eventually(async () =>
      expect((await docker.getContainer('by-hand').inspect()).State.StartedAt).not.toBe(before),
    );
    await eventually(serves);
    expect(await names()).toEqual(['/by-hand', '/sandbox-by-hand', `/${replica.replicaId}-side`]);
  }
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  expect(await names()).toHaveLength(3);
  await stopOne(machine, replica);
  expect(await names()).toEqual([]);
}, 30_000);

test.each([
  ['a container', {}],
  ['a sandbox', { side: { image: 'web:v1', env: { PORT: 81 }, stopGraceSeconds: 0 } }],
])(
  '%s that was cut off its network is attached again, and runs on',
  async (_, others) => {
    await begin({ containers: { app: { ...app, check: quickCheck }, ...others } });
    const before = await machine.document(replica);
    const run = await startedAt();
    const owner = 'side' in others ? replica.replicaId : `${replica.replicaId}-app`;
    await machine.engine.docker.getNetwork('bridge').disconnect({ Container: owner, Force: true });
    // Somebody else has its address meanwhile.
    const other = await machine.engine.docker.createContainer({ Image: 'web:v1' });
    await other.start();
    try {
      await eventually(async () => {
        const { NetworkSettings } = await machine.engine.docker.getContainer(owner).inspect();
        expect(Object.keys(NetworkSettings.Networks)).toEqual(['bridge']);
      });
      await eventually(serves);
    } finally {
      await other.remove({ force: true });
    }
    expect(await startedAt()).toBe(run);
    expect((await machine.document(replica))?.ports).toEqual(before?.ports);
  },
  60_000,
);

test('a container that cannot be attached again, because its host port is taken, is broken', async () => {
  await begin();
  const { docker } = machine.engine;
  const { HostConfig } = await container().inspect();
  const other = await docker.createContainer({ Image: 'web:v1', ExposedPorts: { '80/tcp': {} }, HostConfig });
  try {
    await machine.restartNode({
      between: async () => {
        await docker.getNetwork('bridge').disconnect({ Container: `${replica.replicaId}-app`, Force: true });
        await other.start();
      },
    });
    const document = await isIn('broken', 30_000);
    expect(document?.reason).toBe('its host ports could not be bound again');
    await eventually(withdrawn);
  } finally {
    await other.remove({ force: true });
  }
}, 60_000);

test('one of several containers is mended while the others go on', async () => {
  await begin({
    containers: { app, side: { image: 'web:v1', env: { PORT: 81 }, ports: [81], stopGraceSeconds: 1 } },
  });
  const run = await startedAt('app');
  for (const how of ['kill', 'remove'] as const) {
    const sideRun = await startedAt('side');
    if (how === 'kill') await container('side').kill();
    else await container('side').remove({ force: true });
    await eventually(async () => expect(await startedAt('side')).not.toBe(sideRun), { intervalMs: 5 });
    await eventually(serves);
    expect(await startedAt('app')).toBe(run);
  }
  // Without the sandbox there is no network: everything is made anew, on the same ports.
  const before = await machine.document(replica);
  await machine.engine.docker.getContainer(replica.replicaId).kill();
  await eventually(async () => expect(await startedAt('app')).not.toBe(run), { intervalMs: 5 });
  await eventually(serves);
  await machine.engine.docker.getContainer(replica.replicaId).remove({ force: true });
  await eventually(async () => {
    const sandbox = await machine.engine.docker.getContainer(replica.replicaId).inspect();
    expect((await container('app').inspect()).HostConfig.NetworkMode).toBe(`container:${sandbox.Id}`);
  });
  await eventually(serves);
  expect((await machine.document(replica))?.ports).toEqual(before?.ports);
}, 60_000);

test('a paused container loses its traffic at once, and is unpaused', async () => {
  await begin();
  await container().pause();
  await eventually(withdrawn, { intervalMs: 5, timeoutMs: 1_000 });
  await isIn('paused', 2_000);
  await eventually(serves, { timeoutMs: 10_000 });
}, 30_000);

test('a crash loop is told, and does not flood the events', async () => {
  await begin({ containers: { app: { ...app, env: { CRASH_AFTER_SECONDS: 0.3 } } } });
  const document = await isIn('crash_looping', 30_000);
  expect(document?.reason).toMatch(
    /container app ended 5 times in 5 minutes, the last time with exit code 1/,
  );
  await eventually(withdrawn);
  const types = async () =>
    (await machine.events()).filter(({ replica: id }) => id === replica.replicaId).map(({ type }) => type);
  await eventually(async () => expect(await types()).toContain('replica.crash_looping'));
  expect((await types()).filter((type) => type === 'replica.crashed')).toHaveLength(1);
}, 60_000);

test('a container whose check fails is restarted', async () => {
  await begin({
    containers: {
      app: {
        ...app,
        startupGraceSeconds: 1,
        check: { http: { port: 80, path: '/cgi-bin/health' }, intervalSeconds: 1, failures: 1 },
      },
    },
  });
  const run = await startedAt();
  const execution = await container().exec({ Cmd: ['/bin/touch', '/tmp/failing'] });
  await execution.start({ Detach: true });
  await isIn('unhealthy');
  await eventually(async () => expect(await startedAt()).not.toBe(run), { timeoutMs: 20_000 });
}, 40_000);

test('a command is a check, too', async () => {
  await begin({
    containers: {
      app: {
        ...app,
        check: { command: ['/bin/ls', '/www/health'], intervalSeconds: 1, failures: 1 },
      },
    },
  });
  const execution = await container().exec({ Cmd: ['/bin/rm', '/www/health'] });
  await execution.start({ Detach: true });
  await isIn('unhealthy');
  const checks = await machine.checks();
  expect(checks.find(({ ServiceID }) => ServiceID.startsWith(replica.replicaId))?.Status).toBe('critical');
}, 40_000);

test('Consul is told again what it has lost', async () => {
  await begin({ containers: { app: { ...app, check: quickCheck } } });
  await machine.consulProcess.stop();
  await machine.consulProcess.start();
  await eventually(serves);
  await machine.consulProcess.stop();
  await machine.consulProcess.wipe();
  await machine.consulProcess.start();
  await eventually(serves);
}, 60_000);

test('what serves is told to do so all the time while Consul is away and while the node worker is another one', async () => {
  await begin({ containers: { app: { ...app, check: quickCheck } } });
  // Whatever was told in between would have been written.
  const { updatedAtMs } = (await machine.document(replica)) as ObservedReplica;
  const checkIds = async () =>
    (await machine.checks())
      .filter(({ ServiceID }) => ServiceID.startsWith(replica.replicaId))
      .map(({ CheckID }) => CheckID);
  const before = await checkIds();
  await machine.consulProcess.stop();
  await machine.consulProcess.start();
  // Registered anew: so it was looked at.
  await eventually(async () => expect(await checkIds()).not.toEqual(before));
  await eventually(serves);
  expect(await machine.document(replica)).toMatchObject({ state: 'running', updatedAtMs });
  await machine.restartNode();
  await eventually(serves);
  expect(await machine.document(replica)).toMatchObject({ state: 'running', updatedAtMs });
}, 60_000);

test('what serves is told to do so all the time while everything is started anew', async () => {
  const raw = { containers: { app: { ...app, check: { tcp: { port: 80 }, intervalSeconds: 10 } } } };
  await begin(raw);
  const others = Array.from({ length: 4 }, () => buildStart(raw));
  const told = new Map<string, ObservedReplica['state']>();
  const otherThanRunning: ObservedReplica['state'][] = [];
  const watch = createKvStore(machine.consul).watch(KV_PREFIX.replicas, {
    changed: ({ changed }) => {
      for (const { key, text } of changed) {
        const { state } = JSON.parse(text) as ObservedReplica;
        told.set(key, state);
        if (state !== 'running') otherThanRunning.push(state);
      }
    },
    unreachable: () => undefined,
  });
  try {
    for (const other of others) expect(await startOne(machine, other)).toMatchObject({ kind: 'ready' });
    const failuresBefore = await failuresTold();
    const toldAsRunning = () => expect([...told.values()]).toEqual(Array(5).fill('running'));
    await eventually(toldAsRunning);
    otherThanRunning.length = 0;
    for (let start = 0; start < 5; start += 1) {
      const known = new Set((await machine.checks()).map(({ CheckID }) => CheckID));
      await machine.restartNode({ between: () => machine.consulProcess.stop() });
      await machine.consulProcess.start();
      await eventually(async () => {
        const anew = (await machine.checks()).filter(
          ({ ServiceID, CheckID }) => ServiceID !== '' && !known.has(CheckID),
        );
        expect(anew.map(({ Status }) => Status)).toEqual([replica, ...others].map(() => 'passing'));
      });
    }
    toldAsRunning();
    expect(otherThanRunning).toEqual([]);
    expect(await failuresTold()).toEqual(failuresBefore);
  } finally {
    watch.close();
    for (const other of others) await stopOne(machine, other);
  }
}, 120_000);

test('a new node worker takes over what runs, without a gap', async () => {
  await begin();
  const run = await startedAt();
  await machine.restartNode();
  await eventually(serves);
  expect(await startedAt()).toBe(run);
  // What died while nobody looked is started again, too.
  await machine.restartNode({
    between: async () => {
      await container().kill();
    },
  });
  await eventually(async () => expect(await startedAt()).not.toBe(run));
  await eventually(serves);
}, 30_000);

test('when a replica was placed is what it was started with first, whoever asks later, and knows nothing of it', async () => {
  const placedAtMs = 1_700_000_000_123;
  replica = buildStart({ containers: { app } }, { placedAtMs });
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  expect(await machine.document(replica)).toMatchObject({ placedAtMs });
  // A retry of a later plan waits for what is there.
  expect(await startOne(machine, { ...replica, placedAtMs: placedAtMs + 60_000 })).toMatchObject({
    kind: 'ready',
  });
  await machine.restartNode({ between: () => machine.consulProcess.stop() });
  await machine.consulProcess.wipe();
  await machine.consulProcess.start();
  await eventually(serves);
  expect(await machine.document(replica)).toMatchObject({ placedAtMs });
}, 30_000);

test('a container without checks runs on, whoever has to look at it anew', async () => {
  await begin({ containers: { app: { image: 'web:v1', startupGraceSeconds: 1, stopGraceSeconds: 0 } } });
  const run = await startedAt();
  /** Consul knows nothing of it until it was looked at. */
  const forget = async (): Promise<void> => {
    await machine.consulProcess.stop();
    await machine.consulProcess.wipe();
    await machine.consulProcess.start();
  };
  const isSeenAnew = async (): Promise<void> => {
    await isIn('running');
    expect(await startedAt()).toBe(run);
  };
  await eventually(() => expect(Date.now() - Date.parse(run)).toBeGreaterThan(1_500));
  await machine.restartNode({ between: forget });
  await isSeenAnew();
  await forget();
  await isSeenAnew();
}, 60_000);

test('what was removed while nobody looked is broken, and its services are gone', async () => {
  await begin();
  await machine.restartNode({
    between: async () => {
      await container().remove({ force: true });
    },
  });
  const document = await isIn('broken');
  expect(document?.reason).toMatch(/gone/);
  await eventually(withdrawn);
}, 30_000);

test('an engine that is stopped or killed comes back with everything', async () => {
  await begin();
  const before = await machine.document(replica);
  await machine.engine.stop();
  await eventually(async () => {
    const types = (await machine.events()).map(({ type }) => type);
    expect(types).toContain('engine.unreachable');
  });
  await machine.engine.start();
  await eventually(serves);
  await machine.engine.kill();
  await machine.engine.start();
  await eventually(serves);
  expect((await machine.document(replica))?.ports).toEqual(before?.ports);
}, 60_000);
