// What a node publishes and streams through the cluster port is its own, or is refused.
import { request as httpsRequest } from 'node:https';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';

import { createClusterPortWriter, type ClusterPortWriter } from '../../adapters/cluster-port/documents';
import { openExecSession, type ExecOutput } from '../../api/exec-session';
import { createFrameDecoder, encodeControl, encodeFrames, type ExecFrame } from '../../contracts/exec';
import { nodeCoordinatePath } from '../../contracts/gossip';
import { REVOKED_WORDS, nodeClusterKeyPath, type ClusterKeyAnswer } from '../../contracts/join';
import { KV_PREFIX, eventKvKey, nodeKvKey, replicaKvKey } from '../../contracts/kv';
import { MAX_NODE_EVENTS_PER_MINUTE } from '../../contracts/node-documents';
import { nodeRequestsPath, nodeStreamPath, type LogLine } from '../../contracts/node-stream';
import type { ClusterEvent, ObservedNode, ObservedReplica } from '../../domain/model';
import { eventually } from '../support/wait';
import { askCluster } from '../../workers/cluster/ask-cluster';
import { CLUSTER_KEY, ask, dial, startTestPort, type TestPort } from './cluster-port';

let target: TestPort;
const writers: ClusterPortWriter[] = [];
beforeEach(async () => {
  target = await startTestPort();
});
afterEach(async () => {
  for (const writer of writers.splice(0)) writer.close();
  await target.close();
});

const writerOf = (nodeId: string, path = nodeId): ClusterPortWriter => {
  const holder = target.certificateOf(nodeId);
  const writer = createClusterPortWriter({
    url: `https://${target.port.address}`,
    nodeId: path,
    credentials: () => ({ ...holder, authorityPem: target.authority.certificatePem }),
  });
  writers.push(writer);
  return writer;
};

const node = (id: string): ObservedNode => ({
  id,
  address: '10.0.0.2',
  architecture: 'x64',
  dockerVersion: '27',
  capacity: { cpus: 2, memoryBytes: 1, diskBytes: 1 },
  cpuPercent: 0,
  memoryAvailableBytes: 1,
  diskFreeBytes: 1,
  health: 'healthy',
  reasons: [],
  images: [],
  labels: {},
  updatedAtMs: 1,
});
const replica = (id: string, nodeId: string): ObservedReplica => ({
  project: 'shop',
  name: 'web',
  id,
  release: 1,
  nodeId,
  operation: 'o',
  state: 'running',
  containers: [],
  ports: [],
  restartCount: 0,
  cpusReserved: 0,
  memoryReservedBytes: 0,
  createdAtMs: 1,
  updatedAtMs: 1,
});
const replicaKey = (id: string) => replicaKvKey({ project: 'shop', name: 'web' }, id);
const event = (nodeId: string, atMs = Date.now()): ClusterEvent => ({
  atMs,
  level: 'info',
  type: 'node.started',
  message: 'The node is up.',
  node: nodeId,
});
const keys = (prefix: string) => target.store.peek(prefix).map(({ key }) => key);

test('a node writes its own documents, many at once, again and again, and removes them', async () => {
  const writer = writerOf('a');
  const ids = Array.from({ length: 100 }, (_, at) => `r${at}`);
  const at = Date.now();
  await Promise.all([
    writer.put(nodeKvKey('a'), node('a')),
    writer.put(eventKvKey(at, '0123456789'), event('a', at)),
    ...ids.map((id) => writer.put(replicaKey(id), replica(id, 'a'))),
  ]);
  expect(keys(KV_PREFIX.replicas)).toHaveLength(100);
  const first = await writer.put(replicaKey('r1'), { ...replica('r1', 'a'), state: 'stopping' });
  const second = await writer.put(replicaKey('r1'), replica('r1', 'a'));
  expect(second.index).toBeGreaterThan(first.index);
  await target.restart(); // what it knew of who owns what is gone
  await Promise.all(ids.slice(0, 60).map((id) => writer.put(replicaKey(id), replica(id, 'a'))));
  await Promise.all(ids.map((id) => writer.remove(replicaKey(id))));
  await writer.remove(replicaKey('r1'));
  expect(keys(KV_PREFIX.replicas)).toEqual([]);
  expect(keys(KV_PREFIX.nodes)).toEqual([nodeKvKey('a')]);
});

test('what is of another node, or of no node, is refused whole, and told once', async () => {
  await writerOf('b').put(replicaKey('of-b'), replica('of-b', 'b'));
  const before = target.store.peek('');
  const now = Date.now();
  const refuses = async (code: string, key: string, document?: unknown) => {
    const writer = writerOf('a');
    // With it in one request.
    const own = (
      key.startsWith(KV_PREFIX.events)
        ? writer.put(eventKvKey(now, 'aaaaaaaaaa'), event('a', now))
        : writer.put(replicaKey('own'), replica('own', 'a'))
    ).catch((error: unknown) => error);
    const other = document === undefined ? writer.remove(key) : writer.put(key, document);
    await expect(other).rejects.toMatchObject({ code });
    expect(await own).toMatchObject({ code });
  };
  await refuses('forbidden', nodeKvKey('b'), node('b'));
  await refuses('forbidden', nodeKvKey('b'));
  await refuses('invalid', nodeKvKey('a'), node('b'));
  await refuses('forbidden', replicaKey('x'), replica('x', 'b'));
  await refuses('forbidden', replicaKey('of-b'), replica('of-b', 'a'));
  await refuses('forbidden', replicaKey('of-b'));
  await refuses('invalid', replicaKey('x'), replica('y', 'a'));
  await refuses('invalid', replicaKey('x'), { nodeId: 'a' });
  await refuses('invalid', replicaKvKey({ project: 'a/b', name: 'c' }, 'd'), {
    ...replica('d', 'a'),
    project: 'a/b',
    name: 'c',
  });
  await refuses('forbidden', eventKvKey(now, '0123456789'), event('b', now));
  await refuses('invalid', eventKvKey(now, '0123456789'), event('a', now - 1));
  await refuses('forbidden', eventKvKey(now, '0123456789'));
  await refuses('forbidden', `${KV_PREFIX.microservices}shop/web`, {});
  await refuses('forbidden', `${KV_PREFIX.operations}shop/web/1`);
  await refuses('forbidden', 'elsewhere', {});
  const told = target.store.peek<ClusterEvent>(KV_PREFIX.events);
  expect(told.map(({ value }) => [value.type, value.node])).toEqual([['node.refused', 'a']]);
  expect(target.store.peek('').filter(({ key }) => !key.startsWith(KV_PREFIX.events))).toEqual(before);
  await expect(writerOf('a', 'b').put(nodeKvKey('b'), node('b'))).rejects.toMatchObject({
    code: 'forbidden',
  });
});

const HOUR_MS = 3_600_000;
test.each([
  ['three hours ahead', 3 * HOUR_MS],
  ['a day behind', -24 * HOUR_MS],
])('a node whose clock is %s is told so, and its events count from when they came', async (_how, offMs) => {
  const writer = writerOf('a');
  await writer.put(nodeKvKey('a'), node('a'));
  expect(Math.abs(writer.clockAheadMs())).toBeLessThan(10_000);
  const beforeMs = Date.now();
  const session = await dial(target, target.certificateOf('a'));
  const events = [1, 2, 3].map((at) => event('a', beforeMs + offMs + at));
  const body = JSON.stringify({
    sentAtMs: beforeMs + offMs,
    writes: events.map((one, at) => ({
      kind: 'put',
      key: eventKvKey(one.atMs, `${9 - at}aaaaaaaaa`),
      document: one,
    })),
  });
  const answer = await ask(session, { ':method': 'PUT', ':path': '/internal/v1/nodes/a/documents' }, body);
  const { clockAheadMs } = JSON.parse(answer.body.toString()) as { clockAheadMs: number };
  expect(Math.abs(clockAheadMs - offMs)).toBeLessThan(60_000);
  const kept = target.store.peek<ClusterEvent>(KV_PREFIX.events);
  expect(kept.map(({ value }) => value.nodeAtMs)).toEqual(events.map(({ atMs }) => atMs));
  for (const { key, value } of kept) {
    expect(key).toBe(eventKvKey(value.atMs, key.slice(-10)));
    expect(value.atMs).toBeGreaterThanOrEqual(beforeMs);
    expect(value.atMs).toBeLessThan(Date.now() + 1_000);
  }
  session.close();
});

test.each<readonly [string, Partial<Record<keyof ObservedNode, unknown>>, RegExp]>([
  ['less than no room', { capacity: { cpus: -4, memoryBytes: 1, diskBytes: 1 } }, /capacity\/cpus/],
  ['no processor', { capacity: { cpus: 0, memoryBytes: 1, diskBytes: 1 } }, /capacity\/cpus/],
  ['room without end', { memoryAvailableBytes: 1e300 }, /memoryAvailableBytes/],
  ['less than no disk', { diskFreeBytes: -1 }, /diskFreeBytes/],
  ['a load that is none', { cpuPercent: -1 }, /cpuPercent/],
  ['a health of its own', { health: 'splendid' }, /health/],
  ['an engine lost at no time', { engineLostAtMs: -1 }, /engineLostAtMs/],
  ['a novel', { architecture: 'x'.repeat(10_000) }, /architecture/],
  ['novels', { reasons: Array.from({ length: 100 }, () => 'x'.repeat(1_000)) }, /reasons/],
  ['thousands of images', { images: Array.from({ length: 9_000 }, (_, at) => `a:${at}`) }, /images/],
  ['an image that is a novel', { images: ['x'.repeat(100_000)] }, /images\/0/],
  [
    'thousands of labels',
    { labels: Object.fromEntries(Array.from({ length: 999 }, (_, at) => [`l${at}`, ''])) },
    /labels/,
  ],
])('a node that says of itself %s is refused, and told', async (_what, change, words) => {
  const writer = writerOf('a');
  await writer.put(nodeKvKey('a'), node('a'));
  await expect(writer.put(nodeKvKey('a'), { ...node('a'), ...change })).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(words) as string,
  });
  expect(target.store.peek(nodeKvKey('a'))).toMatchObject([{ value: node('a') }]);
  const told = target.store.peek<ClusterEvent>(KV_PREFIX.events).map(({ value }) => value);
  expect(told).toMatchObject([{ type: 'node.refused', node: 'a' }]);
  expect(told[0]?.message.length).toBeLessThan(1_000);
});

test('numbers that JSON has no word for are refused', async () => {
  const session = await dial(target, target.certificateOf('a'));
  const put = { ':method': 'PUT', ':path': '/internal/v1/nodes/a/documents' };
  for (const number of ['NaN', 'Infinity', '1e999', '-1e999', '"4"', 'null', '{}', '[]']) {
    const document = JSON.stringify(node('a')).replace('"cpuPercent":0', `"cpuPercent":${number}`);
    const body = `{"writes":[{"kind":"put","key":"${nodeKvKey('a')}","document":${document}}]}`;
    expect([number, (await ask(session, put, body)).headers[':status']]).toEqual([number, 400]);
  }
  session.close();
  expect(keys(KV_PREFIX.nodes)).toEqual([]);
});

test('a place that is nowhere is refused', async () => {
  const session = await dial(target, target.certificateOf('a'));
  const post = { ':method': 'POST', ':path': nodeCoordinatePath('a') };
  for (const change of [{ Height: -1 }, { Vec: Array(8).fill(1e300) }, { Vec: [] }, { Error: '1' }]) {
    const coordinate = { Vec: Array(8).fill(0), Height: 1e-5, Adjustment: 0, Error: 1.5, ...change };
    expect((await ask(session, post, JSON.stringify({ coordinate }))).headers[':status']).toBe(400);
  }
  session.close();
});

const portAt = (address: string, more: object = {}) => ({
  container: 'c',
  port: 80,
  protocol: 'tcp',
  address,
  hostPort: 20_000,
  serviceId: '',
  hostnames: ['web.localhost'],
  ...more,
});

test.each<readonly [string, Partial<Record<keyof ObservedReplica, unknown>>, RegExp]>([
  ['a state of its own', { state: 'glorious' }, /state/],
  ['more room than there is', { memoryReservedBytes: -1e12 }, /memoryReservedBytes/],
  ['half a release', { release: 1.5 }, /release/],
  ['a port that is none', { ports: [portAt('10.0.0.2', { port: 1e9 })] }, /ports\/0\/port/],
  ['port 0 of the machine', { ports: [portAt('10.0.0.2', { hostPort: 0 })] }, /ports\/0\/hostPort/],
  ...[
    ...['127.0.0.1', '::ffff:127.0.0.1', '::1', '0.0.0.0', '169.254.169.254', 'fe80::1'],
    ...['224.0.0.251', '255.255.255.255', 'ff02::1'],
  ].map(
    (address) =>
      [`the address ${address}`, { ports: [portAt(address)] }, /ports\/0\/address: is not the/] as const,
  ),
  ['a socket', { ports: [portAt('unix//run/docker.sock')] }, /ports\/0\/address: is not an IP/],
  ['a reason without end', { reason: 'x'.repeat(100_000) }, /reason/],
])('a node that says of its replica %s is refused', async (_what, change, words) => {
  await expect(writerOf('a').put(replicaKey('r'), { ...replica('r', 'a'), ...change })).rejects.toMatchObject(
    { code: 'invalid', message: expect.stringMatching(words) as string },
  );
  expect(keys(KV_PREFIX.replicas)).toEqual([]);
});

test('what the cluster tells of nodes no node tells of itself', async () => {
  const at = Date.now();
  for (const change of [
    { type: 'node.removed' },
    { type: 'node.drained' },
    { level: 'fatal' },
    { type: 'a b' },
  ]) {
    await expect(
      writerOf('a').put(eventKvKey(at, '0123456789'), { ...event('a', at), ...change }),
    ).rejects.toMatchObject({ code: 'invalid' });
  }
});

test('a node that floods the events is stopped', async () => {
  const writer = writerOf('a');
  const now = Date.now();
  const all = Array.from({ length: MAX_NODE_EVENTS_PER_MINUTE + 64 }, (_, at) =>
    writer.put(eventKvKey(now, String(at).padStart(10, '0')), event('a', now)).then(
      () => 'written',
      (error: unknown) => (error as { code: string }).code,
    ),
  );
  const results = await Promise.all(all);
  expect(results).toContain('rate_limited');
  const late = writer.put(eventKvKey(now, '9999999999'), event('a', now));
  const refusedLate = expect(late).rejects.toMatchObject({ code: 'rate_limited' });
  await writer.put(nodeKvKey('a'), node('a'));
  await refusedLate;
  expect(keys(KV_PREFIX.events).length).toBeLessThanOrEqual(MAX_NODE_EVENTS_PER_MINUTE + 1); // and that it was refused
});

test('a store that is away is told as that, and what is not JSON as well', async () => {
  target.store.away = true;
  await expect(writerOf('a').put(nodeKvKey('a'), node('a'))).rejects.toMatchObject({ code: 'unavailable' });
  target.store.away = false;
  const session = await dial(target, target.certificateOf('a'));
  const put = { ':method': 'PUT', ':path': '/internal/v1/nodes/a/documents' };
  for (const body of ['', '{', '[]', '{"writes":[]}', '{"writes":[{"kind":"put"}]}', '{"writes":{}}']) {
    expect((await ask(session, put, body)).headers[':status']).toBe(400);
  }
  session.close();
});

const http1 = (nodeId: string, method: string, path: string, body?: string) => {
  const { certificatePem, keyPem } = target.certificateOf(nodeId);
  const request = httpsRequest(`https://${target.port.address}${path}`, {
    method,
    agent: false,
    ca: target.authority.certificatePem,
    cert: certificatePem,
    key: keyPem,
  });
  request.end(body);
  return once(request, 'response').then(([response]) => response as IncomingMessage);
};

test.each(['HTTP/1.1', 'HTTP/2'])(
  'logs come over %s from the node that was asked, and from no other',
  async (version) => {
    const requests = await http1('a', 'GET', nodeRequestsPath('a'));
    requests.setEncoding('utf8');
    await eventually(() => expect(target.nodeStreams.isConnected('a')).toBe(true));
    expect((await http1('a', 'GET', nodeRequestsPath('b'))).statusCode).toBe(403);

    const abort = new AbortController();
    const opened = target.nodeStreams.open(
      'a',
      { kind: 'logs', replicaId: 'r', follow: false },
      abort.signal,
    );
    let lines = '';
    requests.on('data', (text: string) => (lines += text));
    await eventually(() => expect(lines).toContain('requestId'));
    const { requestId } = JSON.parse(lines.trim()) as { requestId: string };
    const forged = await http1('b', 'POST', nodeStreamPath(requestId), '{"line":"forged"}\n');
    expect(forged.statusCode).toBe(403);
    expect(
      (await http1('b', 'POST', `${nodeStreamPath(requestId)}?error=invalid&message=x`)).statusCode,
    ).toBe(403);
    const line = '{"line":"real"}\n';
    const session = await dial(target, target.certificateOf('a'));
    const answered =
      version === 'HTTP/1.1'
        ? http1('a', 'POST', nodeStreamPath(requestId), line)
        : ask(session, { ':method': 'POST', ':path': nodeStreamPath(requestId) }, line);
    const got: LogLine[] = [];
    for await (const one of await opened) got.push(one);
    expect(got).toEqual([{ line: 'real' }]);
    await answered.catch(() => undefined); // its answer may be cut, since nobody reads on
    session.close();
  },
);

test('a node is given the key of certificates, and nobody is under the name of another', async () => {
  const asked = (of: string) =>
    askCluster<ClusterKeyAnswer>({
      address: target.port.address,
      path: nodeClusterKeyPath(of),
      body: {},
      credentials: { ...target.certificateOf('a'), authorityPem: target.authority.certificatePem },
    });
  expect(await asked('a')).toEqual({ clusterKey: CLUSTER_KEY });
  await expect(asked('b')).rejects.toMatchObject({ code: 'forbidden' });
  target.revoke('a');
  await expect(asked('a')).rejects.toThrow(REVOKED_WORDS);
});

test('a command goes both ways with the node that was asked, and with no other', async () => {
  const requests = await http1('a', 'GET', nodeRequestsPath('a'));
  requests.setEncoding('utf8');
  await eventually(() => expect(target.nodeStreams.isConnected('a')).toBe(true));
  let lines = '';
  requests.on('data', (text: string) => (lines += text));
  const opened = openExecSession(
    target.nodeStreams,
    'a',
    { kind: 'exec', replicaId: 'r', command: ['cat'], env: [], stdin: true, tty: false },
    new AbortController().signal,
  );
  await eventually(() => expect(lines).toContain('requestId'));
  const { requestId } = JSON.parse(lines.trim()) as { requestId: string };
  const said = Buffer.concat([
    encodeFrames('stdout', Buffer.from('real')),
    encodeControl({ kind: 'exited', exitCode: 0 }),
  ]);
  expect((await http1('b', 'POST', nodeStreamPath(requestId), 'forged')).statusCode).toBe(403);
  const answer = await http1('a', 'POST', nodeStreamPath(requestId), said.toString('latin1'));
  expect(answer.statusCode).toBe(200);
  const received: ExecFrame[] = [];
  const decoder = createFrameDecoder();
  answer.on('data', (chunk: Buffer) => received.push(...decoder.push(chunk)));
  answer.on('error', () => undefined);
  const session = await opened;
  await session.write(Buffer.from('input'));
  await eventually(() => expect(received).toEqual([{ channel: 'stdin', data: Buffer.from('input') }]));
  // Nobody gets at a command that has its node already.
  expect((await http1('b', 'POST', nodeStreamPath(requestId), 'late')).statusCode).toBe(404);
  const outputs: ExecOutput[] = [];
  for await (const one of session.output()) outputs.push(one);
  expect(outputs).toEqual([
    { kind: 'data', channel: 'stdout', data: Buffer.from('real') },
    { kind: 'exited', exitCode: 0 },
  ]);
});
