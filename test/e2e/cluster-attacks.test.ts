// Two clusters on one network, machines that try to join with what is no good, a member that lies, and what is left of
// all that: a reason on both sides, nothing half-done, and two clusters that work.
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, type ClientHttp2Session } from 'node:http2';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { SERVER_NAME } from '../../contracts/authority';
import { eventKvKey, nodeKvKey, replicaKvKey } from '../../contracts/kv';
import { nodeDocumentsPath } from '../../contracts/node-documents';
import { nodeRequestsPath } from '../../contracts/node-stream';
import { parseJoinToken } from '../../domain/join-token';
import type { MadeJoinTokenView, NodeView } from '../../openapi/schemas';
import { startCluster, type Cluster } from '../support/cluster/cluster';
import { assertClusterConverged } from '../support/cluster/cluster-checker';
import type { ClusterNode } from '../support/cluster/cluster-node';
import { startDockerEngine, type DockerEngine } from '../support/engine';
import { productCommand, productEnvironment } from '../support/product-process';
import { apply, events, read, replicas, serving, webSpec } from '../support/product';
import { findUnpacked } from '../support/programs';
import { eventually } from '../support/wait';

const JOIN_TIMEOUT_MS = 60_000;

let a: Cluster;
let b: Cluster;
/** Belongs to nobody. */
let outsider: DockerEngine;

beforeAll(async () => {
  const outcomes = await Promise.allSettled([
    startCluster({ nodes: 2 }).then((made) => (a = made)),
    startCluster({ nodes: 2 }).then((made) => (b = made)),
    startDockerEngine({ hostname: 'outsider' }).then((made) => (outsider = made)),
  ]);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}, 180_000);

afterAll(async () => {
  await Promise.all([a?.dispose(), b?.dispose(), outsider?.dispose()]);
}, 60_000);

interface Attempt {
  readonly machine?: DockerEngine;
  readonly address?: string;
  readonly token: string;
  readonly name?: string;
  readonly dataDir?: string;
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

const portOf = ({ head }: Cluster): string => `${head.address}:7443`;

const joinCommand = ({ machine = outsider, address, token, name, dataDir, flags = [] }: Attempt) =>
  productCommand(
    ...['join', address ?? portOf(a), '--token', token],
    ...['--data-dir', dataDir ?? join(machine.folder, 'member')],
    ...['--node-name', name ?? machine.hostname],
    ...['--advertise-address', machine.address],
    ...flags,
  );

/** Has to end by itself. @returns what it says */
const refused = async (attempt: Attempt): Promise<string> => {
  const { machine = outsider } = attempt;
  const { code, stderr } = await machine.exec(joinCommand(attempt), {
    mayFail: true,
    timeoutMs: JOIN_TIMEOUT_MS,
    env: productEnvironment(attempt.env),
  });
  expect([code, stderr]).not.toEqual([0, expect.anything()]);
  expect(stderr).toMatch(/^containeros: /m);
  expect(stderr).not.toMatch(/^ +at /m); // a stack
  return stderr;
};

const makeToken = async (cluster: Cluster, wanted: object = {}): Promise<MadeJoinTokenView> => {
  const answer = await cluster.instance.api('POST', '/v1/join-tokens', { body: wanted });
  expect(answer.status).toBe(201);
  return answer.body as MadeJoinTokenView;
};

const told = async (cluster: Cluster, type: string, words: RegExp): Promise<void> =>
  eventually(async () => {
    const messages = (await events(cluster.instance, `type=${type}`)).map(({ message }) => message);
    expect(messages).toEqual(expect.arrayContaining([expect.stringMatching(words)]));
  });

const nodeIds = async ({ instance }: Cluster): Promise<readonly string[]> =>
  (await read<{ items: NodeView[] }>(instance, '/v1/nodes')).items.map(({ id }) => id).sort();

test('two clusters on one network, with nodes of the same names, know nothing of each other', async () => {
  await Promise.all(
    [a, b].map(async (cluster, at) => {
      const name = `of-${'ab'[at] ?? ''}`;
      await apply(cluster.instance, webSpec(name, await cluster.web(), { scale: 2 }));
      await assertClusterConverged(cluster);
      const members =
        await cluster.instance.consul<readonly { readonly Addr: string }[]>('/v1/agent/members');
      expect(members.map(({ Addr }) => Addr).sort()).toEqual(
        cluster.nodes.map(({ address }) => address).sort(),
      );
      expect(await nodeIds(cluster)).toEqual(['node-1', 'node-2']);
    }),
  );
}, 120_000);

test('a token that is no good lets nobody in: the machine and the cluster are told why', async () => {
  const good = await makeToken(a);
  const { id, secret, authorityFingerprint } = parseJoinToken(good.token);
  const ofB = await makeToken(b);
  for (const [token, words] of [
    ['garbage', /it does not begin with cos1/],
    [good.token.slice(0, -9), /it is cut off/],
    [good.token.replace('cos1', 'cos2'), /of version 2, and this ContainerOS knows version 1/],
    [ofB.token, /not the one that the join token is for/],
    [`cos1.${id}.${secret.replace(/./g, 'x')}.${authorityFingerprint}`, /not one of this cluster/],
    [`cos1.aaaaaaaa.${secret}.${authorityFingerprint}`, /not one of this cluster/],
  ] as const) {
    expect(await refused({ token })).toMatch(words);
  }
  await told(
    a,
    'node.join_refused',
    /machine at [\d.]+ was not let in as a node: The join token is not one of/,
  );
  await told(a, 'node.join_refused', /was not let in as a node: What it has for a join token is none/);
  await told(a, 'node.join_refused', /was not let in as a node: Its join token is of another cluster/);

  const short = await makeToken(a, { expiresInSeconds: 1 });
  const revoked = await makeToken(a);
  expect((await a.instance.api('DELETE', `/v1/join-tokens/${revoked.id}`)).status).toBe(204);
  expect(await refused({ token: revoked.token })).toMatch(/was revoked at/);
  await told(a, 'node.join_refused', /was revoked at/);
  await eventually(() => expect(Date.now()).toBeGreaterThan(Date.parse(short.expiresAt)));
  expect(await refused({ token: short.token })).toMatch(/expired at/);
  await told(a, 'node.join_refused', /expired at/);
  expect(JSON.stringify(await events(a.instance, 'limit=500'))).not.toContain(secret);
  expect(await nodeIds(a)).toEqual(['node-1', 'node-2']);
}, 120_000);

test('a name that somebody has is nobody else’s', async () => {
  const { token, id } = await makeToken(a);
  expect(await refused({ token, name: 'node-2' })).toMatch(
    /There is a node node-2 already\. Remove .*--node-name/,
  );
  expect(await refused({ token, name: 'node-1' })).toMatch(
    /machine with the control plane is the node node-1/,
  );
  await told(a, 'node.join_refused', /There is a node node-2 already|control plane is the node node-1/);
  const { items } = await read<{ items: { id: string; usesLeft: number }[] }>(a.instance, '/v1/join-tokens');
  expect(items.find((one) => one.id === id)).toMatchObject({ usesLeft: 1 });
}, 60_000);

test('what is no cluster at the address is told as that', async () => {
  const { token } = await makeToken(a);
  const silent = outsider.spawn([
    ...[
      process.execPath,
      '-e',
      "require('net').createServer((s) => s.on('error', () => 0).resume()).listen(9999)",
    ],
  ]);
  try {
    for (const [address, words] of [
      [`${outsider.address}:9998`, /nothing listens there/],
      [`${outsider.world.addressOf(250)}:7443`, /no such machine answers on the network/],
      [portOf(b), /certificate is of another authority/],
      [`${a.head.address}:8300`, /cannot be reached: what answers there/],
      [`${outsider.address}:9999`, /no answer in 15 s/],
    ] as const) {
      expect([address, await refused({ address, token })]).toEqual([address, expect.stringMatching(words)]);
    }
  } finally {
    silent.kill('SIGKILL');
  }
}, 120_000);

test('a wrong clock, an old engine and a disk that takes nothing are told, and nothing is half-done', async () => {
  const { token } = await makeToken(a);
  const clock = (offset: string) => ({
    LD_PRELOAD: findUnpacked('libfaketimeMT.so.1'),
    FAKETIME: offset,
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
  });
  expect(await refused({ token, env: clock('+7h') })).toMatch(
    /clock .* 7 hours ahead of that of the cluster/,
  );
  await told(a, 'node.join_refused', /clock of this machine is 7 hours ahead/);
  expect(await refused({ token, env: clock('-7h') })).toMatch(/clock .* 7 hours behind that of the cluster/);
  // By its own clock nothing that the cluster shows counts yet, so that it gives up.
  expect(await refused({ token, env: clock('-60d') })).toMatch(
    /does not count \(it does from .* Set the clock/,
  );
  await told(a, 'node.join_refused', /Its clock says .* does not count/);

  // The edge that cannot run here: an engine of long ago.
  const socket = join(outsider.folder, 'old.sock');
  const old = createServer((request, response) => {
    if (request.url?.endsWith('/info') !== true) throw new Error(`not made up here: ${request.url}`);
    response.end(JSON.stringify({ ServerVersion: '19.03.15', Architecture: 'x86_64' }));
  }).listen(socket);
  await once(old, 'listening');
  try {
    expect(await refused({ token, flags: ['--docker-socket', socket] })).toMatch(/20\.10 or newer.* 19\.03/);
  } finally {
    old.close();
  }
  await told(a, 'node.join_refused', /needs Docker Engine 20\.10 or newer/);
  expect(await refused({ token, flags: ['--docker-socket', '/run/none.sock'] })).toMatch(/a node needs one/);

  const readOnly = '/run/read-only';
  await outsider.exec(['sh', '-c', `mkdir ${readOnly} && mount -t tmpfs -o ro none ${readOnly}`]);
  expect(await refused({ token, dataDir: readOnly })).toMatch(/data directory .* cannot be used: EROFS/);
  expect(await nodeIds(a)).toEqual(['node-1', 'node-2']);
}, 120_000);

test('a data directory is of one machine in one cluster', async () => {
  const [ofA, ofB] = await Promise.all([makeToken(a), makeToken(b)]);
  const { engine: machine } = a.node('node-2');
  const onHead = { machine: a.head.engine, dataDir: a.instance.dataDir };
  expect(await refused({ ...onHead, address: portOf(b), token: ofB.token })).toMatch(
    /has a control plane of its own/,
  );
  expect(await refused({ machine, address: portOf(b), token: ofB.token })).toMatch(
    /is node node-2 of another cluster, that at .* Leave it first with containeros leave/,
  );
  expect(await refused({ machine, token: ofA.token })).toMatch(/runs already with the data directory/);
  expect(await nodeIds(b)).toEqual(['node-1', 'node-2']);
}, 60_000);

const spawnJoin = (attempt: Attempt): { readonly child: ChildProcess; readonly output: () => string } => {
  let text = '';
  const child = outsider.spawn(joinCommand(attempt), {
    cwd: '/',
    env: productEnvironment(),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return { child, output: () => text };
};

/** kill -9 of everything that ContainerOS runs on the machine: each has the data directory on its command line. */
const killProduct = (): void => {
  for (const pid of outsider.hostPids()) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (command.includes(join(outsider.folder, 'member'))) process.kill(pid, 'SIGKILL');
    } catch (error) {
      if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
};

test('while Consul or the API is away a join is told so, and the same token joins afterwards, whatever was killed', async () => {
  const { token, id } = await makeToken(a);
  await a.head.freeze('consul');
  try {
    expect(await refused({ token })).toMatch(/Consul|no answer in 15 s/);
  } finally {
    a.head.thaw('consul');
  }
  await a.head.freeze('api');
  try {
    expect(await refused({ token })).toMatch(/cannot be reached: no answer in 15 s/);
  } finally {
    a.head.thaw('api');
  }
  await eventually(async () => expect((await a.instance.api('GET', '/readyz')).status).toBe(200));

  for (let count = 0; count < 6; count += 1) {
    const { child } = spawnJoin({ token });
    const exited = once(child, 'exit');
    await Promise.race([exited, delay(300 + Math.random() * 1_500)]); // the moment is what varies here
    killProduct();
    await exited;
  }
  const { child, output } = spawnJoin({ token });
  await eventually(
    async () => {
      if (child.exitCode !== null) throw new Error(output());
      expect(output()).toContain('This machine is node outsider');
      const node = await read<NodeView>(a.instance, '/v1/nodes/outsider');
      expect(node).toMatchObject({ health: 'healthy', connected: true });
    },
    { timeoutMs: 60_000, describe: 'it has joined' },
  );
  expect(await nodeIds(a)).toEqual(['node-1', 'node-2', 'outsider']);
  const { items } = await read<{ items: { id: string; usesLeft: number; usedBy: string[] }[] }>(
    a.instance,
    '/v1/join-tokens',
  );
  expect(items.find((one) => one.id === id)).toMatchObject({ usesLeft: 0, usedBy: ['outsider'] });
  const joined = (await events(a.instance, 'limit=500')).filter(
    ({ type, node }) => type === 'node.joined' && node === 'outsider',
  );
  expect(joined).toHaveLength(1);
  // Somebody who has seen the token on a command line.
  const elsewhere = { dataDir: join(outsider.folder, 'thief') };
  expect(await refused({ token, ...elsewhere, name: 'thief' })).toMatch(/used as often as it may be/);
  expect(await refused({ token, ...elsewhere })).toMatch(
    /used as often as it may be|There is a node outsider/,
  );
}, 180_000);

const stolen = ({ engine }: ClusterNode): ClientHttp2Session => {
  const file = (name: string) => readFileSync(join(engine.folder, 'member', 'membership', `${name}.pem`));
  const session = connect(`https://${portOf(a)}`, {
    ca: file('authority'),
    cert: file('node'),
    key: file('node-key'),
    servername: SERVER_NAME,
  });
  session.on('error', () => undefined);
  return session;
};

const put = (session: ClientHttp2Session, nodeId: string, writes: unknown): Promise<number> =>
  new Promise((resolve, reject) => {
    const path = nodeDocumentsPath(nodeId);
    const stream = session.request({ ':method': 'PUT', ':path': path, 'content-type': 'application/json' });
    stream.on('response', (headers) => resolve(headers[':status'] ?? 0));
    stream.on('error', reject);
    stream.resume();
    stream.end(typeof writes === 'string' ? writes : JSON.stringify({ writes }));
  });

test('a member that lies is refused and told of, and the others work on', async () => {
  const session = stolen(a.node('node-2'));
  const kv = async (id: string) =>
    (await a.instance.consul<readonly [{ readonly Value: string }]>(`/v1/kv/${nodeKvKey(id)}`))[0].Value;
  const documentOf = async (id: string) =>
    JSON.parse(Buffer.from(await kv(id), 'base64').toString()) as Record<string, unknown>;
  const own = await documentOf('node-2');
  const [foreign] = (await replicas(a.instance)).filter(({ node }) => node === 'node-1');
  if (foreign === undefined) throw new Error('the head runs nothing');
  const key = nodeKvKey('node-2');
  const write = (document: unknown, at = key) => [{ kind: 'put', key: at, document }];
  const now = Date.now();
  const foreignKey = replicaKvKey({ project: foreign.project, name: foreign.microservice }, foreign.id);
  const event = { atMs: now, level: 'info', type: 'node.started', message: 'x', node: 'node-1' };
  const before = await documentOf('node-1');
  for (const [status, nodeId, writes] of [
    [403, 'node-1', write(own)],
    [403, 'node-2', write(before, nodeKvKey('node-1'))],
    [403, 'node-2', [{ kind: 'remove', key: nodeKvKey('node-1') }]],
    [403, 'node-2', [{ kind: 'remove', key: foreignKey }]],
    [403, 'node-2', write(event, eventKvKey(now, '0123456789'))],
    [400, 'node-2', write({ ...event, node: 'node-2', type: 'node.removed' }, eventKvKey(now, '0123456789'))],
    [400, 'node-2', write({ ...own, capacity: { cpus: -1e9, memoryBytes: -1, diskBytes: 0 } })],
    [
      400,
      'node-2',
      JSON.stringify({ writes: write(own) }).replace(/"cpuPercent":[^,]*/, '"cpuPercent":1e999'),
    ],
    [400, 'node-2', write({ ...own, reasons: ['x'.repeat(100_000)] })],
    [400, 'node-2', write({ ...own, images: Array.from({ length: 9_000 }, (_, at) => `i:${at}`) })],
    [413, 'node-2', write({ ...own, images: ['x'.repeat(2_000_000)] })],
    [400, 'node-2', 'null'],
    [403, 'node-2/../node-1', write(own)],
  ] as const) {
    const answered = await put(session, nodeId, writes);
    expect([answered, JSON.stringify(writes).slice(0, 200)]).toEqual([status, expect.anything()]);
  }
  const flood = Array.from({ length: 30 }, (_, turn) =>
    put(
      session,
      'node-2',
      Array.from({ length: 60 }, (__, at) => ({
        kind: 'put',
        key: eventKvKey(now, `${String(turn).padStart(5, '0')}${String(at).padStart(5, '0')}`),
        document: { ...event, node: 'node-2' },
      })),
    ),
  );
  const statuses = await Promise.all(flood);
  expect(statuses).toContain(429);
  expect(statuses.filter((status) => status === 200).length).toBeLessThanOrEqual(10);
  session.close();
  await told(a, 'node.refused', /node node-2 was refused something/);
  expect(await documentOf('node-1')).toMatchObject({ id: 'node-1', address: before['address'] });
  await apply(a.instance, webSpec('after', await a.web(), { scale: 3 }));
  await serving(a.instance, 'after', 3, 'web v1');
}, 90_000);

test('a node that is removed is cut off at once, and its name is free again', async () => {
  const node = a.node('node-2');
  const session = stolen(node);
  const stream = session.request({ ':path': nodeRequestsPath('node-2') });
  stream.on('error', () => undefined);
  await once(stream, 'response');
  const cut = once(session, 'close');
  expect((await a.instance.api('DELETE', '/v1/nodes/node-2?force=true')).status).toBe(200);
  await cut;
  const again = stolen(node);
  expect(await put(again, 'node-2', [{ kind: 'remove', key: nodeKvKey('node-2') }])).toBe(403);
  again.close();
  await eventually(() => expect(node.product.isRunning()).toBe(false), { timeoutMs: 30_000 });

  const { token } = await makeToken(a);
  const { code } = await node.engine.exec(
    productCommand('leave', '--data-dir', join(node.engine.folder, 'member')),
    { env: productEnvironment(), timeoutMs: 60_000 },
  );
  expect(code).toBe(0);
  const attempt = { machine: node.engine, token };
  const child = node.engine.spawn(joinCommand(attempt), {
    cwd: '/',
    env: productEnvironment(),
    stdio: 'ignore',
  });
  await eventually(
    async () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}`);
      expect(await read<NodeView>(a.instance, '/v1/nodes/node-2')).toMatchObject({
        health: 'healthy',
        connected: true,
      });
    },
    { timeoutMs: 60_000, describe: 'it has joined again' },
  );
  await serving(a.instance, 'after', 3, 'web v1');
  await assertClusterConverged(b);
}, 150_000);
