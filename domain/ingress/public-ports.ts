/**
 * Public ports: which port of every node leads to which replicas, from what the cluster publishes. Pure.
 *
 * Invariants: a port leads only to replicas of the microservice that holds it, and only to those that serve; what is
 * returned has a stable order, whatever the order of what is observed.
 */

import { byText } from '../by-text';
import { isSameMicroservice, type MicroserviceKey, type ObservedReplica } from '../model';

/** What a replica is told of its client before the client's bytes. */
export type ProxyProtocol = 'v1' | 'v2';

export interface PublicPort {
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
}

/** "port 5432/tcp". */
export const publicPortInWords = ({ port, protocol }: PublicPort): string => `port ${port}/${protocol}`;

/** Beside hostnames, of which none has a colon: what one microservice at most holds. */
export const claimOfPublicPort = ({ port, protocol }: PublicPort): string => `${protocol}:${port}`;

const CLAIM = /^(tcp|udp):(\d{1,5})$/;

/** @returns undefined when the claim is that of a hostname */
export const publicPortOfClaim = (claim: string): PublicPort | undefined => {
  const [, protocol, port] = CLAIM.exec(claim) ?? [];
  return protocol === undefined ? undefined : { port: Number(port), protocol: protocol as 'tcp' | 'udp' };
};

/** @returns whether the claim is that of a hostname, or a path of one */
export const isHostnameClaim = (claim: string): boolean => !claim.includes(':');

/** Where a replica that serves a public port can be reached. */
export interface PublicEndpoint {
  readonly replicaId: string;
  readonly nodeId: string;
  readonly release: number;
  readonly address: string;
  readonly port: number;
  readonly proxyProtocol?: ProxyProtocol;
}

/** A public port and where it leads. Without endpoints it is known, but nobody serves it. */
export interface PublicPortRoute extends MicroserviceKey, PublicPort {
  readonly endpoints: readonly PublicEndpoint[];
  /** Where replicas of it were whose nodes are lost: nothing comes from there any more. */
  readonly lost: readonly Pick<PublicEndpoint, 'address' | 'port'>[];
}

export interface ObservedPublicPorts {
  /** Who holds each claim, those of hostnames among them. */
  readonly claims: ReadonlyMap<string, MicroserviceKey>;
  readonly replicas: Iterable<ObservedReplica>;
  /** Whether the membership holds a node for alive. */
  readonly isUp: (nodeId: string) => boolean;
}

/** @returns routes by protocol, and then by port */
export const publicPortRoutesOf = ({
  claims,
  replicas,
  isUp,
}: ObservedPublicPorts): readonly PublicPortRoute[] => {
  const routes = new Map(
    [...claims].flatMap(([claim, { project, name }]) => {
      const port = publicPortOfClaim(claim);
      if (port === undefined) return [];
      const [endpoints, lost]: [PublicEndpoint[], PublicEndpoint[]] = [[], []];
      return [[claim, { ...port, project, name, endpoints, lost }] as const];
    }),
  );
  if (routes.size === 0) return [];
  for (const replica of replicas) {
    const isThere = isUp(replica.nodeId);
    if (isThere && replica.state !== 'running') continue;
    for (const { publicPorts = [], protocol, address, hostPort, proxyProtocol } of replica.ports) {
      for (const port of publicPorts) {
        const route = routes.get(claimOfPublicPort({ port, protocol }));
        // It may have changed hands since the replica was started.
        if (route === undefined || !isSameMicroservice(route, replica)) continue;
        route[isThere ? 'endpoints' : 'lost'].push({
          replicaId: replica.id,
          nodeId: replica.nodeId,
          release: replica.release,
          address,
          port: hostPort,
          ...(proxyProtocol === undefined ? {} : { proxyProtocol }),
        });
      }
    }
  }
  return [...routes.values()]
    .map(({ endpoints, lost, ...route }) => ({
      ...route,
      endpoints: [...endpoints].sort((a, b) => byText(a.replicaId, b.replicaId)),
      lost: lost
        .sort((a, b) => byText(a.replicaId, b.replicaId))
        .map(({ address, port }) => ({ address, port })),
    }))
    .sort((a, b) => byText(a.protocol, b.protocol) || a.port - b.port);
};
