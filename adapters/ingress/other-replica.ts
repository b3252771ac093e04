/**
 * What Caddy does with a 502 or 503 that a replica has answered: it asks another one, once. Pure.
 *
 * Invariants: nothing is asked again that would do more when it is done twice (RFC 9110, 9.2.2), or whose body is gone by
 * then; what the other one answers goes out, whatever it is; where there is no other one, the first answer goes out as it came; an answer that
 * says when to come again (Retry-After) is meant, and goes out, too. Other answers cost nothing but a look at their
 * status.
 */

import { join } from 'node:path';

import { OTHERS } from '../../domain/ingress/others';

import type { ProxyHandler } from './route-handlers';

/** Nothing is changed by them, whoever has got them. */
export const SAFE = ['GET', 'HEAD', 'OPTIONS', 'TRACE'];
const REPEATABLE = ['PUT', 'DELETE'];
/** Of HTTP/1.1; later versions say nothing of a body before it comes. */
export const WITHOUT_BODY = { 'Content-Length': null, 'Transfer-Encoding': null };

/**
 * They may be done twice, and have no body that is gone by then. HTTP/2 and 3 need no header for a body, so there one that
 * changes something has to say that it has none.
 */
export const SENT_AGAIN: readonly object[] = [
  { method: SAFE, header: WITHOUT_BODY },
  { method: REPEATABLE, header: WITHOUT_BODY, not: [{ protocol: 'http/2+' }] },
  { method: [...SAFE, ...REPEATABLE], header: { ...WITHOUT_BODY, 'Content-Length': ['0'] } },
];

/** What a dying replica, or a proxy in it, answers for as long as it listens. */
const FAILED = { status_code: [502, 503], headers: { 'Retry-After': null } };

const ROUTE = 'other-replica';
const ASKED = '{http.reverse_proxy.upstream.hostport}';

const indexes = Array.from({ length: OTHERS }, (_, index) => index);
const variable = (index: number): string => `containeros.other${index % OTHERS}`;
const valueOf = (index: number): string => `{http.vars.${variable(index)}}`;

/** The file of a place that has one of the others. */
export const otherFile = (index: number): string => `other-${index}`;

/** One after the other, the one that was asked gives way to its neighbour: if it is the first then, it is all of them. */
const askOther = (proxy: ProxyHandler): readonly object[] => [
  ...indexes.map((index) => ({
    match: [{ vars: { [variable(index)]: [ASKED] } }],
    handle: [{ handler: 'vars', [variable(index)]: valueOf(index + 1) }],
  })),
  {
    match: [{ vars: { [variable(0)]: [ASKED] } }],
    handle: [{ handler: 'copy_response' }],
    terminal: true,
  },
  {
    match: SENT_AGAIN,
    handle: [{ ...proxy, upstreams: indexes.map((index) => ({ dial: valueOf(index) })) }],
    terminal: true,
  },
  { handle: [{ handler: 'copy_response' }] },
];

/** What all plain routes of a server share, for its configuration. @param proxy by chance, to nobody yet */
export const otherReplicaRoutes = (proxy: ProxyHandler): object => ({
  named_routes: { [ROUTE]: { handle: [{ handler: 'subroute', routes: askOther(proxy) }] } },
});

/**
 * For `handle_response` of a place's proxy.
 *
 * @param directory of the place
 * @param proxy as of otherReplicaRoutes, when it is another one than that of plain routes
 */
export const otherReplica = (directory: string, proxy?: ProxyHandler): object => ({
  match: FAILED,
  routes: [
    {
      handle: [
        {
          handler: 'vars',
          ...Object.fromEntries(
            indexes.map((index) => [variable(index), `{file.${join(directory, otherFile(index))}}`]),
          ),
        },
        ...(proxy === undefined ? [{ handler: 'invoke', name: ROUTE }] : []),
      ],
    },
    ...(proxy === undefined ? [] : askOther(proxy)),
  ],
});
