/**
 * Caddy's admin API, on its Unix socket.
 *
 * Invariants: a configuration that Caddy refuses leaves the one before in force; both refusals and a Caddy that does
 * not answer are told in its own words.
 */

import { request } from 'node:http';

import { ContainerOsError } from '../../domain/errors';

/** A large configuration on a slow machine takes some seconds. */
const TIMEOUT_MS = 60_000;

export interface CaddyAdmin {
  /**
   * Puts a configuration in force; one that is in force already changes nothing.
   *
   * @throws {ContainerOsError} `unavailable` when Caddy does not answer; `internal` when it refuses the configuration
   */
  load(config: string): Promise<void>;
}

const refusalIn = (body: string): string => {
  try {
    const { error } = JSON.parse(body) as { readonly error?: unknown };
    return typeof error === 'string' ? error : body;
  } catch {
    return body;
  }
};

export const createCaddyAdmin = (socketPath: string): CaddyAdmin => ({
  load: (config) =>
    new Promise((resolve, reject) => {
      const unreachable = (error: Error): void =>
        reject(
          new ContainerOsError('unavailable', `Caddy does not answer: ${error.message}.`, [], {
            cause: error,
          }),
        );
      const sent = request(
        {
          socketPath,
          method: 'POST',
          path: '/load',
          headers: {
            host: 'localhost',
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(config),
          },
          timeout: TIMEOUT_MS,
        },
        (response) => {
          let body = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => (body += chunk));
          response.on('error', unreachable);
          response.on('end', () => {
            if (response.statusCode === 200) return resolve();
            reject(
              new ContainerOsError(
                'internal',
                `Caddy refuses its configuration (${response.statusCode ?? ''}): ${refusalIn(body)}`,
              ),
            );
          });
        },
      );
      sent.on('timeout', () => sent.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
      sent.on('error', unreachable);
      sent.end(config);
    }),
});
