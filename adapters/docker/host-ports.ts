/**
 * Chooses host ports. They are ours to choose, not Docker's, so that a container keeps its port when it or the
 * engine is started again.
 *
 * Invariants: a port is given to one replica at a time; ports that other programs listen on are avoided, and those
 * that turn out to be taken are avoided for a while.
 */

import { createServer } from 'node:net';

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

export interface HostPortChooser {
  /** @returns free ports, marked as in use */
  choose(count: number): Promise<number[]>;
  /** Marks ports that a container was found to have. */
  claim(ports: Iterable<number>): void;
  release(ports: Iterable<number>): void;
  /** The engine said that the port is someone else's. */
  avoid(ports: Iterable<number>): void;
}

const AVOID_MS = 60_000;

/**
 * @param chance a number from 0 to 1, as Math.random gives
 * @param isListening whether another program of this machine listens on the port
 */
export const createHostPortChooser = (
  range: PortRange,
  isListening: (port: number) => Promise<boolean>,
  chance: () => number = Math.random,
  nowMs: () => number = () => performance.now(),
): HostPortChooser => {
  const inUse = new Set<number>();
  const avoidedUntilMs = new Map<number, number>();
  const size = range.last - range.first + 1;

  const isAvoided = (port: number): boolean => {
    const untilMs = avoidedUntilMs.get(port);
    if (untilMs === undefined) return false;
    if (untilMs > nowMs()) return true;
    avoidedUntilMs.delete(port);
    return false;
  };

  const chooseOne = async (): Promise<number> => {
    const start = Math.floor(chance() * size);
    for (let step = 0; step < size; step += 1) {
      const port = range.first + ((start + step) % size);
      if (inUse.has(port) || isAvoided(port)) continue;
      inUse.add(port); // before waiting, so that nobody else takes it meanwhile
      if (!(await isListening(port))) return port;
      inUse.delete(port);
      avoidedUntilMs.set(port, nowMs() + AVOID_MS);
    }
    throw new NoHostPort(`no host port from ${range.first} to ${range.last} is free`);
  };

  return {
    choose: async (count) => {
      const ports: number[] = [];
      try {
        while (ports.length < count) ports.push(await chooseOne());
      } catch (error) {
        for (const port of ports) inUse.delete(port);
        throw error;
      }
      return ports;
    },
    claim: (ports) => {
      for (const port of ports) inUse.add(port);
    },
    release: (ports) => {
      for (const port of ports) inUse.delete(port);
    },
    avoid: (ports) => {
      for (const port of ports) {
        inUse.delete(port);
        avoidedUntilMs.set(port, nowMs() + AVOID_MS);
      }
    },
  };
};

export class NoHostPort extends Error {}

/** Tries to listen. An address that is not of this machine tells nothing, and counts as free. */
export const isListeningOn =
  (address: string) =>
  (port: number): Promise<boolean> =>
    new Promise((resolve) => {
      const server = createServer();
      server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'EADDRINUSE'));
      server.listen({ port, host: address, exclusive: true }, () => server.close(() => resolve(false)));
    });
