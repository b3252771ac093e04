/** What public ports of both protocols have in common. */

import type { ForwardedPort } from '../../contracts/forwarder';

/** How many connections, or clients, a port may have at one time. */
export interface PortLimit {
  /** It changes with the number of ports. */
  readonly count: () => number;
  /** Told for each that is turned away. */
  readonly reached: () => void;
}

export interface OpenPortOptions {
  /** Empty: every address of the machine. */
  readonly host: string;
  readonly port: number;
  readonly limit: PortLimit;
  /** Gives numbers from 0 to less than 1. */
  readonly random: () => number;
  /** Why the port cannot be had, for people; undefined: it is open. */
  readonly onTrouble: (reason: string | undefined) => void;
}

export interface OpenPort {
  /** From now on new connections go there, also those that are not made yet. */
  lead(port: Pick<ForwardedPort, 'groups' | 'lost'>): void;
  /**
   * Takes nothing new; connections that are open go on, and clients of UDP are forgotten.
   *
   * @returns resolves when nothing is open any more
   */
  close(): Promise<void>;
}
