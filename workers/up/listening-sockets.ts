/**
 * Sockets that outlive whatever serves on them: the supervisor keeps them, and a process gets them as file descriptors,
 * from 3 on. While it is started again, connections wait in the queue of the socket.
 *
 * Invariants: this process accepts nothing; a process that ends takes no socket with it; once this process has ended too,
 * the ports are free.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as net from 'node:net';
import { getSystemErrorName } from 'node:util';

import { ContainerOsError } from '../../domain/errors';

import { placeOf, type PortNeed } from './ports';

/** As many connections may wait, if the system lets them (net.core.somaxconn). */
const BACKLOG = 4_096;

export interface ListeningSockets {
  /** In the order in which they were asked for. */
  readonly fileDescriptors: readonly number[];
  close(): void;
}

/** A socket that has its port, and on which this process does not listen. */
interface BoundSocket {
  readonly fd: number;
  /** @returns a negative error number, or 0; that somebody else has the port is told here, and not when it is made */
  getsockname(into: object): number;
  close(): void;
}

/**
 * What `node:cluster` shares ports by: a server that listens, which is all that is documented, accepts connections. It
 * is on all addresses, IPv6 too where there is any, when the host is empty.
 *
 * @returns a negative error number, or the socket
 */
type CreateHandle = (
  host: string | null,
  port: number,
  addressType: 4 | 6 | null,
  fd: undefined,
  flags: 0,
) => number | BoundSocket;

const createHandle = (net as unknown as { readonly _createServerHandle: CreateHandle })._createServerHandle;

/**
 * Whether a socket listens is its own, so it may be told by a child that shares it: that one ends before it could accept
 * anything. `listening` and `error` are told before events are waited for.
 */
const LISTEN = `
const net = require('node:net');
const fds = process.argv.slice(1).map(Number);
let left = fds.length;
for (const fd of fds) {
  const server = net.createServer();
  server.on('error', (error) => {
    process.stdout.write(String(fds.indexOf(fd)) + ' ' + error.code);
    process.exitCode = 1;
    left = -1;
  });
  server.listen({ fd, backlog: ${BACKLOG} }, () => {
    left -= 1;
    if (left === 0) process.exit(0);
  });
  server.unref();
}
`;

const failure = (need: PortNeed | undefined, code: string): ContainerOsError =>
  new ContainerOsError(
    code === 'EADDRINUSE' ? 'conflict' : 'internal',
    need === undefined
      ? `ContainerOS cannot listen: ${code}.`
      : `ContainerOS cannot listen on ${placeOf(need)} for ${need.what}: ${code === 'EADDRINUSE' ? 'it is in use' : code}; choose another with ${need.flag}.`,
  );

const bind = (need: PortNeed): BoundSocket => {
  const addressType = net.isIPv6(need.host) ? 6 : net.isIPv4(need.host) ? 4 : null;
  const made = createHandle(need.host === '' ? null : need.host, need.port, addressType, undefined, 0);
  if (typeof made === 'number') throw failure(need, getSystemErrorName(made));
  const problem = made.getsockname({});
  if (problem === 0) return made;
  made.close();
  throw failure(need, getSystemErrorName(problem));
};

const listen = async (sockets: readonly BoundSocket[], needs: readonly PortNeed[]): Promise<void> => {
  const child = spawn(process.execPath, ['--eval', LISTEN, ...sockets.map((_, index) => String(3 + index))], {
    stdio: ['ignore', 'pipe', 'inherit', ...sockets.map(({ fd }) => fd)],
  });
  let said = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [status] = (await once(child, 'close')) as [number | null];
  if (status === 0) return;
  const [index = '', code = ''] = said.split(' ');
  throw failure(needs[Number(index || NaN)], code || `the helper ended with ${String(status)}`);
};

/** @throws {ContainerOsError} `conflict` when a port is in use; `internal` when it cannot be had otherwise */
export const openListeningSockets = async (needs: readonly PortNeed[]): Promise<ListeningSockets> => {
  const sockets: BoundSocket[] = [];
  const close = (): void => sockets.forEach((socket) => socket.close());
  try {
    for (const need of needs) sockets.push(bind(need));
    if (sockets.length > 0) await listen(sockets, needs);
  } catch (error) {
    close();
    throw error;
  }
  return { fileDescriptors: sockets.map(({ fd }) => fd), close };
};
