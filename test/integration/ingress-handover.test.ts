/**
 * One configuration of a real Caddy takes over from another, as the keeper has it: clients that keep their connections
 * and try nothing twice lose no request over it, and nothing waits where there is nothing to take over.
 */

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { turnOf } from '../../adapters/ingress/handover';
import { hostnameKvKey, replicaKvKey, routesKvKey } from '../../contracts/kv';
import { ingressConfigFile, type IngressConfig } from '../../workers/ingress-files';
import type { IngressKeeper } from '../../workers/node/ingress-keeper';
import { openListeningSockets, type ListeningSockets } from '../../workers/up/listening-sockets';
import { ingressPortNeeds } from '../../workers/up/ports';
import { startConsul, type RunningConsul } from '../support/consul';
import { httpRequest, openRequest } from '../support/http';
import { freePort, listenOn } from '../support/ingress';
import { buildServing, createKeeper, ingressConfigOf, spawnCaddy } from '../support/ingress-keeper';
import { startLoad } from '../support/load';
import { openUpload, openWebSocket } from '../support/long-requests';
import { eventually } from '../support/wait';

const HOSTNAME = 'steady.localhost';
/** The figure in docs/benchmarks.md is of 1,000. */
const RELOADS = Number(process.env['CONTAINEROS_TEST_CONFIGURATIONS'] ?? 50);
const CLIENTS = 8;

const backend = createServer((request, response) => {
  if (request.url === '/events') {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    say = (event) => void response.write(`data: ${event}\n\n`);
    say('first');
    return;
  }
  let got = 0;
  request.on('data', (chunk: Buffer) => (got += chunk.length));
  request.on('end', () => response.end(got === 0 ? 'steady' : `got ${got}`));
});
backend.on('upgrade', (_, socket: Socket) => {
  socket.on('error', () => undefined);
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  socket.pipe(socket);
});
/** Sends an event to who has asked for events. */
let say: (event: string) => void = () => undefined;
let consul: RunningConsul;
let dataDir: string;
let config: IngressConfig;
let sockets: ListeningSockets | undefined;
let caddy: ChildProcess | undefined;
let keeper: IngressKeeper | undefined;
let loads = 0;
let limit = 1_000;

const start = async (): Promise<void> => {
  sockets = await openListeningSockets(ingressPortNeeds(config));
  caddy = spawnCaddy(config, sockets);
};

/** Each time another one, so that there is a new configuration. */
const changeOptions = async (): Promise<void> => {
  limit += 1;
  const key = { project: 'default', name: 'changing' };
  const routes = [{ container: 'main', port: 80, hostnames: ['changing.localhost'], maxBodyBytes: limit }];
  await consul.documents.put(routesKvKey(key), { ...key, releases: [{ number: 1, createdAtMs: 0, routes }] });
};

const inForce = (): string => readFileSync(ingressConfigFile(config), 'utf8');

const newConfiguration = async (): Promise<void> => {
  const before = loads;
  const turn = turnOf(inForce());
  await changeOptions();
  await eventually(() => expect(loads).toBe(before + 1), { describe: 'Caddy has another one' });
  await eventually(() => expect(turnOf(inForce())).not.toBe(turn), { describe: 'it is kept' });
};

beforeAll(async () => {
  consul = await startConsul();
  dataDir = mkdtempSync(join(tmpdir(), 'containeros-handover-'));
  config = ingressConfigOf(dataDir, await freePort());
  await start();
  keeper = createKeeper({
    config,
    nodeId: consul.nodeId,
    consul: consul.client,
    documents: consul.documents,
    onState: () => undefined,
    throughAdmin: (admin) => ({
      load: async (text) => {
        await admin.load(text);
        loads += 1;
      },
    }),
    logger: pino({ level: 'silent' }),
  });
  keeper.start();
  const port = await listenOn(backend);
  for (const [id, hostname] of [
    ['steady-1', HOSTNAME],
    ['changing-1', 'changing.localhost'],
  ] as const) {
    const replica = buildServing(id, consul.nodeId, hostname, { port }, { release: 1, releasedAtMs: 0 });
    // Of a route with options, replicas do not tell the hostname.
    const ports = replica.ports.map((one) => (hostname === HOSTNAME ? one : { ...one, hostnames: [] }));
    await consul.documents.put(replicaKvKey(replica, id), { ...replica, ports });
    await consul.documents.put(hostnameKvKey(hostname), { project: 'default', name: hostname.split('.')[0] });
  }
  await changeOptions();
  for (const host of [HOSTNAME, 'changing.localhost']) {
    await eventually(
      async () =>
        expect((await httpRequest(`http://127.0.0.1:${config.httpPort}/`, { headers: { host } })).text).toBe(
          'steady',
        ),
      { describe: `${host} answers` },
    );
  }
}, 60_000);

afterAll(async () => {
  keeper?.stop();
  caddy?.kill('SIGKILL');
  sockets?.close();
  backend.closeAllConnections();
  backend.close();
  await consul?.close();
  rmSync(dataDir, { recursive: true, force: true });
}, 30_000);

test(
  `${RELOADS} new configurations cost clients that keep their connections no request`,
  async () => {
    const address = `127.0.0.1:${config.httpPort}`;
    const load = startLoad({ address, hostname: HOSTNAME, clients: CLIENTS });
    try {
      for (let reload = 0; reload < RELOADS; reload += 1) {
        await newConfiguration();
      }
    } finally {
      await load.stop();
    }
    const { failures, answered } = load.report();
    expect(failures).toEqual([]);
    expect(answered).toBeGreaterThan(RELOADS * CLIENTS);
  },
  RELOADS * 10_000,
);

test('web sockets, events and uploads that are open go on over new configurations', async () => {
  const address = `127.0.0.1:${config.httpPort}`;
  const webSocket = await openWebSocket(address, HOSTNAME);
  const upload = openUpload(address, HOSTNAME, 4);
  const events = await openRequest(`http://${address}/events`, {
    headers: { host: HOSTNAME },
    timeoutMs: 60_000,
  });
  let heard = '';
  events.setEncoding('utf8').on('data', (chunk: string) => (heard += chunk));
  const ended = jest.fn();
  events.on('close', ended);
  for (const event of ['one', 'two', 'three']) {
    await newConfiguration();
    await webSocket.echo(event);
    upload.send();
    say(event);
    await eventually(() => expect(heard).toContain(`data: ${event}\n\n`), {
      describe: `the event "${event}" has come`,
    });
  }
  expect(ended).not.toHaveBeenCalled();
  expect(await upload.answer()).toBe('got 4');
  webSocket.destroy();
  events.destroy();
}, 60_000);

test('Caddy is there at once when it starts, as there is nothing to take over', async () => {
  if (caddy === undefined) throw new Error('there is no Caddy');
  const gone = once(caddy, 'exit');
  caddy.kill('SIGKILL');
  await gone;
  sockets?.close();
  await start();
  await eventually(
    async () => {
      const headers = { host: HOSTNAME };
      const { text } = await httpRequest(`http://127.0.0.1:${config.httpPort}/`, { headers });
      expect(text).toBe('steady');
    },
    { describe: 'it answers' },
  );
  const startedAt = performance.now();
  const before = loads;
  await changeOptions();
  await eventually(() => expect(loads).toBe(before + 1));
  // The one that it has started with is in force by then, or the next one would wait for it.
  expect(performance.now() - startedAt).toBeGreaterThan(900);
});
