/**
 * Keeps a guard running as long as this worker has leases. It outlives the worker: that is what it is for.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';

import type { Logger } from 'pino';

/** Beside this file, once it is built. */
export const LEASE_GUARD_PROGRAM = join(__dirname, 'lease-guard.js');
const RESTART_MS = 500;
const NODE_FLAGS = ['--max-semi-space-size=1', '--max-old-space-size=24'];

export interface LeaseGuard {
  /** Starts one, unless this worker has done so and it runs. One that an earlier worker has started ends then. */
  ensure(): void;
}

export const createLeaseGuard = (options: {
  readonly program: string;
  readonly file: string;
  readonly dockerSocketPath: string;
  readonly clusterId: string;
  readonly logger: Logger;
}): LeaseGuard => {
  let running: ChildProcess | undefined;
  let startedAt = -Infinity;
  return {
    ensure: () => {
      if (running !== undefined || performance.now() - startedAt < RESTART_MS) return;
      startedAt = performance.now();
      const { program, file, dockerSocketPath, clusterId, logger } = options;
      const child = spawn(process.execPath, [...NODE_FLAGS, program, file, dockerSocketPath, clusterId], {
        detached: true,
        stdio: 'ignore',
      });
      running = child;
      child.unref();
      const ended = (): void => {
        if (running === child) running = undefined;
      };
      child.on('exit', (code) => {
        ended();
        // It ends by itself, with 0, when there is nothing to guard.
        if (code !== 0)
          logger.warn({ code }, 'the guard of exclusive replicas ended; the next renewal starts it again');
      });
      child.on('error', (error) => {
        ended();
        logger.error({ err: error }, 'the guard of exclusive replicas could not be started');
      });
    },
  };
};
