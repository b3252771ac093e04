// What a machine is told that cannot join, by the real port and by whatever else it may find at an address; and that
// its data directory can join afterwards.
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { createAuthority, openAuthority } from '../../adapters/certificates/authority';
import { createAttemptLimiter } from '../../api/attempt-limiter';
import { startClusterPort, type ClusterPort } from '../../api/cluster-port/cluster-port';
import { createTaskTokens } from '../../api/cluster-port/task-tokens';
import { createTemporalGateway } from '../../api/cluster-port/temporal-gateway';
import { createJoinNode } from '../../api/join/join-node';
import { createJoinRoute } from '../../api/join/join-route';
import { createJoinTokens, type JoinTokens } from '../../api/join/join-tokens';
import { createRefusedJoins } from '../../api/join/refused-joins';
import type { Authority } from '../../contracts/authority';
import { JOIN_PATH } from '../../contracts/join';
import { KV_PREFIX } from '../../contracts/kv';
import type { NodeIdentity } from '../../domain/identity';
import { formatJoinToken } from '../../domain/join-token';
import type { ClusterEvent } from '../../domain/model';
import { askCluster, fetchAuthority } from '../../workers/cluster/ask-cluster';
import { joinCluster } from '../../workers/cluster/join';
import { assertCredentials, memberTlsFiles } from '../../workers/cluster/membership';
import { parseConfig } from '../../workers/config';
import { openRunDirectory } from '../../workers/installation';
import { lockDataDirectory } from '../../workers/up/data-directory-lock';
import { createTestAuthority } from '../support/certificates';
import { createMemoryStore, type MemoryStore } from '../support/memory-store';

// It is read from beside the build.
jest.mock('../../workers/version', () => ({ version: () => '1.0.0' }));

const CLUSTER = 'c0ffee';
const HOUR_MS = 3_600_000;

let authority: Authority;
let store: MemoryStore;
let tokens: JoinTokens;
let port: ClusterPort;
let folder: string;
const servers: Server[] = [];
/** Lost on the way to the machine, when set. */
let loseAnswer = false;

const listen = async (server: Server, at: string | number): Promise<Server> => {
  servers.push(server);
  await new Promise<void>((resolve) =>
    server.listen(at as number, typeof at === 'number' ? '127.0.0.1' : undefined, resolve),
  );
  return server;
};
const addressOf = (server: Server): string => `127.0.0.1:${(server.address() as AddressInfo).port}`;

/** The edge that cannot run here: an engine of another version, or one that is broken. */
const startEngine = async (info: RequestListener): Promise<string> => {
  const socket = join(folder, `docker-${servers.length}.sock`);
  await listen(
    createHttpServer((request, response) => {
      if (!/\/info$/.test(request.url ?? '')) throw new Error(`not made up here: ${request.url}`);
      info(request, response);
    }),
    socket,
  );
  return socket;
};
const ofVersion =
  (version: string): RequestListener =>
  (_request, response) =>
    void response.setHeader('content-type', 'application/json').end(
      JSON.stringify({
        NCPU: 2,
        MemTotal: 1e9,
        Architecture: 'x86_64',
        ServerVersion: version,
        DockerRootDir: '/',
      }),
    );

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-refused-'));
  loseAnswer = false;
  authority = await openAuthority(await createAuthority({ clusterId: CLUSTER, nowMs: Date.now() }));
  store = createMemoryStore();
  const log = pino({ level: 'silent' });
  const server = await authority.issueServerCertificate({
    hosts: ['127.0.0.1'],
    commonName: 'first',
    clusterId: CLUSTER,
    nowMs: Date.now(),
  });
  const route = createJoinRoute({
    join: createJoinNode({
      store,
      authority,
      clusterId: CLUSTER,
      headNodeId: 'first',
      limiter: createAttemptLimiter(),
      refusedJoins: createRefusedJoins(),
      nowMs: Date.now,
      onEventLost: (error) => {
        throw error;
      },
    }),
    refreshIdentities: () => Promise.resolve(),
    giveConsulAccess: () => Promise.resolve({ gossipKey: 'k', serverAddress: '127.0.0.1:1', token: 't' }),
    temporalNamespace: 'default',
    clusterKey: () => 'the key',
  });
  port = await startClusterPort({
    host: '127.0.0.1',
    port: 0,
    credentials: { ...server, certificatePem: server.certificatePem + authority.certificatePem },
    authorityPem: authority.certificatePem,
    clusterId: CLUSTER,
    isRevoked: () => true,
    onRevocation: () => () => undefined,
    open: [JOIN_PATH],
    handleOpen: async (request, response) => {
      if (loseAnswer) response.end = () => (request.socket.destroy(), response) as never;
      await route(request, response);
    },
    handleNode: () => Promise.reject(new Error('nobody is a node here')),
    temporal: createTemporalGateway({
      address: '127.0.0.1:1',
      namespace: 'default',
      tokens: createTaskTokens('t'),
      log,
      onRefused: () => undefined,
    }),
    log,
  });
  tokens = createJoinTokens({
    store,
    clusterAddress: port.address,
    authorityFingerprint: authority.fingerprint,
    nowMs: Date.now,
  });
});

afterEach(async () => {
  jest.restoreAllMocks();
  await port.close(0);
  for (const server of servers.splice(0)) {
    (server as Partial<import('node:http').Server>).closeAllConnections?.();
    await new Promise((resolve) => server.close(resolve));
  }
  rmSync(folder, { recursive: true, force: true });
});

const configOf = (socket: string, ...flags: string[]) =>
  parseConfig(
    [...['--data-dir', join(folder, 'data'), '--node-name', 'two', '--docker-socket', socket, ...flags]],
    {},
    true,
    () => '10.0.0.2',
  );
const events = () => store.peek<ClusterEvent>(KV_PREFIX.events).map(({ value }) => value);
const identities = () => store.peek<NodeIdentity>(KV_PREFIX.identities).map(({ value }) => value);

const silent = () => createTcpServer((socket) => socket.on('error', () => undefined).resume());
const dripping = () =>
  createTcpServer((socket) => {
    // The head of a record, and then a byte of it now and then.
    socket.on('error', () => undefined);
    socket.write(Buffer.from([0x16, 0x03, 0x03, 0x40, 0x00]));
    const timer = setInterval(() => socket.write(Buffer.from([2])), 50);
    socket.on('close', () => clearInterval(timer));
  });
const hangingUp = () => createTcpServer((socket) => socket.destroy());
const http = () => createHttpServer((_request, response) => response.end('hello'));

test.each<readonly [string, () => Server, RegExp]>([
  ['an HTTP server', http, /does not speak as a cluster port does \(TLS 1\.3\)/],
  ['what hangs up', hangingUp, /what answers there hangs up/],
  ['what never answers', silent, /no answer in 0\.3 s/],
  ['what never ends answering', dripping, /no answer in 0\.3 s/],
])('at the address of %s it is told so', async (_what, make, words) => {
  const server = await listen(make(), 0);
  const startedAt = performance.now();
  await expect(fetchAuthority(addressOf(server), authority.fingerprint, 300)).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(words) as string,
  });
  expect(performance.now() - startedAt).toBeLessThan(5_000);
  const asked = askCluster({
    address: addressOf(server),
    path: JOIN_PATH,
    body: { secret: 's' },
    credentials: { authorityPem: authority.certificatePem },
    timeoutMs: 300,
  });
  await expect(asked).rejects.toMatchObject({ message: expect.stringMatching(words) as string });
});

test('nobody at the address, and no such name', async () => {
  const server = await listen(silent(), 0);
  const address = addressOf(server);
  await new Promise((resolve) => servers.pop()?.close(resolve));
  await expect(fetchAuthority(address, authority.fingerprint)).rejects.toThrow(/nothing listens there/);
  await expect(fetchAuthority('no-such-host.invalid:7443', authority.fingerprint)).rejects.toThrow(
    /no machine of that name|cannot be looked up now/,
  );
});

test.each(['TLSv1.2', 'TLSv1.3'] as const)(
  'a server of others with %s is sent nothing of the token',
  async (version) => {
    const others = createTestAuthority('others');
    const certificate = others.issue({
      commonName: 'x',
      organisation: 'others',
      alternativeNames: ['IP:127.0.0.1'],
    });
    let heard = '';
    const server = createTlsServer(
      { cert: certificate.certificatePem, key: certificate.keyPem, maxVersion: version },
      (socket) => {
        socket.on('error', () => undefined);
        socket.on('data', (bytes: Buffer) => (heard += bytes.toString()));
      },
    );
    await listen(server, 0);
    others.dispose();
    const socket = await startEngine(ofVersion('27.3.1'));
    const { token } = await tokens.create({});
    const startedAtMs = Date.now();
    await expect(joinCluster(configOf(socket), { address: addressOf(server), token })).rejects.toThrow(
      version === 'TLSv1.3'
        ? /certificate is of another authority. Check the address/
        : /does not speak as a cluster port/,
    );
    // Also when it answers nothing, nobody waits for long.
    expect(Date.now() - startedAtMs).toBeLessThan(6_000);
    const [, body = ''] = heard.split('\r\n\r\n');
    if (version === 'TLSv1.2') expect(heard).toBe('');
    else expect(JSON.parse(body)).toEqual({ givenUp: 'cluster', nowMs: expect.any(Number) as number });
    for (const part of token.split('.')) expect(heard).not.toContain(part);
  },
);

test('the cluster hears of machines that give up by themselves, without anything of their tokens', async () => {
  const socket = await startEngine(ofVersion('27.3.1'));
  const { token } = await tokens.create({});
  const [, id, secret = '', fingerprint] = token.split('.');
  const elsewhere = formatJoinToken({
    id: 'aaaaaaaa',
    secret: secret.replace(/./g, 'x'),
    authorityFingerprint: 'b'.repeat(64),
  });
  const attempts = [
    [`cos1.${id}.${secret}`, /does not begin|cut off/],
    ['garbage', /does not begin with cos1/],
    [elsewhere, /not the one that the join token is for/],
    [elsewhere, /not the one that the join token is for/],
  ] as const;
  for (const [given, words] of attempts) {
    await expect(
      joinCluster(configOf(socket), { address: port.address, token: given }),
    ).rejects.toMatchObject({ message: expect.stringMatching(words) as string });
  }
  expect(events().map(({ type, level, message }) => [type, level, message])).toEqual([
    [
      'node.join_refused',
      'warning',
      expect.stringMatching(/127\.0\.0\.1 was not let in as a node: What it has for a join token is none/),
    ],
    [
      'node.join_refused',
      'warning',
      expect.stringMatching(/127\.0\.0\.1 was not let in as a node: Its join token is of another cluster/),
    ],
  ]);
  for (const part of [id, secret, fingerprint, 'aaaaaaaa', 'garbage']) {
    expect(JSON.stringify(events())).not.toContain(part);
  }
  await expect(joinCluster(configOf(socket), { address: port.address, token })).resolves.toMatchObject({
    nodeId: 'two',
  });
});

test.each([
  ['behind', -5 * HOUR_MS, /5 hours behind that of the cluster.* Set the clock/],
  [
    'months behind',
    -2_000 * HOUR_MS,
    /clock of this machine says .* does not count \(it does from .* Set the clock/,
  ],
  ['ahead', 5 * HOUR_MS, /5 hours ahead of that of the cluster.* Set the clock/],
  [
    'years ahead',
    20_000 * HOUR_MS,
    /clock of this machine says .* does not count \(it does from .* Set the clock/,
  ],
])('a clock that is %s is told, and joins when it is set', async (_how, offMs, words) => {
  const socket = await startEngine(ofVersion('27.3.1'));
  const { token } = await tokens.create({});
  const target = { address: port.address, token };
  const { now } = Date;
  // Only the machine that joins reads this clock meanwhile: the cluster's was told by tokens and certificates before.
  const cluster = jest.spyOn(Date, 'now');
  cluster.mockImplementation(
    () => now() + (new Error().stack?.includes('workers/cluster') === true ? offMs : 0),
  );
  await expect(joinCluster(configOf(socket), target)).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(words) as string,
  });
  cluster.mockRestore();
  expect(events()).toMatchObject([
    { type: 'node.join_refused', message: expect.stringMatching(/clock/i) as string },
  ]);
  await expect(joinCluster(configOf(socket), target)).resolves.toMatchObject({ nodeId: 'two' });
});

test('an engine that is too old, broken, or not there is told, and joins when it is mended', async () => {
  const { token } = await tokens.create({});
  const target = { address: port.address, token };
  await expect(joinCluster(configOf(join(folder, 'none.sock')), target)).rejects.toThrow(
    /Docker Engine at .*none\.sock cannot be used, and a node needs one: .*ENOENT/,
  );
  const broken = await startEngine((_request, response) => void response.writeHead(500).end('oops'));
  await expect(joinCluster(configOf(broken), target)).rejects.toThrow(/a node needs one/);
  const odd = await startEngine((_request, response) => void response.end('[]'));
  await expect(joinCluster(configOf(odd), target)).rejects.toThrow(/what answers is no Docker Engine/);
  const old = await startEngine(ofVersion('19.03.15'));
  await expect(joinCluster(configOf(old), target)).rejects.toThrow(
    /20\.10 or newer.*has 19\.03.* join again/,
  );
  expect(events().map(({ type }) => type)).toEqual(['node.join_refused']);
  const good = await startEngine(ofVersion('20.10.24'));
  await expect(joinCluster(configOf(good), target)).resolves.toMatchObject({ nodeId: 'two' });
  expect(identities()).toHaveLength(1);
});

test('who could not be a node uses no token', async () => {
  const socket = await startEngine(ofVersion('27.3.1'));
  const { token } = await tokens.create({});
  const target = { address: port.address, token };
  await expect(joinCluster(configOf(socket, '--advertise-address', '127.0.0.1'), target)).rejects.toThrow(
    /address of the loopback interface/,
  );
  writeFileSync(join(folder, 'file'), '');
  await expect(
    joinCluster(configOf(socket, '--data-dir', join(folder, 'file', 'x')), target),
  ).rejects.toThrow(/data directory .* cannot be used: .*Make it writable, or choose another/);
  const config = configOf(socket);
  mkdirSync(join(config.dataDir, 'membership'), { recursive: true });
  writeFileSync(memberTlsFiles(config).keyFile, 'no key');
  await expect(joinCluster(config, target)).rejects.toThrow(
    /node-key\.pem, .* cannot be read: .* Remove the file/,
  );
  rmSync(memberTlsFiles(config).keyFile);
  expect(await tokens.list()).toMatchObject([{ usesLeft: 1 }]);
  await expect(joinCluster(config, target)).resolves.toMatchObject({ nodeId: 'two' });
});

test('two that join with one data directory: one does, and what is kept belongs together', async () => {
  const socket = await startEngine(ofVersion('27.3.1'));
  const { token } = await tokens.create({ uses: 2 });
  const config = configOf(socket);
  openRunDirectory(config);
  // As another process that lives: this one's parent.
  const [stat] = readFileSync(`/proc/${process.ppid}/stat`, 'utf8').split(') ').slice(1);
  writeFileSync(
    join(config.dataDir, 'run', 'supervisor.pid'),
    `${process.ppid} ${stat?.split(' ')[19] ?? ''}`,
  );
  await expect(joinCluster(config, { address: port.address, token })).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/runs already with the data directory/) as string,
  });
  expect(readdirSync(config.dataDir)).toEqual(['run']);
  writeFileSync(join(config.dataDir, 'run', 'supervisor.pid'), `${process.ppid} 1`); // of one before
  const membership = await joinCluster(config, { address: port.address, token });
  assertCredentials(config, membership);
  expect(readdirSync(join(config.dataDir, 'run'))).toEqual([]);
  const unlock = lockDataDirectory(config);
  expect(readdirSync(join(config.dataDir, 'run'))).toEqual(['supervisor.pid']);
  unlock();
});

test('whose answer is lost joins again with the same token, and is one node', async () => {
  const socket = await startEngine(ofVersion('27.3.1'));
  const { token } = await tokens.create({});
  const config = configOf(socket);
  loseAnswer = true;
  for (let count = 0; count < 3; count += 1) {
    await expect(joinCluster(config, { address: port.address, token })).rejects.toThrow(/hangs up/);
  }
  loseAnswer = false;
  const membership = await joinCluster(config, { address: port.address, token });
  assertCredentials(config, membership);
  expect(identities()).toMatchObject([{ nodeId: 'two' }]);
  expect(events().map(({ type }) => type)).toEqual(['node.joined']);
  expect(await tokens.list()).toMatchObject([{ usesLeft: 0, usedBy: ['two'] }]);
});

test('what is no request to join is refused, told in the cluster, and slowed down', async () => {
  const ask = (body: object) =>
    askCluster({
      address: port.address,
      path: JOIN_PATH,
      body,
      credentials: { authorityPem: authority.certificatePem },
    });
  const refusals = () => events().filter(({ type }) => type === 'node.join_refused');
  await expect(ask({ token: 'of another version' })).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(/no request to join .*of the version that the cluster has/) as string,
  });
  expect(refusals()).toMatchObject([
    { message: expect.stringMatching(/127\.0\.0\.1 .*no request to join/) as string },
  ]);
  const wide = Object.fromEntries(Array.from({ length: 900 }, (_, at) => [`field${at}`, 1]));
  const outcomes: string[] = [];
  for (let count = 0; count < 120; count += 1) {
    outcomes.push(await ask(wide).then(String, (error: { code: string }) => error.code));
  }
  expect(new Set(outcomes)).toEqual(new Set(['invalid', 'rate_limited']));
  expect(refusals()).toHaveLength(2);
  for (const { message } of refusals()) expect(message.length).toBeLessThan(1_000);
});
