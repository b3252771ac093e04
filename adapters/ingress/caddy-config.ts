/**
 * What Caddy is told: the places of a layout, and the slots of each. Pure.
 *
 * Where a slot leads, and which hostname a spare place has, stands in files that Caddy reads with each request, so this
 * changes seldom (docs/decisions/ingress.md). Where slots lead when it is made, it says itself: it is read only while a
 * mark says that something leads elsewhere, or when a request is tried again, which may have begun before the mark.
 */

import { join } from 'node:path';

import { FIRST_LANES, type LaneSizes } from '../../domain/ingress/lanes';
import type { Layout, Place } from '../../domain/ingress/layout';
import { isWildcard } from '../../domain/ingress/wildcard';

import {
  IN_SMALL_LETTERS,
  doorServer,
  httpsServer,
  routesBeforeHttp,
  routesBeforeHttps,
  tlsApp,
  type CaddyHttps,
} from './caddy-tls';
import { answer, errorRoutes } from './error-routes';
import { HANDOVER_LOGGER, askItself, endConnections, methodsOfIts, type Turn } from './handover';
import { hostTree } from './host-tree';
import { laneRoutes } from './lane-config';
import { MOVED, isMarked, mayBeMarked } from './marks';
import { ledToSoFar } from './rate-limit';
import { SENT_AGAIN, WITHOUT_BODY, otherReplica, otherReplicaRoutes } from './other-replica';
import {
  UNSERVED_MARK,
  handlerOf,
  pathMatch,
  serverOptions,
  type ProxyHandler,
  type TrustedProxies,
} from './route-handlers';

export interface CaddySettings {
  /** Holds sockets and places; no character of it means anything to Caddy (see assertPlainPath). */
  readonly directory: string;
  /** What is listened on, as Caddy calls it. */
  readonly listen: string;
  /** The same, by which it is reached from this machine. */
  readonly port: number;
  /** Left out: plain HTTP only. */
  readonly https?: CaddyHttps;
  readonly trustedProxies?: TrustedProxies;
}

export const adminSocket = (directory: string): string => join(directory, 'admin.sock');

/** What a slot of a hostname that nobody serves leads to: it answers at once that this is so. */
export const unservedAddress = (directory: string): string => `unix/${join(directory, 'unserved.sock')}`;

/** What a slot leads to when its hostname is nobody's any more. */
export const unknownAddress = (directory: string): string => `unix/${join(directory, 'unknown.sock')}`;

export const placeDirectory = (directory: string, place: number): string =>
  join(directory, 'places', String(place));

/** Which hostname a spare place has. */
export const hostnameFile = (directory: string, place: number): string =>
  join(placeDirectory(directory, place), 'hostname');

export const slotFile = (directory: string, place: number, slot: number): string =>
  join(placeDirectory(directory, place), String(slot));

/** How long a request is tried on other replicas, or waits for one. Longer than a container takes to be replaced. */
const TRY_FOR = '5s';
const TRY_EVERY = '50ms';
/** Within a cluster a connection is there in less, or never. */
const DIAL_TIMEOUT = '2s';
/**
 * A replica closes connections that nobody uses, commonly after five seconds (Node.js), and a request that is sent at
 * that very moment is lost: they are given up before. Also, a replica that is being stopped waits for them.
 */
const KEEP_IDLE_FOR = '500ms';
/** Web sockets and the like outlive a new configuration by as much. */
const STREAMS_OUTLIVE = '24h';
/** Slow clients are cut when they take longer for their headers. */
const HEADERS_WITHIN = '10s';
/** All headers of a request together; what has more is answered with 431. Servers commonly take less. */
const MAX_HEADER_BYTES = 32 * 1024;
/** A body has 30 s, and a second more for each 512 bytes; then the client is cut. */
const slowBodiesCut = { handler: 'timeouts', read_timeout: 30_000_000_000, read_min_rate: 512 };
const MAY_HAVE_BODY = { not: [{ header: WITHOUT_BODY }] };
/**
 * The server's own time for bodies hides from Go whether a body was read to its end: what is left of it when a replica
 * answers early would be read as the next request.
 */
const NEVER = -1;

const proxyTo = (addresses: readonly string[], policy: 'least_conn' | 'random'): ProxyHandler => ({
  handler: 'reverse_proxy',
  upstreams: addresses.map((dial) => ({ dial })),
  load_balancing: {
    selection_policy: { policy },
    try_duration: TRY_FOR,
    try_interval: TRY_EVERY,
    // When it fails before it has answered.
    retry_match: SENT_AGAIN,
  },
  transport: {
    protocol: 'http',
    dial_timeout: DIAL_TIMEOUT,
    // Otherwise Caddy asks replicas to compress what it then unpacks for clients that want nothing compressed.
    compression: false,
    keep_alive: { idle_timeout: KEEP_IDLE_FOR, max_idle_conns_per_host: 256 },
  },
  stream_close_delay: STREAMS_OUTLIVE,
});

/** HTTP/2 over a connection that was upgraded: requests in it would be seen by nobody. */
const H2C = '(?i)h2c';

/** What is made plain before a microservice gets it. One look at the host finds both that it may have to lose. */
const plainRequests = {
  match: [
    { header_regexp: { Host: { pattern: '[A-Z]|\\.(:|$)' } } },
    { header_regexp: { Upgrade: { pattern: H2C } } },
  ],
  handle: [
    {
      handler: 'subroute',
      routes: [
        {
          // The name of a host may end with the root's dot (RFC 3986, 3.2.2).
          match: [{ header: { Host: ['*.', '*.:*'] } }],
          handle: [
            {
              handler: 'headers',
              request: { replace: { Host: [{ search_regexp: '\\.(:[0-9]*)?$', replace: '$1' }] } },
            },
          ],
        },
        {
          match: [{ header_regexp: { Host: { pattern: '[A-Z]' } } }],
          handle: [{ handler: 'headers', request: { replace: { Host: IN_SMALL_LETTERS } } }],
        },
        {
          match: [{ header_regexp: { Upgrade: { pattern: H2C } } }],
          handle: [{ handler: 'headers', request: { delete: ['Upgrade', 'Http2-Settings'] } }],
        },
      ],
    },
  ],
};

/** What Linux has room for (unix(7)), without the end of the text. */
const MAX_SOCKET_BYTES = 107;

/**
 * @param directory that goes into placeholders of Caddy, and holds sockets
 * @throws {RangeError} when it has characters that end a placeholder, or that are more than themselves, or is too long
 */
export const assertPlainPath = (directory: string): void => {
  if (/[{}\\|\n]/.test(directory)) {
    throw new RangeError(`the path ${directory} has characters that the ingress cannot have in it: { } \\ |`);
  }
  if (Buffer.byteLength(join(directory, 'unserved.sock')) > MAX_SOCKET_BYTES) {
    throw new RangeError(`the path ${directory} is too long for the sockets in it`);
  }
};

const UNKNOWN = answer(404, 'No microservice of this cluster has the hostname {http.request.host}.');

const UNSERVED = answer(503, 'No replica serves {http.request.host} at this time.', {
  'Retry-After': ['5'],
  ...UNSERVED_MARK,
});

/** Requests are not logged. Caddy writes each down for its loggers before it knows whether there is anything to say. */
const LOGGING = {
  logs: {
    default: {
      writer: { output: 'stderr' },
      encoder: { format: 'filter', wrap: { format: 'json' }, fields: { request: { filter: 'delete' } } },
      level: 'WARN',
      exclude: [HANDOVER_LOGGER],
    },
  },
};

/** For slots to lead to: it gives everybody the same answer. */
const serverOf = (address: string, same: object): object => ({
  listen: [`${address}|0600`],
  automatic_https: { disable: true },
  routes: [{ handle: [same] }],
});

/** Caddy refuses the whole configuration over a label that begins like Punycode and is none; what it reads it takes. */
const isTakenAsItIs = (hostname: string): boolean => !/(?:^|\.)xn--/.test(hostname);

const isPlain = ({ isFixed, hostname }: Place): boolean =>
  isFixed && hostname !== undefined && isTakenAsItIs(hostname);

/** Those for the tree, which comes first. */
const isForTree = (place: Place): boolean => isPlain(place) && !isWildcard(place.hostname ?? '');

const hostOf = (directory: string, place: Place): string =>
  isPlain(place) && place.hostname !== undefined
    ? place.hostname
    : `{file.${hostnameFile(directory, place.number)}}`;

const READ = 'containeros.read';

/** Lets a request that comes along here read where slots lead. */
const readSlots = (directory: string): object => ({
  match: [isMarked(directory, [MOVED])],
  handle: [{ handler: 'vars', [READ]: 'yes' }],
});

/** For a request of which nothing has to be read: it has been led to no slot yet. */
const HAS_TO_READ = `{http.vars.${READ}}{http.reverse_proxy.upstream.hostport}`;

/** What the slots of a place are for its proxy, and the handler before it that knows them. */
const slotsOf = (
  directory: string,
  place: Place,
): { readonly dials: readonly string[]; readonly before: readonly object[] } => {
  const { number, slots, settled } = place;
  const files = Array.from({ length: slots }, (_, slot) => `{file.${slotFile(directory, number, slot)}}`);
  if (settled?.length !== slots) return { dials: files, before: [] };
  // Caddy counts connections by these names: they are no other place's.
  const names = files.map((_, slot) => `{containeros.place${number}.${slot}}`);
  return {
    dials: names,
    before: [
      {
        handler: 'map',
        source: HAS_TO_READ,
        destinations: names,
        mappings: ['', ...ledToSoFar(directory, place)].map((input) => ({ input, outputs: settled })),
        defaults: files,
      },
    ],
  };
};

const routeOf = (directory: string, place: Place): object => {
  const files = placeDirectory(directory, place.number);
  const { dials, before } = slotsOf(directory, place);
  const proxy = proxyTo(dials, 'least_conn');
  return {
    match: [{ host: [hostOf(directory, place)], ...pathMatch(place) }],
    handle: [
      ...before,
      place.options === undefined
        ? { ...proxy, handle_response: [otherReplica(files)] }
        : handlerOf(files, directory, place, proxy),
    ],
    terminal: true,
  };
};

/**
 * Those whose hostname has to be read come after the others, as each costs every request that goes past it, and then
 * wildcards: an exact hostname is found first, wherever it stands.
 */
const routesOf = (directory: string, layout: Layout): readonly object[] => [
  ...hostTree(
    layout
      .filter(isForTree)
      .map((place) => ({ hostname: hostOf(directory, place), route: routeOf(directory, place) })),
  ),
  ...layout.filter((place) => !isForTree(place)).map((place) => routeOf(directory, place)),
];

/**
 * Caddy's configuration for these places, in their order, and these lanes.
 *
 * @param turn that follows the one of the configuration before
 */
export const caddyConfig = (
  settings: CaddySettings,
  layout: Layout,
  lanes: LaneSizes = FIRST_LANES,
  turn: Turn = 0,
): object => {
  const { directory, listen, https } = settings;
  const routes = routesOf(directory, layout);
  const serving = (before: readonly object[], bodies: object): object => ({
    automatic_https: { disable: true },
    read_header_timeout: HEADERS_WITHIN,
    max_header_bytes: MAX_HEADER_BYTES,
    read_idle_timeout: NEVER,
    ...serverOptions(layout, settings.trustedProxies),
    routes: [
      { ...bodies, handle: [slowBodiesCut] },
      methodsOfIts(directory, answer(405, 'The ingress is no proxy for CONNECT.')),
      plainRequests,
      {
        match: [mayBeMarked(directory)],
        handle: [
          {
            handler: 'subroute',
            routes: [
              endConnections(directory, turn),
              readSlots(directory),
              laneRoutes(directory, lanes, before, (addresses) => proxyTo(addresses, 'random')),
            ],
          },
        ],
      },
      ...before,
      ...routes,
      { handle: [UNKNOWN] },
    ],
    errors: { routes: errorRoutes },
    ...otherReplicaRoutes(proxyTo([], 'random')),
  });
  return {
    admin: { listen: `unix/${adminSocket(directory)}|0600`, config: askItself(settings.port) },
    storage: { module: 'file_system', root: join(directory, 'caddy') },
    logging: LOGGING,
    apps: {
      ...(https === undefined ? {} : { tls: tlsApp(https) }),
      http: {
        servers: {
          http: {
            listen: [listen],
            // Others need TLS, or are smuggled in.
            protocols: ['h1'],
            ...serving(https === undefined ? [] : routesBeforeHttp(directory, https), {
              match: [MAY_HAVE_BODY],
            }),
          },
          // Caddy tells TLS by the port, which sockets that it is given do not have: so there are two servers.
          ...(https === undefined
            ? {}
            : { https: { ...httpsServer(https), ...serving(routesBeforeHttps(directory), {}) } }),
          unknown: serverOf(unknownAddress(directory), UNKNOWN),
          unserved: serverOf(unservedAddress(directory), UNSERVED),
          ...(https === undefined ? {} : { certificates: doorServer(directory, https) }),
        },
      },
    },
  };
};
