/**
 * Routes with options: what a specification says of a port beyond its hostnames. Pure, and free of zod.
 *
 * Invariants: what equals a default is left out, so that equal options are equal documents, and a route without
 * options is none of these; no text of a user that the proxy would read placeholders in has a brace.
 */

import type { MicroserviceKey } from '../model';

import { claimOfPublicPort } from './public-ports';

/** How many requests one client may send to a hostname and path of one node (rate-counter.ts). */
export interface RateLimit {
  /** All at once, if it likes. */
  readonly requests: number;
  /** In which it may send as many again. */
  readonly perMs: number;
}

/** What a release says of requests to one hostname and path. */
export interface RouteOptions {
  /** Which paths: this one and those below it, in lower case, without a slash at the end. Left out: every one. */
  readonly path?: string;
  /** The replica gets the path without that prefix. */
  readonly stripPath?: true;
  /** How replicas are spoken to; left out: HTTP/1.1. The certificate of `https` is not verified. */
  readonly protocol?: 'h2c' | 'https';
  /** The bcrypt hash of each user's password. */
  readonly basicAuth?: Readonly<Record<string, string>>;
  /** From which addresses it can be reached, as CIDR blocks; left out: from everywhere. */
  readonly allow?: readonly string[];
  /** A client stays with its replica, by a cookie. */
  readonly sticky?: true;
  readonly rateLimit?: RateLimit;
  readonly maxBodyBytes?: number;
  /** Until a replica has begun to answer. */
  readonly responseTimeoutMs?: number;
  /** HTML that is answered when no replica is. */
  readonly errorPage?: string;
}

/** Options and the hostnames that they are for. */
export interface RouteSpec extends RouteOptions {
  /** In the order as written where `redirectFrom` leads to the first. */
  readonly hostnames: readonly string[];
  /** Hostnames that answer with a redirect to the first of `hostnames`. */
  readonly redirectFrom?: readonly string[];
}

/** What is told of a microservice whose users are to wait. */
export interface Maintenance {
  readonly text: string;
  readonly retryAfterSeconds: number;
  /** From which addresses it can be reached all the same. */
  readonly allow: readonly string[];
}

/** That a microservice is under maintenance, as it is kept. */
export interface MaintenanceState extends MicroserviceKey, Maintenance {
  readonly setAtMs: number;
}

/** All that the proxy has to know of a route with options. */
export interface PlaceOptions extends RouteOptions {
  /** A hostname: requests are sent there and nowhere else. */
  readonly redirectTo?: string;
  readonly maintenance?: Maintenance;
}

/** A route of a release, and which port it leads to. */
export interface PortRoute extends RouteSpec {
  readonly container: string;
  readonly port: number;
}

/** The routes with options of the releases of a microservice that may have replicas. */
export interface ReleaseRoutes extends MicroserviceKey {
  readonly releases: readonly {
    readonly number: number;
    readonly createdAtMs: number;
    readonly routes: readonly PortRoute[];
  }[];
}

interface Port {
  /** Of routes without options. */
  readonly hostnames: readonly string[];
  readonly routes?: readonly RouteSpec[];
  readonly protocol: 'tcp' | 'udp';
  readonly publicPorts?: readonly number[];
}

/** Whether hostnames lead to a port. */
export const isLedTo = ({ hostnames, routes = [] }: Pick<Port, 'hostnames' | 'routes'>): boolean =>
  hostnames.length > 0 || routes.length > 0;

/** Whether hostnames or public ports lead to a port: its clients come through other nodes. */
export const isReachedThroughNodes = (port: Port): boolean =>
  isLedTo(port) || (port.publicPorts ?? []).length > 0;

/** What leads to replicas on every node: the ingress by hostnames, or the forwarder by public ports. */
export type Way = 'hostnames' | 'publicPorts';

/** @returns by what any of the ports is reached through nodes */
export const waysTo = (ports: readonly Port[]): readonly Way[] => [
  ...(ports.some(isLedTo) ? ['hostnames' as const] : []),
  ...(ports.some(({ publicPorts = [] }) => publicPorts.length > 0) ? ['publicPorts' as const] : []),
];

/** What one microservice at most holds: a hostname, or a hostname and a path; public-ports.ts has those of ports. */
export const claimOf = (hostname: string, path = ''): string => `${hostname}${path}`;

export const splitClaim = (claim: string): { readonly hostname: string; readonly path?: string } => {
  const at = claim.indexOf('/');
  return at < 0 ? { hostname: claim } : { hostname: claim.slice(0, at), path: claim.slice(at) };
};

/** The claims of one route. */
export const claimsOfRoute = ({ hostnames, path, redirectFrom = [] }: RouteSpec): readonly string[] => [
  ...hostnames.map((hostname) => claimOf(hostname, path)),
  ...redirectFrom,
];

/** All that a port needs to hold, each once if the specification is one that has been parsed. */
export const claimsOfPort = ({
  hostnames,
  routes = [],
  protocol,
  publicPorts = [],
}: Port): readonly string[] => [
  ...hostnames,
  ...routes.flatMap(claimsOfRoute),
  ...publicPorts.map((port) => claimOfPublicPort({ port, protocol })),
];

/** The port without what it is to hold no more; options that are for nothing any more go, too. */
export const withoutClaims = <P extends Port>(
  { routes, publicPorts, proxyProtocol, ...port }: P & { readonly proxyProtocol?: unknown },
  gone: readonly string[],
): P => {
  const left = (routes ?? []).flatMap(({ redirectFrom = [], ...route }): RouteSpec[] => {
    const hostnames = route.hostnames.filter((hostname) => !gone.includes(claimOf(hostname, route.path)));
    const redirected = redirectFrom.filter((hostname) => !gone.includes(hostname));
    if (hostnames.length === 0) return [];
    return [{ ...route, hostnames, ...(redirected.length === 0 ? {} : { redirectFrom: redirected }) }];
  });
  const hostnames = port.hostnames.filter((hostname) => !gone.includes(hostname));
  const publicLeft = (publicPorts ?? []).filter(
    (one) => !gone.includes(claimOfPublicPort({ port: one, protocol: port.protocol })),
  );
  return {
    ...port,
    hostnames,
    ...(left.length === 0 ? {} : { routes: left }),
    ...(publicLeft.length === 0
      ? {}
      : { publicPorts: publicLeft, ...(proxyProtocol === undefined ? {} : { proxyProtocol }) }),
  } as unknown as P;
};

/** Options without hostnames: what a place of the proxy goes by. */
export const optionsOf = (route: PortRoute | RouteSpec): RouteOptions => {
  const { hostnames, redirectFrom, container, port, ...options } = route as PortRoute;
  void [hostnames, redirectFrom, container, port];
  return options;
};

/** Replicas that are spoken to in different ways cannot stand behind one route at one time. */
export const upstreamOf = ({ protocol, stripPath }: PlaceOptions): string =>
  `${protocol ?? 'http'}${stripPath === true ? ' stripped' : ''}`;
