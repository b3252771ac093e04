/**
 * Knows when one configuration of Caddy has taken over from another (handover.ts): when clients who ask again and again, on
 * connections that they keep, have all come to the new servers. How long that takes depends on how busy the machine
 * is, for them as for the clients of the ingress.
 *
 * Invariants: it takes a second at least, in which also a slow client has an answer on each of its connections, and
 * some more at most, however busy the machine is; nothing of it is left.
 */

import { once, setMaxListeners } from 'node:events';
import { chmodSync, rmSync } from 'node:fs';
import { Agent, createServer, request } from 'node:http';

import { pause } from '../pause';

import { handoverSocket } from './handover';

/** What Caddy is given instead of another configuration. */
const NO_CONFIGURATION = 'none';
const AT_LEAST_MS = 1_000;
const AT_MOST_MS = 3_000;
const CLIENTS = 8;
/** Of each client: on a machine that has nothing else to do they take a twentieth of the second. */
const ANSWERS = 10;
const ASK_EVERY_MS = 5;

export interface HandoverEnd {
  /** To be called when the new configuration is in force, or is not to be. */
  close(): void;
}

export interface HandoverEndOptions {
  /** Of the ingress. */
  readonly directory: string;
  /** Of this machine on which requests are taken without TLS. */
  readonly port: number;
  readonly atMostMs?: number;
}

/** A signal that nobody but the one who waits for it holds may be gone before its time: this one is held by its timer. */
const endingAfter = (ms: number, closed: AbortSignal): AbortSignal => {
  const over = new AbortController();
  void pause(ms, closed).then(() => over.abort());
  return over.signal;
};

/** @returns whether the connection stays open, which is so with an answer of new servers */
const ask = (agent: Agent, port: number, signal: AbortSignal): Promise<boolean> =>
  new Promise((resolve, reject) => {
    const sent = request({ agent, signal, host: '127.0.0.1', port, method: 'HEAD' }, (response) => {
      response.resume();
      response.on('error', reject);
      response.on('end', () => resolve(response.headers.connection !== 'close'));
    });
    sent.on('error', reject);
    sent.end();
  });

const comesOver = async (agent: Agent, port: number, signal: AbortSignal): Promise<void> => {
  let answers = 0;
  let isWithNew = false;
  while (!signal.aborted && !(isWithNew && answers >= ANSWERS)) {
    try {
      isWithNew = await ask(agent, port, signal);
      answers += 1;
    } catch {
      // Whatever it was, this client has not come over.
      isWithNew = false;
    }
    await pause(ASK_EVERY_MS, signal);
  }
};

/**
 * To be opened before Caddy is given the new configuration: its clients are those of the one in force.
 *
 * @throws the errors of sockets
 */
export const openHandoverEnd = async ({
  directory,
  port,
  atMostMs = AT_MOST_MS,
}: HandoverEndOptions): Promise<HandoverEnd> => {
  const closed = new AbortController();
  setMaxListeners(3 * CLIENTS, closed.signal);
  const agents = Array.from({ length: CLIENTS }, () => new Agent({ keepAlive: true, maxSockets: 1 }));
  // A Caddy that answers nobody has nothing to hand over.
  const connected = await Promise.all(
    agents.map((agent) =>
      ask(agent, port, endingAfter(AT_LEAST_MS, closed.signal)).then(
        () => [agent],
        () => [],
      ),
    ),
  );
  const server = createServer((_, response) => {
    void Promise.all([
      pause(AT_LEAST_MS, closed.signal),
      ...connected.flat().map((agent) => comesOver(agent, port, endingAfter(atMostMs, closed.signal))),
    ]).then(() => response.setHeader('Content-Type', 'application/json').end(NO_CONFIGURATION));
  });
  const socket = handoverSocket(directory);
  // Of a process that was killed.
  rmSync(socket, { force: true });
  const close = (): void => {
    closed.abort();
    for (const agent of agents) agent.destroy();
    server.close();
  };
  try {
    server.listen(socket);
    await once(server, 'listening');
    chmodSync(socket, 0o600);
  } catch (error) {
    close();
    throw error;
  }
  return { close };
};
