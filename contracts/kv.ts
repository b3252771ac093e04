/**
 * Where things stand in Consul KV. Every value is one JSON document of domain/model.
 *
 * Invariants: each key has one writer: entities write microservices, releases, routes and (queued and final) operations,
 * the operation's plan and the split of requests are written by its own workflow (and the split deleted by the entity),
 * node workers write nodes, replicas, what their ingress counts and how far it is, the API writes the settings of nodes,
 * who is under maintenance, join tokens, identities and webhooks, the watch over the cluster writes the stability of
 * nodes, the control
 * plane writes certificates, challenges and folders, anyone
 * appends events; who removes a node, the API, deletes what the node and the watch wrote. Names are stored in lower case, because
 * hostnames and DNS labels know no case.
 */

import { microserviceId, type MicroserviceKey } from '../domain/model';

export const KV_ROOT = 'containeros/';

export const KV_PREFIX = {
  microservices: `${KV_ROOT}microservices/`,
  releases: `${KV_ROOT}releases/`,
  operations: `${KV_ROOT}operations/`,
  replicas: `${KV_ROOT}replicas/`,
  nodes: `${KV_ROOT}nodes/`,
  nodeSettings: `${KV_ROOT}node-settings/`,
  nodeStability: `${KV_ROOT}node-stability/`,
  hostnames: `${KV_ROOT}hostnames/`,
  removed: `${KV_ROOT}removed/`,
  events: `${KV_ROOT}events/`,
  joinTokens: `${KV_ROOT}join-tokens/`,
  identities: `${KV_ROOT}identities/`,
  ingresses: `${KV_ROOT}ingresses/`,
  webhooks: `${KV_ROOT}webhooks/`,
  traffic: `${KV_ROOT}traffic/`,
  requestCounts: `${KV_ROOT}request-counts/`,
  certificates: `${KV_ROOT}certificates/`,
  /** Not for nodes to read: contracts/hostname-authority. */
  authorities: `${KV_ROOT}authorities/`,
  httpChallenges: `${KV_ROOT}http-challenges/`,
  certificateStatus: `${KV_ROOT}certificate-status/`,
  acmeAccounts: `${KV_ROOT}acme-accounts/`,
  acmeOrders: `${KV_ROOT}acme-orders/`,
  acmeLimits: `${KV_ROOT}acme-limits/`,
  routes: `${KV_ROOT}routes/`,
  maintenance: `${KV_ROOT}maintenance/`,
} as const;

const FOLDERS: ReadonlySet<string> = new Set(Object.values(KV_PREFIX));

/**
 * Whether a key is that of a prefix itself. An entry stands there that is no document: a prefix with nothing under it has
 * no index of its own in Consul, and whoever follows it is answered with every write to any key.
 */
export const isFolderKvKey = (key: string): boolean => FOLDERS.has(key);
/** Which folders have been made. */
export const FOLDERS_KV_KEY = `${KV_ROOT}folders`;

/** Who holds the lease of each exclusive microservice, as locks: contracts/leases. They are no documents. */
export const LEASES_KV_PREFIX = `${KV_ROOT}leases/`;

export const microserviceKvKey = (key: MicroserviceKey): string =>
  `${KV_PREFIX.microservices}${microserviceId(key)}`;
/** The last document of a microservice that was removed: what of it turns up later is to be removed too. */
export const removedKvKey = (key: MicroserviceKey): string => `${KV_PREFIX.removed}${microserviceId(key)}`;
export const releasesKvPrefix = (key: MicroserviceKey): string =>
  `${KV_PREFIX.releases}${microserviceId(key)}/`;
export const releaseKvKey = (key: MicroserviceKey, number: number): string =>
  `${releasesKvPrefix(key)}${number}`;
export const operationsKvPrefix = (key: MicroserviceKey): string =>
  `${KV_PREFIX.operations}${microserviceId(key)}/`;
export const operationKvKey = (key: MicroserviceKey, operationId: string): string =>
  `${operationsKvPrefix(key)}${operationId}`;
export const replicasKvPrefix = (key: MicroserviceKey): string =>
  `${KV_PREFIX.replicas}${microserviceId(key)}/`;
export const replicaKvKey = (key: MicroserviceKey, replicaId: string): string =>
  `${replicasKvPrefix(key)}${replicaId}`;
export const nodeKvKey = (nodeId: string): string => `${KV_PREFIX.nodes}${nodeId}`;
export const leaseKvKey = (key: MicroserviceKey): string => `${LEASES_KV_PREFIX}${microserviceId(key)}`;
export const joinTokenKvKey = (id: string): string => `${KV_PREFIX.joinTokens}${id}`;
export const webhookKvKey = (id: string): string => `${KV_PREFIX.webhooks}${id}`;
export const identityKvKey = (nodeId: string): string => `${KV_PREFIX.identities}${nodeId}`;
export const ingressKvKey = (nodeId: string): string => `${KV_PREFIX.ingresses}${nodeId}`;
export const authorityKvKey = (name: string): string => `${KV_PREFIX.authorities}${name}`;
/** How requests of a microservice are split between releases. */
export const trafficKvKey = (key: MicroserviceKey): string => `${KV_PREFIX.traffic}${microserviceId(key)}`;
/** What the ingress of a node has counted of releases under judgement. */
export const requestCountsKvKey = (nodeId: string): string => `${KV_PREFIX.requestCounts}${nodeId}`;
export const certificateKvKey = (hostname: string): string => `${KV_PREFIX.certificates}${hostname}`;
export const httpChallengeKvKey = (token: string): string => `${KV_PREFIX.httpChallenges}${token}`;
export const certificateStatusKvKey = (hostname: string): string =>
  `${KV_PREFIX.certificateStatus}${hostname}`;
export const acmeAccountKvKey = (id: string): string => `${KV_PREFIX.acmeAccounts}${id}`;
export const acmeOrderKvKey = (hostname: string): string => `${KV_PREFIX.acmeOrders}${hostname}`;
export const acmeLimitsKvKey = (id: string): string => `${KV_PREFIX.acmeLimits}${id}`;
export const nodeSettingsKvKey = (nodeId: string): string => `${KV_PREFIX.nodeSettings}${nodeId}`;
export const nodeStabilityKvKey = (nodeId: string): string => `${KV_PREFIX.nodeStability}${nodeId}`;
/** @param claim a hostname, a hostname and a path (domain/ingress/route-options), or a public port (public-ports) */
export const hostnameKvKey = (claim: string): string => `${KV_PREFIX.hostnames}${claim}`;
/** What the releases of a microservice say of their routes; most microservices have none. */
export const routesKvKey = (key: MicroserviceKey): string => `${KV_PREFIX.routes}${microserviceId(key)}`;
export const maintenanceKvKey = (key: MicroserviceKey): string =>
  `${KV_PREFIX.maintenance}${microserviceId(key)}`;

/**
 * Events are stored in the order of their keys.
 *
 * @param atMs when it happened, milliseconds since the epoch
 * @param suffix makes the key unique; at least 8 characters of chance or of a hash
 */
export const eventKvKey = (atMs: number, suffix: string): string =>
  `${KV_PREFIX.events}${String(atMs).padStart(15, '0')}-${suffix}`;

/** How many events, operations of a microservice, and releases of a microservice are kept. */
export const KEPT_EVENTS = 2_000;
export const KEPT_OPERATIONS = 20;
/** Of how many removed microservices it is known that they were, beside those of which replicas are known. */
export const KEPT_REMOVED = 500;
export const KEPT_RELEASES = 20;
/** Fewer releases are kept when they are large: an entity carries them all from run to run, in one payload of 2 MB. */
export const KEPT_RELEASES_BYTES = 1_000_000;
