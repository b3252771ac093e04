/**
 * One request and its answer, as routes see them: checked input, and few ways to answer.
 *
 * Invariants: a body is read only when a route asks for it, and never beyond its limit; the query was parsed once and
 * holds no password any more; nothing is written to an answer that has ended.
 */

import type { Request, Response } from 'express';
import type { z } from 'zod';

import { ContainerOsError, type Problem } from '../domain/errors';
import { wordIssue, wordProblems } from '../domain/spec/wording';

import { parseJsonText } from './json-text';
import { sentence } from './problem';

export const MAX_BODY_BYTES = 1_000_000;
/** What a client has still on its way when it is told that its body is too large. */
const MAX_DISCARDED_BYTES = 16_000_000;
const BODY_TIMEOUT_MS = 30_000;

export interface Exchange {
  readonly req: Request;
  readonly res: Response;
  readonly requestId: string;
  readonly query: URLSearchParams;
  /** Aborts when the client has gone, or when the server is closing. */
  readonly signal: AbortSignal;
}

export type Access = 'open' | 'password' | 'node';

export interface Route {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** As in OpenAPI: `/v1/microservices/{name}`. */
  readonly path: string;
  readonly access: Access;
  handle(exchange: Exchange): void | Promise<void>;
}

export const pathParameter = (exchange: Exchange, name: string): string => {
  const value = exchange.req.params[name];
  if (typeof value !== 'string') throw new Error(`the path has no parameter ${name}`);
  return value;
};

/**
 * @throws {ContainerOsError} `invalid`, with every parameter that is wrong
 */
export const queryOf = <T extends z.ZodType>(exchange: Exchange, schema: T): z.output<T> => {
  const values: Record<string, string> = Object.create(null) as Record<string, string>;
  const problems: Problem[] = [];
  for (const [key, value] of exchange.query) {
    if (Object.hasOwn(values, key)) problems.push({ path: '', message: `the query has ${key} twice` });
    values[key] = value;
  }
  const parsed = schema.safeParse({ ...values }, { error: wordIssue });
  if (!parsed.success) {
    for (const { path, message } of wordProblems(schema, values, parsed.error)) {
      problems.push({ path: '', message: `query parameter ${path.slice(1) || '(all)'} ${message}` });
    }
  }
  if (parsed.success && problems.length === 0) return parsed.data;
  const first = problems[0]?.message ?? 'the query is not valid';
  throw new ContainerOsError('invalid', sentence(`The query is not valid: ${first}`), problems);
};

const tooLarge = () =>
  new ContainerOsError('too_large', `The body may have ${MAX_BODY_BYTES} bytes at most. Send less.`);

const readBody = (req: Request): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const declared = Number(req.headers['content-length'] ?? 0);
    const chunks: Buffer[] = [];
    let bytes = 0;
    let refused = false;
    const timer = setTimeout(() => {
      refused = true;
      reject(new ContainerOsError('invalid', `The body did not arrive within ${BODY_TIMEOUT_MS / 1_000} s.`));
    }, BODY_TIMEOUT_MS);
    const refuse = () => {
      refused = true;
      chunks.length = 0;
      clearTimeout(timer);
      reject(tooLarge());
    };
    req.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (refused) {
        // It is read on, because a client that is cut off while it sends would not see the answer.
        if (bytes > MAX_DISCARDED_BYTES) req.destroy();
        return;
      }
      if (bytes > MAX_BODY_BYTES) refuse();
      else chunks.push(chunk);
    });
    req.on('end', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks));
    });
    req.on('error', (error) => {
      clearTimeout(timer);
      reject(new ContainerOsError('invalid', 'The body broke off.', [], { cause: error }));
    });
    if (declared > MAX_BODY_BYTES) refuse();
  });

const isJsonType = (type: string): boolean => /^application\/(?:json|[a-z0-9.!#$&^_-]+\+json)$/.test(type);

const unsupported = (message: string) => new ContainerOsError('unsupported_media_type', message);

/**
 * Whether a body of this type is taken for JSON. `curl -d` says x-www-form-urlencoded of whatever it sends, and so do
 * the scripts of the first users; a form on a foreign web page does too, but browsers add an Origin to that.
 */
const assertJsonType = (req: Request): void => {
  const [type = '', ...parameters] = (req.headers['content-type'] ?? '').toLowerCase().split(';');
  const encoding = req.headers['content-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'identity') {
    throw unsupported(`The body must not be compressed (Content-Encoding: ${encoding}).`);
  }
  const charset = parameters
    .map((parameter) => /^\s*charset\s*=\s*"?([^"\s]*)"?\s*$/.exec(parameter)?.[1])
    .find((found) => found !== undefined);
  if (charset !== undefined && charset !== 'utf-8' && charset !== 'utf8') {
    throw unsupported(`The body has to be in UTF-8, not ${charset}.`);
  }
  const bare = type.trim();
  if (isJsonType(bare)) return;
  const isUnstated = bare === '' || bare === 'application/x-www-form-urlencoded';
  if (isUnstated && req.headers.origin === undefined) return;
  throw unsupported('The body has to be JSON, with Content-Type: application/json.');
};

const decodeUtf8 = (bytes: Buffer): string => {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new ContainerOsError('invalid', 'The body is not valid UTF-8.', [], { cause: error });
  }
};

/** The JSON body, or undefined when there is none. */
export const jsonBodyOf = async ({ req }: Exchange): Promise<unknown> => {
  const length = req.headers['content-length'];
  if (req.headers['transfer-encoding'] === undefined && (length === undefined || length === '0'))
    return undefined;
  assertJsonType(req);
  const bytes = await readBody(req);
  if (bytes.length === 0) return undefined;
  const text = decodeUtf8(bytes);
  const isStated = isJsonType((req.headers['content-type'] ?? '').toLowerCase().split(';')[0]?.trim() ?? '');
  if (!isStated && !/^\s*\{/.test(text)) {
    throw unsupported('The body has to be a JSON object, with Content-Type: application/json.');
  }
  return parseJsonText(text);
};

const parseBody = <T extends z.ZodType>(schema: T, raw: unknown): z.output<T> => {
  const parsed = schema.safeParse(raw, { error: wordIssue });
  if (parsed.success) return parsed.data;
  const problems = wordProblems(schema, raw, parsed.error);
  const { path = '', message = 'it is not what is expected' } = problems[0] ?? {};
  const place = path === '' ? 'it' : path.slice(1);
  throw new ContainerOsError('invalid', sentence(`The body is not valid: ${place} ${message}`), problems);
};

/** A request body that is no specification. An empty one counts as an empty object. */
export const parsedBodyOf = async <T extends z.ZodType>(
  exchange: Exchange,
  schema: T,
): Promise<{ readonly value: z.output<T>; readonly raw: unknown }> => {
  const given = await jsonBodyOf(exchange);
  const raw = given === undefined ? {} : given;
  return { value: parseBody(schema, raw), raw };
};

const isForm = (req: Request): boolean =>
  /^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(req.headers['content-type'] ?? '');

/** A body of plain fields, as JSON or as a form. An empty one counts as an empty object. */
export const formOrJsonBodyOf = async <T extends z.ZodType>(
  exchange: Exchange,
  schema: T,
): Promise<z.output<T>> => {
  const { req } = exchange;
  if (!isForm(req)) return (await parsedBodyOf(exchange, schema)).value;
  assertJsonType(req);
  const text = decodeUtf8(await readBody(req));
  // `curl -d` says of JSON too that it is a form.
  if (/^\s*\{/.test(text)) return parseBody(schema, parseJsonText(text));
  const fields: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [key, value] of new URLSearchParams(text)) {
    if (Object.hasOwn(fields, key)) {
      throw new ContainerOsError('invalid', `The body has ${key} twice.`, [
        { path: '', message: `has ${key} twice` },
      ]);
    }
    fields[key] = value;
  }
  return parseBody(schema, { ...fields });
};

/**
 * Answers with JSON.
 *
 * @param body a value, or its JSON when that is at hand already
 */
export const sendJson = (
  { res }: Exchange,
  status: number,
  body: { readonly value: unknown } | { readonly text: string } | { readonly bytes: Buffer },
  headers: Readonly<Record<string, string>> = {},
): void => {
  if (res.headersSent || res.destroyed) return;
  const bytes =
    'bytes' in body ? body.bytes : Buffer.from('text' in body ? body.text : JSON.stringify(body.value));
  res.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': bytes.length,
    ...headers,
  });
  res.end(bytes);
};

/** Whether the client would rather have this type than plain JSON. */
export const accepts = ({ req }: Exchange, type: string): boolean =>
  (req.headers.accept ?? '')
    .split(',')
    .some((one) => one.split(';')[0]?.trim().toLowerCase() === type && !/;\s*q=0(?:\.0*)?\s*$/.test(one));

/**
 * Begins an answer without an end of its own.
 *
 * @returns a function that writes, and resolves when there is room for more; false when the client has gone
 */
export const beginStream = (
  { req, res, signal }: Exchange,
  type: string,
): ((text: string) => Promise<boolean>) => {
  res.writeHead(200, { 'content-type': type, 'x-accel-buffering': 'no' });
  if (req.method === 'HEAD') {
    res.end();
    return async () => false;
  }
  res.flushHeaders();
  return (text) =>
    new Promise((resolve) => {
      if (signal.aborted || res.destroyed || res.writableEnded) {
        resolve(false);
        return;
      }
      if (res.write(text)) {
        resolve(true);
        return;
      }
      const done = () => {
        res.off('drain', done);
        signal.removeEventListener('abort', done);
        resolve(!signal.aborted);
      };
      res.on('drain', done);
      signal.addEventListener('abort', done);
    });
};
