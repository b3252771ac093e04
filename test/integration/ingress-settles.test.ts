/**
 * What has stayed where it is for a while goes into the configuration, and is read by no request any more: with a real
 * Caddy and a real Consul. That nothing is read is told by files that mislead who reads them.
 */

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { MOVED } from '../../adapters/ingress/marks';
import { hostnameKvKey, replicaKvKey } from '../../contracts/kv';
import type { Layout } from '../../domain/ingress/layout';
import { ingressDirectory } from '../../workers/ingress-files';
import type { IngressKeeper } from '../../workers/node/ingress-keeper';
import { openListeningSockets, type ListeningSockets } from '../../workers/up/listening-sockets';
import { ingressPortNeeds } from '../../workers/up/ports';
import { startConsul, type RunningConsul } from '../support/consul';
import { httpRequest } from '../support/http';
import { freePort, listenOn } from '../support/ingress';
import {
  buildServing,
  countLoads,
  createKeeper,
  ingressConfigOf,
  spawnCaddy,
} from '../support/ingress-keeper';
import { startLoad } from '../support/load';
import { eventually } from '../support/wait';

const HOST = 'web.localhost';
const SETTLE_AFTER_MS = 500;

let consul: RunningConsul;
let dataDir: string;
let httpPort: number;
let sockets: ListeningSockets | undefined;
let caddy: ChildProcess | undefined;
let keeper: IngressKeeper | undefined;
let trouble: string | undefined;
let loads = countLoads();
/** What the kernel would say of others; who asks here is not counted. */
let accepted: number | undefined = 0;
const backends: Server[] = [];

const startBackend = async (says: string): Promise<{ readonly port: number; readonly server: Server }> => {
  const server = createServer((_, response) => response.end(says));
  backends.push(server);
  return { port: await listenOn(server), server };
};

const stopBackend = async (server: Server): Promise<void> => {
  const closed = once(server, 'close');
  server.close();
  server.closeAllConnections();
  await closed;
};

const configOf = () => ingressConfigOf(dataDir, httpPort);
const file = (name: string): string => join(ingressDirectory(configOf()), name);
const hasMoved = (): boolean => existsSync(file('moved'));

const startKeeper = async (): Promise<void> => {
  trouble = 'not started';
  loads = countLoads();
  keeper = createKeeper({
    config: configOf(),
    nodeId: consul.nodeId,
    consul: consul.client,
    documents: consul.documents,
    throughAdmin: loads.through,
    acceptedConnections: () => accepted,
    settleAfterMs: SETTLE_AFTER_MS,
    readAfterLoadMs: 500,
    onState: (reason) => (trouble = reason),
    logger: pino({ level: 'silent' }),
  });
  keeper.start();
  await eventually(() => expect(trouble).toBeUndefined());
};

const startCaddy = (): void => {
  if (sockets === undefined) throw new Error('there is no socket for Caddy');
  caddy = spawnCaddy(configOf(), sockets);
};

const publish = (port: number) => {
  const replica = buildServing('web-1', consul.nodeId, HOST, { port });
  return consul.documents.put(replicaKvKey(replica, replica.id), replica);
};

const claim = () => consul.documents.put(hostnameKvKey(HOST), { project: 'default', name: 'web' });

const ask = () => httpRequest(`http://127.0.0.1:${httpPort}/`, { headers: { host: HOST } });
const answers = (text: string) =>
  eventually(async () => expect((await ask()).text).toBe(text), { describe: `it answers ${text}` });

/** What the configuration in force says that it has of each hostname. */
const settledHostnames = (): readonly string[] =>
  (JSON.parse(readFileSync(file('layout.json'), 'utf8')) as Layout).flatMap(({ hostname, settled }) =>
    hostname === undefined || settled === undefined ? [] : [hostname],
  );

const settles = async (): Promise<void> => {
  await eventually(
    () => {
      expect(settledHostnames()).toEqual([HOST]);
      expect(hasMoved()).toBe(false);
    },
    { describe: 'the configuration has everything' },
  );
  await loads.settled();
};

/** Whoever reads where to go is led into this. */
const whileFilesMislead = async (check: () => Promise<void>): Promise<void> => {
  const { port } = await startBackend('misled');
  const slots = readdirSync(file('places')).flatMap((place) =>
    readdirSync(join(file('places'), place))
      .filter((name) => /^\d+$/.test(name))
      .map((name) => join(file('places'), place, name)),
  );
  const texts = slots.map((slot) => readFileSync(slot, 'utf8'));
  for (const slot of slots) writeFileSync(slot, `127.0.0.1:${port}`);
  // Nobody was told that there is one.
  const mark = file(MOVED);
  writeFileSync(mark, '');
  try {
    await check();
  } finally {
    rmSync(mark);
    slots.forEach((slot, index) => writeFileSync(slot, texts[index] ?? ''));
  }
};

beforeEach(async () => {
  accepted = 0;
  consul = await startConsul();
  dataDir = mkdtempSync(join(tmpdir(), 'containeros-settles-'));
  httpPort = await freePort();
  sockets = await openListeningSockets(ingressPortNeeds(configOf()));
  startCaddy();
  await startKeeper();
}, 60_000);

afterEach(async () => {
  keeper?.stop();
  for (const server of backends.splice(0)) server.close();
  const gone = caddy && once(caddy, 'exit');
  caddy?.kill('SIGKILL');
  await gone;
  sockets?.close();
  await consul?.close();
  rmSync(dataDir, { recursive: true, force: true });
}, 30_000);

test('a hostname that came without a new configuration reads nothing when all has stayed, and moves at once after', async () => {
  const [one, other] = [await startBackend('one'), await startBackend('other')];
  await loads.settled();
  const before = loads.count();
  await claim();
  await publish(one.port);
  await answers('one');
  await eventually(() => expect(loads.count()).toBe(before + 1), { describe: 'it settles' });
  await settles();
  await whileFilesMislead(async () => expect((await ask()).text).toBe('one'));

  await publish(other.port);
  await answers('other');
  expect(hasMoved()).toBe(true);
  expect(loads.count()).toBe(before + 1);
  await eventually(() => expect(loads.count()).toBe(before + 2), { describe: 'it settles again' });
  await settles();
  await whileFilesMislead(async () => expect((await ask()).text).toBe('other'));
});

test('clients that keep their connections notice nothing, and while others connect nothing settles', async () => {
  const [one, other] = [await startBackend('one'), await startBackend('other')];
  await claim();
  await publish(one.port);
  await answers('one');
  await settles();
  await loads.settled();
  const settled = loads.count();
  const load = startLoad({ address: `127.0.0.1:${httpPort}`, hostname: HOST, clients: 8, pauseMs: 5 });
  const busy = setInterval(() => (accepted = (accepted ?? 0) + 1), SETTLE_AFTER_MS / 10);
  await publish(other.port);
  await answers('other');
  await new Promise((resolve) => setTimeout(resolve, 4 * SETTLE_AFTER_MS));
  expect([loads.count(), hasMoved()]).toEqual([settled, true]);
  clearInterval(busy);
  await settles();
  expect(loads.count()).toBe(settled + 1);
  expect((await load.stop()).failures).toEqual([]);
});

test('a request that is under way when its only replica is replaced finds the next one', async () => {
  const one = await startBackend('one');
  await claim();
  await publish(one.port);
  await answers('one');
  await settles();
  await stopBackend(one.server);
  let isAnswered = false;
  const asked = ask().finally(() => (isAnswered = true));
  // It is tried where the configuration says, and refused there.
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect([isAnswered, hasMoved()]).toEqual([false, false]);
  await publish((await startBackend('next')).port);
  expect((await asked).text).toBe('next');
});

test('keeper and Caddy may start again at any time, and lead nobody where a replica was before', async () => {
  const [one, other] = [await startBackend('one'), await startBackend('other')];
  await claim();
  await publish(one.port);
  await answers('one');
  await settles();
  // Nobody sees it before the keeper starts again; Caddy starts with what it was told last.
  keeper?.stop();
  await publish(other.port);
  const gone = caddy && once(caddy, 'exit');
  caddy?.kill('SIGKILL');
  await gone;
  startCaddy();
  await answers('one');
  accepted = undefined;
  await startKeeper();
  expect((await ask()).text).toBe('other');
  expect(hasMoved()).toBe(true);
  // The next one has nothing to move, and knows that the configuration is wrong.
  keeper?.stop();
  await startKeeper();
  await loads.settled();
  expect([(await ask()).text, hasMoved(), loads.count()]).toEqual(['other', true, 1]);
  accepted = 0;
  keeper?.stop();
  await startKeeper();
  await settles();
  await whileFilesMislead(async () => expect((await ask()).text).toBe('other'));
});
