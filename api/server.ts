/**
 * The HTTP server around the application.
 *
 * Invariants: closing lets running answers end, for a while; a port that cannot be had is a clear error.
 */

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { Express } from 'express';

import { ContainerOsError } from '../domain/errors';
import { hostPort } from '../domain/host-port';

import { ApiRequest, serveUpgrades } from './web-socket';

export interface ApiServerOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

export interface ApiServer {
  /** Like http://127.0.0.1:8000. */
  readonly url: string;
  readonly port: number;
  /** Stops taking connections, and cuts those that are still busy after `graceMs`. */
  close(graceMs?: number): Promise<void>;
}

const HEADERS_TIMEOUT_MS = 20_000;
/** Longer than usual proxies keep theirs, so that it is never this side that closes first. */
const KEEP_ALIVE_MS = 75_000;
const MAX_HEADER_BYTES = 16_384;
const CLOSE_GRACE_MS = 5_000;

const EXPLANATIONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is in use; stop what uses it, or choose another with --api-port',
  EACCES: 'ports below 1024 need more rights; choose a higher one with --api-port',
  EADDRNOTAVAIL: 'this machine does not have the address; choose another with --api-host',
};

const listen = (server: Server, { host, port }: ApiServerOptions): Promise<void> =>
  new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = EXPLANATIONS[error.code ?? ''] ?? error.message;
      reject(
        new ContainerOsError('unavailable', `The API cannot listen on ${host}:${port}: ${why}.`, [], {
          cause: error,
        }),
      );
    });
    server.listen(port, host, resolve);
  });

export const startApiServer = async (app: Express, options: ApiServerOptions): Promise<ApiServer> => {
  const server = createServer(
    { maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: KEEP_ALIVE_MS, IncomingMessage: ApiRequest },
    app,
  );
  serveUpgrades(server, app);
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  // Nodes send logs for as long as somebody reads them; bodies of people have a limit of their own (exchange.ts).
  server.requestTimeout = 0;
  await listen(server, options);
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://${hostPort(options.host, port)}`,
    port,
    close: (graceMs = CLOSE_GRACE_MS) =>
      new Promise((resolve) => {
        const timer = setTimeout(() => server.closeAllConnections(), graceMs);
        server.close(() => {
          clearTimeout(timer);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
};
