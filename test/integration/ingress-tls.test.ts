/**
 * HTTPS of the ingress with a real Caddy and a real Consul: certificates count from the next handshake on, without a new
 * configuration, and Caddy asks nobody for any.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { createServer, type Server } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { createServer as createNetServer, type AddressInfo, type Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as readText } from 'node:stream/consumers';
import { connect as connectTls, type PeerCertificate } from 'node:tls';

import pino from 'pino';

import { createCertificateStore } from '../../adapters/certificates/certificate-store';
import { createHostnameAuthority, issueForHostname } from '../../adapters/certificates/hostname-authority';
import { createSealer, generateClusterKey, type Sealer } from '../../adapters/certificates/seal';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { openCertificateFiles } from '../../adapters/ingress/certificate-files';
import type { CertificateMaterial, CertificateStore, HttpChallenge } from '../../contracts/certificates';
import type { AuthorityMaterial } from '../../contracts/hostname-authority';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { certificateKvKey, hostnameKvKey, httpChallengeKvKey, replicaKvKey } from '../../contracts/kv';
import { parseConfig } from '../../workers/config';
import { caddySettings, ingressConfigFile, writeDoor } from '../../workers/ingress-files';
import { createCertificateKeeper, type CertificateKeeper } from '../../workers/node/certificate-keeper';
import type { IngressKeeper } from '../../workers/node/ingress-keeper';
import { caddyCommand } from '../../workers/up/engines';
import { openListeningSockets, type ListeningSockets } from '../../workers/up/listening-sockets';
import { chooseDoorPort, ingressPortNeeds } from '../../workers/up/ports';
import { buildReplica } from '../support/builders';
import { createTestAuthority, type TestAuthority } from '../support/certificates';
import { startConsul, type RunningConsul } from '../support/consul';
import { httpRequest, type HttpAnswer } from '../support/http';
import { countLoads, createKeeper } from '../support/ingress-keeper';
import { engineVariables } from '../support/programs';
import { eventually } from '../support/wait';

const logger = pino({ level: 'silent' });
const LOAD_BALANCER = '127.0.0.9';

let consul: RunningConsul;
let store: KeyValueStore;
let certificates: CertificateStore;
let dataDir: string;
let httpPort: number;
let httpsPort: number;
let sockets: ListeningSockets | undefined;
let caddy: ChildProcess | undefined;
let caddyLog = '';
let keeper: IngressKeeper | undefined;
let certificateKeeper: CertificateKeeper | undefined;
let trouble: string | undefined = 'not started';
let authority: AuthorityMaterial;
let publicAuthority: TestAuthority;
let backend: Server;
let backendPort: number;
/** In place of the authority that Caddy must never ask. */
let trap: NetServer;
let trapped = 0;
const clusterKey = generateClusterKey();
const sealer: Sealer = createSealer(clusterKey);
let asked: boolean[] = [];

const freePort = async (): Promise<number> => {
  const probe = createNetServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
};

const configOf = () => ({
  ...parseConfig(
    [
      ...['--data-dir', dataDir, '--dev', '--trusted-proxies', LOAD_BALANCER],
      ...['--http-port', String(httpPort), '--https-port', String(httpsPort)],
    ],
    engineVariables(),
    true,
  ),
  httpPort,
});

const directory = (): string => caddySettings(configOf()).directory;

/** With the trap where nobody is. */
const trapIn = (config: string): string =>
  config.replaceAll('127.0.0.1:1/', `127.0.0.1:${(trap.address() as AddressInfo).port}/`);

const loads = countLoads(trapIn);

const startCaddy = (): void => {
  const { command, args, env, cwd } = caddyCommand(configOf());
  const file = ingressConfigFile(configOf());
  writeFileSync(file, trapIn(readFileSync(file, 'utf8')));
  caddy = spawn(command, args, {
    stdio: ['ignore', 'ignore', 'pipe', ...(sockets?.fileDescriptors ?? [])],
    env: { ...process.env, ...env },
    cwd,
  });
  caddy.stderr?.setEncoding('utf8').on('data', (chunk: string) => (caddyLog += chunk));
};

const killCaddy = async (): Promise<void> => {
  if (caddy === undefined) return;
  const gone = once(caddy, 'exit');
  caddy.kill('SIGKILL');
  await gone;
};

const startKeepers = (): void => {
  const settings = caddySettings(configOf());
  keeper = createKeeper({
    config: configOf(),
    settings,
    nodeId: consul.nodeId,
    consul: consul.client,
    documents: consul.documents,
    throughAdmin: loads.through,
    onState: (reason) => (trouble = reason),
    logger,
  });
  certificateKeeper = createCertificateKeeper({
    kv: createKvStore(consul.client),
    files: openCertificateFiles(settings.directory),
    openSealer: ({ isAnew }) => {
      asked.push(isAnew);
      return Promise.resolve(sealer);
    },
    nowMs: Date.now,
    logger,
  });
  keeper.start();
  certificateKeeper.start();
};

const stopKeepers = (): void => {
  keeper?.stop();
  certificateKeeper?.stop();
};

const serve = async (...hostnames: readonly string[]): Promise<void> => {
  const name = `s${hostnames[0]?.replaceAll('.', '-') ?? ''}`;
  const port = {
    container: 'main',
    port: 80,
    protocol: 'tcp' as const,
    address: '127.0.0.1',
    hostPort: backendPort,
    serviceId: `${name}-main-80`,
    hostnames,
  };
  const one = buildReplica(`${name}-1`, consul.nodeId, { name, ports: [port] });
  await Promise.all([
    consul.documents.put(replicaKvKey(one, one.id), one),
    ...hostnames.map((hostname) =>
      consul.documents.put(hostnameKvKey(hostname), { project: 'default', name }),
    ),
  ]);
  const last = hostnames.at(-1) ?? '';
  // The hostname may be heard of before the replica is, and answers with 503 until then.
  await eventually(
    async () =>
      expect([404, 503]).not.toContain(
        (await httpRequest(`http://127.0.0.1:${httpPort}/`, { headers: { host: last } })).status,
      ),
    { describe: `${last} is routed` },
  );
  await loads.settled();
};

const internal = (hostname: string): Promise<CertificateMaterial> =>
  issueForHostname({ authority, hostname, nowMs: Date.now() });

const publicFor = (names: readonly string[], validForMs?: number): CertificateMaterial => {
  const { certificatePem, keyPem } = publicAuthority.issue({
    commonName: 'public',
    organisation: 'o',
    alternativeNames: names.map((name) => `DNS:${name}`),
    ...(validForMs === undefined ? {} : { validForMs }),
  });
  return { chainPem: `${certificatePem}${publicAuthority.certificatePem}`, keyPem };
};

const give = async (
  hostname: string,
  material: CertificateMaterial,
  source: 'internal' | 'acme' | 'uploaded' = 'internal',
): Promise<string> => (await certificates.write({ hostname, source, ...material })).fingerprint;

/** The certificate that a server shows, whoever vouches for it; rejects when it shows none. */
const shown = (hostname: string | undefined): Promise<PeerCertificate> =>
  new Promise((resolve, reject) => {
    const socket = connectTls({
      host: '127.0.0.1',
      port: httpsPort,
      rejectUnauthorized: false,
      ...(hostname === undefined ? {} : { servername: hostname }),
    });
    socket.once('secureConnect', () => {
      resolve(socket.getPeerCertificate());
      socket.destroy();
    });
    socket.once('error', reject);
  });

const fingerprintOf = (certificate: PeerCertificate): string =>
  certificate.fingerprint256.replaceAll(':', '').toLowerCase();

const shows = (hostname: string, fingerprint: string): Promise<void> =>
  eventually(async () => expect(fingerprintOf(await shown(hostname))).toBe(fingerprint), {
    describe: `${hostname} is answered with its certificate`,
  });

/** As a client does that trusts only this authority, and checks the name. */
const askStrictly = (hostname: string, ca: string, path = '/'): Promise<HttpAnswer> =>
  new Promise((resolve, reject) => {
    const request = httpsRequest(
      {
        host: '127.0.0.1',
        port: httpsPort,
        path,
        ca,
        servername: hostname,
        headers: { host: hostname },
        agent: false,
      },
      (response) => {
        readText(response).then(
          (text) =>
            resolve({ status: response.statusCode ?? 0, headers: response.headers, text, body: text }),
          reject,
        );
      },
    );
    request.on('error', reject);
    request.end();
  });

const askPlainly = (hostname: string, path = '/', method = 'GET'): Promise<HttpAnswer> =>
  httpRequest(`http://127.0.0.1:${httpPort}${path}`, { method, headers: { host: hostname } });

beforeAll(async () => {
  consul = await startConsul();
  store = createKeyValueStore({ address: consul.server.address }, (message) => {
    throw new Error(message);
  });
  certificates = createCertificateStore({
    store,
    sealer,
    nowMs: Date.now,
    onUnreadable: (message) => {
      throw new Error(message);
    },
  });
  authority = await createHostnameAuthority({ clusterId: 'c1', nowMs: Date.now() });
  publicAuthority = createTestAuthority('Public Trust');
  backend = createServer((request, response) => response.end(JSON.stringify(request.headers)));
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  backendPort = (backend.address() as AddressInfo).port;
  trap = createNetServer((socket) => {
    trapped += 1;
    socket.destroy();
  }).listen(0, '127.0.0.1');
  await once(trap, 'listening');
  dataDir = mkdtempSync(join(tmpdir(), 'containeros-ingress-tls-'));
  [httpPort, httpsPort] = [await freePort(), await freePort()];
  writeDoor(configOf(), await chooseDoorPort());
  sockets = await openListeningSockets(ingressPortNeeds({ ...configOf(), httpsPort }));
  startCaddy();
  startKeepers();
  await eventually(() => expect(trouble).toBeUndefined());
}, 60_000);

afterAll(async () => {
  stopKeepers();
  await killCaddy();
  sockets?.close();
  backend?.close();
  backend?.closeAllConnections();
  trap?.close();
  publicAuthority?.dispose();
  store?.close();
  await consul?.close();
  rmSync(dataDir, { recursive: true, force: true });
}, 30_000);

test('a private name answers over HTTPS to who trusts the root, over HTTP as before, and says what it is', async () => {
  await serve('hello.localhost');
  const startedAt = performance.now();
  await shows('hello.localhost', await give('hello.localhost', await internal('hello.localhost')));
  expect(performance.now() - startedAt).toBeLessThan(1_000);
  const secure = await askStrictly('hello.localhost', authority.certificatePem);
  expect(secure.status).toBe(200);
  expect(JSON.parse(secure.text)).toMatchObject({
    host: 'hello.localhost',
    'x-forwarded-for': '127.0.0.1',
    'x-forwarded-host': 'hello.localhost',
    'x-forwarded-proto': 'https',
  });
  expect(secure.headers).not.toHaveProperty('strict-transport-security');
  const plain = await askPlainly('hello.localhost');
  expect(plain.status).toBe(200);
  expect(JSON.parse(plain.text)).toMatchObject({ 'x-forwarded-proto': 'http' });
  await expect(askStrictly('hello.localhost', publicAuthority.certificatePem)).rejects.toThrow();
});

test('HTTP/2 answers, and HTTP/3 is offered and listened for', async () => {
  const session = connectHttp2(`https://127.0.0.1:${httpsPort}`, {
    ca: authority.certificatePem,
    servername: 'hello.localhost',
  });
  try {
    const stream = session.request({ ':authority': 'hello.localhost', ':path': '/' });
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
    expect(session.alpnProtocol).toBe('h2');
    expect(headers[':status']).toBe(200);
    expect(headers['alt-svc']).toContain(`h3=":${httpsPort}"`);
  } finally {
    session.destroy();
  }
  // A version that nobody speaks is answered with those that are spoken (RFC 9000, 6).
  const socket = createSocket('udp4');
  const packet = Buffer.alloc(1_200);
  packet.set([0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0]);
  socket.send(packet, httpsPort, '127.0.0.1');
  const [answer] = (await once(socket, 'message')) as [Buffer];
  socket.close();
  expect(answer.subarray(1, 5).readUInt32BE()).toBe(0);
  expect(answer.includes(Buffer.from([0, 0, 0, 1]), 5)).toBe(true);
});

test('a name without a certificate, none at all, and one that leads elsewhere, are refused, and nobody is asked', async () => {
  const before = loads.count();
  for (const name of [
    'unknown.example.com',
    'nobody.localhost',
    '..',
    'a..b',
    'x/../hello.localhost',
    '*',
    'exact',
  ]) {
    await expect(shown(name)).rejects.toThrow(/internal error|alert/);
  }
  await expect(shown(undefined)).rejects.toThrow(/internal error|alert/);
  expect(trapped).toBe(0);
  expect(loads.count()).toBe(before);
  expect(caddyLog).not.toContain(caddySettings(configOf()).https?.door.password);
});

test('the door gives nothing to who does not know its password', async () => {
  const { door } = caddySettings(configOf()).https ?? {};
  if (door === undefined) throw new Error('there is no door');
  const knock = (path: string, password?: string) =>
    httpRequest(`http://127.0.0.1:${door.port}${path}`, {
      headers:
        password === undefined
          ? {}
          : { authorization: `Basic ${Buffer.from(`caddy:${password}`).toString('base64')}` },
    });
  const path = '/?server_name=hello.localhost';
  expect((await knock(path)).status).toBe(403);
  expect((await knock(path, 'guessed')).status).toBe(403);
  expect((await knock('/exact/hello.localhost')).status).toBe(403);
  expect((await knock(path, door.password)).text).toContain('PRIVATE KEY');
  for (const name of [
    '..%2Fdoor',
    '%2e%2e/door',
    'exact%2Fhello.localhost',
    '%2A',
    'hello.localhost%00',
    '',
  ]) {
    expect((await knock(`/?server_name=${name}`, door.password)).status).toBe(204);
  }
  for (const [name, mode] of [
    ['door', 0o600],
    ['caddy.json', 0o600],
    ['certificates/exact/hello.localhost', 0o600],
    ['certificates/exact', 0o700],
  ] as const) {
    expect([name, statSync(join(directory(), name)).mode & 0o777]).toEqual([name, mode]);
  }
});

test('a wildcard answers for what has no certificate of its own, one label deep', async () => {
  const wide = await give(
    '*.wide.example.com',
    publicFor(['*.wide.example.com', 'wide.example.com']),
    'acme',
  );
  await shows('a.wide.example.com', wide);
  await shows('wide.example.com', wide);
  await expect(shown('a.b.wide.example.com')).rejects.toThrow();
  const own = await give('b.wide.example.com', publicFor(['b.wide.example.com']), 'acme');
  await shows('b.wide.example.com', own);
  await certificates.remove('b.wide.example.com');
  await shows('b.wide.example.com', wide);
});

test('plain HTTP of a public name is redirected as soon as there is a certificate, and not before', async () => {
  await serve('shop.example.com', 'www.shop.example.com');
  expect((await askPlainly('shop.example.com')).status).toBe(200);
  // One of the cluster's own, which nobody has to trust.
  await shows('shop.example.com', await give('shop.example.com', await internal('shop.example.com')));
  expect((await askPlainly('shop.example.com')).status).toBe(200);
  await give('shop.example.com', publicFor(['shop.example.com']), 'acme');
  await eventually(async () => expect((await askPlainly('shop.example.com')).status).toBe(308));
  const redirected = await askPlainly('shop.example.com', '/a/b?c=%2F&d=1', 'POST');
  expect([redirected.status, redirected.headers.location]).toEqual([
    308,
    `https://shop.example.com:${httpsPort}/a/b?c=%2F&d=1`,
  ]);
  expect((await askStrictly('shop.example.com', publicAuthority.certificatePem)).status).toBe(200);
  expect((await askPlainly('www.shop.example.com')).status).toBe(200);
  await certificates.remove('shop.example.com');
  await eventually(async () => expect((await askPlainly('shop.example.com')).status).toBe(200));
});

test('a wildcard leads every name below it, one label deep, but those that others have', async () => {
  const other = createServer((_request, response) => response.setHeader('x-owner', 'other').end());
  other.listen(0, '127.0.0.1');
  await once(other, 'listening');
  const lead = async (hostname: string, name: string, hostPort: number): Promise<void> => {
    const port = {
      container: 'main',
      port: 80,
      protocol: 'tcp' as const,
      address: '127.0.0.1',
      hostPort,
      serviceId: `${name}-main-80`,
      hostnames: [hostname],
    };
    const one = buildReplica(`${name}-1`, consul.nodeId, { name, ports: [port] });
    await consul.documents.put(replicaKvKey(one, one.id), one);
    await consul.documents.put(hostnameKvKey(hostname), { project: 'default', name });
  };
  const isOthers = (hostname: string, isSo: boolean) =>
    eventually(
      async () => {
        const { status, headers } = await askPlainly(hostname);
        expect([status, headers['x-owner']]).toEqual([200, isSo ? 'other' : undefined]);
      },
      { describe: `${hostname} leads to ${isSo ? 'the other' : 'the wildcard'}` },
    );
  try {
    // One that stands already, and one that comes into a spare place.
    await lead('early.wild.localhost', 'early', (other.address() as AddressInfo).port);
    await lead('*.wild.localhost', 'wild', backendPort);
    await isOthers('any.wild.localhost', false);
    await isOthers('ANY-other.Wild.localhost', false);
    await isOthers('early.wild.localhost', true);
    const before = loads.count();
    await lead('late.wild.localhost', 'late', (other.address() as AddressInfo).port);
    await isOthers('late.wild.localhost', true);
    expect(loads.count()).toBe(before);
    await isOthers('any.wild.localhost', false);
    for (const none of ['wild.localhost', 'a.b.wild.localhost', 'wild.localhost.any'])
      expect((await askPlainly(none)).status).toBe(404);

    // Over HTTPS with the cluster's own certificate, in any letters; one of its own comes first.
    const fingerprint = await give('*.wild.localhost', await internal('*.wild.localhost'));
    await shows('any.wild.localhost', fingerprint);
    for (const hostname of ['any.wild.localhost', 'Some.WILD.localhost', 'late.wild.localhost']) {
      await shows(hostname, fingerprint);
      expect((await askStrictly(hostname, authority.certificatePem)).status).toBe(200);
    }
    await expect(shown('wild.localhost')).rejects.toThrow();
    await expect(shown('a.b.wild.localhost')).rejects.toThrow();
    const own = await give('late.wild.localhost', await internal('late.wild.localhost'));
    await shows('late.wild.localhost', own);
    await shows('any.wild.localhost', fingerprint);

    // What others give back is the wildcard's.
    await consul.documents.remove(hostnameKvKey('late.wild.localhost'));
    await consul.documents.remove(hostnameKvKey('early.wild.localhost'));
    await isOthers('late.wild.localhost', false);
    await isOthers('early.wild.localhost', false);
    await consul.documents.remove(hostnameKvKey('*.wild.localhost'));
    await eventually(async () => expect((await askPlainly('any.wild.localhost')).status).toBe(404));
  } finally {
    other.close();
    other.closeAllConnections();
  }
});

test('names know no case, in the handshake and in plain HTTP', async () => {
  await serve('case.example.com');
  const fingerprint = await give('case.example.com', publicFor(['case.example.com']), 'acme');
  await shows('CASE.Example.com', fingerprint);
  const secure = await askStrictly('Case.EXAMPLE.com', publicAuthority.certificatePem);
  expect(JSON.parse(secure.text)).toMatchObject({ host: 'case.example.com' });
  await eventually(async () => expect((await askPlainly('CASE.example.COM', '/A?b=C')).status).toBe(308));
  const { location } = (await askPlainly('CASE.example.COM', '/A?b=C')).headers;
  expect(location).toBe(`https://case.example.com:${httpsPort}/A?b=C`);
  // Answers to challenges, too.
  const key = httpChallengeKvKey('token-of-case');
  const challenge: HttpChallenge = {
    token: 'token-of-case',
    hostname: 'case.example.com',
    keyAuthorization: 'token-of-case.answer',
    expiresAtMs: Date.now() + 60_000,
  };
  await store.transact([{ kind: 'set', key, value: challenge }]);
  await eventually(async () =>
    expect((await askPlainly('CASE.EXAMPLE.COM', '/.well-known/acme-challenge/token-of-case')).text).toBe(
      challenge.keyAuthorization,
    ),
  );
});

test('what came to a trusted load balancer in TLS is not redirected, whatever others say of themselves', async () => {
  await serve('behind.example.com');
  await give('behind.example.com', publicFor(['behind.example.com']), 'acme');
  await eventually(async () => expect((await askPlainly('behind.example.com')).status).toBe(308));
  const said = async (localAddress: string, proto: string) => {
    const headers = { host: 'behind.example.com', 'x-forwarded-proto': proto };
    return (await httpRequest(`http://127.0.0.1:${httpPort}/`, { headers, localAddress })).status;
  };
  expect(await said(LOAD_BALANCER, 'https')).toBe(200);
  expect(await said(LOAD_BALANCER, 'http')).toBe(308);
  expect(await said('127.0.0.1', 'https')).toBe(308);
});

test('a private name is not redirected, whoever vouches for it', async () => {
  await serve('git.internal');
  await shows('git.internal', await give('git.internal', publicFor(['git.internal']), 'uploaded'));
  expect((await askPlainly('git.internal')).status).toBe(200);
});

test('what is expired is not shown before what is valid, and leads nobody to it', async () => {
  await serve('old.example.com');
  const valid = await give('*.example.com', publicFor(['*.example.com']), 'acme');
  const expired = publicFor(['old.example.com'], -3_600_000);
  const late = await give('old.example.com', expired, 'uploaded');
  await eventually(async () => expect((await askPlainly('old.example.com')).status).toBe(308));
  await shows('old.example.com', valid);
  await certificates.remove('*.example.com');
  // Rather that than nothing: whoever asks is told what is wrong.
  await shows('old.example.com', late);
  await eventually(async () => expect((await askPlainly('old.example.com')).status).toBe(200));
});

test('a certificate that ends gives way at that time', async () => {
  const wide = await give('*.ending.example.com', publicFor(['*.ending.example.com']), 'acme');
  const short = await give('a.ending.example.com', publicFor(['a.ending.example.com'], 3_000), 'acme');
  await shows('a.ending.example.com', short);
  await shows('a.ending.example.com', wide);
});

test('challenges are answered for their hostname, before redirects and replicas, until they end', async () => {
  await serve('challenged.example.com');
  const challenge: HttpChallenge = {
    token: 'token_-1',
    hostname: 'challenged.example.com',
    keyAuthorization: 'token_-1.thumbprint',
    expiresAtMs: Date.now() + 60_000,
  };
  const put = (one: HttpChallenge) =>
    store.transact([{ kind: 'set', key: httpChallengeKvKey(one.token), value: one }]);
  await give('challenged.example.com', publicFor(['challenged.example.com']), 'acme');
  await eventually(async () => expect((await askPlainly('challenged.example.com')).status).toBe(308));
  await put(challenge);
  const path = '/.well-known/acme-challenge/token_-1';
  await eventually(async () =>
    expect((await askPlainly('challenged.example.com', path)).text).toBe('token_-1.thumbprint'),
  );
  expect((await askPlainly('hello.localhost', path)).text).toContain('x-forwarded-proto');
  expect((await askPlainly('nobody.example.com', path)).status).toBe(404);
  expect((await askPlainly('challenged.example.com', `${path}x`)).status).toBe(308);
  expect(
    (await askPlainly('challenged.example.com', '/.well-known/acme-challenge/..%2ftoken_-1')).status,
  ).toBe(308);
  await put({ ...challenge, expiresAtMs: Date.now() + 500 });
  await eventually(async () => expect((await askPlainly('challenged.example.com', path)).status).toBe(308));
});

test('what cannot be opened takes nothing from others, and the key is asked for again once', async () => {
  asked = [];
  const stranger = createCertificateStore({
    store,
    sealer: createSealer(generateClusterKey()),
    nowMs: Date.now,
    onUnreadable: () => undefined,
  });
  await stranger.write({
    hostname: 'strange.localhost',
    source: 'internal',
    ...(await internal('strange.localhost')),
  });
  await shows('fine.localhost', await give('fine.localhost', await internal('fine.localhost')));
  await shows('fine2.localhost', await give('fine2.localhost', await internal('fine2.localhost')));
  await expect(shown('strange.localhost')).rejects.toThrow();
  expect(asked).toEqual([true]);
  await certificates.remove('strange.localhost');
});

test('handshakes under load notice nothing of 1,000 changes of certificates', async () => {
  await shows('hello.localhost', await give('hello.localhost', await internal('hello.localhost')));
  const before = loads.count();
  const failures: string[] = [];
  const seen = new Set<string>();
  let isDone = false;
  let handshakes = 0;
  const client = async (): Promise<void> => {
    while (!isDone) {
      try {
        seen.add(fingerprintOf(await shown('hello.localhost')));
        handshakes += 1;
      } catch (error) {
        failures.push((error as Error).message);
      }
    }
  };
  const clients = Promise.all([client(), client(), client(), client()]);
  const [one, two, other] = [
    await internal('hello.localhost'),
    await internal('hello.localhost'),
    await internal('busy.localhost'),
  ];
  let last = '';
  for (let change = 0; change < 500; change += 1) {
    last = await give('hello.localhost', change % 2 === 0 ? one : two);
    if (change % 2 === 0) await give('busy.localhost', other);
    else await certificates.remove('busy.localhost');
  }
  await shows('hello.localhost', last);
  isDone = true;
  await clients;
  expect(failures).toEqual([]);
  expect(handshakes).toBeGreaterThan(100);
  expect(seen.size).toBeGreaterThanOrEqual(2);
  expect(loads.count()).toBe(before);
}, 120_000);

test('a Caddy that is killed comes back with all certificates while the keepers and Consul are away', async () => {
  const kept = await give('kept.localhost', await internal('kept.localhost'));
  await shows('kept.localhost', kept);
  stopKeepers();
  await killCaddy();
  startCaddy();
  await shows('kept.localhost', kept);
  await certificates.remove('kept.localhost');
  expect(readdirSync(join(directory(), 'certificates', 'exact'))).toContain('kept.localhost');
  startKeepers();
  await eventually(async () => expect(await shown('kept.localhost').catch(() => 'refused')).toBe('refused'));
  expect(await store.get(certificateKvKey('kept.localhost'))).toBeUndefined();
});

test('nobody was asked for a certificate', () => {
  expect(trapped).toBe(0);
});
