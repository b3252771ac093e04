/**
 * Gives the ingress keeper what splits of requests ask of it: which endpoints a hostname leads to, and what its lanes
 * lead.
 *
 * Invariants: a hostname whose split is not followed, or has gone, is led as if there were none; the hostname's own
 * place leads to nobody without a share either, so that it holds whether there is a lane or not; no lane takes requests
 * for a route with options, which may turn them away, or lead them to somebody else, nor for a wildcard below which there
 * is an exact hostname: it counts them at most, by who answers.
 */

import { laneContents, laneSizesFor, type LaneSizes, type SplitRoute } from '../../domain/ingress/lanes';
import type { Endpoint, Route } from '../../domain/ingress/routes';
import { isWildcard, wildcardFor } from '../../domain/ingress/wildcard';
import { servingUnder, splitOf, weightOf, type TrafficSplits } from '../../domain/traffic';
import { hostPort } from '../../domain/host-port';
import type { LaneFiles } from '../../adapters/ingress/lane-files';

export interface PlaceEndpoint extends Endpoint {
  /** Beside the others. */
  readonly weight: number;
}

/** The endpoints that a hostname's place leads to. A release's share is that of all its endpoints together. */
export const placeEndpoints = (route: Route, splits: TrafficSplits): readonly PlaceEndpoint[] => {
  const split = splitOf(splits, route);
  const serving = split && servingUnder(split, route.endpoints);
  if (split === undefined || serving === undefined) {
    return route.endpoints.map((endpoint) => ({ ...endpoint, weight: 1 }));
  }
  const countOf = (release: number): number => serving.filter((one) => one.release === release).length;
  return serving.map((endpoint) => ({
    ...endpoint,
    weight: weightOf(split, endpoint.release) / countOf(endpoint.release),
  }));
};

const addressesOf = ({ endpoints }: Route) => [
  ...new Map(
    endpoints.map(({ address, port, release }) => {
      const at = hostPort(address, port);
      return [at, { address: at, release }] as const;
    }),
  ).values(),
];

/** Hostnames that lead to the same endpoints share a lane. */
export const splitRoutes = (routes: readonly Route[], splits: TrafficSplits): readonly SplitRoute[] => {
  const found = new Map<string, SplitRoute>();
  // A lane has no options, is for every path, and comes before all places: where there are any options, also of one path
  // only, and whoever's, the place shares its slots out.
  const withOptions = new Set(
    routes.flatMap(({ hostname, options }) => (options === undefined ? [] : [hostname])),
  );
  // So does it for a wildcard where there is an exact hostname below it, whose requests the lane would take.
  const withExact = new Set(routes.map(({ hostname }) => wildcardFor(hostname)));
  const counted = new Set<string>();
  for (const route of routes) {
    const { hostname, options } = route;
    // Also one that gives everything to one release: a lane is switched in one moment, a place slot by slot.
    const split = splitOf(splits, route);
    if (split === undefined) continue;
    const isLedByPlaces = withOptions.has(hostname) || withExact.has(hostname);
    if (isLedByPlaces) {
      // Once, however many of its paths are led under a split.
      if (!split.isJudged || options?.redirectTo !== undefined || counted.has(hostname)) continue;
      counted.add(hostname);
    }
    const endpoints = addressesOf(route);
    const key = JSON.stringify([split.operation, endpoints, isLedByPlaces]);
    const known = found.get(key);
    found.set(key, {
      hostnames: [...(known?.hostnames ?? []), hostname],
      split,
      endpoints,
      ...(isLedByPlaces ? { isLedByPlaces } : {}),
    });
  }
  // What an exact hostname has a lane for is not counted by that of a wildcard, too.
  const isLast = ({ isLedByPlaces, hostnames }: SplitRoute): number =>
    Number(isLedByPlaces === true && hostnames.some(isWildcard));
  return [...found.values()].sort((a, b) => isLast(a) - isLast(b));
};

export interface SplitLanes {
  /** What the lanes are to be, and whether that needs a new configuration. */
  plan(routes: readonly Route[], splits: TrafficSplits): LanePlan;
}

export interface LanePlan {
  readonly sizes: LaneSizes;
  readonly needsReload: boolean;
  /** Leads requests into the lanes; to be called when the places lead where they should. */
  write(): void;
  /** To be called when the configuration with these sizes is in force. */
  loaded(): void;
}

export const createSplitLanes = (files: LaneFiles): SplitLanes => {
  let sizes = files.readSizes();
  return {
    plan: (routes, splits) => {
      const split = splitRoutes(routes, splits);
      const next = laneSizesFor(sizes, split);
      return {
        sizes: next,
        needsReload: next.count !== sizes.count || next.slots !== sizes.slots,
        write: () => files.writeLanes(next, laneContents(next.slots, split)),
        loaded: () => {
          files.writeSizes(next);
          sizes = next;
        },
      };
    },
  };
};
