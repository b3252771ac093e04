/**
 * Runs a Temporal worker for as long as its process lives, whatever happens to the server.
 *
 * Invariants: a worker does not start when the server is away, so connection and worker are made again and again;
 * a worker that failed is never run again, it is made anew together with its connection (sdk-typescript issues 290
 * and 344); `polling` is true only while a worker really runs.
 */

import { setTimeout as delay } from 'node:timers/promises';

import {
  DefaultLogger,
  NativeConnection,
  Runtime,
  Worker,
  makeTelemetryFilterString,
  type NativeConnectionOptions,
  type WorkerOptions,
} from '@temporalio/worker';
import type { Logger } from 'pino';

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 2_000;

export interface RunningWorker {
  /** Ends the worker and makes it anew with a new connection, when what is under way has had its grace. */
  renew(): void;
  /** Ends polling, waits for what is under way as long as the worker's grace says, and closes the connection. */
  stop(): Promise<void>;
}

export interface WorkerLifecycle {
  readonly address: string;
  readonly logger: Logger;
  /** How to reach a server that wants it; asked for each new connection. */
  readonly connectionOptions?: () => NativeConnectionOptions;
  /** Called with each new connection; what it returns is made into a worker. */
  options(connection: NativeConnection): Promise<WorkerOptions>;
  /** Called when polling begins or ends. */
  onPolling(polling: boolean): void;
}

let isRuntimeInstalled = false;

/** Sends the core's logs to the process's logger, and leaves signals to the process. */
export const installTemporalRuntime = (logger: Logger): void => {
  if (isRuntimeInstalled) return;
  isRuntimeInstalled = true;
  Runtime.install({
    shutdownSignals: [],
    telemetryOptions: {
      logging: { forward: {}, filter: makeTelemetryFilterString({ core: 'WARN', other: 'ERROR' }) },
    },
    logger: new DefaultLogger('WARN', ({ level, message, meta }) => {
      // The token says nothing to people, and a worker of activities alone is what a node's is meant to be.
      const { taskToken: _token, ...about } = meta ?? {};
      if (level === 'ERROR') logger.error(about, message);
      else if (message.startsWith('No workflows registered')) logger.debug(about, message);
      else logger.warn(about, message);
    }),
  });
};

export const startTemporalWorker = (lifecycle: WorkerLifecycle): RunningWorker => {
  const { logger } = lifecycle;
  let worker: Worker | undefined;
  let isStopping = false;
  let renewals = 0;
  const abort = new AbortController();

  const runOnce = async (): Promise<void> => {
    const renewalsBefore = renewals;
    const connection = await NativeConnection.connect({
      ...lifecycle.connectionOptions?.(),
      address: lifecycle.address,
    });
    try {
      worker = await Worker.create(await lifecycle.options(connection));
      // What activities would ask Temporal with: none of ours does, and with the first one it would be loaded.
      Object.defineProperty(worker, 'client', { value: undefined });
      if (isStopping) return;
      const running = worker.run();
      // Renewed while it was made: its connection has what was shown before.
      if (renewals !== renewalsBefore) worker.shutdown();
      else lifecycle.onPolling(true);
      await running;
    } finally {
      worker = undefined;
      lifecycle.onPolling(false);
      await connection
        .close()
        .catch((error: unknown) => logger.debug({ err: error }, 'closing a connection failed'));
    }
  };

  const loop = async (): Promise<void> => {
    let retryMs = RETRY_FIRST_MS;
    while (!isStopping) {
      const startedAtMs = performance.now();
      try {
        await runOnce();
      } catch (error) {
        if (isStopping) return;
        logger.warn(
          { err: error },
          `no worker on the Temporal server at ${lifecycle.address}; trying again in ${retryMs} ms`,
        );
      }
      if (isStopping) return;
      if (performance.now() - startedAtMs > 10 * RETRY_MAX_MS) retryMs = RETRY_FIRST_MS;
      await delay(retryMs, undefined, { signal: abort.signal }).catch(() => undefined);
      retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
    }
  };
  const finished = loop();

  return {
    renew: () => {
      renewals += 1;
      if (worker?.getState() === 'RUNNING') worker.shutdown();
    },
    stop: async () => {
      isStopping = true;
      abort.abort();
      if (worker?.getState() === 'RUNNING') worker.shutdown();
      await finished;
    },
  };
};
