/**
 * How Caddy asks the node worker whether a client has sent too many requests, as it comes with nothing that counts. Pure.
 *
 * The question says all that there is to know: the place, its limit and the client. So the one who counts needs to know of
 * no routes, and a limit changes with the configuration that has it.
 *
 * Invariants: nothing of the request but its client's address is told, and its body is left to the replica; a request
 * passes when nobody counts, or not in time, which is looked at again after a second; what the question leaves in Caddy's
 * placeholders is no answer of a replica (request-spans.ts).
 */

import { join } from 'node:path';

import type { Place } from '../../domain/ingress/layout';
import type { RateLimit } from '../../domain/ingress/route-options';

/** Where the node worker counts (workers/node/rate-limits.ts). */
export const countingSocket = (directory: string): string => join(directory, 'limits.sock');
const HOST = 'node-worker';
/** Has the address of the client. */
export const CLIENT_HEADER = 'client-address';
/** The answer for a client that has to wait; with Retry-After. */
export const HAS_TO_WAIT = 429;
/** The answer for any other: no status that a replica has, and an error, as nobody has answered the request yet. */
export const MAY_PASS = 599;

/**
 * A worker that takes longer hangs. With 0.1 s, a flood by 1,000 connections at once made the machine slow enough for all
 * of it to pass.
 */
const ANSWER_WITHIN = '500ms';
const LEFT_ALONE_FOR = '1s';
/** The node worker keeps connections for longer. */
const KEEP_IDLE_FOR = '10s';

/** What is asked, and for whom. */
export interface CountQuestion extends RateLimit {
  readonly place: number;
}

const QUESTION = /^\/(\d{1,9})\/(\d{1,9})\/(\d{1,9})\//;

/**
 * Caddy drops the body only when the question is another request than the client's, so it has something that no client
 * knows before.
 */
const questionOf = (place: number, { requests, perMs }: RateLimit): string =>
  `/${place}/${requests}/${perMs}/{http.request.uuid}`;

/** @returns nothing when it is no such question */
export const parseQuestion = (uri: string): CountQuestion | undefined => {
  const [, place, requests, perMs] = QUESTION.exec(uri) ?? [];
  const question = { place: Number(place), requests: Number(requests), perMs: Number(perMs) };
  return question.requests > 0 && question.perMs > 0 ? question : undefined;
};

const RETRY_AFTER = '{http.reverse_proxy.header.Retry-After}';

const TOO_MANY: object = {
  handler: 'static_response',
  status_code: HAS_TO_WAIT,
  headers: { 'Content-Type': ['text/plain; charset=utf-8'], 'Retry-After': [RETRY_AFTER] },
  body: `{http.request.host} takes no more requests from {http.vars.client_ip} now. Try again in ${RETRY_AFTER} s.\n`,
};

/**
 * The handler before those that a place with a limit has for requests that may pass. These are led on as if asking had
 * failed, so what becomes of them then is nothing that this handler would still have to do with.
 *
 * @param directory of the ingress
 */
export const countRequest = (directory: string, place: number, limit: RateLimit): object => ({
  handler: 'subroute',
  routes: [
    {
      handle: [
        {
          handler: 'reverse_proxy',
          upstreams: [{ dial: `unix/${countingSocket(directory)}` }],
          rewrite: { method: 'GET', uri: questionOf(place, limit) },
          headers: {
            request: { delete: ['*'], set: { Host: [HOST], [CLIENT_HEADER]: ['{http.vars.client_ip}'] } },
          },
          health_checks: { passive: { fail_duration: LEFT_ALONE_FOR } },
          transport: {
            protocol: 'http',
            dial_timeout: ANSWER_WITHIN,
            response_header_timeout: ANSWER_WITHIN,
            compression: false,
            keep_alive: { idle_timeout: KEEP_IDLE_FOR, max_idle_conns_per_host: 256 },
          },
          handle_response: [
            { match: { status_code: [HAS_TO_WAIT] }, routes: [{ handle: [TOO_MANY] }] },
            { routes: [{ handle: [{ handler: 'error', status_code: MAY_PASS }] }] },
          ],
        },
      ],
    },
  ],
  // With a handler that does nothing, what follows the subroute is next.
  errors: { routes: [{ handle: [{ handler: 'vars' }] }] },
});

/** What a request that may pass has been led to so far, as Caddy calls it. @param directory of the ingress */
export const ledToSoFar = (directory: string, { options }: Pick<Place, 'options'>): readonly string[] =>
  options?.rateLimit === undefined ? [] : [countingSocket(directory)];
