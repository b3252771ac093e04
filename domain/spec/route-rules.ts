/** Rules of routes that no schema can say: what goes with what, and that nothing is asked for twice. */

import { claimOf } from '../ingress/route-options';
import { isWildcard } from '../ingress/wildcard';
import { listOf, routeItemsOf, routePathOf, type RouteItem } from './routes';
import type { LenientContainer, Path, Places } from './well-formed';

/** A problem and where it is, before the path is written as a pointer. */
export interface PlacedProblem {
  readonly place: Path;
  readonly message: string;
}

/** A hostname, or a hostname and a path, that the document asks for. */
interface Asked {
  readonly claim: string;
  readonly place: Path;
}

/** All of them are claimed at once, which has to fit one transaction of Consul (64 operations). */
const MAX_HOSTNAMES = 50;

/** Each password is hashed, which takes its time on purpose. */
const MAX_USERS = 100;

type HttpPorts = LenientContainer['httpPorts'];

const itemsOf = (container: string, httpPorts: HttpPorts): readonly RouteItem[] =>
  Object.entries(httpPorts ?? {}).flatMap(([port, written]) =>
    routeItemsOf(written).map(({ place, route }) => ({
      place: ['containers', container, 'httpPorts', port, ...place],
      route,
    })),
  );

const askedBy = ({ place, route }: RouteItem): readonly Asked[] => {
  if (typeof route === 'string') return [{ claim: route, place }];
  const path = routePathOf(route.path);
  const isOne = typeof route.hostnames === 'string';
  return [
    ...listOf(route.hostnames).map((hostname, index) => ({
      claim: claimOf(hostname, path),
      place: [...place, 'hostnames', ...(isOne ? [] : [index])],
    })),
    ...(route.redirectFrom ?? []).map((claim, index) => ({
      claim,
      place: [...place, 'redirectFrom', index],
    })),
  ];
};

const wrongIn = ({ place, route }: RouteItem, places: Places): readonly PlacedProblem[] => {
  const isRedirect = typeof route !== 'string' && route.redirectFrom !== undefined;
  if (isRedirect && places.isWhole([...place, 'hostnames'])) {
    const [target = ''] = listOf(route.hostnames);
    if (isWildcard(target)) {
      return [
        {
          place: [...place, 'redirectFrom'],
          message: `must lead to one host: the first of "hostnames", "${target}", is a wildcard. Put another one first`,
        },
      ];
    }
  }
  if (typeof route === 'string' || route.path !== undefined) {
    return typeof route === 'string' || route.redirectFrom === undefined
      ? []
      : [
          {
            place: [...place, 'redirectFrom'],
            message:
              'must not be given with "path": all of a hostname is redirected. Give it at a route without one',
          },
        ];
  }
  return route.stripPath === true
    ? [{ place: [...place, 'stripPath'], message: 'must be given with "path", which says what is stripped' }]
    : [];
};

/**
 * @param containers the well-formed parts of containers, by name
 * @param places where they stand in the document
 */
export const checkRoutes = (
  containers: Readonly<Record<string, { readonly httpPorts?: HttpPorts }>>,
  places: Places,
): readonly PlacedProblem[] => {
  const items = Object.entries(containers).flatMap(([name, { httpPorts }]) => itemsOf(name, httpPorts));
  const asked = items.flatMap(askedBy);
  const seen = new Map<string, Path>();
  const repeated = asked.flatMap(({ claim, place }): readonly PlacedProblem[] => {
    const first = seen.get(claim);
    if (first === undefined) {
      seen.set(claim, place);
      return [];
    }
    const what = claim.includes('/') ? 'hostname and path' : 'hostname';
    return [{ place, message: `is the ${what} "${claim}" again: ${places.pointer(first)} has it already` }];
  });
  const tooMany =
    asked.length > MAX_HOSTNAMES
      ? [
          {
            place: ['containers'],
            message: `must have ${MAX_HOSTNAMES} hostnames at most, not ${asked.length}`,
          },
        ]
      : [];
  const users = items.reduce(
    (sum, { route }) => sum + (typeof route === 'string' ? 0 : Object.keys(route.basicAuth ?? {}).length),
    0,
  );
  const tooManyUsers =
    users > MAX_USERS
      ? [
          {
            place: ['containers'],
            message: `must have ${MAX_USERS} users in "basicAuth" at most, not ${users}`,
          },
        ]
      : [];
  return [...tooMany, ...tooManyUsers, ...repeated, ...items.flatMap((item) => wrongIn(item, places))];
};
