/**
 * Finds the route of a hostname among many. Caddy tries routes in turn, at a third of a microsecond each, and knows no
 * better for routes; but a matcher that has more than a hundred hostnames looks for one by halving. Pure.
 *
 * Invariants: a route is tried for its hostname whatever others there are; what no route is for goes on behind the tree.
 */

export interface HostRoute {
  /** As it is: no placeholder, no pattern. */
  readonly hostname: string;
  readonly route: object;
}

/** Of a group, and so many groups side by side. */
const WIDTH = 8;

/** @returns routes of Caddy, for its configuration or for a subroute of it */
export const hostTree = (routes: readonly HostRoute[]): readonly object[] => {
  if (routes.length <= WIDTH) return routes.map(({ route }) => route);
  const size = Math.ceil(routes.length / WIDTH);
  const groups = Array.from({ length: Math.ceil(routes.length / size) }, (_, group) =>
    routes.slice(group * size, (group + 1) * size),
  );
  return groups.map((group) => ({
    // Once each, or Caddy refuses it: with paths, a hostname has several routes.
    match: [{ host: [...new Set(group.map(({ hostname }) => hostname))] }],
    handle: [{ handler: 'subroute', routes: hostTree(group) }],
  }));
};
