/**
 * HTTP to authorities: one request, one answer, or an error in words.
 *
 * Invariants: every request ends within its time; no more is read than an authority has to say; certificates of servers
 * are always checked, against the roots that Node.js has and those that were given.
 */

import { request as requestHttp, type IncomingHttpHeaders } from 'node:http';
import { request as requestHttps } from 'node:https';
import { rootCertificates } from 'node:tls';

import { IssueError } from '../../domain/certificates/acme-problem';

const TIMEOUT_MS = 30_000;
/** A chain has some thousands of characters. */
const MAX_BYTES = 1_000_000;

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export interface HttpQuestion {
  readonly method: string;
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Roots beside those that Node.js has, in PEM. */
  readonly caPem?: string;
}

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there (connection refused)',
  ENOTFOUND: 'DNS knows no such name',
  EAI_AGAIN: 'DNS does not answer',
  ECONNRESET: 'the connection was cut',
  ETIMEDOUT: 'it cannot be reached',
  EHOSTUNREACH: 'it cannot be reached',
  ENETUNREACH: 'it cannot be reached',
};

const UNTRUSTED: readonly string[] = [
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
];

/** What a failed connection means to people. */
export const networkWords = (error: unknown): string => {
  const { code, message } = error as { readonly code?: string; readonly message?: string };
  if (code !== undefined && UNTRUSTED.includes(code)) {
    return `its own certificate is from nobody who is trusted here (${code}); give its root with --acme-ca-file`;
  }
  return WORDS[code ?? ''] ?? message ?? String(error);
};

/** @throws {IssueError} `authority` when there is no answer */
export const ask = ({ method, url, headers = {}, body, caPem }: HttpQuestion): Promise<HttpAnswer> =>
  new Promise((resolve, reject) => {
    const fail = (error: unknown) =>
      reject(
        new IssueError(
          {
            kind: 'authority',
            message: `${new URL(url).host} does not answer: ${networkWords(error)}.`,
          },
          { cause: error },
        ),
      );
    const options = { method, headers, signal: AbortSignal.timeout(TIMEOUT_MS) };
    const sent = url.startsWith('https:')
      ? requestHttps(url, {
          ...options,
          ...(caPem === undefined ? {} : { ca: [...rootCertificates, caPem] }),
        })
      : requestHttp(url, options);
    sent.on('error', (error) =>
      fail(error.name === 'AbortError' ? new Error(`it took more than ${TIMEOUT_MS / 1_000} s`) : error),
    );
    sent.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('error', fail);
      response.on('data', (part: string) => {
        text += part;
        if (text.length > MAX_BYTES) sent.destroy(new Error('its answer is too long'));
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
      );
    });
    sent.end(body);
  });

/** @returns when to ask again, as the header says: seconds, or a date */
export const retryAtMs = (headers: IncomingHttpHeaders, nowMs: number): number | undefined => {
  const text = headers['retry-after'];
  if (text === undefined) return undefined;
  const atMs = /^\d+$/.test(text) ? nowMs + Number(text) * 1_000 : Date.parse(text);
  return Number.isFinite(atMs) && atMs > nowMs ? atMs : undefined;
};
