/**
 * Consul's HTTP API, typed as far as ContainerOS uses it: one request function.
 *
 * Invariants: connections are kept and reused, blocking queries never share a connection pool with other requests
 * (or a few of them would hold up all writes); every failure to reach Consul is `unavailable`, so that callers need
 * not know the words of sockets; a 404 is an answer, not an error.
 */

import { Agent, request as httpRequest } from 'node:http';
import { request as httpsRequest, Agent as HttpsAgent } from 'node:https';

import { ContainerOsError } from '../../domain/errors';

export interface ConsulClientOptions {
  /** Like http://127.0.0.1:8500. */
  readonly address: string;
  /** ACL token. */
  readonly token?: string | undefined;
}

export interface ConsulRequest {
  readonly method?: 'GET' | 'PUT' | 'DELETE';
  /** Path below /v1, already encoded; begins with a slash. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | true>>;
  /** Sent as JSON; a Buffer is sent as it is. */
  readonly body?: unknown;
  readonly signal?: AbortSignal;
  /** Limit for the whole request; a waiting one has its own. */
  readonly timeoutMs?: number;
  /** Answer when there is something beyond the index, or after that time with what there is. */
  readonly wait?: ConsulWait;
}

export interface ConsulWait {
  readonly index: number;
  readonly waitMs: number;
}

export interface ConsulResponse<T> {
  readonly status: number;
  /** X-Consul-Index; 0 when the answer has none. */
  readonly index: number;
  readonly body: T;
}

export interface ConsulKvEntry {
  readonly Key: string;
  /** Base64; null when the value is empty. */
  readonly Value: string | null;
  readonly ModifyIndex: number;
}

export interface ConsulClient {
  readonly address: string;
  /**
   * @throws {ContainerOsError} `unavailable` when Consul cannot be reached, has no leader or takes too long;
   *   `unavailable` too when the token may not do it, which an operator can mend while it runs; a request that it
   *   refuses as such is a defect
   */
  request<T>(request: ConsulRequest): Promise<ConsulResponse<T>>;
  /** Closes idle connections. */
  close(): void;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/** Consul adds up to a sixteenth to the wait asked for; the rest is for a busy server. */
const answerLimitMs = ({ waitMs }: ConsulWait): number => waitMs + waitMs / 16 + 5_000;

/** Text that has to be in the message of a failed request, so that its cause can be told from the log alone. */
const failure = (address: string, path: string, why: string, cause?: unknown) =>
  new ContainerOsError('unavailable', `Consul at ${address} does not answer ${path}: ${why}.`, [], { cause });

const refusal = (
  { address, token }: ConsulClientOptions,
  { method = 'GET', path }: ConsulRequest,
  status: number,
  words: string,
): Error => {
  const message = `Consul at ${address} refuses ${method} ${path}: ${status} ${words}`;
  if (status !== 403) return new Error(message);
  const lacking =
    token === undefined ? 'It wants a token, and none is given' : 'The token given may not do it';
  return new ContainerOsError('unavailable', `${message}. ${lacking}.`);
};

const decode = (text: string, isJson: boolean): unknown =>
  text === '' ? undefined : isJson ? JSON.parse(text) : text;

export const createConsulClient = (options: ConsulClientOptions): ConsulClient => {
  const base = new URL(options.address);
  const isSecure = base.protocol === 'https:';
  const makeAgent = () => new (isSecure ? HttpsAgent : Agent)({ keepAlive: true, scheduling: 'lifo' });
  const shortAgent = makeAgent();
  const blockingAgent = makeAgent();

  const send = <T>(call: ConsulRequest, url: URL): Promise<ConsulResponse<T>> =>
    new Promise((resolve, reject) => {
      const timeoutMs =
        call.wait === undefined ? (call.timeoutMs ?? DEFAULT_TIMEOUT_MS) : answerLimitMs(call.wait);
      const payload =
        call.body === undefined
          ? undefined
          : Buffer.isBuffer(call.body)
            ? call.body
            : Buffer.from(JSON.stringify(call.body));
      const request = (isSecure ? httpsRequest : httpRequest)(url, {
        method: call.method ?? 'GET',
        agent: call.wait === undefined ? shortAgent : blockingAgent,
        headers: {
          ...(options.token === undefined ? {} : { 'x-consul-token': options.token }),
          ...(payload === undefined ? {} : { 'content-length': payload.length }),
        },
        ...(call.signal === undefined ? {} : { signal: call.signal }),
      });
      const timer = setTimeout(() => {
        request.destroy(new Error(`no answer in ${timeoutMs} ms`));
      }, timeoutMs);
      const fail = (error: unknown) => {
        clearTimeout(timer);
        if (call.signal?.aborted === true) reject(call.signal.reason as Error);
        else
          reject(
            failure(
              options.address,
              call.path,
              error instanceof Error ? error.message : String(error),
              error,
            ),
          );
      };
      request.on('error', fail);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          const text = Buffer.concat(chunks).toString('utf8');
          const status = response.statusCode ?? 0;
          if (status >= 500 || status === 429) {
            fail(`it says ${status} ${text.trim().slice(0, 200)}`);
          } else if (status >= 400 && status !== 404 && status !== 409) {
            reject(refusal(options, call, status, text.trim().slice(0, 500)));
          } else {
            const isJson = (response.headers['content-type'] ?? '').includes('json') && status !== 404;
            try {
              resolve({
                status,
                index: Number(response.headers['x-consul-index'] ?? 0) || 0,
                body: decode(text, isJson) as T,
              });
            } catch (error) {
              fail(error);
            }
          }
        });
      });
      request.end(payload);
    });

  return {
    address: options.address,
    request: (call) => {
      const url = new URL(`${base.pathname.replace(/\/$/, '')}/v1${call.path}`, base);
      for (const [key, value] of Object.entries(call.query ?? {}))
        url.searchParams.set(key, value === true ? '' : String(value));
      if (call.wait !== undefined) {
        url.searchParams.set('index', String(call.wait.index));
        url.searchParams.set('wait', `${Math.max(1, Math.round(call.wait.waitMs))}ms`);
      }
      return send(call, url);
    },
    close: () => {
      shortAgent.destroy();
      blockingAgent.destroy();
    },
  };
};

/** The path of a KV key or prefix below /v1. */
export const kvPath = (key: string): string => `/kv/${key.split('/').map(encodeURIComponent).join('/')}`;

/** The text of a KV entry. */
export const kvText = (entry: Pick<ConsulKvEntry, 'Value'>): string =>
  entry.Value === null ? '' : Buffer.from(entry.Value, 'base64').toString('utf8');
