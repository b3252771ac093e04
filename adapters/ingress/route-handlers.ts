/**
 * What Caddy does for a route with options, around the proxy of a plain one. Pure.
 *
 * Invariants: who may not come is turned away before anything else is told; no text that a user has chosen freely is in
 * the configuration, where Caddy would read placeholders in it: such texts are in files, whose contents it takes as they
 * are; the cookie of a sticky route tells nobody an address.
 */

import { createHash } from 'node:crypto';
import { join } from 'node:path';

import type { Layout, Place } from '../../domain/ingress/layout';
import { keyOfPlace } from '../../domain/ingress/layout';
import type { PlaceOptions } from '../../domain/ingress/route-options';
import { NO_TOKEN } from '../../domain/ingress/seats';

import { RETRY_AFTER, answer, unansweredRoutes, type Headers } from './error-routes';
import { otherReplica } from './other-replica';
import { countRequest } from './rate-limit';

/** Before these proxies, what they say of who asks is believed. */
export interface TrustedProxies {
  /** Addresses and blocks. */
  readonly addresses: readonly string[];
  /** Whether they begin connections with the PROXY protocol. */
  readonly proxyProtocol: boolean;
}

/** Caddy's handler and the parts of it that options change. */
export interface ProxyHandler {
  readonly handler: string;
  readonly upstreams: readonly object[];
  readonly transport: object;
  readonly load_balancing: object;
  readonly [more: string]: unknown;
}

/** By which a route knows that no replica has answered, but the ingress for them. */
export const UNSERVED_MARK: Headers = {
  'Containeros-Ingress': ['unserved'],
};

const ERROR_PAGE = 'error-page';
const MAINTENANCE_PAGE = 'maintenance-page';

/** Where a seat leads, and the token of the replica that has it. */
export const seatFile = (seat: number): string => `seat-${seat}`;
export const tokenFile = (seat: number): string => `token-${seat}`;

/** Texts that the files of a place are to have beside its slots, by the names of the files. */
export const pagesOf = ({ options }: Place): Readonly<Record<string, string>> => ({
  ...(options?.errorPage === undefined ? {} : { [ERROR_PAGE]: options.errorPage }),
  ...(options?.maintenance === undefined ? {} : { [MAINTENANCE_PAGE]: options.maintenance.text }),
});

/** There are twice as many slots as endpoints at least, and each endpoint needs one seat. */
export const seatCount = ({ slots, options }: Place): number => (options?.sticky === true ? slots / 2 : 0);

/** The same on every node. */
export const tokenOf = (replicaId: string): string =>
  createHash('sha256').update(replicaId).digest('hex').slice(0, 24);

const cookieOf = (place: Place): string =>
  `containeros_${createHash('sha256').update(keyOfPlace(place)).digest('hex').slice(0, 8)}`;

const page = (directory: string, file: string, type: string, headers: Headers) => ({
  handler: 'static_response',
  status_code: 503,
  headers: {
    'Content-Type': [`${type}; charset=utf-8`],
    'Cache-Control': ['no-store'],
    ...headers,
  },
  body: `{file.${join(directory, file)}}`,
});

const errorPage = (directory: string, headers: Headers): object =>
  page(directory, ERROR_PAGE, 'text/html', headers);

const notFrom = (addresses: readonly string[]): object => ({ not: [{ client_ip: { ranges: addresses } }] });

const FORBIDDEN = answer(403, '{http.request.host} cannot be reached from {http.vars.client_ip}.');

/** 308 keeps the method. Without a scheme it is the client's, also when a load balancer before us has ended its TLS. */
const redirect = (to: string): object => ({
  handler: 'static_response',
  status_code: 308,
  headers: { Location: [`//${to}{containeros.port}{http.request.uri}`] },
});

/** The port as the client has it, for redirects; none where it is the scheme's own. */
const portOfClient: object = {
  handler: 'map',
  source: '{http.request.hostport}',
  destinations: ['{containeros.port}'],
  mappings: [{ input_regexp: '(:[0-9]+)$', outputs: ['${1}'] }],
  defaults: [''],
};

const authenticate = (basicAuth: Readonly<Record<string, string>>): object => ({
  handler: 'authentication',
  providers: {
    http_basic: {
      accounts: Object.entries(basicAuth).map(([username, password]) => ({ username, password })),
      hash: { algorithm: 'bcrypt' },
      // Otherwise each request takes as long as a password is meant to take.
      hash_cache: {},
    },
  },
});

const transportOf = (transport: object, { protocol, responseTimeoutMs }: PlaceOptions): object => ({
  ...transport,
  ...(protocol === 'h2c' ? { versions: ['h2c'] } : {}),
  // Replicas change, and so do the addresses under which they are: there is nothing to verify a certificate with.
  ...(protocol === 'https' ? { tls: { insecure_skip_verify: true } } : {}),
  ...(responseTimeoutMs === undefined ? {} : { response_header_timeout: `${responseTimeoutMs}ms` }),
});

/** Where there is no replica, the ingress itself answers for them, which is no error to the proxy. */
const unservedPage = (directory: string, options: PlaceOptions): readonly object[] =>
  options.errorPage === undefined
    ? []
    : [
        {
          match: { status_code: [503], headers: UNSERVED_MARK },
          routes: [{ handle: [errorPage(directory, RETRY_AFTER)] }],
        },
      ];

/** What is not passed on as a replica has answered it. */
const failedAnswers = (directory: string, options: PlaceOptions, proxy: ProxyHandler): readonly object[] => [
  ...unservedPage(directory, options),
  otherReplica(directory, {
    ...proxy,
    load_balancing: { ...proxy.load_balancing, selection_policy: { policy: 'random' } },
  }),
];

/** A seat that nobody has leads to somebody who has another one: it is not to be found, and not given out. */
const isTaken = (token: string): object => ({ not: [{ vars: { [token]: [NO_TOKEN] } }] });

/**
 * Sticky: a request that has the token of a seat goes there; any other to whom it would go anyway, and its answer brings
 * the token of the seat that has that address. Both are looked for seat by seat, in files, so replicas come and go
 * without a new configuration. Caddy's own cookies are of slots, which have other endpoints on other nodes.
 */
const stickyRoutes = (directory: string, place: Place, proxy: ProxyHandler): readonly object[] => {
  const cookie = cookieOf(place);
  const { options = {} } = place;
  const path = options.path ?? '/';
  const seats = Array.from({ length: seatCount(place) }, (_, seat) => ({
    address: `{file.${join(directory, seatFile(seat))}}`,
    token: `{file.${join(directory, tokenFile(seat))}}`,
  }));
  return [
    ...seats.map(({ address, token }) => ({
      match: [{ vars: { [`{http.request.cookie.${cookie}}`]: [token] }, ...isTaken(token) }],
      // Whoever sticks to a replica gets what that one answers.
      handle: [
        { ...proxy, upstreams: [{ dial: address }], handle_response: unservedPage(directory, options) },
      ],
      terminal: true,
    })),
    {
      handle: [
        {
          ...proxy,
          handle_response: [
            ...failedAnswers(directory, options, proxy),
            {
              // Not the answer that opens a web socket: it is passed on before anything could be added.
              match: { status_code: [2, 3, 4, 5] },
              routes: [
                ...seats.map(({ address, token }) => ({
                  match: [
                    { vars: { '{http.reverse_proxy.upstream.hostport}': [address] }, ...isTaken(token) },
                  ],
                  handle: [
                    {
                      handler: 'headers',
                      response: {
                        add: {
                          'Set-Cookie': [`${cookie}=${token}; Path=${path}; HttpOnly; SameSite=Lax`],
                        },
                        deferred: true,
                      },
                    },
                  ],
                  group: 'seat',
                })),
                { handle: [{ handler: 'copy_response' }] },
              ],
            },
          ],
        },
      ],
    },
  ];
};

/** Handlers one after the other, each for all requests that get so far. */
const proxyRoutes = (directory: string, place: Place, proxy: ProxyHandler): readonly object[] => {
  const { options = {} } = place;
  const own: ProxyHandler = { ...proxy, transport: transportOf(proxy.transport, options) };
  const before = [
    ...(options.basicAuth === undefined ? [] : [authenticate(options.basicAuth)]),
    ...(options.maxBodyBytes === undefined
      ? []
      : [{ handler: 'request_body', max_size: options.maxBodyBytes }]),
    ...(options.stripPath === true && options.path !== undefined
      ? [
          { handler: 'rewrite', strip_path_prefix: options.path },
          { handler: 'headers', request: { set: { 'X-Forwarded-Prefix': [options.path] } } },
        ]
      : []),
  ];
  return [
    ...(before.length === 0 ? [] : [{ handle: before }]),
    ...(options.sticky === true
      ? stickyRoutes(directory, place, own)
      : [{ handle: [{ ...own, handle_response: failedAnswers(directory, options, own) }] }]),
  ];
};

const errorsOf = (directory: string, options: PlaceOptions): object =>
  options.errorPage === undefined
    ? {}
    : { errors: { routes: unansweredRoutes((headers) => errorPage(directory, headers)) } };

/**
 * @param files the directory of the place
 * @param directory of the ingress
 * @param proxy what a plain route has
 * @returns the handler of a place with options
 */
export const handlerOf = (files: string, directory: string, place: Place, proxy: ProxyHandler): object => {
  const { options = {} } = place;
  const { allow, maintenance, rateLimit, redirectTo } = options;
  if (redirectTo !== undefined) {
    return { handler: 'subroute', routes: [{ handle: [portOfClient, redirect(redirectTo)] }] };
  }
  return {
    handler: 'subroute',
    routes: [
      ...(allow === undefined ? [] : [{ match: [notFrom(allow)], handle: [FORBIDDEN], terminal: true }]),
      ...(maintenance === undefined
        ? []
        : [
            {
              ...(maintenance.allow.length === 0 ? {} : { match: [notFrom(maintenance.allow)] }),
              handle: [
                page(files, MAINTENANCE_PAGE, 'text/plain', {
                  'Retry-After': [String(maintenance.retryAfterSeconds)],
                }),
              ],
              terminal: true,
            },
          ]),
      // Before the password, as each that is wrong takes its time, and should not be guessed for long.
      ...(rateLimit === undefined ? [] : [{ handle: [countRequest(directory, place.number, rateLimit)] }]),
      ...proxyRoutes(files, place, proxy),
    ],
    ...errorsOf(files, options),
  };
};

/** Which paths a place is for; nothing when it is all of them. Caddy matches them without regard to capitals. */
export const pathMatch = ({ options }: Place): object =>
  options?.path === undefined ? {} : { path: [options.path, `${options.path}/*`] };

const asBlock = (address: string): string =>
  address.includes('/') ? address : `${address}/${address.includes(':') ? 128 : 32}`;

/** What the servers that listen to clients have beside their routes. */
export const serverOptions = (layout: Layout, trusted: TrustedProxies | undefined): object => ({
  // HTTP/2 without TLS, for gRPC; otherwise nobody needs to have it.
  ...(layout.some(({ options }) => options?.protocol === 'h2c') ? { protocols: ['h1', 'h2', 'h2c'] } : {}),
  ...(trusted === undefined || trusted.addresses.length === 0
    ? {}
    : {
        trusted_proxies: { source: 'static', ranges: trusted.addresses },
        // From the right: what a client has sent ahead of them is not believed.
        trusted_proxies_strict: 1,
        ...(trusted.proxyProtocol
          ? {
              listener_wrappers: [
                {
                  wrapper: 'proxy_protocol',
                  timeout: '5s',
                  allow: trusted.addresses.map(asBlock),
                  fallback_policy: 'SKIP',
                },
                // What comes before this one sees connections before their TLS.
                { wrapper: 'tls' },
              ],
            }
          : {}),
      }),
});
