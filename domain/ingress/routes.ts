/**
 * Which hostname leads where, from what the cluster publishes. Pure.
 *
 * Invariants: a hostname leads only to replicas of the microservice that holds it, and only to those that serve; both
 * lists have a stable order, whatever the order of what is observed.
 */

import type { MicroserviceKey, ObservedReplica } from '../model';

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
}

export interface ObservedRoutes {
  /** Who holds each hostname. */
  readonly hostnames: ReadonlyMap<string, MicroserviceKey>;
  readonly replicas: Iterable<ObservedReplica>;
  /** Whether the membership holds a node for alive. */
  readonly isUp: (nodeId: string) => boolean;
}

/** @returns routes in the order of their hostnames */
export const routesOf = ({ hostnames, replicas, isUp }: ObservedRoutes): readonly Route[] => {
  const endpoints = new Map<string, Endpoint[]>([...hostnames.keys()].map((hostname) => [hostname, []]));
  for (const replica of replicas) {
    if (replica.state !== 'running' || !isUp(replica.nodeId)) continue;
    for (const port of replica.ports) {
      for (const hostname of port.hostnames) {
        const owner = hostnames.get(hostname);
        // It may have changed hands since the replica was started.
        if (owner?.project !== replica.project || owner.name !== replica.name) continue;
        endpoints.get(hostname)?.push({
          replicaId: replica.id,
          nodeId: replica.nodeId,
          release: replica.release,
          address: port.address,
          port: port.hostPort,
        });
      }
    }
  }
  return [...hostnames]
    .map(([hostname, { project, name }]) => ({
      hostname,
      project,
      name,
      endpoints: (endpoints.get(hostname) ?? []).sort((a, b) => (a.replicaId < b.replicaId ? -1 : 1)),
    }))
    .sort((a, b) => (a.hostname < b.hostname ? -1 : 1));
};
