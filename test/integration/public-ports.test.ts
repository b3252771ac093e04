/**
 * The forwarder as a process, led by the ingress keeper from a real Consul: bytes arrive whole, connections outlive
 * what happens around them, and what cannot be led is told.
 */

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { createKvStore } from '../../adapters/consul/watch-kv';
import { readMembers } from '../../adapters/consul/watch-members';
import { hostnameKvKey, KV_PREFIX, replicaKvKey } from '../../contracts/kv';
import { claimOfPublicPort, type ProxyProtocol } from '../../domain/ingress/public-ports';
import type { ClusterEvent, ObservedReplica, PublicPortTrouble } from '../../domain/model';
import type { ReservedPort } from '../../domain/spec/public-ports';
import { forwarderTableFile } from '../../workers/forwarder/files';
import { caddySettings } from '../../workers/ingress-files';
import type { IngressKeeper } from '../../workers/node/ingress-keeper';
import { createPublicPorts } from '../../workers/node/public-ports';
import { createWithdrawal } from '../../workers/node/withdrawal';
import { buildReplica } from '../support/builders';
import { freePorts, startConsul, type RunningConsul } from '../support/consul';
import { createForwarderProcess, type ForwarderProcess } from '../support/forwarder';
import { createKeeper, ingressConfigOf } from '../support/ingress-keeper';
import {
  askPort,
  dialPort,
  hasClosed,
  readAll,
  say,
  sha256Of,
  startNamed,
  startStreamLoad,
  startStreamServer,
  type StreamServer,
} from '../support/stream-servers';
import { eventually } from '../support/wait';

const logger = pino({ level: 'silent' });
const NEVER = new AbortController().signal;
const MEGABYTE = 1_048_576;

let consul: RunningConsul;
let dataDir: string;
let forwarder: ForwarderProcess;
let keeper: IngressKeeper | undefined;
let state: string | undefined | null = null;
let troubles: readonly PublicPortTrouble[] = [];
const reservedPorts: ReservedPort[] = [];
const wanted: boolean[] = [];
const events: Omit<ClusterEvent, 'atMs'>[] = [];
const servers: StreamServer[] = [];

const directory = (): string => caddySettings(ingressConfigOf(dataDir, 80)).directory;

const startKeeper = (): void => {
  keeper = createKeeper({
    config: ingressConfigOf(dataDir, 80),
    nodeId: consul.nodeId,
    consul: consul.client,
    documents: consul.documents,
    // There is no Caddy here: hostnames have tests of their own.
    throughAdmin: () => ({ load: () => Promise.resolve() }),
    publicPorts: createPublicPorts({
      nodeId: consul.nodeId,
      directory: directory(),
      reservedPorts,
      onWanted: (isWanted) => wanted.push(isWanted),
      onTroubles: (now) => (troubles = now),
      eventLog: { append: (event) => events.push(event) },
      logger,
    }),
    onState: (reason) => (state = reason),
    logger,
  });
  keeper.start();
};

const named = async (name: string, port?: number): Promise<StreamServer> => {
  const server = await startNamed(name, port);
  servers.push(server);
  return server;
};

/** A replica of the microservice that has the public port. */
const replicaOf = (
  name: string,
  id: string,
  publicPort: number,
  hostPort: number,
  more: Partial<ObservedReplica> = {},
  proxyProtocol?: ProxyProtocol,
): ObservedReplica =>
  buildReplica(id, consul.nodeId, {
    name,
    ports: [
      {
        container: 'main',
        port: 5432,
        protocol: 'tcp',
        address: '127.0.0.1',
        hostPort,
        serviceId: `${id}-main-5432`,
        hostnames: [],
        publicPorts: [publicPort],
        ...(proxyProtocol === undefined ? {} : { proxyProtocol }),
      },
    ],
    ...more,
  });

const publish = (one: ObservedReplica) => consul.documents.put(replicaKvKey(one, one.id), one);
const claimKey = (port: number) => hostnameKvKey(claimOfPublicPort({ port, protocol: 'tcp' }));
const claim = (name: string, port: number) =>
  consul.documents.put(claimKey(port), { project: 'default', name });

/** A public port of a microservice of its own, with a replica for each server. */
const lead = async (
  name: string,
  led: readonly StreamServer[],
  proxyProtocol?: ProxyProtocol,
): Promise<number> => {
  const [port = 0] = await freePorts(1);
  // First, so that a port that is open leads somewhere.
  for (const [index, server] of led.entries()) {
    await publish(replicaOf(name, `${name}-${index + 1}`, port, server.port, {}, proxyProtocol));
  }
  await claim(name, port);
  await eventually(async () => void (await dialPort(port)).destroy(), { describe: `port ${port} is open` });
  return port;
};

const answers = (port: number, text: string): Promise<void> =>
  eventually(async () => expect(await askPort(port, 'hello')).toBe(`${text}: hello`), {
    describe: `port ${port} answers ${text}`,
  });

beforeAll(async () => {
  consul = await startConsul();
  dataDir = mkdtempSync(join(tmpdir(), 'containeros-ports-'));
  forwarder = createForwarderProcess(directory());
  startKeeper();
  await eventually(() => expect(state).toBeUndefined());
}, 60_000);

afterAll(async () => {
  keeper?.stop();
  for (const server of servers) server.kill();
  await forwarder?.kill();
  await consul?.close();
  rmSync(dataDir, { recursive: true, force: true });
}, 30_000);

test('without public ports nothing is asked for, and with the first one a forwarder is', async () => {
  expect(wanted).toEqual([]);
  expect(existsSync(forwarderTableFile(directory()))).toBe(false);
  const [port = 0] = await freePorts(1);
  await claim('first', port);
  await eventually(() => expect(wanted).toEqual([true]), { describe: 'a forwarder is asked for' });
  forwarder.start();
  await publish(replicaOf('first', 'first-1', port, (await named('first')).port));
  await answers(port, 'first');
}, 20_000);

test('50 MB arrive whole both ways, while one end has said all already', async () => {
  const data = randomBytes(50 * MEGABYTE);
  const back = randomBytes(50 * MEGABYTE);
  let heard = '';
  const server = await startStreamServer((socket) => {
    readAll(socket).then(
      (all) => {
        heard = sha256Of(all);
        socket.end(back);
      },
      () => undefined,
    );
  });
  servers.push(server);
  const socket = await dialPort(await lead('large', [server]));
  socket.end(data);
  const got = await readAll(socket);
  expect(heard).toBe(sha256Of(data));
  expect(sha256Of(got)).toBe(sha256Of(back));
}, 60_000);

test('a replica that reads slowly slows its client down, and nothing piles up in between', async () => {
  let paused: Socket | undefined;
  const server = await startStreamServer((one) => {
    paused = one.pause();
  });
  servers.push(server);
  const port = await lead('slow', [server]);
  const socket = await dialPort(port);
  const data = randomBytes(64 * MEGABYTE);
  socket.end(data);
  await eventually(
    async () => {
      const before = socket.bytesWritten - socket.writableLength;
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(socket.bytesWritten - socket.writableLength).toBe(before);
    },
    { describe: 'the client is held up' },
  );
  expect(socket.writableLength).toBeGreaterThan(32 * MEGABYTE);
  if (paused === undefined) throw new Error('the replica has a connection');
  expect(sha256Of(await readAll(paused))).toBe(sha256Of(data));
}, 60_000);

test('clients lose nothing over 100 changes of replicas, and a connection outlives those that it does not use', async () => {
  const withdrawal = createWithdrawal({
    kv: createKvStore(consul.client),
    readMembers: () => readMembers(consul.client),
    logger,
  });
  let current = await named('zero');
  const port = await lead('busy', [current]);
  const steady = await dialPort(port);
  expect(await say(steady, 'first')).toBe('zero: first');
  const kept = current;
  const load = startStreamLoad(port, 4);
  for (let change = 1; change <= 100; change += 1) {
    const next = await named(`replica ${change}`);
    await publish(replicaOf('busy', `busy-${change + 1}`, port, next.port));
    const left = replicaOf('busy', `busy-${change}`, port, current.port, { state: 'stopping' });
    const { index } = await publish(left);
    expect(await withdrawal.confirmed(index, ['publicPorts'], NEVER)).toEqual([]);
    const isKept = current === kept;
    await eventually(() => expect(current.open()).toBe(isKept ? 1 : 0), {
      describe: 'what was under way has ended',
    });
    if (isKept) current.stopListening();
    else current.kill();
    await consul.documents.remove(replicaKvKey(left, left.id));
    current = next;
  }
  const { answered, failures } = await load.stop();
  expect(failures).toEqual([]);
  expect(answered).toBeGreaterThan(100);
  expect(await say(steady, 'last')).toBe('zero: last');
  steady.destroy();
}, 120_000);

test('a connection that is refused is taken by another replica; without one it is closed at once', async () => {
  const [one, other] = [await named('one'), await named('other')];
  const port = await lead('retry', [one, other]);
  one.kill();
  for (let count = 0; count < 20; count += 1) expect(await askPort(port, 'hello')).toBe('other: hello');
  const nobody = await lead('nobody', []);
  const startedAt = performance.now();
  await expect(askPort(nobody, 'hello')).rejects.toThrow(/the connection has ended|ECONNRESET/);
  expect(performance.now() - startedAt).toBeLessThan(2_000);
}, 20_000);

test('when a replica dies, its clients are told, and go to another one', async () => {
  const [one, other] = [await named('one'), await named('other')];
  const port = await lead('dying', [one]);
  const socket = await dialPort(port);
  expect(await say(socket, 'hello')).toBe('one: hello');
  await publish(replicaOf('dying', 'dying-2', port, other.port));
  const closed = hasClosed(socket);
  one.kill();
  await closed;
  expect(await askPort(port, 'hello')).toBe('other: hello');
});

test('replicas that ask for it are told who the client is', async () => {
  const first = await startStreamServer((socket) => socket.once('data', (data) => socket.end(data)));
  servers.push(first);
  const socket = await dialPort(await lead('proxied', [first], 'v1'));
  const { localPort } = socket;
  expect((await readAll(socket)).toString()).toMatch(
    new RegExp(`^PROXY TCP4 127\\.0\\.0\\.1 127\\.0\\.0\\.1 ${localPort} \\d+\\r\\n`),
  );
  socket.destroy();
});

test('connections live on while the node worker and Consul are away, and new ones are led as before', async () => {
  const [one, two] = [await named('one'), await named('two')];
  const port = await lead('firm', [one]);
  const socket = await dialPort(port);
  expect(await say(socket, 'before')).toBe('one: before');
  keeper?.stop();
  consul.server.signal('SIGSTOP');
  expect(await say(socket, 'meanwhile')).toBe('one: meanwhile');
  expect(await askPort(port, 'hello')).toBe('one: hello');
  consul.server.signal('SIGCONT');
  await publish(replicaOf('firm', 'firm-1', port, one.port, { state: 'stopping' }));
  await publish(replicaOf('firm', 'firm-2', port, two.port));
  startKeeper();
  await answers(port, 'two');
  expect(await say(socket, 'after')).toBe('one: after');
  socket.destroy();
}, 30_000);

test('a forwarder that is killed leads as before when it is started again, without being told anything', async () => {
  const port = await lead('again', [await named('again')]);
  keeper?.stop();
  await forwarder.kill();
  forwarder.start();
  await answers(port, 'again');
  startKeeper();
  await eventually(() => expect(state).toBeUndefined());
}, 20_000);

test('a port that another program has is told of, others do not suffer, and it is taken when it is free', async () => {
  const holder = createServer().listen(0, '127.0.0.1');
  await once(holder, 'listening');
  const { port } = holder.address() as { readonly port: number };
  events.length = 0;
  await claim('taken', port);
  await publish(replicaOf('taken', 'taken-1', port, (await named('mine')).port));
  const reason = 'is taken by another program on this machine; it is tried again every second';
  await eventually(() => expect(troubles).toEqual([{ port, protocol: 'tcp', reason }]));
  expect(events).toEqual([
    {
      level: 'warning',
      type: 'public_port.troubled',
      message: `Node ${consul.nodeId}: public port ${port}/tcp ${reason}.`,
      project: 'default',
      microservice: 'taken',
    },
  ]);
  const other = await lead('beside', [await named('beside')]);
  await answers(other, 'beside');
  holder.close();
  await answers(port, 'mine');
  await eventually(() => expect(troubles).toEqual([]));
  expect(events.at(-1)).toMatchObject({ type: 'public_port.recovered', microservice: 'taken' });
}, 20_000);

test('a port that this machine needs itself is told of, and not opened while nobody has it; others are', async () => {
  const [own = 0] = await freePorts(1);
  reservedPorts.push({ port: own, protocol: 'tcp', what: 'Consul' });
  await claim('greedy', own);
  await publish(replicaOf('greedy', 'greedy-1', own, (await named('greedy')).port));
  const trouble = { port: own, protocol: 'tcp', reason: 'belongs to Consul on this machine' };
  await eventually(() => expect(troubles).toEqual([trouble]));
  expect(events.at(-1)).toMatchObject({ type: 'public_port.troubled', microservice: 'greedy' });
  await answers(await lead('modest', [await named('modest')]), 'modest');
  await expect(dialPort(own)).rejects.toThrow('ECONNREFUSED');
  await consul.documents.remove(claimKey(own));
  await eventually(() => expect(troubles).toEqual([]));
}, 20_000);

test('when the last public port is given up, ports are closed, and the forwarder is wanted as long as one is connected', async () => {
  const port = await lead('lasting', [await named('lasting')]);
  const socket = await dialPort(port);
  expect(await say(socket, 'before')).toBe('lasting: before');
  const claimed = await createKvStore(consul.client).list(KV_PREFIX.hostnames);
  for (const { key } of claimed.documents) await consul.documents.remove(key);
  await eventually(async () => expect(dialPort(port)).rejects.toThrow('ECONNREFUSED'));
  expect(await say(socket, 'after')).toBe('lasting: after');
  expect(wanted.at(-1)).toBe(true);
  socket.destroy();
  await eventually(() => expect(wanted.at(-1)).toBe(false));
  expect(existsSync(forwarderTableFile(directory()))).toBe(false);
}, 20_000);
