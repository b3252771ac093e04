/**
 * Names and ids of service instances in Consul: who registers them and who checks whose they are go by the same rules.
 * Pure.
 *
 * Invariant: the id of an instance, and the names that it may have, can be told from its metadata alone.
 */

import { DEFAULT_PROJECT, type MicroserviceKey } from '../domain/model';

/** The service whose one check shows that a node worker lives. */
export const NODE_SERVICE = 'containeros-node';
/** Key of its `Meta` for the cluster; a replica's port has SERVICE_META.cluster, and what has that is kept like one. */
export const NODE_SERVICE_CLUSTER = 'cluster-id';

export const nodeServiceId = (nodeId: string): string => `${NODE_SERVICE}-${nodeId}`;
export const nodeAliveCheckId = (nodeId: string): string => `${nodeServiceId(nodeId)}:alive`;

export interface ServicePort {
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
}

const suffixOf = ({ port, protocol }: ServicePort): string => `-${port}${protocol === 'udp' ? '-udp' : ''}`;

export const portServiceId = (replicaId: string, container: string, port: ServicePort): string =>
  `${replicaId}-${container}${suffixOf(port)}`;

/** The names that a port of a microservice may have: when it is the first port, and when it is a further one. */
export const portServiceNames = (
  { project, name }: MicroserviceKey,
  port: ServicePort,
): { readonly first: string; readonly further: string } => {
  const ending = project === DEFAULT_PROJECT ? '' : `-${project}`;
  const base = name.toLowerCase();
  return { first: `${base}${ending}`, further: `${base}${suffixOf(port)}${ending}` };
};
