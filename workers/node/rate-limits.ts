/**
 * Counts the requests of clients to routes with a rate limit, for Caddy of this node, which asks before it leads one on
 * (adapters/ingress/rate-limit.ts).
 *
 * Invariants: nobody but this user can ask; what is counted is in memory, so a worker that starts anew counts anew; a
 * worker that cannot be asked, or was held up for long enough that Caddy did not wait, lets requests pass, and says so.
 */

import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';

import type { Logger } from 'pino';

import {
  CLIENT_HEADER,
  HAS_TO_WAIT,
  MAY_PASS,
  countingSocket,
  parseQuestion,
} from '../../adapters/ingress/rate-limit';
import { networkOf } from '../../domain/client-network';
import { createRateCounter } from '../../domain/ingress/rate-counter';

/** Longer than Caddy does. */
const KEEP_IDLE_FOR_MS = 60_000;
const WAITING_CONNECTIONS = 4_096;
const LOOK_EVERY_MS = 1_000;
/** As long as Caddy waits. */
const HELD_UP_MS = 500;
const LISTEN_AGAIN_MS = 2_000;

export interface RateLimits {
  start(): void;
  stop(): void;
}

/** @param directory of the ingress */
export const createRateLimits = ({
  directory,
  nowMs,
  logger,
}: {
  readonly directory: string;
  /** Of a clock that never goes back. */
  readonly nowMs: () => number;
  readonly logger: Logger;
}): RateLimits => {
  const socket = countingSocket(directory);
  const counter = createRateCounter();

  let wasEverAsked = false;
  let looking: NodeJS.Timeout | undefined;
  const look = (): void => {
    const sinceMs = performance.now();
    looking = setTimeout(() => {
      const heldUpMs = performance.now() - sinceMs - LOOK_EVERY_MS;
      if (wasEverAsked && heldUpMs >= HELD_UP_MS) {
        const seconds = (heldUpMs / 1_000).toFixed(1);
        logger.warn(
          `the node worker was held up for ${seconds} s, in which requests to routes with a rate limit passed`,
        );
      }
      look();
    }, LOOK_EVERY_MS);
    looking.unref();
  };

  const answer: RequestListener = ({ url = '', headers }, response) => {
    wasEverAsked = true;
    const question = parseQuestion(url);
    const address = headers[CLIENT_HEADER];
    const waitMs =
      question === undefined || typeof address !== 'string'
        ? 0
        : counter.take(`${question.place} ${networkOf(address)}`, question, nowMs());
    response.sendDate = false;
    response.writeHead(waitMs > 0 ? HAS_TO_WAIT : MAY_PASS, {
      'Content-Length': 0,
      ...(waitMs > 0 ? { 'Retry-After': Math.ceil(waitMs / 1_000) } : {}),
    });
    response.end();
  };

  const server = createServer({ keepAliveTimeout: KEEP_IDLE_FOR_MS }, answer);
  const notCounted = (error: unknown): void =>
    logger.warn({ err: error }, 'requests to routes with a rate limit cannot be counted: all of them pass');
  let again: NodeJS.Timeout | undefined;
  const listen = (): void => {
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      // Of a process that was killed.
      rmSync(socket, { force: true });
      server.listen({ path: socket, backlog: WAITING_CONNECTIONS });
    } catch (error) {
      listenAgain(error);
    }
  };
  const listenAgain = (error: unknown): void => {
    notCounted(error);
    again = setTimeout(listen, LISTEN_AGAIN_MS);
    again.unref();
  };
  server.on('error', listenAgain);
  server.on('listening', () => {
    try {
      chmodSync(socket, 0o600);
    } catch (error) {
      server.close();
      listenAgain(error);
    }
  });

  return {
    start: () => {
      listen();
      look();
    },
    stop: () => {
      clearTimeout(looking);
      clearTimeout(again);
      server.close();
      server.closeAllConnections();
    },
  };
};
