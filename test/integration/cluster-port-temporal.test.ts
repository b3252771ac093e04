// A node's worker at a real Temporal, through the cluster port: it works as if there were nothing in between, and
// gets nothing that is of another node.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Context } from '@temporalio/activity';
import { Client, Connection } from '@temporalio/client';
import { temporal } from '@temporalio/proto';
import { DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';

import { nodeQueue } from '../../contracts/queues';
import { eventually } from '../support/wait';
import type { NodeTask, NodeTasks } from '../workflow/node-task-subject';
import { temporalBinary } from '../workflow/temporal-binary';
import { workflowBundle } from '../workflow/workflow-bundle';
import { dial, grpc, startTestPort, tokens, type TestPort } from './cluster-port';

const api = temporal.api.workflowservice.v1;
const SERVICE = '/temporal.api.workflowservice.v1.WorkflowService/';
const QUEUE = 'cluster-port-test';
const folder = mkdtempSync(join(tmpdir(), 'containeros-cluster-port-'));
const stops: (() => Promise<unknown>)[] = [];
const beats = { count: 0 };

let server: ChildProcess;
let address: string;
let target: TestPort;
let connection: Connection;
let client: Client;

/** Of what a test server does not say by itself: that it is not to hold tasks back. */
const SETTINGS = [
  'history.transferProcessorMaxPollRPS=1000',
  'matching.numTaskqueueReadPartitions=1',
  'matching.numTaskqueueWritePartitions=1',
].flatMap((setting) => ['--dynamic-config-value', setting]);

/** On a port of its own choice the first time, and on the same one from then on, with what it knew. */
const startServer = async (port: string) => {
  server = spawn(
    temporalBinary(),
    ['server', 'start-dev', '--headless', '--ip', '127.0.0.1', '--port', port, '--log-level', 'never'].concat(
      ['--db-filename', join(folder, 'temporal.db'), ...SETTINGS],
    ),
    { stdio: 'ignore' },
  );
  connection = await eventually(() =>
    Connection.connect({ address: `127.0.0.1:${port}`, connectTimeout: '1s' }),
  );
  client = new Client({ connection });
  await eventually(() => connection.workflowService.describeNamespace({ namespace: 'default' }));
};

const killServer = async () => {
  await connection.close();
  const exited = once(server, 'exit');
  server.kill('SIGKILL');
  await exited;
};

const freePort = async (): Promise<string> => {
  const { createServer } = await import('node:net');
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  await once(probe, 'close');
  return String(port);
};

const nodeConnection = (nodeId: string) => {
  const { certificatePem, keyPem } = target.certificateOf(nodeId);
  return {
    address: target.port.address,
    tls: {
      serverRootCACertificate: Buffer.from(target.authority.certificatePem),
      clientCertPair: { crt: Buffer.from(certificatePem), key: Buffer.from(keyPem) },
    },
  };
};

const tasks: NodeTasks = {
  echo: async (text) => text,
  fail: async () => {
    throw new Error('as it was told');
  },
  beat: async () => {
    const { cancelled } = Context.current();
    const timer = setInterval(() => {
      beats.count += 1;
      Context.current().heartbeat(beats.count);
    }, 20);
    await cancelled.finally(() => clearInterval(timer));
  },
};

/** A worker with its connection, until the end of the tests. */
const startWorker = async (
  made: NativeConnection,
  options: Omit<Parameters<typeof Worker.create>[0], 'connection' | 'namespace'>,
) => {
  const worker = await Worker.create({ connection: made, namespace: 'default', ...options });
  const ended = worker.run();
  stops.push(async () => {
    worker.shutdown();
    await ended;
    await made.close();
  });
  return worker;
};

const runOn = (nodeId: string, task: NodeTask) =>
  client.workflow.start('giveTasks', {
    taskQueue: QUEUE,
    workflowId: `${nodeId}-${Math.random()}`,
    args: [nodeQueue(nodeId), task],
  });

const echoes = async (count: number) => {
  const texts = Array.from({ length: count }, (_, at) => `text ${at}`);
  const handle = await runOn('a', { kind: 'echo', texts });
  expect(await handle.result()).toEqual(texts);
};

beforeAll(async () => {
  Runtime.install({
    logger: new DefaultLogger('ERROR'),
    telemetryOptions: { logging: { filter: 'OFF', forward: {} } },
    shutdownSignals: [],
  });
  const port = await freePort();
  address = `127.0.0.1:${port}`;
  const workflowsPath = join(__dirname, '..', 'workflow', 'node-task-subject.ts');
  const [codePath] = await Promise.all([workflowBundle({ workflowsPath }), startServer(port)]);
  target = await startTestPort({ temporalAddress: address });
  await startWorker(await NativeConnection.connect({ address }), {
    taskQueue: QUEUE,
    workflowBundle: { codePath },
    workflowThreadPoolSize: 1,
  });
  await startWorker(await NativeConnection.connect(nodeConnection('a')), {
    taskQueue: nodeQueue('a'),
    activities: { ...tasks },
    activityTaskPollerBehavior: { type: 'autoscaling', initial: 2, minimum: 1, maximum: 10 },
    maxHeartbeatThrottleInterval: '50ms',
    defaultHeartbeatThrottleInterval: '50ms',
  });
}, 60_000);
afterAll(async () => {
  await Promise.all(stops.map((stop) => stop()));
  await target?.close();
  await killServer();
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

test('activities run, and fail, with their results', async () => {
  await echoes(1);
  const failed = await runOn('a', { kind: 'fail' });
  expect(await failed.result()).toEqual([expect.stringContaining('as it was told') as string]);
  expect(target.refused).toEqual([]);
});

test('200 activities at once all end', () => echoes(200));

test('heartbeats arrive, and a cancellation comes back with them', async () => {
  const handle = await runOn('a', { kind: 'beat' });
  await eventually(async () => {
    const { raw } = await handle.describe();
    expect(raw.pendingActivities?.[0]?.heartbeatDetails?.payloads?.length).toBe(1);
  });
  await handle.signal('cancel');
  expect(await handle.result()).toEqual(['cancelled']);
});

test('a node polls its own queue only, and answers only for tasks that it was given', async () => {
  const mine = await dial(target, target.certificateOf('b'));
  const poll = (name: string) =>
    grpc(
      mine,
      `${SERVICE}PollActivityTaskQueue`,
      api.PollActivityTaskQueueRequest.encode({
        namespace: 'default',
        taskQueue: { name, kind: 1 },
      }).finish(),
      { headers: { 'grpc-timeout': '20S' } },
    );
  expect(await poll(nodeQueue('a'))).toMatchObject({
    status: 7,
    words: expect.stringContaining('queue node-b only') as string,
  });

  const handle = await runOn('b', { kind: 'echo', texts: ['x'] });
  const { status, message } = await poll(nodeQueue('b'));
  expect(status).toBe(0);
  const { taskToken } = api.PollActivityTaskQueueResponse.decode(message);
  const complete = (session: typeof mine, token: Uint8Array) =>
    grpc(
      session,
      `${SERVICE}RespondActivityTaskCompleted`,
      api.RespondActivityTaskCompletedRequest.encode({
        namespace: 'default',
        taskToken: token,
        result: {
          payloads: [{ metadata: { encoding: Buffer.from('json/plain') }, data: Buffer.from('"forged"') }],
        },
      }).finish(),
    );
  const other = await dial(target, target.certificateOf('c'));
  const bare = tokens.open('b', taskToken) ?? Buffer.alloc(0);
  expect(bare.length).toBeGreaterThan(0);
  expect(await complete(other, taskToken)).toMatchObject({ status: 7 });
  expect(await complete(other, bare)).toMatchObject({ status: 7 });
  expect(await complete(mine, bare)).toMatchObject({ status: 7 });
  expect(await complete(mine, taskToken)).toMatchObject({ status: 0 });
  expect(await handle.result()).toEqual(['forged']);
  // Temporal's own refusals come as they are.
  expect(await complete(mine, taskToken)).toMatchObject({ status: 5 });
  mine.close();
  other.close();
});

test('a poll ends with its deadline, and with its node', async () => {
  const session = await dial(target, target.certificateOf('d'));
  const poll = api.PollActivityTaskQueueRequest.encode({
    namespace: 'default',
    taskQueue: { name: nodeQueue('d'), kind: 1 },
  }).finish();
  const ended = await grpc(session, `${SERVICE}PollActivityTaskQueue`, poll, {
    headers: { 'grpc-timeout': '3S' },
  });
  expect([0, 4]).toContain(ended.status);

  const given = grpc(session, `${SERVICE}PollActivityTaskQueue`, poll).catch(() => 'broken off');
  session.destroy();
  expect(await given).toBe('broken off');
  // Had the poll stayed at Temporal, it would take the task that the next one is to get.
  const handle = await runOn('d', { kind: 'echo', texts: ['x'] });
  const again = await dial(target, target.certificateOf('d'));
  const { message } = await grpc(again, `${SERVICE}PollActivityTaskQueue`, poll, {
    headers: { 'grpc-timeout': '10S' },
  });
  expect(api.PollActivityTaskQueueResponse.decode(message).activityId).toBe('1');
  await handle.terminate();
  again.close();
});

test('a task that is polled and answered takes little longer than without', async () => {
  const session = await dial(target, target.certificateOf('e'));
  const direct = connect(`http://${address}`);
  const texts = Array.from({ length: 200 }, () => 'x');
  const handle = await runOn('e', { kind: 'echo', texts });
  const taskQueue = { name: nodeQueue('e'), kind: 1 };
  const poll = api.PollActivityTaskQueueRequest.encode({ namespace: 'default', taskQueue }).finish();
  const payload = { metadata: { encoding: Buffer.from('json/plain') }, data: Buffer.from('"x"') };
  const takeOne = async (through: typeof session): Promise<number> => {
    const startedAt = performance.now();
    const headers = { 'grpc-timeout': '20S' };
    const { message } = await grpc(through, `${SERVICE}PollActivityTaskQueue`, poll, { headers });
    const { taskToken } = api.PollActivityTaskQueueResponse.decode(message);
    const done = api.RespondActivityTaskCompletedRequest.encode({
      namespace: 'default',
      taskToken,
      result: { payloads: [payload] },
    }).finish();
    expect((await grpc(through, `${SERVICE}RespondActivityTaskCompleted`, done)).status).toBe(0);
    return performance.now() - startedAt;
  };
  const [through, without]: [number[], number[]] = [[], []];
  for (let at = 0; at < texts.length / 2; at += 1) {
    through.push(await takeOne(session));
    without.push(await takeOne(direct));
  }
  expect(await handle.result()).toHaveLength(texts.length);
  const median = (times: number[]) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0;
  const [withMs, withoutMs] = [median(through), median(without)];
  process.stdout.write(`a task: ${withMs.toFixed(2)} ms, direct ${withoutMs.toFixed(2)} ms\n`);
  expect(withMs - withoutMs).toBeLessThan(20);
  session.close();
  direct.close();
}, 60_000);

test('the worker goes on when the cluster port was away', async () => {
  await target.restart();
  await echoes(20);
  const handle = await runOn('a', { kind: 'beat' });
  const seen = beats.count;
  await eventually(() => expect(beats.count).toBeGreaterThan(seen));
  await target.restart();
  await handle.signal('cancel');
  expect(await handle.result()).toEqual(['cancelled']);
}, 60_000);

test('the worker goes on when Temporal was away', async () => {
  const session = await dial(target, target.certificateOf('a'));
  await killServer();
  expect(await grpc(session, `${SERVICE}GetSystemInfo`, Buffer.alloc(0))).toMatchObject({ status: 14 });
  await startServer(address.split(':')[1] ?? '');
  expect(await grpc(session, `${SERVICE}GetSystemInfo`, Buffer.alloc(0))).toMatchObject({ status: 0 });
  session.close();
  await echoes(20);
}, 60_000);
