/**
 * The sockets that the supervisor keeps for Caddy: a connection made while no Caddy runs waits for the next one, a port
 * that somebody has is named, on whichever address, and nothing is kept beyond the end.
 */

import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import pino from 'pino';

import { openPlaceFiles } from '../../adapters/ingress/place-files';
import type { Layout } from '../../domain/ingress/layout';
import { parseConfig } from '../../workers/config';
import { caddySettings, type IngressConfig } from '../../workers/ingress-files';
import { caddyCommand } from '../../workers/up/engines';
import { openListeningSockets, type ListeningSockets } from '../../workers/up/listening-sockets';
import { checkPorts, ingressPortNeeds } from '../../workers/up/ports';
import { superviseProcess, type SupervisedProcess } from '../../workers/up/supervised-process';
import { httpRequest } from '../support/http';
import { startLoad } from '../support/load';
import { engineVariables } from '../support/programs';
import { eventually } from '../support/wait';

const HOSTNAME = 'kept.localhost';
const CLIENTS = 8;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'containeros-sockets-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const listenOn = async (
  server: Pick<Server, 'listen' | 'address' | 'once'>,
  host: string,
): Promise<number> => {
  const listening = new Promise((resolve) => server.once('listening', () => resolve(undefined)));
  server.listen(0, host);
  await listening;
  return (server.address() as AddressInfo).port;
};

const freePort = async (): Promise<number> => {
  const probe = createTcpServer();
  const port = await listenOn(probe as Server, '127.0.0.1');
  probe.close();
  await once(probe, 'close');
  return port;
};

/** How many connections wait until they are accepted (proc(5): the receive queue of a socket that listens). */
const queued = (port: number): number => {
  const rows = readFileSync('/proc/self/net/tcp6', 'utf8').split('\n');
  const address = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const row = rows
    .map((one) => one.trim().split(/\s+/))
    .find((one) => one[1]?.endsWith(address) && one[3] === '0A');
  return parseInt(row?.[4]?.split(':')[1] ?? '', 16);
};

/** As on a node that others reach: every address is listened on. */
const configWith = (httpPort: number): IngressConfig => ({
  ...parseConfig(
    ['--data-dir', directory, '--advertise-address', '192.0.2.1', '--http-port', String(httpPort)],
    engineVariables(),
    true,
  ),
  httpPort,
});

const layoutWith = (second: string): Layout => [
  { number: 0, slots: 2, isFixed: true, hostname: HOSTNAME },
  { number: 1, slots: 1, isFixed: true, hostname: second },
];

describe('with Caddy', () => {
  let backend: Server;
  let config: IngressConfig;
  let sockets: ListeningSockets;
  let caddy: SupervisedProcess;

  beforeEach(async () => {
    backend = createServer((_, response) => response.end('kept'));
    const address = `127.0.0.1:${await listenOn(backend, '127.0.0.1')}`;
    config = configWith(await freePort());
    const settings = caddySettings(config);
    const files = openPlaceFiles(settings.directory);
    files.writeLayout(layoutWith('other.localhost'));
    files.writeSlots(0, [address, address]);
    files.writeSlots(1, [address]);
    sockets = await openListeningSockets(ingressPortNeeds(config));
    const { command, args, env } = caddyCommand(config);
    caddy = superviseProcess(
      {
        role: 'caddy',
        command,
        args,
        env: { ...process.env, ...env },
        runDirectory: directory,
        ipc: false,
        sockets: sockets.fileDescriptors,
        onLine: () => undefined,
      },
      pino({ level: 'silent' }),
    );
  });

  afterEach(async () => {
    await caddy?.stop();
    sockets?.close();
    backend?.closeAllConnections();
    backend?.close();
  });

  const ask = (host: string): Promise<{ readonly text: string }> =>
    httpRequest(`http://${host}:${config.httpPort}/`, { headers: { host: HOSTNAME } });

  test('it answers on IPv4 and IPv6 to those, too, who asked before it ran', async () => {
    for (const host of ['127.0.0.1', '[::1]']) expect((await ask(host)).text).toBe('kept');
  });

  test('while it is killed again and again, only requests that are in it are lost; the others wait', async () => {
    await ask('127.0.0.1');
    const load = startLoad({ address: `127.0.0.1:${config.httpPort}`, hostname: HOSTNAME, clients: CLIENTS });
    const kills = 5;
    try {
      for (let kill = 0; kill < kills; kill += 1) {
        const pid = caddy.pid();
        if (pid === undefined) throw new Error('Caddy does not run');
        process.kill(pid, 'SIGKILL');
        await eventually(() => expect(caddy.pid()).not.toBe(pid), { describe: 'the pid is another one' });
        const { answered } = load.report();
        await eventually(() => expect(load.report().answered).toBeGreaterThan(answered + CLIENTS), {
          describe: 'the clients are answered again',
        });
      }
    } finally {
      await load.stop();
    }
    const { failures } = load.report();
    expect(failures.filter((why) => why.includes('REFUSED'))).toEqual([]);
    // A client has one request at a time.
    expect(failures.length).toBeLessThanOrEqual(kills * CLIENTS);
  });

  test('connections that wait in the queue of one that hangs are answered by the next one', async () => {
    await ask('127.0.0.1');
    const pid = caddy.pid();
    if (pid === undefined) throw new Error('Caddy does not run');
    process.kill(pid, 'SIGSTOP');
    const waiting = Array.from({ length: 20 }, () => ask('127.0.0.1'));
    await eventually(() => expect(queued(config.httpPort)).toBe(20), { describe: 'all of them wait' });
    process.kill(pid, 'SIGKILL');
    const answers = await Promise.all(waiting);
    expect(answers.map(({ text }) => text)).toEqual(Array(20).fill('kept'));
  });
});

describe('a port that somebody has', () => {
  test.each(['127.0.0.1', '0.0.0.0', '::1', '::'])('on %s is named, with what to do', async (host) => {
    const other = createTcpServer();
    const port = await listenOn(other as Server, host);
    try {
      const needs = ingressPortNeeds(configWith(port));
      await expect(checkPorts(needs)).rejects.toMatchObject({
        code: 'conflict',
        message: `ContainerOS cannot start, because of its ports:\n  port ${port} for hostnames of microservices is in use; choose another with --http-port or --no-ingress`,
      });
      // As when it was taken in between.
      await expect(openListeningSockets(needs)).rejects.toMatchObject({
        code: 'conflict',
        message: `ContainerOS cannot listen on port ${port} for hostnames of microservices: it is in use; choose another with --http-port or --no-ingress.`,
      });
    } finally {
      other.close();
    }
  });

  test('is free again when the sockets are closed', async () => {
    const needs = ingressPortNeeds(configWith(await freePort()));
    const sockets = await openListeningSockets(needs);
    await expect(checkPorts(needs)).rejects.toMatchObject({ code: 'conflict' });
    sockets.close();
    await eventually(() => checkPorts(needs), { describe: 'the port is free' });
  });
});
