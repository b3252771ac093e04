/**
 * The HTTP API, as commands call it.
 *
 * Invariants: whatever the API refuses becomes one CommandError with the API's own code and words; whatever stands in
 * the way to it becomes `unavailable`, with what to do; a connection is never used twice, so that an API that was
 * restarted is found again.
 */

import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { text as readText } from 'node:stream/consumers';

import type { WebSocket } from 'ws';

import type { ProblemBody } from '../openapi/schemas';

import type { Access } from './access';
import { CommandError } from './command';
import { timeInWords } from './words';

export interface ApiAnswer<T> {
  readonly value: T;
  /** As it came. */
  readonly text: string;
  /** What to hand back as `?watch=`; undefined where the API has none. */
  readonly index: string | undefined;
  /** Since when the API may show what is old, in words; undefined when it does not. */
  readonly staleSince: string | undefined;
}

export interface CallOptions {
  readonly body?: object;
  /** For how long the API may wait before it answers. */
  readonly waitMs?: number;
  readonly signal?: AbortSignal;
}

export interface ApiClient {
  /**
   * @param path with its query; names in it went through `segment`
   * @throws {CommandError} with the code of the API's problem; `unavailable` when the API cannot be reached
   */
  call<T>(
    method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE',
    path: string,
    options?: CallOptions,
  ): Promise<ApiAnswer<T>>;
  /** A list, whole. @throws {CommandError} as `call` */
  list<T>(path: string): Promise<ApiAnswer<ListOf<T>>>;
  /** The documents of a stream, one a line, until it ends or `signal` aborts. @throws {CommandError} as `call` */
  follow<T>(path: string, signal: AbortSignal): AsyncGenerator<T, void>;
  /** A WebSocket that is open. @throws {CommandError} as `call` */
  open(path: string): Promise<WebSocket>;
}

export interface ListOf<T> {
  readonly items: readonly T[];
}

/** The API answers within 20 seconds, if only that it cannot say. */
const PATIENCE_MS = 30_000;

/** A name as a part of a path. @throws {CommandError} `invalid` when nothing can have this name */
export const segment = (name: string): string => {
  // Those would lead to another path.
  if (['', '.', '..'].includes(name)) throw new CommandError('invalid', `"${name}" is no name.`);
  return encodeURIComponent(name);
};

const WHY: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection was cut',
  EPIPE: 'the connection was cut',
  ENOTFOUND: 'the host name could not be resolved',
  EAI_AGAIN: 'the host name could not be resolved',
  ETIMEDOUT: 'it did not answer in time',
  EHOSTUNREACH: 'the host is unreachable',
  ENETUNREACH: 'the network is unreachable',
  EPROTO: 'it does not speak TLS there (is it http:// rather than https://?)',
  HPE_INVALID_CONSTANT: 'it does not speak HTTP there (is it https:// rather than http://?)',
};

const unreachable = (apiUrl: string, error: NodeJS.ErrnoException): CommandError => {
  const why = WHY[error.code ?? ''] ?? error.message;
  return new CommandError(
    'unavailable',
    `The API at ${apiUrl} cannot be reached: ${why}. Start ContainerOS with containeros up, or say where the API is with --api URL or CONTAINEROS_API_URL.`,
    { cause: error },
  );
};

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const parseJson = (text: string): unknown => {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
};

const isProblem = (value: unknown): value is ProblemBody =>
  isObject(value) && typeof value['code'] === 'string' && typeof value['detail'] === 'string';

const headerOf = ({ headers }: IncomingMessage, name: string): string | undefined => {
  const value = headers[name];
  return typeof value === 'string' ? value : undefined;
};

/** Basic takes every character that a password may have. */
const authorizationOf = ({ password }: Access): string =>
  `Basic ${Buffer.from(`containeros:${password}`).toString('base64')}`;

const send = (
  access: Access,
  method: string,
  path: string,
  { body, waitMs = 0, signal }: CallOptions,
): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    const { protocol, hostname, port, pathname } = new URL(access.apiUrl);
    const text = body === undefined ? undefined : JSON.stringify(body);
    const outgoing = (protocol === 'https:' ? httpsRequest : httpRequest)({
      method,
      hostname: hostname.replace(/^\[|\]$/g, ''),
      port,
      path: `${pathname.replace(/\/$/, '')}${path}`,
      agent: false,
      headers: {
        authorization: authorizationOf(access),
        accept: 'application/json',
        ...(text === undefined
          ? {}
          : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      },
      timeout: waitMs + PATIENCE_MS,
      ...(signal === undefined ? {} : { signal }),
    });
    outgoing.on('timeout', () => {
      outgoing.destroy(Object.assign(new Error('it did not answer in time'), { code: 'ETIMEDOUT' }));
    });
    outgoing.on('response', resolve).on('error', reject).end(text);
  });

const refusal = ({ apiUrl, passwordSource }: Access, answer: IncomingMessage, text: string): CommandError => {
  const { statusCode: status = 0 } = answer;
  const problem = parseJson(text);
  if (isProblem(problem)) {
    const { code, detail, problems = [] } = problem;
    const more =
      problems.length < 2 ? [] : problems.map(({ path, message }) => `\n  ${path} ${message}`.trimEnd());
    const hint =
      code === 'unauthenticated'
        ? ` It was taken from ${passwordSource}; give the right one with --password-file FILE or CONTAINEROS_PASSWORD.`
        : '';
    const logTail = problem.operation?.error?.logTail ?? [];
    const lastWords =
      logTail.length === 0 ? '' : `\nIts last lines:\n${logTail.map((line) => `  ${line}`).join('\n')}`;
    return new CommandError(code, `${detail}${hint}${more.join('')}${lastWords}`);
  }
  if ([502, 503, 504].includes(status)) {
    return new CommandError(
      'unavailable',
      `What stands before the API at ${apiUrl} does not reach it (${status}). Try again in a moment.`,
    );
  }
  const location = headerOf(answer, 'location');
  return new CommandError(
    'invalid',
    location === undefined
      ? `What answers at ${apiUrl} is not the API of ContainerOS: it said ${status}, and nothing that can be understood. Say where the API is with --api URL.`
      : `The API is not at ${apiUrl}, which leads on to ${location}. Say where it is with --api URL.`,
  );
};

/** The answer to a handshake that was refused. */
class Refusal extends Error {
  constructor(readonly answer: IncomingMessage) {
    super('the handshake was refused');
  }
}

/** Loaded only by the commands that need it. */
const openWebSocket = async (access: Access, path: string): Promise<WebSocket> => {
  const { WebSocket: Client } = await import('ws');
  return new Promise((resolve, reject) => {
    const socket = new Client(`${access.apiUrl.replace(/^http/, 'ws')}${path}`, {
      headers: { authorization: authorizationOf(access) },
      handshakeTimeout: PATIENCE_MS,
      perMessageDeflate: false,
    });
    socket.once('open', () => resolve(socket));
    socket.once('unexpected-response', (_request, answer) => reject(new Refusal(answer)));
    socket.on('error', reject); // after the handshake, 'close' says all that matters
  });
};

/** @param findAccess called once, when the API is needed */
export const createApiClient = (findAccess: () => Access): ApiClient => {
  let access: Access | undefined;

  const call = async <T>(
    method: string,
    path: string,
    options: CallOptions = {},
    isAsExpected: (value: unknown) => boolean = isObject,
  ): Promise<ApiAnswer<T>> => {
    const found = (access ??= findAccess());
    let answer: IncomingMessage;
    let text: string;
    try {
      answer = await send(found, method, path, options);
      text = await readText(answer);
    } catch (error) {
      throw unreachable(found.apiUrl, error as NodeJS.ErrnoException);
    }
    const { statusCode: status = 0 } = answer;
    const value = parseJson(text);
    const isGood = status >= 200 && status < 300 && (isAsExpected(value) || (status === 204 && text === ''));
    if (!isGood) throw refusal(found, answer, text);
    const staleSince = headerOf(answer, 'x-containeros-stale-since');
    return {
      value: value as T,
      text,
      index: headerOf(answer, 'x-containeros-index'),
      staleSince: staleSince === undefined ? undefined : timeInWords(staleSince),
    };
  };

  const isList = (value: unknown) => isObject(value) && Array.isArray(value['items']);
  return {
    call: (method, path, options) => call(method, path, options),
    list: (path) => call('GET', path, {}, isList),
    follow: async function* <T>(path: string, signal: AbortSignal) {
      const found = (access ??= findAccess());
      try {
        const answer = await send(found, 'GET', path, { signal });
        if (answer.statusCode !== 200) throw refusal(found, answer, await readText(answer));
        let rest = '';
        for await (const chunk of answer.setEncoding('utf8') as AsyncIterable<string>) {
          const lines = (rest + chunk).split('\n');
          rest = lines.pop() ?? '';
          // Lines that say nothing keep the connection.
          for (const value of lines.map(parseJson)) if (isObject(value)) yield value as T;
        }
      } catch (error) {
        if (signal.aborted) return;
        throw error instanceof CommandError
          ? error
          : unreachable(found.apiUrl, error as NodeJS.ErrnoException);
      }
    },
    open: async (path) => {
      const found = (access ??= findAccess());
      try {
        return await openWebSocket(found, path);
      } catch (error) {
        if (error instanceof Refusal) throw refusal(found, error.answer, await readText(error.answer));
        throw unreachable(found.apiUrl, error as NodeJS.ErrnoException);
      }
    },
  };
};
