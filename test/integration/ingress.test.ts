/**
 * The ingress keeper with a real Caddy and a real Consul: hostnames lead where the documents say, and clients that keep
 * their connections notice nothing of changes.
 */

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { createKvStore } from '../../adapters/consul/watch-kv';
import { readMembers } from '../../adapters/consul/watch-members';
import { adminSocket } from '../../adapters/ingress/caddy-config';
import { turnOf } from '../../adapters/ingress/handover';
import { ENDING, putMark, removeMark } from '../../adapters/ingress/marks';
import { hostnameKvKey, ingressKvKey, replicaKvKey } from '../../contracts/kv';
import { SPARE_PLACES } from '../../domain/ingress/layout';
import type { ObservedReplica } from '../../domain/model';
import { caddySettings, ingressConfigFile } from '../../workers/ingress-files';
import type { IngressKeeper } from '../../workers/node/ingress-keeper';
import { openListeningSockets, type ListeningSockets } from '../../workers/up/listening-sockets';
import { ingressPortNeeds } from '../../workers/up/ports';
import { createWithdrawal } from '../../workers/node/withdrawal';
import { startConsul, type RunningConsul } from '../support/consul';
import { httpRequest, type HttpAnswer } from '../support/http';
import {
  buildServing,
  countLoads,
  createKeeper,
  ingressConfigOf,
  spawnCaddy,
} from '../support/ingress-keeper';
import { startLoad } from '../support/load';
import { eventually } from '../support/wait';

const logger = pino({ level: 'silent' });
const NEVER = new AbortController().signal;

let consul: RunningConsul;
let dataDir: string;
let httpPort: number;
let sockets: ListeningSockets | undefined;
let caddy: ChildProcess | undefined;
let keeper: IngressKeeper | undefined;
let trouble: string | undefined = 'not started';
const loads = countLoads((config) => (isRefused ? config.replaceAll('"reverse_proxy"', '"none"') : config));
/** While Caddy gets a configuration that it refuses, and while nothing more fits on the disk. */
let isRefused = false;
let isFull = false;
const backends: Server[] = [];

const listen = async (server: Server): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
};

/** A replica's server, which says its name. */
const startBackend = async (
  says: string,
  answerAfterMs = 0,
): Promise<{ readonly port: number; readonly server: Server }> => {
  const server = createServer((_, response) => {
    setTimeout(() => response.end(says), answerAfterMs);
  });
  const port = await listen(server);
  backends.push(server);
  return { port, server };
};

const configOf = () => ingressConfigOf(dataDir, httpPort);

const startCaddy = (): void => {
  if (sockets === undefined) throw new Error('there is no socket for Caddy');
  caddy = spawnCaddy(configOf(), sockets);
};

const killCaddy = async (): Promise<void> => {
  if (caddy === undefined) return;
  const gone = once(caddy, 'exit');
  caddy.kill('SIGKILL');
  await gone;
};

const startKeeper = (): void => {
  keeper = createKeeper({
    config: configOf(),
    nodeId: consul.nodeId,
    consul: consul.client,
    documents: consul.documents,
    throughAdmin: loads.through,
    throughFiles: (files) => ({
      ...files,
      writeSlots: (place, addresses) => {
        if (isFull) throw new Error('ENOSPC: no space left on device');
        return files.writeSlots(place, addresses);
      },
    }),
    onState: (reason) => (trouble = reason),
    logger,
  });
  keeper.start();
};

const replica = (
  id: string,
  hostname: string,
  port: number,
  more: Partial<ObservedReplica> = {},
): ObservedReplica => buildServing(id, consul.nodeId, hostname, { port }, more);

const publish = (one: ObservedReplica) => consul.documents.put(replicaKvKey(one, one.id), one);

const claim = (hostname: string) =>
  consul.documents.put(hostnameKvKey(hostname), { project: 'default', name: hostname.split('.')[0] });

const ask = (hostname: string, method = 'GET'): Promise<HttpAnswer> =>
  httpRequest(`http://127.0.0.1:${httpPort}/`, { method, headers: { host: hostname } });

const answers = async (hostname: string, text: string): Promise<void> => {
  await eventually(async () => expect((await ask(hostname)).text).toBe(text), {
    describe: `${hostname} answers ${text}`,
  });
  await loads.settled();
};

/** Sends this as it is. @returns the head of what is answered first */
const sendRaw = (text: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connect(httpPort, '127.0.0.1', () => socket.write(text));
    let got = '';
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      got += chunk;
      const end = got.indexOf('\r\n\r\n');
      if (end < 0) return;
      socket.destroy();
      resolve(got.slice(0, end));
    });
    socket.on('error', reject);
    socket.on('end', () => reject(new Error(`the connection was ended after: ${got}`)));
  });

beforeAll(async () => {
  consul = await startConsul();
  dataDir = mkdtempSync(join(tmpdir(), 'containeros-ingress-'));
  const probe = createServer();
  httpPort = await listen(probe);
  probe.close();
  sockets = await openListeningSockets(ingressPortNeeds(configOf()));
  startCaddy();
  startKeeper();
  await eventually(() => expect(trouble).toBeUndefined());
}, 60_000);

afterAll(async () => {
  keeper?.stop();
  for (const server of backends) server.close();
  await killCaddy();
  sockets?.close();
  await consul?.close();
  rmSync(dataDir, { recursive: true, force: true });
}, 30_000);

test('a hostname leads to the replicas that serve, and to those of its microservice only', async () => {
  const [one, other] = [await startBackend('one'), await startBackend('other')];
  expect((await ask('web.localhost')).status).toBe(404);
  await claim('web.localhost');
  await eventually(async () => expect((await ask('web.localhost')).status).toBe(503));
  await publish(replica('web-1', 'web.localhost', one.port));
  await publish(replica('thief-1', 'web.localhost', other.port, { name: 'thief' }));
  await publish(replica('web-2', 'web.localhost', other.port, { state: 'unhealthy' }));
  await answers('web.localhost', 'one');
  await publish(replica('web-1', 'web.localhost', one.port, { state: 'stopping' }));
  await publish(replica('web-2', 'web.localhost', other.port));
  await answers('web.localhost', 'other');
  expect((await ask('WEB.localhost')).text).toBe('other');
});

test('nobody but the owner reaches the admin API', () => {
  const { mode } = statSync(adminSocket(caddySettings(configOf()).directory));
  expect((mode & 0o777).toString(8)).toBe('600');
});

test('clients that keep their connections notice nothing of 1,000 changes of endpoints and hostnames', async () => {
  const [one, two] = [await startBackend('one'), await startBackend('two')];
  await claim('busy.localhost');
  await publish(replica('busy-1', 'busy.localhost', one.port));
  await answers('busy.localhost', 'one');
  const before = loads.count();
  const load = startLoad({ address: `127.0.0.1:${httpPort}`, hostname: 'busy.localhost', clients: 8 });
  try {
    for (let change = 0; change < 500; change += 1) {
      const { port } = change % 2 === 0 ? two : one;
      await publish(replica('busy-1', 'busy.localhost', port));
      if (change % 2 === 0) await claim('passing.localhost');
      else await consul.documents.remove(hostnameKvKey('passing.localhost'));
    }
  } finally {
    await load.stop();
  }
  const { answered, failures, bodies } = load.report();
  expect(failures).toEqual([]);
  expect(answered).toBeGreaterThan(1_000);
  expect([...bodies.keys()].sort()).toEqual(['one', 'two']);
  expect(loads.count()).toBe(before);
  // With eight clients that ask all the time, on machines that have other things to do.
}, 120_000);

test('a replica that is gone before anybody has heard of it costs no request', async () => {
  const [gone, there] = [await startBackend('gone'), await startBackend('there')];
  await claim('dying.localhost');
  await publish(replica('dying-1', 'dying.localhost', gone.port));
  await publish(replica('dying-2', 'dying.localhost', there.port));
  await answers('dying.localhost', 'there');
  const closed = once(gone.server, 'close');
  gone.server.close();
  gone.server.closeAllConnections();
  await closed;
  for (let request = 0; request < 20; request += 1) {
    expect((await ask('dying.localhost', request % 2 === 0 ? 'GET' : 'POST')).text).toBe('there');
  }
});

test('a replica that answers with 503 costs no request that changes nothing, as long as there is another one', async () => {
  const failing = createServer((_, response) => response.writeHead(503).end('dying'));
  backends.push(failing);
  const there = await startBackend('well');
  await claim('failing.localhost');
  await publish(replica('failing-1', 'failing.localhost', await listen(failing)));
  await answers('failing.localhost', 'dying');
  await publish(replica('failing-2', 'failing.localhost', there.port));
  await answers('failing.localhost', 'well');
  for (let request = 0; request < 20; request += 1)
    expect((await ask('failing.localhost')).text).toBe('well');
  await publish(replica('failing-2', 'failing.localhost', there.port, { state: 'stopping' }));
  // Nobody that has been withdrawn is asked in its place either.
  await answers('failing.localhost', 'dying');
});

test('bodies that a client sends wrongly take nothing from others', async () => {
  const { port } = await startBackend('firm');
  await claim('firm.localhost');
  await publish(replica('firm-1', 'firm.localhost', port));
  await answers('firm.localhost', 'firm');
  const wrong = `POST / HTTP/1.1\r\nHost: firm.localhost\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n`;
  await Promise.all(Array.from({ length: 60 }, () => sendRaw(wrong)));
  const startedAt = performance.now();
  expect((await ask('firm.localhost')).text).toBe('firm');
  expect(performance.now() - startedAt).toBeLessThan(500);
});

test('a replica hears who asks, and what for, and no more than that', async () => {
  const server = createServer((request, response) => response.end(JSON.stringify(request.headers)));
  backends.push(server);
  const port = await listen(server);
  await claim('heard.localhost');
  await publish(replica('heard-1', 'heard.localhost', port));
  const headers = { host: 'heard.localhost', 'x-forwarded-for': '192.0.2.1', 'x-forwarded-proto': 'https' };
  await eventually(
    async () => {
      const { text } = await httpRequest(`http://127.0.0.1:${httpPort}/`, { headers });
      expect(JSON.parse(text)).toEqual({
        host: 'heard.localhost',
        via: '1.1 Caddy',
        'x-forwarded-for': '127.0.0.1',
        'x-forwarded-host': 'heard.localhost',
        'x-forwarded-proto': 'http',
      });
    },
    { describe: 'the replica answers' },
  );
});

test('a web socket opens also while connections are ended', async () => {
  const { port, server } = await startBackend('upgraded');
  server.on('upgrade', (_, socket) =>
    socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'),
  );
  await claim('socket.localhost');
  await publish(replica('socket-1', 'socket.localhost', port));
  await answers('socket.localhost', 'upgraded');
  const turn = turnOf(readFileSync(ingressConfigFile(configOf()), 'utf8'));
  const { directory } = caddySettings(configOf());
  putMark(directory, ENDING[turn]);
  try {
    expect((await ask('socket.localhost')).headers.connection).toBe('close');
    const wanted = 'Connection: Upgrade\r\nUpgrade: websocket\r\n';
    const head = await sendRaw(`GET / HTTP/1.1\r\nHost: socket.localhost\r\n${wanted}\r\n`);
    expect(head).toContain('101 Switching Protocols');
    expect(head).toMatch(/^Connection: Upgrade$/m);
  } finally {
    removeMark(directory, ENDING[turn]);
  }
});

test('among hundreds of hostnames each leads to its own replicas, in whatever letters it is asked for', async () => {
  const backends = await Promise.all(['a', 'b', 'c'].map((says) => startBackend(says)));
  const hostnames = Array.from({ length: 300 }, (_, index) => `group${index}.localhost`);
  await Promise.all(
    hostnames.flatMap((hostname, index) => [
      publish(replica(`group-${index}`, hostname, backends[index % 3]?.port ?? 0)),
      claim(hostname),
    ]),
  );
  for (const [index, hostname] of hostnames.entries())
    await answers(hostname, ['a', 'b', 'c'][index % 3] ?? '');
  expect((await ask('GROUP299.LOCALHOST')).text).toBe('c');
  expect((await ask('group300.localhost')).status).toBe(404);
  await Promise.all(hostnames.map((hostname) => consul.documents.remove(hostnameKvKey(hostname))));
}, 60_000);

test('more hostnames than there are spare places all answer, with one new configuration', async () => {
  const { port } = await startBackend('one of many');
  const before = loads.count();
  const hostnames = [
    ...Array.from({ length: SPARE_PLACES + 4 }, (_, index) => `many${index}.localhost`),
    // No Punycode, which Caddy takes no configuration with.
    'xn--9.localhost',
  ];
  await Promise.all(
    hostnames.flatMap((hostname, index) => [
      publish(replica(`many-${index}`, hostname, port)),
      claim(hostname),
    ]),
  );
  for (const hostname of hostnames) await answers(hostname, 'one of many');
  expect(loads.count()).toBeGreaterThan(before);
  expect(loads.count()).toBeLessThanOrEqual(before + 2);
});

test('while Caddy refuses its configuration, nobody is led wrong, and the one before is kept for its next start', async () => {
  const { port } = await startBackend('refused');
  await claim('leaving-too.localhost');
  await publish(replica('leaving-too-1', 'leaving-too.localhost', port));
  await answers('leaving-too.localhost', 'refused');
  const before = readFileSync(ingressConfigFile(configOf()), 'utf8');
  const hostnames = Array.from({ length: SPARE_PLACES + 1 }, (_, index) => `late${index}.localhost`);
  isRefused = true;
  try {
    await Promise.all(
      hostnames.flatMap((hostname, index) => [
        publish(replica(`late-${index}`, hostname, port)),
        claim(hostname),
      ]),
    );
    await eventually(() => expect(trouble).toMatch(/^Caddy refuses its configuration .*none/));
    await consul.documents.remove(hostnameKvKey('leaving-too.localhost'));
    await eventually(async () => expect((await ask('leaving-too.localhost')).status).toBe(404));
    expect(readFileSync(ingressConfigFile(configOf()), 'utf8')).toBe(before);
  } finally {
    isRefused = false;
  }
  for (const hostname of hostnames) await answers(hostname, 'refused');
});

test('a hostname that goes while the disk is full, and comes back, answers', async () => {
  const { port } = await startBackend('back');
  await claim('back.localhost');
  await publish(replica('back-1', 'back.localhost', port));
  await answers('back.localhost', 'back');
  isFull = true;
  try {
    await consul.documents.remove(hostnameKvKey('back.localhost'));
    await eventually(async () => expect((await ask('back.localhost')).status).toBe(404));
    expect(trouble).toContain('ENOSPC');
    await claim('back.localhost');
  } finally {
    isFull = false;
  }
  await answers('back.localhost', 'back');
});

test('a Caddy that is killed comes back with what it had, also while the keeper is away', async () => {
  const { port } = await startBackend('kept');
  await claim('kept.localhost');
  await publish(replica('kept-1', 'kept.localhost', port));
  await answers('kept.localhost', 'kept');
  keeper?.stop();
  await killCaddy();
  startCaddy();
  await answers('kept.localhost', 'kept');
  startKeeper();
  const other = await startBackend('newer');
  await publish(replica('kept-1', 'kept.localhost', other.port));
  await answers('kept.localhost', 'newer');
});

test('whoever stops a replica hears when no ingress leads there any more, and who has not said so', async () => {
  const kv = createKvStore(consul.client);
  const withdrawal = createWithdrawal({ kv, readMembers: () => readMembers(consul.client), logger });
  const { port } = await startBackend('leaving');
  await claim('leaving.localhost');
  await publish(replica('leaving-1', 'leaving.localhost', port));
  await answers('leaving.localhost', 'leaving');
  const { index } = await publish(replica('leaving-1', 'leaving.localhost', port, { state: 'stopping' }));
  expect(await withdrawal.confirmed(index, ['hostnames'], NEVER)).toEqual([]);
  expect((await ask('leaving.localhost')).status).toBe(503);
  // Of a node that is not a member nobody expects anything; one that is and hangs is named.
  await consul.documents.put(ingressKvKey('nobody'), { id: 'nobody', index: 1 });
  const later = await publish(
    replica('leaving-1', 'leaving.localhost', port, { state: 'stopping', reason: 'again' }),
  );
  expect(await withdrawal.confirmed(later.index, ['hostnames'], NEVER)).toEqual([]);
  keeper?.stop();
  const last = await publish(
    replica('leaving-1', 'leaving.localhost', port, { state: 'stopping', reason: 'last' }),
  );
  expect(await withdrawal.confirmed(last.index, ['hostnames'], NEVER)).toEqual([consul.nodeId]);
});
