// Exclusive replicas on real engines with a real Consul: never two at once, whatever is cut, frozen or killed.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { StartReplica } from '../../contracts/activities';
import { LEASES_KV_PREFIX, leaseKvKey } from '../../contracts/kv';
import { LEASE_FREE_AFTER_MS, LEASE_LASTS_MS } from '../../contracts/leases';
import { machineClockMs, readDeadlines } from '../../workers/node/lease-file';
import { loadInto, webImage } from '../support/images';
import { recordRuns, type RunRecorder } from '../support/runs';
import { eventually, eventuallyValue } from '../support/wait';
import { buildStart, startNodeMachine, startOne, stopOne, type NodeMachine } from './node-machine';

/** With the Consul server: the side of the majority. */
let home: NodeMachine;
let away: NodeMachine;
let runs: RunRecorder;
const left: [NodeMachine, StartReplica][] = [];

beforeAll(async () => {
  home = await startNodeMachine();
  away = await startNodeMachine({ joins: home });
  const image = await webImage('v1');
  for (const machine of [home, away]) await loadInto(machine.engine, image);
}, 120_000);

afterAll(async () => {
  await away?.dispose();
  await home?.dispose();
});

beforeEach(async () => {
  runs = await recordRuns('clock', [home.engine, away.engine]);
});

afterEach(async () => {
  for (const [machine, replica] of left.splice(0)) await stopOne(machine, replica);
  expect(runs.mostAtOnce()).toBeLessThanOrEqual(1);
  runs.stop();
}, 60_000);

/** It does not heed SIGTERM, and may take longer to end than a lease lasts: without one it may not. */
const stubborn = {
  image: 'web:v1',
  command: ['/bin/sh', '-c', 'trap "" TERM; while :; do sleep 1; done'],
  stopGraceSeconds: 16,
};
const clock = (raw: object = {}): StartReplica =>
  buildStart({
    name: 'clock',
    exclusive: true,
    containers: { app: { image: 'web:v1', ports: [80], stopGraceSeconds: 1 } },
    ...raw,
  });

const begin = async (machine: NodeMachine, replica = clock()): Promise<StartReplica> => {
  left.push([machine, replica]);
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  return replica;
};

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    // One that has ended is there until it is waited for.
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return false;
  }
};
const fileOf = ({ config }: NodeMachine) => join(config.dataDir, 'run', `leases-${config.nodeId}.json`);
const deadlineOf = (machine: NodeMachine, { replicaId }: StartReplica): number =>
  readDeadlines(fileOf(machine))?.[replicaId] ?? 0;
/** The process that the file names, once it is there. */
const guardOf = (machine: NodeMachine): Promise<number> =>
  eventuallyValue(() => Promise.resolve(Number(readFileSync(`${fileOf(machine)}.guard`, 'utf8'))), isAlive, {
    describe: 'a guard',
    timeoutMs: 10_000,
  });
const endOf = (replica: StartReplica) =>
  eventuallyValue(
    () => Promise.resolve(runs.runs().find(({ replicaId }) => replicaId === replica.replicaId)),
    (run) => run?.endedAtMs !== undefined,
    { describe: `${replica.replicaId} has ended`, timeoutMs: 30_000, intervalMs: 50 },
  );
const isRunningAgain = (machine: NodeMachine, replica: StartReplica) =>
  eventually(
    async () => {
      const own = runs.runs().filter(({ replicaId }) => replicaId === replica.replicaId);
      expect(own.length).toBeGreaterThan(1);
      expect(own.at(-1)?.endedAtMs).toBeUndefined();
      expect((await machine.document(replica))?.state).toBe('running');
    },
    { describe: `${replica.replicaId} runs again`, timeoutMs: 60_000 },
  );

test('what Docker would start by itself it does not, the node does; and its lease is where it is looked for', async () => {
  const replica = await begin(home);
  const container = home.engine.docker.getContainer(`${replica.replicaId}-app`);
  expect((await container.inspect()).HostConfig.RestartPolicy?.Name).toBe('no');
  const { body } = await home.consul.request<readonly { readonly Key: string; readonly Session?: string }[]>({
    path: `/kv/${LEASES_KV_PREFIX}`,
    query: { recurse: true },
  });
  expect(body).toMatchObject([{ Key: leaseKvKey(replica), Session: expect.any(String) as string }]);
  await container.kill();
  await isRunningAgain(home, replica);
}, 60_000);

test('what starts elsewhere waits, says for whom, and starts when the lease is given back', async () => {
  const first = await begin(away);
  const second = clock();
  left.push([home, second]);
  const started = startOne(home, second);
  await eventually(async () =>
    expect(await home.document(second)).toMatchObject({
      state: 'starting',
      reason: `waits: replica ${first.replicaId} on node ${away.config.nodeId} has or had its lease, for 45 s at most unless it is renewed`,
    }),
  );
  await stopOne(away, first);
  const stoppedAt = performance.now();
  expect(await started).toMatchObject({ kind: 'ready' });
  expect(performance.now() - stoppedAt).toBeLessThan(5_000);
}, 60_000);

test('a start gives way to a holder that goes on renewing, and leaves nothing', async () => {
  const first = await begin(away);
  const second = clock();
  const askedAt = performance.now();
  expect(await startOne(home, second)).toMatchObject({
    kind: 'refused',
    reason: expect.stringContaining(`replica ${first.replicaId} on node ${away.config.nodeId}`) as string,
  });
  expect(performance.now() - askedAt).toBeGreaterThan(LEASE_FREE_AFTER_MS);
  expect(await home.document(second)).toBeUndefined();
  expect(await home.engine.docker.listContainers({ all: true })).toEqual([]);
  expect(runs.runs()).toHaveLength(1);
}, 90_000);

test('a worker that is killed and started anew keeps the replica, and renews its lease', async () => {
  const replica = await begin(home);
  const guard = await guardOf(home);
  await home.restartNode();
  const before = deadlineOf(home, replica);
  await eventually(() => expect(deadlineOf(home, replica)).toBeGreaterThan(before + 2 * LEASE_LASTS_MS), {
    timeoutMs: 60_000,
  });
  expect(runs.runs()).toMatchObject([{ replicaId: replica.replicaId }]);
  expect(runs.runs()[0]?.endedAtMs).toBeUndefined();
  // It has a guard of its own, and there is one at a time; one that is killed is replaced, one that is asked to end stays.
  const second = await guardOf(home);
  expect(second).not.toBe(guard);
  await eventually(() => expect(isAlive(guard)).toBe(false));
  process.kill(second, 'SIGKILL');
  const third = await eventuallyValue(
    () => guardOf(home),
    (pid) => pid !== second,
    { describe: 'another guard', timeoutMs: 10_000 },
  );
  process.kill(third, 'SIGTERM');
  const seen = deadlineOf(home, replica);
  await eventually(() => expect(deadlineOf(home, replica)).toBeGreaterThan(seen), { timeoutMs: 10_000 });
  expect(isAlive(third)).toBe(true);
}, 90_000);

test('a worker that hangs is stood in for by the guard, which kills in time', async () => {
  const replica = clock({ containers: { app: stubborn } });
  await begin(home, replica);
  await home.restartNode({
    between: async () => {
      await endOf(replica);
      expect(machineClockMs()).toBeLessThan(deadlineOf(home, replica));
    },
  });
  await isRunningAgain(home, replica);
}, 90_000);

test('without Consul the replica stops before its lease is over, and starts again with Consul', async () => {
  const replica = clock({
    containers: {
      app: stubborn,
      side: { image: 'web:v1', env: { PORT: 81 } },
    },
  });
  // Two containers run at once here: only one of them is counted.
  runs.stop();
  await begin(home, replica);
  const { docker } = home.engine;
  const running = async () =>
    (await docker.listContainers()).filter(({ Labels }) => Labels['containeros.role'] === 'container');
  expect(await running()).toHaveLength(2);
  await home.consulProcess.stop();
  const overAt = deadlineOf(home, replica);
  expect(overAt).toBeGreaterThan(machineClockMs());
  await eventually(async () => expect(await running()).toEqual([]), { timeoutMs: 30_000, intervalMs: 50 });
  expect(machineClockMs()).toBeLessThan(overAt);
  await home.consulProcess.start();
  await eventually(
    async () => {
      expect(await running()).toHaveLength(2);
      expect((await home.document(replica))?.state).toBe('running');
    },
    { timeoutMs: 60_000 },
  );
}, 120_000);

test('a node that is cut off stops its replica before the other side starts one, and has none when it is back', async () => {
  const first = await begin(away);
  const second = clock();
  left.push([home, second]);
  const cutAt = Date.now();
  await away.engine.unplug();
  try {
    expect(await startOne(home, second)).toMatchObject({ kind: 'ready' });
  } finally {
    await away.engine.plug();
  }
  const [was, is] = runs.runs();
  expect(was).toMatchObject({ replicaId: first.replicaId });
  expect(is).toMatchObject({ replicaId: second.replicaId });
  expect(was?.endedAtMs).toBeLessThan(is?.startedAtMs ?? 0);
  const outageMs = (is?.startedAtMs ?? 0) - cutAt;
  process.stderr.write(
    `exclusive: stopped ${(was?.endedAtMs ?? 0) - cutAt} ms after the cut, runs elsewhere after ${outageMs} ms\n`,
  );
  expect(outageMs).toBeLessThan(25_000);
  // What is back waits for a lease that another one has.
  await eventually(
    async () =>
      expect(await away.document(first)).toMatchObject({
        state: 'restarting',
        reason: expect.stringContaining(
          `replica ${second.replicaId} on node ${home.config.nodeId}`,
        ) as string,
      }),
    { timeoutMs: 30_000 },
  );
  expect(runs.runs()).toHaveLength(2);
}, 120_000);
