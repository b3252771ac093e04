/**
 * What every role process does at its edges: ends with its supervisor, tells it that it lives and whether it is ready,
 * and stops cleanly once when asked.
 */

import type { Logger } from 'pino';

import type { GossipTiming } from '../domain/gossip-profile';

/** What a role tells its supervisor. */
export interface RoleStatus {
  readonly kind: 'status';
  readonly ready: boolean;
  /** Why it is not ready, for people. */
  readonly reason?: string;
}

/** The cluster has removed this node: nothing of it is to run on. */
export interface RoleRefused {
  readonly kind: 'refused';
  readonly words: string;
}

/** The Consul agent is to have this timing of its gossip. */
export interface RoleGossip {
  readonly kind: 'gossip';
  readonly timing: GossipTiming;
}

/** Whether a forwarder has to run for public ports. */
export interface RoleForwarder {
  readonly kind: 'forwarder';
  readonly isWanted: boolean;
}

/** What a role tells its supervisor, beside that it lives. */
export type RoleMessage = RoleStatus | RoleRefused | RoleGossip | RoleForwarder;

/** Sent now and then: whoever goes silent hangs. */
export interface RoleAlive {
  readonly kind: 'alive';
}

export const ALIVE_EVERY_MS = 2_000;

/** What a supervisor tells the API of the other roles. */
export interface RolesStatus {
  readonly kind: 'roles';
  readonly notReady: readonly string[];
}

const isConnectedToSupervisor = () => process.send !== undefined && process.connected;

export const tellSupervisor = (message: RoleMessage | RoleAlive): void => {
  if (isConnectedToSupervisor()) process.send?.(message, undefined, undefined, () => undefined);
};

export const onRolesStatus = (listener: (status: RolesStatus) => void): void => {
  process.on('message', (message: unknown) => {
    if (typeof message === 'object' && message !== null && 'kind' in message && message.kind === 'roles') {
      listener(message as RolesStatus);
    }
  });
};

/**
 * Tells the supervisor that the process lives, from now on, and runs `stop` once, on SIGTERM or SIGINT, or when the supervisor is gone, and then ends the process.
 *
 * @param stop stops the role; has `graceMs` milliseconds for it
 */
export const endWithSupervisor = (logger: Logger, stop: () => Promise<void>, graceMs = 8_000): void => {
  tellSupervisor({ kind: 'alive' });
  setInterval(() => tellSupervisor({ kind: 'alive' }), ALIVE_EVERY_MS).unref();
  let isStopping = false;
  const end = (why: string, isOrphan: boolean) => {
    if (isStopping) return;
    isStopping = true;
    logger.debug(`stopping: ${why}`);
    setTimeout(() => process.exit(1), isOrphan ? 1_000 : graceMs).unref();
    stop()
      .catch((error: unknown) => logger.error({ err: error }, 'stopping failed'))
      .finally(() => process.exit(0));
  };
  process.on('SIGTERM', () => end('SIGTERM', false));
  process.on('SIGINT', () => end('SIGINT', false));
  if (process.send !== undefined) process.on('disconnect', () => end('the supervisor is gone', true));
};
