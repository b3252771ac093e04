/**
 * Which hostname and path lead where, from what the cluster publishes. Pure.
 *
 * Invariants: what a microservice holds leads only to its own replicas, and only to those that serve; a route has the
 * options of the newest release that serves it, and leads to no replica that is spoken to in another way; a port with
 * options is never led to without them; both lists have a stable order, whatever the order of what is observed.
 */

import { byText } from '../by-text';
import { isSameMicroservice, microserviceId, type MicroserviceKey, type ObservedReplica } from '../model';

import {
  claimsOfRoute,
  claimOf,
  optionsOf,
  splitClaim,
  upstreamOf,
  type Maintenance,
  type PlaceOptions,
  type PortRoute,
  type ReleaseRoutes,
} from './route-options';

/** Where a replica that serves can be reached. */
export interface Endpoint {
  readonly replicaId: string;
  readonly nodeId: string;
  readonly release: number;
  readonly address: string;
  readonly port: number;
}

/** A hostname, and where its requests go. Without endpoints it is known, but nobody serves it. */
export interface Route extends MicroserviceKey {
  readonly hostname: string;
  readonly endpoints: readonly Endpoint[];
  /** Left out by a plain one, which is for every path. */
  readonly options?: PlaceOptions;
}

export interface ObservedRoutes {
  /** Who holds each hostname, or hostname and path. */
  readonly hostnames: ReadonlyMap<string, MicroserviceKey>;
  readonly replicas: Iterable<ObservedReplica>;
  /** Whether the membership holds a node for alive. */
  readonly isUp: (nodeId: string) => boolean;
  /** What releases say of their routes, by the id of the microservice; most have none. */
  readonly routes?: ReadonlyMap<string, ReleaseRoutes>;
  /** Who is under maintenance, by the id of the microservice. */
  readonly maintenance?: ReadonlyMap<string, Maintenance>;
}

/** What one replica, or a release without replicas, says of a claim. */
interface Offer {
  readonly release: number;
  readonly options: PlaceOptions | undefined;
  readonly endpoint?: Endpoint;
}

type Released = ReleaseRoutes['releases'][number];

const hasAny = (options: PlaceOptions): PlaceOptions | undefined =>
  Object.keys(options).length === 0 ? undefined : options;

/** What a route of a release makes of each of its claims. */
const claimedBy = (route: PortRoute): readonly (readonly [string, PlaceOptions | undefined])[] => {
  const { hostnames, path, redirectFrom = [] } = route;
  const [redirectTo = ''] = hostnames;
  const options = hasAny(optionsOf(route));
  return [
    ...hostnames.map((hostname) => [claimOf(hostname, path), options] as const),
    ...redirectFrom.map((hostname) => [hostname, { redirectTo }] as const),
  ];
};

const isOfReplica = (replica: ObservedReplica, { number, createdAtMs }: Released): boolean =>
  replica.release === number && (replica.releasedAtMs ?? createdAtMs) === createdAtMs;

const endpointOf = (replica: ObservedReplica, port: ObservedReplica['ports'][number]): Endpoint => ({
  replicaId: replica.id,
  nodeId: replica.nodeId,
  release: replica.release,
  address: port.address,
  port: port.hostPort,
});

/** @returns what each claim leads to, as the replica's release has it */
const offersOf = (
  replica: ObservedReplica,
  released: Released | undefined,
): readonly (readonly [string, Offer])[] => {
  const { release } = replica;
  const plain = replica.ports.flatMap((port) =>
    port.hostnames.map(
      (hostname) => [hostname, { release, options: undefined, endpoint: endpointOf(replica, port) }] as const,
    ),
  );
  if (released === undefined) return plain;
  const routed = released.routes.flatMap((route) => {
    const port = replica.ports.find((one) => one.container === route.container && one.port === route.port);
    return claimedBy(route).map(
      ([claim, options]) =>
        [
          claim,
          {
            release,
            options,
            ...(port === undefined || options?.redirectTo !== undefined
              ? {}
              : { endpoint: endpointOf(replica, port) }),
          },
        ] as const,
    );
  });
  return [...plain, ...routed];
};

/** What is known of a claim that no replica serves: the newest release that has it with options. */
const unservedOffer = (claim: string, routes: ReleaseRoutes | undefined): Offer => {
  const known = (routes?.releases ?? [])
    .filter((one) => one.routes.some((route) => claimsOfRoute(route).includes(claim)))
    .sort((a, b) => b.number - a.number)[0];
  const options = known?.routes.flatMap(claimedBy).find(([one]) => one === claim)?.[1];
  const { path } = splitClaim(claim);
  // Without options to be known of, it is still for its path alone.
  return { release: 0, options: options ?? (path === undefined ? undefined : { path }) };
};

const routeOf = (
  claim: string,
  owner: MicroserviceKey,
  offers: readonly Offer[],
  maintenance: Maintenance | undefined,
): Route => {
  const newest = offers.reduce<Offer | undefined>(
    (best, offer) => (best === undefined || offer.release > best.release ? offer : best),
    undefined,
  );
  const way = upstreamOf(newest?.options ?? {});
  const endpoints = offers
    .filter(({ options = {} }) => upstreamOf(options) === way)
    .flatMap(({ endpoint }) => endpoint ?? [])
    .sort((a, b) => byText(a.replicaId, b.replicaId));
  const isRedirect = newest?.options?.redirectTo !== undefined;
  const options =
    maintenance === undefined || isRedirect ? newest?.options : { ...newest?.options, maintenance };
  return {
    hostname: splitClaim(claim).hostname,
    project: owner.project,
    name: owner.name,
    endpoints: isRedirect ? [] : endpoints,
    ...(options === undefined ? {} : { options }),
  };
};

/** @returns routes in the order of their hostnames and paths */
export const routesOf = (observed: ObservedRoutes): readonly Route[] => {
  const { hostnames, replicas, isUp, routes = new Map<string, ReleaseRoutes>() } = observed;
  const offers = new Map<string, Offer[]>([...hostnames.keys()].map((claim) => [claim, []]));
  for (const replica of replicas) {
    if (replica.state !== 'running' || !isUp(replica.nodeId)) continue;
    const known = routes.size === 0 ? undefined : routes.get(microserviceId(replica));
    for (const [claim, offer] of offersOf(
      replica,
      known?.releases.find((one) => isOfReplica(replica, one)),
    )) {
      const owner = hostnames.get(claim);
      // It may have changed hands since the replica was started.
      if (owner === undefined || !isSameMicroservice(owner, replica)) continue;
      offers.get(claim)?.push(offer);
    }
  }
  return [...hostnames]
    .sort(([a], [b]) => byText(a, b))
    .map(([claim, owner]) => {
      const id = microserviceId(owner);
      const served = offers.get(claim) ?? [];
      return routeOf(
        claim,
        owner,
        served.length > 0 ? served : [unservedOffer(claim, routes.get(id))],
        observed.maintenance?.get(id),
      );
    });
};
