/**
 * JSON requests of a node to one path of the cluster port, over connections that are kept.
 *
 * Invariants: the server has to show a certificate of the cluster's authority; a refusal keeps its code and its words,
 * and whatever else goes wrong is `unavailable`, so that callers need not know the words of sockets. What is asked may
 * be asked twice: a connection that the server has ended while it was idle is made anew.
 */

import { Agent, request as httpsRequest } from 'node:https';

import { ContainerOsError, isErrorCode } from '../../domain/errors';

/** PEM texts. */
export interface NodeCredentials {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly authorityPem: string;
}

export interface ClusterPortOptions {
  /** Like https://10.0.0.1:7443. */
  readonly url: string;
  readonly nodeId: string;
  /** Asked for each request, so that a renewed certificate is used from then on. */
  credentials(): NodeCredentials;
  /** The name in the server's certificate, where it is not the one that is dialled. */
  readonly serverName?: string;
  /** Limit of one request, in milliseconds. */
  readonly timeoutMs?: number;
}

export interface PortPath {
  readonly method: 'PUT' | 'POST';
  readonly path: string;
  /** Where the options leave it out, in milliseconds. */
  readonly timeoutMs: number;
  readonly maxAnswerCharacters: number;
  /** How many requests may be under way; left out: any number. */
  readonly maxSockets?: number;
  /** What the port does not do when it cannot be asked: "gives no leases". */
  readonly failing: string;
}

export interface PortClient {
  /**
   * @param body JSON
   * @returns the answer, parsed; undefined when it is no JSON
   * @throws {ContainerOsError} the server's own, or `unavailable`
   */
  send(body: string): Promise<unknown>;
  /** What is wrong, as `unavailable`. */
  away(why: string, cause?: unknown): ContainerOsError;
  /** Closes idle connections. */
  close(): void;
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

const problemOf = (body: unknown): ContainerOsError | undefined => {
  const { code, detail } = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  return isErrorCode(code) && typeof detail === 'string' ? new ContainerOsError(code, detail) : undefined;
};

export const createPortClient = (options: ClusterPortOptions, at: PortPath): PortClient => {
  const url = new URL(at.path, options.url);
  const timeoutMs = options.timeoutMs ?? at.timeoutMs;
  const agent = new Agent({
    keepAlive: true,
    ...(at.maxSockets === undefined ? {} : { maxSockets: at.maxSockets }),
  });
  const away = (why: string, cause?: unknown) =>
    new ContainerOsError('unavailable', `The cluster port at ${url.host} ${at.failing}: ${why}.`, [], {
      cause,
    });

  const send = (body: string, isRepeated: boolean): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const { certificatePem, keyPem, authorityPem } = options.credentials();
      const request = httpsRequest(url, {
        method: at.method,
        agent,
        cert: certificatePem,
        key: keyPem,
        ca: authorityPem,
        minVersion: 'TLSv1.3',
        ...(options.serverName === undefined ? {} : { servername: options.serverName }),
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      });
      const timer = setTimeout(() => request.destroy(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
      const fail = (error: Error) => {
        clearTimeout(timer);
        reject(error instanceof ContainerOsError ? error : away(error.message, error));
      };
      request.on('error', (error: NodeJS.ErrnoException) => {
        if (error.code !== 'ECONNRESET' || !request.reusedSocket || isRepeated) return fail(error);
        clearTimeout(timer);
        return resolve(send(body, true));
      });
      request.on('response', (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
          if (text.length > at.maxAnswerCharacters) response.destroy(new Error('its answer has no end'));
        });
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          const answer = parse(text);
          if (response.statusCode === 200) resolve(answer);
          else reject(problemOf(answer) ?? away(`it says ${response.statusCode ?? 0}`));
        });
      });
      request.end(body);
    });

  return { send: (body) => send(body, false), away, close: () => agent.destroy() };
};
