/** Ports of the forwarder in this process: UDP clients, limits, and replicas whose node is lost. */

import { execFileSync, spawn } from 'node:child_process';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import type { ForwardedPort } from '../../../../contracts/forwarder';
import type { ForwardEndpoint } from '../../../../domain/ingress/balancing';
import { createForwarder, type Forwarder } from '../../../../workers/forwarder/forwarder';
import { openUdpPort } from '../../../../workers/forwarder/udp-port';
import type { OpenPort } from '../../../../workers/forwarder/open-port';
import { freePorts } from '../../../support/consul';
import {
  askPort,
  dialPort,
  hasClosed,
  say,
  startNamed,
  startStreamServer,
  type StreamServer,
} from '../../../support/stream-servers';
import { eventually } from '../../../support/wait';

const HOST = '127.0.0.1';
const clean: (() => void)[] = [];
afterEach(() => clean.splice(0).forEach((one) => one()));

const groupOf = (...ports: readonly number[]): ForwardedPort['groups'] => [
  {
    weight: 1,
    endpoints: ports.map((port): ForwardEndpoint => ({ address: HOST, port, isLocal: true })),
  },
];

const start = (maxOpen = 100): Forwarder => {
  const forwarder = createForwarder({ host: HOST, maxOpen, random: () => 0, onChange: () => undefined });
  clean.push(() => forwarder.close());
  return forwarder;
};

const named = async (name: string): Promise<StreamServer> => {
  const server = await startNamed(name);
  clean.push(() => server.kill());
  return server;
};

/** Answers with its name and what it was told. */
const startUdp = async (name: string, port = 0): Promise<{ readonly port: number; stop(): void }> => {
  const socket = createSocket('udp4');
  socket.on('message', (data, from) => socket.send(`${name}: ${data.toString()}`, from.port, from.address));
  socket.bind(port, HOST);
  await once(socket, 'listening');
  let isStopped = false;
  const stop = (): void => {
    if (!isStopped) socket.close();
    isStopped = true;
  };
  clean.push(stop);
  return { port: socket.address().port, stop };
};

const udpClient = (): UdpSocket => {
  const socket = createSocket('udp4');
  clean.push(() => socket.close());
  return socket;
};

const ask = async (client: UdpSocket, port: number, text: string): Promise<string> => {
  const answer = once(client, 'message', { signal: AbortSignal.timeout(2_000) });
  client.send(text, port, HOST);
  const [data] = (await answer) as [Buffer];
  return data.toString();
};

const tcp = (port: number, groups: ForwardedPort['groups'], lost: ForwardedPort['lost'] = []) => ({
  port,
  protocol: 'tcp' as const,
  groups,
  lost,
});

test('a port with as many connections as it may have closes further ones, says so, and does not bother others', async () => {
  const [first = 0, second = 0] = await freePorts(2);
  const server = await named('one');
  const forwarder = start(4);
  await forwarder.apply({
    serial: 1,
    ports: [tcp(first, groupOf(server.port)), tcp(second, groupOf(server.port))],
  });
  const open = [await dialPort(first), await dialPort(first)];
  for (const socket of open) expect(await say(socket, 'hello')).toBe('one: hello');
  await expect(askPort(first, 'hello')).rejects.toThrow(/the connection has ended|ECONNRESET/);
  expect(forwarder.state()).toEqual({
    serial: 1,
    troubles: [
      {
        port: first,
        protocol: 'tcp',
        reason: 'has as many as 2 connections, and closes further ones',
      },
    ],
    isIdle: false,
  });
  expect(await askPort(second, 'hello')).toBe('one: hello');
  open[0]?.destroy();
  await eventually(async () => expect(await askPort(first, 'hello')).toBe('one: hello'));
  open[1]?.destroy();
});

test('connections to a replica whose node is lost are ended, and no others', async () => {
  const [port = 0] = await freePorts(1);
  const [one, other] = [await named('one'), await named('other')];
  const forwarder = start();
  await forwarder.apply({ serial: 1, ports: [tcp(port, groupOf(one.port))] });
  const toOne = await dialPort(port);
  expect(await say(toOne, 'hello')).toBe('one: hello');
  await forwarder.apply({ serial: 2, ports: [tcp(port, groupOf(other.port))] });
  const toOther = await dialPort(port);
  expect(await say(toOther, 'hello')).toBe('other: hello');
  const ended = hasClosed(toOne);
  await forwarder.apply({
    serial: 3,
    ports: [tcp(port, groupOf(other.port), [{ address: HOST, port: one.port }])],
  });
  await ended;
  expect(await say(toOther, 'again')).toBe('other: again');
  toOther.destroy();
});

/** Its queue is full, so that who connects waits, as of a machine that is gone. */
const HANGING = `
import socket, sys, time
server = socket.socket()
server.bind(('127.0.0.1', 0))
server.listen(0)
clients = []
for _ in range(3):
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(server.getsockname())
    clients.append(client)
print(server.getsockname()[1], flush=True)
time.sleep(60)
`;

const startHanging = async (): Promise<number> => {
  const child = spawn('python3', ['-c', HANGING], { stdio: ['ignore', 'pipe', 'inherit'] });
  clean.push(() => child.kill('SIGKILL'));
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  return Number(port.toString());
};

test('a table is followed at once, and who is being connected under the one before is connected elsewhere', async () => {
  const [port = 0] = await freePorts(1);
  const [hanging, one] = [await startHanging(), await named('one')];
  const forwarder = start();
  await forwarder.apply({ serial: 1, ports: [tcp(port, groupOf(hanging))] });
  const client = await dialPort(port);
  const answer = say(client, 'hello');
  await expect(Promise.race([answer, delay(200, 'it waits')])).resolves.toBe('it waits');
  const beginMs = performance.now();
  await forwarder.apply({ serial: 2, ports: [tcp(port, groupOf(one.port))] });
  expect(await answer).toBe('one: hello');
  // To give up by itself takes two seconds.
  expect(performance.now() - beginMs).toBeLessThan(1_000);
  client.destroy();
});

test('a port that is given up is closed, and what is open on it goes on', async () => {
  const [port = 0] = await freePorts(1);
  const forwarder = start();
  await forwarder.apply({ serial: 1, ports: [tcp(port, groupOf((await named('one')).port))] });
  const socket = await dialPort(port);
  expect(await say(socket, 'hello')).toBe('one: hello');
  await forwarder.apply({ serial: 2, ports: [] });
  await expect(dialPort(port)).rejects.toThrow('ECONNREFUSED');
  expect(await say(socket, 'again')).toBe('one: again');
  expect(forwarder.state().isIdle).toBe(false);
  socket.destroy();
  await eventually(() => expect(forwarder.state().isIdle).toBe(true));
});

test('a replica is told nothing of a client that has gone before it could be asked who it is', async () => {
  const [port = 0, replica = 0] = await freePorts(2);
  const forwarder = start();
  const endpoint: ForwardEndpoint = { address: HOST, port: replica, isLocal: true, proxyProtocol: 'v1' };
  await forwarder.apply({ serial: 1, ports: [tcp(port, [{ weight: 1, endpoints: [endpoint] }])] });
  (await dialPort(port)).resetAndDestroy();
  const told = new Promise<string>((resolve) => {
    const server = startStreamServer((socket) => {
      let heard = '';
      socket.on('data', (data) => (heard += data.toString()));
      socket.once('close', () => resolve(heard));
      socket.once('end', () => socket.end());
    }, replica);
    clean.push(() => void server.then((one) => one.kill()));
  });
  expect(await told).toBe('');
});

const openUdp = async (
  groups: ForwardedPort['groups'],
  more: { readonly idleMs?: number; readonly limit?: number } = {},
): Promise<{ readonly port: number; readonly open: OpenPort; readonly turnedAway: () => number }> => {
  const [port = 0] = await freePorts(1);
  let turnedAway = 0;
  const { limit = 100, ...rest } = more;
  const opened = new Promise<OpenPort>((resolve, reject) => {
    const open: OpenPort = openUdpPort({
      host: HOST,
      port,
      limit: { count: () => limit, reached: () => (turnedAway += 1) },
      random: () => 0,
      onTrouble: (reason) => (reason === undefined ? resolve(open) : reject(new Error(reason))),
      ...rest,
    });
  });
  const open = await opened;
  clean.push(() => void open.close());
  open.lead({ groups, lost: [] });
  return { port, open, turnedAway: () => turnedAway };
};

test('each UDP client has its replica, and gets the answers to what it has said itself', async () => {
  const [one, two] = [await startUdp('one'), await startUdp('two')];
  const { port } = await openUdp(groupOf(one.port, two.port));
  const [first, second] = [udpClient(), udpClient()];
  expect(await ask(first, port, 'a')).toBe('one: a');
  expect(await ask(second, port, 'b')).toBe('two: b');
  expect(await ask(first, port, 'c')).toBe('one: c');
  expect(await ask(second, port, 'd')).toBe('two: d');
});

test('a UDP client whose replica is withdrawn, or gone, is answered by another one without asking twice', async () => {
  const [one, two, three] = [await startUdp('one'), await startUdp('two'), await startUdp('three')];
  const { port, open } = await openUdp(groupOf(one.port));
  const client = udpClient();
  expect(await ask(client, port, 'a')).toBe('one: a');
  open.lead({ groups: groupOf(two.port), lost: [] });
  expect(await ask(client, port, 'b')).toBe('two: b');
  open.lead({ groups: groupOf(two.port, three.port), lost: [] });
  two.stop();
  expect(await ask(client, port, 'c')).toBe('three: c');
});

test('a UDP client that is idle is forgotten', async () => {
  const [one, two] = [await startUdp('one'), await startUdp('two')];
  const { port } = await openUdp(groupOf(one.port, two.port), { idleMs: 200 });
  const client = udpClient();
  expect(await ask(client, port, 'a')).toBe('one: a');
  // As long as it is remembered, others get the replica that has nobody.
  await eventually(async () => expect(await ask(udpClient(), port, 'b')).toBe('one: b'), {
    describe: 'the first replica has nobody',
    intervalMs: 1_500,
  });
});

test('beyond the limit, the UDP client that was heard of longest ago is forgotten', async () => {
  const one = await startUdp('one');
  const { port, turnedAway } = await openUdp(groupOf(one.port), { limit: 2 });
  const clients = [udpClient(), udpClient(), udpClient()];
  for (const client of clients) expect(await ask(client, port, 'a')).toBe('one: a');
  expect(turnedAway()).toBe(1);
  const [, second] = clients;
  if (second === undefined) throw new Error('there are three');
  expect(await ask(second, port, 'b')).toBe('one: b');
  expect(turnedAway()).toBe(1);
});

test('a UDP client whose replica cannot be reached at all is answered by another one', async () => {
  const two = await startUdp('two');
  // The kernel refuses to connect to what is for everybody, as to where no route leads.
  const unreachable = { address: '255.255.255.255', port: 9, isLocal: true };
  const [group] = groupOf(two.port);
  const { port, open } = await openUdp([
    { weight: 1, endpoints: [unreachable, ...(group?.endpoints ?? [])] },
  ]);
  expect(await ask(udpClient(), port, 'a')).toBe('two: a');
  open.lead({ groups: [{ weight: 1, endpoints: [unreachable] }], lost: [] });
  udpClient().send('b', port, HOST);
  open.lead({ groups: groupOf(two.port), lost: [] });
  expect(await ask(udpClient(), port, 'c')).toBe('two: c');
});

const FROM_PORT_0 = `
import socket, struct, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
raw.sendto(struct.pack('!HHHH', 0, int(sys.argv[1]), 9, 0) + b'a', ('127.0.0.1', 0))
`;

/** Only root may say that it has port 0. */
const testAsRoot = process.getuid?.() === 0 ? test : test.skip;

testAsRoot('what comes from UDP port 0, where no answer can go, is led to nobody', async () => {
  const one = await startUdp('one');
  const { port } = await openUdp(groupOf(one.port));
  execFileSync('python3', ['-c', FROM_PORT_0, String(port)]);
  expect(await ask(udpClient(), port, 'b')).toBe('one: b');
});

/** What datagrams and other bytes take that somebody still holds. */
const heldBytes = (): number => {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().arrayBuffers;
};

test('what a replica does not answer, as one that only listens, is not kept for longer than it could be sent again', async () => {
  const listening = createSocket('udp4');
  clean.push(() => listening.close());
  listening.bind(0, HOST);
  await once(listening, 'listening');
  const { port } = await openUdp(groupOf(listening.address().port));
  const megabyte = 1_048_576;
  const before = heldBytes();
  const data = Buffer.alloc(60_000);
  for (let count = 0; count < 90; count += 1) {
    const heard = once(listening, 'message', { signal: AbortSignal.timeout(2_000) });
    udpClient().send(data, port, HOST);
    await heard;
  }
  await eventually(() => expect(heldBytes() - before).toBeLessThan(megabyte), { intervalMs: 200 });
});
