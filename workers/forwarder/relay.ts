/**
 * Passes bytes between two TCP connections, no faster than the slower end takes them.
 *
 * Invariants: an end that has said all may still listen (half-closed connections stay so); what has been taken from one
 * end reaches the other before it is closed; an end that breaks off breaks the other one off.
 */

import type { Socket } from 'node:net';

/** How long an end may still send what nobody reads, until it has taken what was sent to it. */
const LINGER_MS = 30_000;

const breakOff = (socket: Socket): void => {
  if (!socket.destroyed) socket.resetAndDestroy();
};

/** The other one is gone, and has said all that it had to say: what of it is on its way is still delivered. */
const seeOff = (socket: Socket): void => {
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  timer.unref();
  socket.once('close', () => clearTimeout(timer));
};

const endTogether = (one: Socket, other: Socket): void => {
  one.on('error', () => {
    if (!one.readableEnded) return breakOff(other);
    other.unpipe(one);
    seeOff(other);
  });
  one.on('close', () => {
    if (!one.readableEnded) breakOff(other);
  });
};

/** @param client and @param upstream both allow half-open connections */
export const relay = (client: Socket, upstream: Socket): void => {
  endTogether(client, upstream);
  endTogether(upstream, client);
  client.pipe(upstream);
  upstream.pipe(client);
};
