/**
 * What the ingress itself answers when a request has come to nothing: the client's fault is told from a replica's. Pure.
 *
 * Caddy says what went wrong only in the words of Go, as `{http.error.message}`.
 */

import { SAFE } from './other-replica';

export type Headers = Readonly<Record<string, readonly string[]>>;

/** One line of plain text. */
export const answer = (status: number, text: string, headers: Headers = {}): object => ({
  handler: 'static_response',
  status_code: status,
  headers: { 'Content-Type': ['text/plain; charset=utf-8'], ...headers },
  body: `${text}\n`,
});

/**
 * What Go's readers of bodies say (net/http/internal/chunked.go, net/http/transfer.go, and for HTTP/2 net/http/h2_bundle.go,
 * behind how it is sent on); nothing else tells it from a replica's fault. An answer whose body is malformed has begun already, and is broken off.
 */
const MALFORMED_BODY =
  '^(malformed chunked encoding|chunked encoding contains too much non-data|chunked line ends with bare LF|header line too long|empty hex number for chunk length|http chunk length too large|invalid byte in chunk length|http: unexpected EOF reading trailer|http: suspiciously long trailer after chunked body|(readfrom tcp [^ ]+: )?request declared a Content-Length of [0-9]+ but only wrote [0-9]+ bytes)$';

/**
 * No other reading has a time: that of an answer may take as long as it takes. Over HTTP/2 nothing says what was read, or only
 * how it is sent on.
 */
const SLOW_BODY = '(^|: )read tcp [^ ]+: i/o timeout$|^(readfrom tcp [^ ]+: )?i/o timeout$';

const failedWith = (message: string) => [{ vars_regexp: { '{http.error.message}': { pattern: message } } }];

const failedAs = (...statuses: readonly number[]) => [
  { vars: { '{http.error.status_code}': statuses.map(String) } },
];

const NO_ANSWER = failedAs(502, 503, 504);

/** Of a request that no replica has got. */
const NOT_SENT = '^(dial |no upstreams available$)';
/** The client's fault, and no replica's. */
const WRONG_BODY = [...failedWith(SLOW_BODY), ...failedWith(MALFORMED_BODY)];

/** A replica has got it, and has not answered: nobody knows whether it was carried out. */
const MAYBE_DONE = NO_ANSWER.map((failed) => ({
  ...failed,
  not: [{ method: SAFE }, ...failedWith(NOT_SENT), ...WRONG_BODY],
}));

/** When to come again; not said of what may have been carried out, as clients send it again by themselves then. */
export const RETRY_AFTER: Headers = { 'Retry-After': ['5'] };

/**
 * For the errors of a route: answers with a page when no replica has answered, and leaves all else to errorRoutes.
 *
 * @param page with these headers
 */
export const unansweredRoutes = (page: (headers: Headers) => object): readonly object[] => [
  { match: MAYBE_DONE, handle: [page({})] },
  {
    match: NO_ANSWER.map((failed) => ({ ...failed, not: WRONG_BODY })),
    handle: [page(RETRY_AFTER)],
  },
  {
    handle: [{ handler: 'error', status_code: '{http.error.status_code}', error: '{http.error.message}' }],
  },
];

/** For the errors of a server. */
export const errorRoutes: readonly object[] = [
  {
    handle: [answer(408, 'The body of the request comes too slowly.', { Connection: ['close'] })],
    match: failedWith(SLOW_BODY),
  },
  {
    handle: [answer(400, 'The body of the request is malformed.', { Connection: ['close'] })],
    match: failedWith(MALFORMED_BODY),
  },
  {
    handle: [
      answer(
        503,
        'A replica of {http.request.host} has got this request and has not answered it. It may have been carried out: see whether it was before you send it again.',
      ),
    ],
    match: MAYBE_DONE,
  },
  {
    handle: [
      answer(
        503,
        'No replica answers for {http.request.host}. It is tried again with the next request.',
        RETRY_AFTER,
      ),
    ],
    match: NO_ANSWER,
  },
  {
    handle: [
      answer(
        401,
        '{http.request.host} asks for a user and a password. Send both, or check those that you sent.',
      ),
    ],
    match: failedAs(401),
  },
  {
    handle: [
      answer(413, 'The body of the request is larger than {http.request.host} takes. Send a smaller one.'),
    ],
    match: failedAs(413),
  },
  { handle: [{ handler: 'static_response', status_code: '{http.error.status_code}' }] },
];
