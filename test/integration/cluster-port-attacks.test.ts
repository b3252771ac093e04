// Whoever has no right at the cluster port gets nothing of it, and cannot keep others from it.
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { once } from 'node:events';

import { createTestAuthority } from '../support/certificates';
import { eventually } from '../support/wait';
import { CLUSTER_ID, OPEN_PATH, ask, dial, grpc, startTestPort, type TestPort } from './cluster-port';

const SERVICE = '/temporal.api.workflowservice.v1.WorkflowService/';
const requestsOf = (nodeId: string) => ({ ':path': `/internal/v1/nodes/${nodeId}/requests` });
const UNKNOWN = { ':path': '/nothing' };

let target: TestPort;
beforeAll(async () => {
  target = await startTestPort({
    limits: {
      idleMs: 60_000,
      strangerIdleMs: 400,
      handshakeMs: 400,
      connectionsPerNode: 3,
      strangersPerAddress: 8,
    },
  });
});
afterAll(() => target?.close());

const statusOf = async (holder?: Parameters<typeof dial>[1], path: Record<string, string> = UNKNOWN) => {
  const session = await dial(target, holder);
  const { headers, body } = await ask(session, path);
  const call = await grpc(session, `${SERVICE}GetSystemInfo`, Buffer.alloc(0));
  session.close();
  return { status: headers[':status'], text: body.toString(), grpc: call.status };
};

test('a certificate of the authority and the cluster is let in', async () => {
  // The path does not exist, and Temporal is away: both are told only to who may ask.
  expect(await statusOf(target.certificateOf('node-1'))).toMatchObject({ status: 404, grpc: 14 });
});

test('without a certificate only the open paths answer', async () => {
  expect(await statusOf()).toMatchObject({
    status: 403,
    grpc: 16,
    text: expect.stringContaining('no certificate') as string,
  });
  expect(await statusOf(undefined, { ':path': OPEN_PATH })).toMatchObject({ status: 200, text: 'open' });
  expect(await statusOf(undefined, { ':path': `${OPEN_PATH}/x` })).toMatchObject({ status: 403 });
});

test('a certificate of another authority, of another cluster, or of the past is refused', async () => {
  const other = createTestAuthority(CLUSTER_ID);
  try {
    expect(await statusOf(other.issue({ commonName: 'node-1', organisation: CLUSTER_ID }))).toMatchObject({
      status: 403,
      grpc: 16,
    });
  } finally {
    other.dispose();
  }
  for (const options of [
    { commonName: 'node-1', organisation: 'cluster-2' },
    { commonName: 'node-1', organisation: CLUSTER_ID, validForMs: -60_000 },
    { commonName: 'Not a node', organisation: CLUSTER_ID },
  ]) {
    expect(await statusOf(target.authority.issue(options))).toMatchObject({ status: 403, grpc: 16 });
  }
});

test('a certificate that expires while it is connected does not count any more', async () => {
  const short = target.authority.issue({ commonName: 'short', organisation: CLUSTER_ID, validForMs: 2_000 });
  const session = await dial(target, short);
  await eventually(async () => {
    // It may be cut before it is refused.
    const answer = session.destroyed ? undefined : await ask(session, UNKNOWN).catch(() => undefined);
    expect([403, undefined]).toContain(answer?.headers[':status']);
  });
});

test('a node that is revoked loses the connections that it has, and gets no new ones', async () => {
  const holder = target.certificateOf('revoked');
  const session = await dial(target, holder);
  const stream = session.request(requestsOf('revoked'));
  stream.on('error', () => undefined);
  await once(stream, 'response');
  const closed = once(session, 'close');
  target.revoke('revoked');
  await closed;
  expect(await statusOf(holder)).toMatchObject({
    status: 403,
    grpc: 16,
    text: expect.stringContaining('revoked') as string,
  });
});

test('what a worker does not need of Temporal is refused with words, before Temporal is asked', async () => {
  const session = await dial(target, target.certificateOf('node-1'));
  for (const method of [
    ...[
      'StartWorkflowExecution',
      'SignalWorkflowExecution',
      'ListWorkflowExecutions',
      'GetWorkflowExecutionHistory',
    ],
    ...['PollWorkflowTaskQueue', 'RespondActivityTaskCompletedById', 'RecordActivityTaskHeartbeatById'],
    ...['TerminateWorkflowExecution', 'ListNamespaces', 'DescribeTaskQueue', 'QueryWorkflow'],
  ]) {
    const { status, words } = await grpc(session, `${SERVICE}${method}`, Buffer.alloc(0));
    expect([status, words]).toEqual([7, expect.stringContaining(`may not call ${method}`) as string]);
  }
  expect(target.refused.at(-1)).toContain('node-1: ');
  session.close();
});

test('garbage, other frames and compressed messages are refused, and the connection goes on', async () => {
  const session = await dial(target, target.certificateOf('node-1'));
  const poll = (body: Buffer) => grpc(session, `${SERVICE}PollActivityTaskQueue`, body, { body });
  expect(await poll(Buffer.alloc(3))).toMatchObject({ status: 13 });
  expect(await poll(Buffer.from([0, 0, 0, 0, 9, 1]))).toMatchObject({ status: 13 });
  expect(await poll(Buffer.from([7, 0, 0, 0, 0]))).toMatchObject({ status: 13 });
  expect(await poll(Buffer.from([0, 0, 0, 0, 2, 0xff, 0xff]))).toMatchObject({ status: 13 });
  expect(await poll(Buffer.from([1, 0, 0, 0, 0]))).toMatchObject({
    status: 12,
    words: expect.stringContaining('grpc-encoding') as string,
  });
  expect(await poll(Buffer.alloc(4_194_304 + 6))).toMatchObject({ status: 8 });
  expect(await grpc(session, `${SERVICE}GetSystemInfo`, Buffer.alloc(0))).toMatchObject({ status: 14 });
  session.close();
});

test('a body beyond its limit is refused', async () => {
  const session = await dial(target, target.certificateOf('node-1'));
  const path = { ':method': 'PUT', ':path': '/internal/v1/nodes/node-1/documents' };
  const { headers } = await ask(session, path, Buffer.alloc(500_000, 0x20));
  expect(headers[':status']).toBe(413);
  session.close();
});

test('who connects and says nothing, or little at a time, is cut', async () => {
  const silent = connectTcp(target.port.port, '127.0.0.1');
  const tls = { port: target.port.port, host: '127.0.0.1', ca: target.authority.certificatePem };
  const idle = connectTls({ ...tls, ALPNProtocols: ['h2'] });
  const slow = connectTls(tls);
  for (const socket of [silent, idle, slow]) {
    socket.on('error', () => undefined);
    socket.resume();
  }
  await once(slow, 'secureConnect');
  slow.write(`GET ${OPEN_PATH} HTTP/1.1\r\n`);
  let sent = 0;
  const drip = setInterval(() => slow.write(`x-${(sent += 1)}: 1\r\n`), 20);
  await eventually(() =>
    expect([silent, idle, slow].map((socket) => socket.closed)).toEqual([true, true, true]),
  );
  clearInterval(drip);
});

test('strangers of one address have few connections, and leave room for nodes when they are gone', async () => {
  const sockets = Array.from({ length: 30 }, () => {
    const socket = connectTcp(target.port.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.resume();
    return socket;
  });
  const closed = Promise.all(sockets.map((socket) => once(socket, 'close')));
  await eventually(() => expect(sockets.filter((socket) => socket.closed).length).toBeGreaterThanOrEqual(22));
  await closed;
  expect(await statusOf(target.certificateOf('node-1'))).toMatchObject({ status: 404 });
});

test('one node has so many connections and no more', async () => {
  const holder = target.certificateOf('greedy');
  const sessions = [await dial(target, holder), await dial(target, holder), await dial(target, holder)];
  const fourth = await dial(target, holder).catch(() => undefined);
  if (fourth !== undefined) await expect(ask(fourth, UNKNOWN)).rejects.toThrow();
  expect((await statusOf(target.certificateOf('node-1'))).status).toBe(404);
  for (const session of sessions) session.destroy();
});
