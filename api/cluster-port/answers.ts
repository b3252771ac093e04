/** How the cluster port answers in JSON, over both versions of HTTP, and reads bodies within limits. */

import { randomUUID } from 'node:crypto';
import type { Readable } from 'node:stream';

import type { Logger } from 'pino';

import { ContainerOsError } from '../../domain/errors';
import { PROBLEM_JSON, toProblem } from '../problem';

import type { PortRequest, PortResponse } from './cluster-port';

const BODY_TIMEOUT_MS = 10_000;
/** How long the rest of a refused body is thrown away. */
const DISCARD_MS = 2_000;

/** What a request's bytes come from, and what ends it when it is destroyed: of HTTP/2 it is the stream. */
export const bodyStreamOf = (request: PortRequest): Readable =>
  'stream' in request ? request.stream : request;

/** Ends the answer; nothing happens when it has ended, or nobody reads it. */
export const answerJson = (
  response: PortResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void => {
  if (response.headersSent || response.destroyed) return;
  const text = JSON.stringify(body);
  // One signature for each version of HTTP, and the same meaning.
  const answer = response as import('node:http').ServerResponse;
  answer.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    ...headers,
  });
  answer.end(text);
};

export const answerProblem = (response: PortResponse, error: unknown, log: Logger): void => {
  const { status, headers, body, errorId } = toProblem(error, randomUUID());
  if (errorId !== undefined) log.error({ err: error, errorId }, 'a request to the cluster port failed');
  answerJson(response, status, body, { ...headers, 'content-type': PROBLEM_JSON });
};

/**
 * The whole body.
 *
 * @param maxBytes beyond which it is refused, unread
 * @throws {ContainerOsError} `too_large`, or `invalid` when it breaks off or does not arrive in time
 */
export const readPortBody = (request: PortRequest, maxBytes: number): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const stream = bodyStreamOf(request);
    const chunks: Buffer[] = [];
    let bytes = 0;
    const end = (error: ContainerOsError) => {
      clearTimeout(timer);
      stream.removeAllListeners('data');
      // What is on its way still is thrown away: who is cut off while sending would not see the answer.
      stream.resume();
      if (!stream.readableEnded) setTimeout(() => stream.destroy(), DISCARD_MS).unref();
      reject(error);
    };
    const timer = setTimeout(
      () =>
        end(new ContainerOsError('invalid', `The body did not arrive within ${BODY_TIMEOUT_MS / 1_000} s.`)),
      BODY_TIMEOUT_MS,
    );
    const tooLarge = () =>
      end(new ContainerOsError('too_large', `The body may have ${maxBytes} bytes at most. Send less.`));
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxBytes) tooLarge();
      else chunks.push(chunk);
    });
    stream.once('end', () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks));
    });
    stream.once('close', () => end(new ContainerOsError('invalid', 'The body broke off.')));
    if (Number(request.headers['content-length'] ?? 0) > maxBytes) tooLarge();
  });
