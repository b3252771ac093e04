// The links between test machines: cut between two, in both directions or one, made long, without power, and healed.
import { type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { cutBetween, delayLink, healBetween } from '../support/links';
import { startMachine, type Machine } from '../support/machine';
import { runCommand } from '../support/process';
import { eventually } from '../support/wait';

jest.setTimeout(60_000);

const PORT = 7777;
const DELAY_MS = 40;
const MEGABYTES = 20;

let machines: [Machine, Machine, Machine];
const servers: ChildProcess[] = [];

beforeAll(async () => {
  machines = await Promise.all([startMachine(), startMachine(), startMachine()]);
  for (const machine of machines) servers.push(await serve(machine));
});

afterAll(async () => {
  await Promise.all((machines ?? []).map((machine) => machine.dispose()));
});

async function serve(machine: Machine): Promise<ChildProcess> {
  const server = machine.spawn([process.execPath, '-e', SERVER, machine.address, String(PORT)], {
    cwd: '/',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await heard(server, 'ready');
  return server;
}

/** Echoes what it is sent over TCP, and prints the UDP datagrams that come. */
const SERVER = `
  const [host, port] = process.argv.slice(1);
  require('net').createServer((socket) => { socket.on('error', () => {}); socket.pipe(socket); }).listen(port, host, () => {
    const datagrams = require('dgram').createSocket('udp4');
    datagrams.on('message', (text) => console.log(String(text)));
    datagrams.bind(port, host, () => console.log('ready'));
  });
`;

/** Round trips of one byte, in milliseconds, then the time that so many megabytes take there and back. */
const CLIENT = `
  const [host, port, megabytes] = process.argv.slice(1);
  const socket = require('net').connect({ host, port, timeout: 1000 });
  socket.setNoDelay();
  socket.on('timeout', () => { console.error('no answer'); process.exit(1); });
  socket.on('error', (error) => { console.error(error.code); process.exit(1); });
  (async () => {
    const { once } = require('events');
    await once(socket, 'connect');
    const times = [];
    for (let i = 0; i < 10; i += 1) {
      const begin = performance.now();
      socket.write('x');
      await once(socket, 'data');
      times.push(performance.now() - begin);
    }
    const size = Number(megabytes) * 1e6;
    const sent = require('crypto').randomBytes(size);
    const sums = [require('crypto').createHash('sha256').update(sent).digest('hex')];
    const hash = require('crypto').createHash('sha256');
    let got = 0;
    const begin = performance.now();
    socket.on('data', (chunk) => {
      got += chunk.length;
      hash.update(chunk);
      if (got < size) return;
      sums.push(hash.digest('hex'));
      console.log(JSON.stringify({ times, sums, tookMs: performance.now() - begin }));
      process.exit(0);
    });
    if (size > 0) socket.write(sent); else { console.log(JSON.stringify({ times })); process.exit(0); }
  })();
`;

const SENDER = `
  const [host, port, text] = process.argv.slice(1);
  const socket = require('dgram').createSocket('udp4');
  socket.send(text, port, host, () => socket.close());
`;

/** Says how its connection ends. Sends something when it is told to. */
const WAITING_CLIENT = `
  const [host, port] = process.argv.slice(1);
  const socket = require('net').connect({ host, port }, () => console.log('connected'));
  socket.on('error', (error) => console.log(error.code));
  socket.on('end', () => console.log('ended'));
  process.stdin.on('data', () => socket.write('x'));
`;

interface Measured {
  readonly times: readonly number[];
  readonly sums?: readonly string[];
  readonly tookMs?: number;
}

const measure = async (from: Machine, to: Machine, megabytes = 0): Promise<Measured> => {
  const args = [process.execPath, '-e', CLIENT, to.address, String(PORT), String(megabytes)];
  return JSON.parse((await from.exec(args)).stdout) as Measured;
};

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

const roundTripMs = async (from: Machine, to: Machine): Promise<number> =>
  median((await measure(from, to)).times);

const reaches = async (from: Machine, to: Machine): Promise<boolean> => {
  const args = [process.execPath, '-e', CLIENT, to.address, String(PORT), '0'];
  return (await from.exec(args, { mayFail: true })).code === 0;
};

let datagrams = 0;

/** Whether a datagram is heard. Several are sent, since one may be lost for other reasons. */
const datagramArrives = async (from: Machine, to: Machine): Promise<boolean> => {
  const server = servers[machines.indexOf(to)];
  const text = `datagram ${(datagrams += 1)}`;
  const heardIt = server === undefined ? Promise.resolve() : heard(server, text);
  let isHeard = false;
  void heardIt.then(() => (isHeard = true));
  for (let i = 0; i < 5 && !isHeard; i += 1) {
    await from.exec([process.execPath, '-e', SENDER, to.address, String(PORT), text]);
  }
  return isHeard;
};

function heard(server: ChildProcess, text: string): Promise<void> {
  const lines = createInterface({ input: server.stdout as NodeJS.ReadableStream });
  return new Promise((resolve) => {
    lines.on('line', (line) => {
      if (line === text) resolve();
    });
  });
}

test('a cut between two machines is felt by those two alone, in both directions', async () => {
  const [one, two, three] = machines;
  await cutBetween(one, two);
  expect(await Promise.all([reaches(one, two), reaches(two, one)])).toEqual([false, false]);
  expect(await Promise.all([reaches(one, three), reaches(three, two)])).toEqual([true, true]);
  await cutBetween(two, one); // again: nothing more to cut, and one heal mends it
  await healBetween(one, two);
  expect(await Promise.all([reaches(one, two), reaches(two, one)])).toEqual([true, true]);
});

test('a cut of one way lets the other way through', async () => {
  const [one, two] = machines;
  await cutBetween(one, two, 'one-way');
  expect(await datagramArrives(one, two)).toBe(false);
  expect(await datagramArrives(two, one)).toBe(true);
  await healBetween(one, two, 'one-way');
  expect(await datagramArrives(one, two)).toBe(true);
});

test('a long cable delays every frame, loses and spoils none, and can be made longer and short again', async () => {
  const [one, two, three] = machines;
  const before = await roundTripMs(one, two);
  expect(before).toBeLessThan(DELAY_MS);

  await delayLink(one, DELAY_MS);
  const [mine, theirs, others] = await Promise.all([
    roundTripMs(one, two),
    roundTripMs(two, one),
    roundTripMs(two, three),
  ]);
  for (const measured of [mine, theirs]) {
    expect(measured).toBeGreaterThanOrEqual(2 * DELAY_MS);
    expect(measured).toBeLessThan(4 * DELAY_MS);
  }
  expect(others).toBeLessThan(DELAY_MS);

  await delayLink(one, 2 * DELAY_MS);
  expect(await roundTripMs(one, two)).toBeGreaterThanOrEqual(4 * DELAY_MS);

  await delayLink(one, 1);
  const { sums = [], tookMs = NaN } = await measure(one, two, MEGABYTES);
  expect(sums[0]).toBe(sums[1]);
  expect(tookMs).toBeLessThan(30_000);

  await delayLink(one, DELAY_MS);
  await delayLink(one, 0);
  expect(await roundTripMs(one, two)).toBeLessThan(DELAY_MS);
});

test('both ends delayed add up, and cuts and pulled cables hold on a long one', async () => {
  const [one, two, three] = machines;
  await Promise.all([delayLink(one, DELAY_MS), delayLink(two, DELAY_MS)]);
  expect(await roundTripMs(one, two)).toBeGreaterThanOrEqual(4 * DELAY_MS);

  await cutBetween(one, two);
  expect(await reaches(one, two)).toBe(false);
  expect(await reaches(one, three)).toBe(true);
  await healBetween(one, two);

  await one.unplug();
  expect(await reaches(one, three)).toBe(false);
  await one.plug();
  expect(await eventually(() => roundTripMs(one, three))).toBeGreaterThanOrEqual(2 * DELAY_MS);
  await Promise.all([delayLink(one, 0), delayLink(two, 0)]);
  expect(await roundTripMs(one, two)).toBeLessThan(2 * DELAY_MS);
});

test('of a power cut nobody is told, and its cable is then as it was', async () => {
  const [one] = machines;
  const cycled = await startMachine();
  await serve(cycled);
  const client = one.spawn([process.execPath, '-e', WAITING_CLIENT, cycled.address, String(PORT)], {
    cwd: '/',
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await heard(client, 'connected');
  let told: unknown;
  createInterface({ input: client.stdout as NodeJS.ReadableStream }).once('line', (line) => (told = line));

  await cycled.powerOff();
  expect(await reaches(one, cycled)).toBe(false);
  await cycled.powerOn();
  await serve(cycled);
  await eventually(async () => expect(await reaches(one, cycled)).toBe(true));
  expect(told).toBeUndefined();
  // It hears that there is no such connection when it sends something.
  client.stdin?.write('\n');
  await eventually(() => expect(told).toBe('ECONNRESET'));

  await cycled.unplug();
  await cycled.powerOff();
  await cycled.powerOn();
  await serve(cycled);
  expect(await reaches(one, cycled)).toBe(false);
  await cycled.plug();
  await eventually(async () => expect(await reaches(one, cycled)).toBe(true));
  await cycled.dispose();
});

test('a machine that goes takes its long cable along', async () => {
  const gone = await startMachine();
  const [one] = machines;
  const relayPids = async (): Promise<readonly string[]> =>
    (await runCommand('ip', ['netns', 'pids', one.world.switchNamespace])).stdout.split('\n').filter(Boolean);
  const before = await relayPids();
  await delayLink(gone, DELAY_MS);
  const added = (await relayPids()).filter((pid) => !before.includes(pid));
  expect(added).toHaveLength(1);
  await gone.dispose();
  await eventually(() => expect(added.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]));
  const links = (await runCommand('ip', ['-n', one.world.switchNamespace, 'link'])).stdout;
  expect(links).not.toContain(gone.switchPort + '-');
});
