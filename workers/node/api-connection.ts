/**
 * Requests of the node worker to the API's streams (contracts/node-stream.ts): over mutual TLS from a machine that
 * joined, with the internal token on the first one.
 *
 * Invariant: each request is a connection of its own, so that none waits for another.
 */

import { request as httpRequest, type ClientRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';

import type { Logger } from 'pino';

import { SERVER_NAME } from '../../contracts/authority';
import { nodeStreamPath } from '../../contracts/node-stream';
import type { ErrorCode } from '../../domain/errors';
import type { NodeConfig } from './node-config';

export interface ApiConnection {
  open(method: 'GET' | 'POST', path: string, signal: AbortSignal): ClientRequest;
  /** Says that a request cannot be answered, and why. */
  refuse(requestId: string, code: ErrorCode, message: string): void;
}

export const createApiConnection = (
  config: Pick<NodeConfig, 'apiUrl' | 'credentials' | 'internalToken'>,
  stopped: AbortSignal,
  logger: Logger,
): ApiConnection => {
  const open = (method: 'GET' | 'POST', path: string, signal: AbortSignal): ClientRequest => {
    const headers = method === 'POST' ? { 'Content-Type': 'application/x-ndjson' } : {};
    const options = { method, agent: false, signal } as const;
    const url = new URL(path, config.apiUrl);
    if (config.credentials === undefined) {
      return httpRequest(url, {
        ...options,
        headers: { ...headers, Authorization: `Bearer ${config.internalToken ?? ''}` },
      });
    }
    const { authorityPem, certificatePem, keyPem } = config.credentials();
    return httpsRequest(url, {
      ...options,
      headers,
      servername: SERVER_NAME,
      minVersion: 'TLSv1.3',
      ca: authorityPem,
      cert: certificatePem,
      key: keyPem,
    });
  };
  return {
    open,
    refuse: (requestId, code, message) => {
      const query = new URLSearchParams({ error: code, message }).toString();
      const refusing = open('POST', `${nodeStreamPath(requestId)}?${query}`, stopped);
      refusing.on('response', (response) => response.resume());
      refusing.on('error', (error) => logger.debug({ err: error }, 'could not refuse a request of the API'));
      refusing.end();
    },
  };
};
