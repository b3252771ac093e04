/**
 * All public ports of a machine, as the last table has them.
 *
 * Invariants: a port that cannot be had is tried again and does not keep others from being opened; no port can take the
 * connections of others, as each has its share of what this process may open.
 */

import type { ForwarderState, ForwarderTable } from '../../contracts/forwarder';
import { claimOfPublicPort, type PublicPort } from '../../domain/ingress/public-ports';
import type { PublicPortTrouble } from '../../domain/model';

import type { OpenPort, OpenPortOptions } from './open-port';
import { openTcpPort } from './tcp-port';
import { openUdpPort } from './udp-port';

/** How long it is told that a port had to turn clients away. */
const TELL_LIMIT_MS = 30_000;

export interface Forwarder {
  /** Resolves when the table is followed: ports are open then, or in trouble. */
  apply(table: ForwarderTable): Promise<void>;
  state(): ForwarderState;
  close(): void;
}

export interface ForwarderOptions {
  /** Empty: every address of the machine. */
  readonly host: string;
  /** How many connections and clients there may be at one time, of all ports together. */
  readonly maxOpen: number;
  readonly random: () => number;
  readonly onChange: () => void;
}

interface Served extends PublicPort {
  readonly open: OpenPort;
  /** Settles when it is known whether the port can be had. */
  readonly settled: Promise<void>;
  openTrouble: string | undefined;
  limitTrouble: string | undefined;
  limitTimer: NodeJS.Timeout | undefined;
}

export const createForwarder = ({ host, maxOpen, random, onChange }: ForwarderOptions): Forwarder => {
  const ports = new Map<string, Served>();
  /** Ports that are given up, until their last connection has ended. */
  const closing = new Set<Promise<void>>();
  let serial = 0;

  const share = (): number => Math.max(1, Math.floor(maxOpen / Math.max(1, ports.size)));

  const openPort = ({ port, protocol }: PublicPort): Served => {
    let settle: () => void = () => undefined;
    const settled = new Promise<void>((resolve) => (settle = resolve));
    const reached = (): void => {
      const what =
        protocol === 'tcp' ? 'connections, and closes further ones' : 'clients, and forgets the oldest';
      const isNews = served.limitTrouble === undefined;
      served.limitTrouble = `has as many as ${share()} ${what}`;
      clearTimeout(served.limitTimer);
      served.limitTimer = setTimeout(() => {
        served.limitTrouble = undefined;
        onChange();
      }, TELL_LIMIT_MS).unref();
      if (isNews) onChange();
    };
    const options: OpenPortOptions = {
      host,
      port,
      limit: { count: share, reached },
      random,
      onTrouble: (reason) => {
        const isNews = served.openTrouble !== reason;
        served.openTrouble = reason;
        settle();
        if (isNews) onChange();
      },
    };
    const served: Served = {
      port,
      protocol,
      open: protocol === 'tcp' ? openTcpPort(options) : openUdpPort(options),
      settled,
      openTrouble: undefined,
      limitTrouble: undefined,
      limitTimer: undefined,
    };
    return served;
  };

  const closePort = ({ open, limitTimer }: Served): void => {
    clearTimeout(limitTimer);
    const closed = open.close().then(() => {
      closing.delete(closed);
      if (closing.size === 0) onChange();
    });
    closing.add(closed);
  };

  return {
    apply: async (table) => {
      const wanted = new Set(table.ports.map(claimOfPublicPort));
      for (const [claim, served] of ports) {
        if (wanted.has(claim)) continue;
        ports.delete(claim);
        closePort(served);
      }
      const led = table.ports.map(async (port) => {
        const claim = claimOfPublicPort(port);
        const served = ports.get(claim) ?? openPort(port);
        ports.set(claim, served);
        served.open.lead(port);
        await served.settled;
      });
      await Promise.all(led);
      serial = table.serial;
      onChange();
    },
    state: () => ({
      serial,
      troubles: [...ports.values()].flatMap(
        ({ port, protocol, openTrouble, limitTrouble }): PublicPortTrouble[] => {
          const reason = openTrouble ?? limitTrouble;
          return reason === undefined ? [] : [{ port, protocol, reason }];
        },
      ),
      isIdle: ports.size === 0 && closing.size === 0,
    }),
    close: () => {
      for (const served of ports.values()) closePort(served);
    },
  };
};
