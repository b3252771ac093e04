/**
 * The sockets that the supervisor keeps for Caddy: a connection made while no Caddy runs waits for the next one, a port
 * that somebody has is named, on whichever address, and nothing is kept beyond the end.
 */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { openListeningSockets } from '../../workers/up/listening-sockets';
import { checkPorts, ingressPortNeeds } from '../../workers/up/ports';
import { httpRequest } from '../support/http';
import { freePort, ingressConfigWith, listenOn, startIngress, type TestIngress } from '../support/ingress';
import { startLoad } from '../support/load';
import { eventually } from '../support/wait';

const HOSTNAME = 'kept.localhost';
const CLIENTS = 8;

/** How many connections wait until they are accepted (proc(5): the receive queue of a socket that listens). */
const queued = (port: number): number => {
  const rows = readFileSync('/proc/self/net/tcp6', 'utf8').split('\n');
  const address = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const row = rows
    .map((one) => one.trim().split(/\s+/))
    .find((one) => one[1]?.endsWith(address) && one[3] === '0A');
  return parseInt(row?.[4]?.split(':')[1] ?? '', 16);
};

describe('with Caddy', () => {
  const backend = createServer((_, response) => response.end('kept'));
  let ingress: TestIngress;

  beforeAll(async () => {
    ingress = await startIngress({ [HOSTNAME]: `127.0.0.1:${await listenOn(backend)}` });
  }, 60_000);

  afterAll(async () => {
    await ingress?.stop();
    backend.closeAllConnections();
    backend.close();
  }, 30_000);

  const ask = (host: string): Promise<{ readonly text: string }> =>
    httpRequest(`http://${host}:${ingress.httpPort}/`, { headers: { host: HOSTNAME } });

  test('it answers on IPv4 and IPv6', async () => {
    for (const host of ['127.0.0.1', '[::1]']) expect((await ask(host)).text).toBe('kept');
  });

  test('while it is killed again and again, only requests that are in it are lost; the others wait', async () => {
    await ask('127.0.0.1');
    const load = startLoad({
      address: `127.0.0.1:${ingress.httpPort}`,
      hostname: HOSTNAME,
      clients: CLIENTS,
    });
    const kills = 5;
    try {
      for (let kill = 0; kill < kills; kill += 1) {
        const pid = ingress.pid();
        process.kill(pid, 'SIGKILL');
        await eventually(() => expect(ingress.pid()).not.toBe(pid), { describe: 'the pid is another one' });
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
    const pid = ingress.pid();
    process.kill(pid, 'SIGSTOP');
    const waiting = Array.from({ length: 20 }, () => ask('127.0.0.1'));
    await eventually(() => expect(queued(ingress.httpPort)).toBe(20), { describe: 'all of them wait' });
    process.kill(pid, 'SIGKILL');
    const answers = await Promise.all(waiting);
    expect(answers.map(({ text }) => text)).toEqual(Array(20).fill('kept'));
  });
});

describe('a port that somebody has', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'containeros-sockets-'));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test.each(['127.0.0.1', '0.0.0.0', '::1', '::'])('on %s is named, with what to do', async (host) => {
    const other = createTcpServer();
    const port = await listenOn(other, host);
    try {
      const needs = ingressPortNeeds(ingressConfigWith(directory, port));
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
    const needs = ingressPortNeeds(ingressConfigWith(directory, await freePort()));
    const sockets = await openListeningSockets(needs);
    await expect(checkPorts(needs)).rejects.toMatchObject({ code: 'conflict' });
    sockets.close();
    await eventually(() => checkPorts(needs), { describe: 'the port is free' });
  });
});
