/**
 * The forwarder: the process that answers on public ports. It runs beside the node worker, and only while there are
 * public ports on this machine.
 *
 * Invariants: it needs nothing but the table that the node worker has written: neither Consul nor the node worker nor
 * the head node; it outlives the supervisor's end, as Caddy does, and is ended by the next start; a table that cannot be
 * read changes nothing.
 *
 * Usage: node program.js DIRECTORY HOST
 */

import { readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';

import type { ForwarderTable } from '../../contracts/forwarder';
import { ALIVE_EVERY_MS, tellSupervisor } from '../role';

import { createForwarder } from './forwarder';
import { forwarderSocket, forwarderTableFile } from './files';

/** What the process needs beside connections. */
const OTHER_FILES = 100;
const MAX_OPEN = 50_000;

/** Of each connection there are two ends. Node.js has raised the limit to what it may be. */
const maxOpen = (): number => {
  const [, limit = '1024'] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return Math.min(MAX_OPEN, Math.floor((Number(limit) - OTHER_FILES) / 2));
};

const [directory = '', host = ''] = process.argv.slice(2);
const listeners = new Set<Socket>();

const tell = (socket: Socket): void => void socket.write(`${JSON.stringify(forwarder.state())}\n`);

const forwarder = createForwarder({
  host,
  maxOpen: maxOpen(),
  random: Math.random,
  onChange: () => listeners.forEach(tell),
});

/** One after the other: each goes by what the file says then. */
let turn: Promise<void> = Promise.resolve();
const readTable = (): void => {
  turn = turn.then(async () => {
    try {
      await forwarder.apply(
        JSON.parse(readFileSync(forwarderTableFile(directory), 'utf8')) as ForwarderTable,
      );
    } catch (error) {
      process.stderr.write(`forwarder: the table cannot be read: ${(error as Error).message}\n`);
    }
  });
};

const socketPath = forwarderSocket(directory);
rmSync(socketPath, { force: true });
process.umask(0o077);
createServer((socket) => {
  listeners.add(socket);
  socket.on('error', () => undefined);
  socket.on('close', () => listeners.delete(socket));
  socket.on('data', readTable);
  tell(socket);
}).listen(socketPath);
readTable();

tellSupervisor({ kind: 'alive' });
setInterval(() => tellSupervisor({ kind: 'alive' }), ALIVE_EVERY_MS);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => process.exit(0));
