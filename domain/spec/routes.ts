/**
 * Routes under `httpPorts`: from what users write to what a release holds, and back.
 *
 * Invariant: hostnames without options stay a plain list, as in releases from before there were options.
 */

import { byText } from '../by-text';
import type { RouteSpec } from '../ingress/route-options';
import type { PortSpec, RawContainerSpec } from './schema';
import type { SchemaContainer } from './normalise';

type Written = NonNullable<SchemaContainer['httpPorts']>[string];
type Raw = NonNullable<RawContainerSpec['httpPorts']>[string];
type WrittenRoute = Exclude<Written, string | readonly unknown[]>;
type RawRoute = Exclude<Raw, string | readonly unknown[]>;

/** A route as it is written, with where it stands below its port. */
export interface RouteItem {
  readonly place: readonly PropertyKey[];
  readonly route: string | WrittenRoute;
}

export const routeItemsOf = (written: Written): readonly RouteItem[] =>
  Array.isArray(written)
    ? written.map((route, index) => ({ place: [index], route }))
    : [{ place: [], route: written }];

export const listOf = (hostnames: string | readonly string[]): readonly string[] =>
  typeof hostnames === 'string' ? [hostnames] : hostnames;

/** Without the slash at the end; undefined: every path. */
export const routePathOf = (path: string | undefined): string | undefined => path?.replace(/\/$/, '');

const sorted = (texts: readonly string[]): readonly string[] => [...new Set(texts)].sort(byText);

const normaliseRoute = (written: WrittenRoute): RouteSpec => {
  const { redirectFrom, basicAuth, allow, rateLimit, responseTimeoutSeconds, maxBodyBytes, errorPage } =
    written;
  const hostnames = listOf(written.hostnames);
  const path = routePathOf(written.path);
  return {
    // Redirects lead to the first.
    hostnames: redirectFrom === undefined ? sorted(hostnames) : hostnames,
    ...(redirectFrom === undefined ? {} : { redirectFrom: sorted(redirectFrom) }),
    ...(path === undefined ? {} : { path }),
    ...(written.stripPath === true ? { stripPath: true } : {}),
    ...(written.protocol === undefined || written.protocol === 'http' ? {} : { protocol: written.protocol }),
    ...(basicAuth === undefined
      ? {}
      : { basicAuth: Object.fromEntries(Object.entries(basicAuth).sort(([a], [b]) => byText(a, b))) }),
    ...(allow === undefined ? {} : { allow: sorted(allow.map((block) => block.toLowerCase())) }),
    ...(written.sticky === true ? { sticky: true } : {}),
    ...(rateLimit === undefined
      ? {}
      : { rateLimit: { requests: rateLimit.requests, perMs: rateLimit.seconds * 1_000 } }),
    ...(maxBodyBytes === undefined ? {} : { maxBodyBytes }),
    ...(responseTimeoutSeconds === undefined
      ? {}
      : { responseTimeoutMs: Math.round(responseTimeoutSeconds * 1_000) }),
    ...(errorPage === undefined ? {} : { errorPage }),
  };
};

const isPlain = (route: RouteSpec): boolean => Object.keys(route).length === 1;

const keyOf = ({ hostnames, path = '' }: RouteSpec): string => `${hostnames.join(' ')} ${path}`;

/** @returns what a port has of hostnames and routes, for a specification that has passed the rules */
export const normaliseRoutes = (written: Written): Pick<PortSpec, 'hostnames' | 'routes'> => {
  const items = routeItemsOf(written).map(({ route }) =>
    typeof route === 'string' ? { hostnames: [route] } : normaliseRoute(route),
  );
  const routes = items.filter((route) => !isPlain(route)).sort((a, b) => byText(keyOf(a), keyOf(b)));
  return {
    hostnames: sorted(items.filter(isPlain).flatMap(({ hostnames }) => hostnames)),
    ...(routes.length === 0 ? {} : { routes }),
  };
};

const hostnamesToUser = (hostnames: readonly string[]): string | string[] =>
  hostnames.length === 1 ? (hostnames[0] ?? '') : [...hostnames];

const routeToUser = ({
  hostnames,
  responseTimeoutMs,
  redirectFrom,
  allow,
  rateLimit,
  ...rest
}: RouteSpec): RawRoute => ({
  hostnames: hostnamesToUser(hostnames),
  ...rest,
  ...(redirectFrom === undefined ? {} : { redirectFrom: [...redirectFrom] }),
  ...(allow === undefined ? {} : { allow: [...allow] }),
  ...(rateLimit === undefined
    ? {}
    : { rateLimit: { requests: rateLimit.requests, seconds: rateLimit.perMs / 1_000 } }),
  ...(responseTimeoutMs === undefined ? {} : { responseTimeoutSeconds: responseTimeoutMs / 1_000 }),
});

/** @returns what stands under a port of `httpPorts` */
export const routesToUser = ({ hostnames, routes = [] }: Pick<PortSpec, 'hostnames' | 'routes'>): Raw => {
  const [first, ...more] = routes;
  if (first === undefined) return hostnamesToUser(hostnames);
  if (hostnames.length === 0 && more.length === 0) return routeToUser(first);
  return [...hostnames, ...routes.map(routeToUser)];
};
