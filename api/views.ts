/**
 * Documents of the cluster as the API shows them. Pure.
 *
 * Invariants: every view has the shape of its schema in openapi/schemas.ts; times go out as ISO 8601.
 */

import { isHostnameClaim } from '../domain/ingress/public-ports';
import { claimsOfPort } from '../domain/ingress/route-options';
import type { Microservice, MicroserviceKey, Operation, Release } from '../domain/model';
import { FINAL_OPERATION_STATES, isOfRelease } from '../domain/model';
import type { NodeVerdict } from '../domain/placement/explain';
import { diffReleases } from '../domain/spec/release-diff';
import { releaseToUser, specToUser } from '../domain/spec/to-user';
import { weightOf, type TrafficSplit } from '../domain/traffic';
import { byText } from '../domain/by-text';
import { hostPort } from '../domain/host-port';
import type {
  EventView,
  LogLineView,
  MicroserviceView,
  NodeView,
  OperationView,
  PlacementView,
  ReleaseView,
  ReplicaView,
} from '../openapi/schemas';
import type { LogLine } from '../contracts/node-stream';
import { microserviceWorkflowId } from '../contracts/workflows';

import type { StoredEvent } from './event-log';
import { healthOf } from './health';
import { urlOf, type IngressAddresses } from './hostname-urls';
import type { ShownNode, ShownReplica } from './read-model';

/** Makes the address of a workflow in the Temporal Web UI; undefined when it is not known. */
export type WebUiLink = (workflowId: string) => string | undefined;

export const createWebUiLink =
  (webUiUrl: string | undefined, namespace: string): WebUiLink =>
  (workflowId) =>
    webUiUrl === undefined
      ? undefined
      : `${webUiUrl.replace(/\/$/, '')}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}`;

const iso = (ms: number): string => new Date(ms).toISOString();
const given = <K extends string, V>(key: K, value: V | undefined): { readonly [P in K]?: V } =>
  value === undefined ? {} : ({ [key]: value } as { readonly [P in K]: V });

export const microservicePath = ({ name }: Pick<MicroserviceKey, 'name'>): string =>
  `/v1/microservices/${name}`;
export const operationPath = (id: string): string => `/v1/operations/${encodeURIComponent(id)}`;

export const isFinal = (operation: Operation): boolean => FINAL_OPERATION_STATES.includes(operation.state);

export const operationView = (operation: Operation, webUi: WebUiLink): OperationView => ({
  id: operation.id,
  kind: operation.kind,
  project: operation.project,
  microservice: operation.name,
  state: operation.state,
  final: isFinal(operation),
  release: operation.release,
  scale: operation.scale,
  message: operation.message,
  plan: [...operation.plan],
  ...(operation.error === undefined
    ? {}
    : {
        error: {
          code: operation.error.code,
          message: operation.error.message,
          logTail: [...operation.error.logTail],
        },
      }),
  ...given('by', operation.by),
  createdAt: iso(operation.createdAtMs),
  ...(operation.startedAtMs === undefined ? {} : { startedAt: iso(operation.startedAtMs) }),
  ...(operation.endedAtMs === undefined ? {} : { endedAt: iso(operation.endedAtMs) }),
  links: {
    self: operationPath(operation.id),
    follow: `${operationPath(operation.id)}/follow`,
    microservice: microservicePath(operation),
    ...given('webUi', webUi(operation.id)),
  },
});

export const replicaView = (replica: ShownReplica): ReplicaView => ({
  id: replica.id,
  project: replica.project,
  microservice: replica.name,
  release: replica.release,
  node: replica.nodeId,
  state: replica.state,
  healthy: replica.state === 'running',
  ...given('reason', replica.reason),
  restartCount: replica.restartCount,
  operation: replica.operation,
  ports: replica.ports.map((port) => ({
    container: port.container,
    port: port.port,
    protocol: port.protocol,
    address: hostPort(port.address, port.hostPort),
    hostPort: port.hostPort,
    serviceId: port.serviceId,
    hostnames: [...port.hostnames],
    ...(port.publicPorts === undefined ? {} : { publicPorts: [...port.publicPorts] }),
  })),
  containers: replica.containers.map((container) => ({
    name: container.name,
    containerId: container.containerId,
    image: container.image,
    imageId: container.imageId,
    running: container.running,
    restartCount: container.restartCount,
    ...given('exitCode', container.exitCode),
    ...given('oomKilled', container.oomKilled),
    ...(container.startedAtMs === undefined ? {} : { startedAt: iso(container.startedAtMs) }),
  })),
  cpusReserved: replica.cpusReserved,
  memoryReservedBytes: replica.memoryReservedBytes,
  createdAt: iso(replica.createdAtMs),
  updatedAt: iso(replica.updatedAtMs),
  links: {
    self: `/v1/replicas/${encodeURIComponent(replica.id)}`,
    logs: `/v1/replicas/${encodeURIComponent(replica.id)}/logs`,
    microservice: microservicePath(replica),
  },
});

const replicaCounts = (
  microservice: Microservice,
  replicas: readonly ShownReplica[],
): MicroserviceView['replicas'] => {
  const counts = { running: 0, starting: 0, unhealthy: 0, restarting: 0, lost: 0, other: 0, outdated: 0 };
  for (const replica of replicas) {
    const { state } = replica;
    if (!isOfRelease(replica, microservice.release)) counts.outdated += 1;
    switch (state) {
      case 'running':
      case 'starting':
      case 'unhealthy':
      case 'restarting':
      case 'lost':
        counts[state] += 1;
        break;
      case 'crash_looping':
        counts.restarting += 1;
        break;
      case 'paused':
      case 'stopping':
      case 'exited':
      case 'broken':
        counts.other += 1;
        break;
    }
  }
  return { desired: microservice.scale, ...counts };
};

const publicPortViews = (
  { release }: Microservice,
  nodes: readonly Pick<ShownNode, 'id' | 'publicPortTroubles'>[],
): MicroserviceView['publicPorts'] =>
  release.spec.containers
    .flatMap(({ name, ports }) =>
      ports.flatMap(({ port: containerPort, protocol, publicPorts = [] }) =>
        publicPorts.map((port) => ({
          port,
          protocol,
          container: name,
          containerPort,
          troubles: nodes.flatMap(({ id, publicPortTroubles = [] }) =>
            publicPortTroubles
              .filter((one) => one.port === port && one.protocol === protocol)
              .map(({ reason }) => ({ node: id, reason })),
          ),
        })),
      ),
    )
    .sort((a, b) => a.port - b.port || byText(a.protocol, b.protocol));

/** The specification as one would write it. */
export const specificationOf = (microservice: Microservice): MicroserviceView['specification'] =>
  specToUser({ name: microservice.name, scale: microservice.scale, release: microservice.release.spec });

/** What of a microservice is not in its own documents. */
export interface MicroserviceShown {
  readonly webUi: WebUiLink;
  readonly addresses: IngressAddresses;
  readonly split?: TrafficSplit | undefined;
  /** Those that may have trouble with its public ports. */
  readonly nodes?: readonly Pick<ShownNode, 'id' | 'publicPortTroubles'>[];
}

/** In the order of releases. */
const splitView = ({ operation, release, isJudged, shares }: TrafficSplit): MicroserviceView['split'] => ({
  operation,
  release,
  judged: isJudged,
  shares: [...shares]
    .sort((a, b) => a.release - b.release)
    .map((share) => ({ release: share.release, weight: share.weight })),
});

export const microserviceView = (
  microservice: Microservice,
  replicas: readonly ShownReplica[],
  { webUi, addresses, split, nodes = [] }: MicroserviceShown,
): MicroserviceView => {
  const self = microservicePath(microservice);
  const claims = microservice.release.spec.containers
    .flatMap(({ ports }) => ports.flatMap(claimsOfPort))
    .filter(isHostnameClaim);
  return {
    name: microservice.name,
    project: microservice.project,
    specification: specificationOf(microservice),
    scale: microservice.scale,
    release: microservice.release.number,
    ...given('settledRelease', microservice.settledRelease),
    generation: microservice.generation,
    state: microservice.state,
    ...healthOf(microservice, replicas),
    message: microservice.message,
    operation: microservice.operation,
    replicas: replicaCounts(microservice, replicas),
    endpoints: replicas
      .filter(({ state }) => state === 'running')
      .flatMap((replica) =>
        replica.ports.map((port) => ({
          container: port.container,
          port: port.port,
          protocol: port.protocol,
          address: hostPort(port.address, port.hostPort),
          replica: replica.id,
        })),
      ),
    urls: [...new Set(claims)].sort().map((claim) => urlOf(claim, addresses)),
    publicPorts: publicPortViews(microservice, nodes),
    ...(split === undefined ? {} : { split: splitView(split) }),
    createdAt: iso(microservice.createdAtMs),
    updatedAt: iso(microservice.updatedAtMs),
    links: {
      self,
      replicas: `${self}/replicas`,
      releases: `${self}/releases`,
      operations: `${self}/operations`,
      placement: `${self}/placement`,
      logs: `${self}/logs`,
      ...given('webUi', webUi(microserviceWorkflowId(microservice))),
    },
  };
};

/** What of a release is not in its own document. */
export interface ReleaseShown {
  /** The kept release before it, for the difference. */
  readonly before?: Release | undefined;
  readonly split?: TrafficSplit | undefined;
  /** What brings the release that is wanted, until that has been healthy. */
  readonly operation?: Operation | undefined;
}

export const releaseView = (
  microservice: Microservice,
  release: Release,
  { before, split, operation }: ReleaseShown,
): ReleaseView => ({
  number: release.number,
  current: release.number === microservice.release.number,
  settled: release.number === microservice.settledRelease,
  ...(split === undefined ? {} : { weight: weightOf(split, release.number) }),
  ...(operation?.release !== release.number
    ? {}
    : { operation: { id: operation.id, state: operation.state, message: operation.message } }),
  ...given('rollbackOf', release.rollbackOf),
  ...given('redeployOf', release.redeployOf),
  specification: { ...releaseToUser(release.spec) },
  diff: before === undefined ? [] : [...diffReleases(before, release)],
  ...(release.images === undefined ? {} : { images: { ...release.images } }),
  ...given('localImages', release.localImages),
  ...given('by', release.by),
  createdAt: iso(release.createdAtMs),
  links: {
    self: `${microservicePath(microservice)}/releases/${release.number}`,
    microservice: microservicePath(microservice),
  },
});

export const placementView = (
  microservice: Microservice,
  verdicts: readonly NodeVerdict[],
): PlacementView => ({
  microservice: microservice.name,
  release: microservice.release.number,
  fitting: verdicts.filter(({ fits }) => fits).length,
  nodes: verdicts.map(({ nodeId, fits, reason }) => ({ node: nodeId, fits, reason })),
  links: { microservice: microservicePath(microservice) },
});

/** @param replicas those on the node, of every microservice */
export const nodeView = (
  node: ShownNode,
  replicas: readonly ShownReplica[],
  connected: boolean,
): NodeView => ({
  id: node.id,
  address: node.address,
  architecture: node.architecture,
  dockerVersion: node.dockerVersion,
  ...given('containerosVersion', node.containerosVersion),
  health: node.health,
  availability: node.availability,
  ...(node.unstableUntilMs === undefined ? {} : { unstableUntil: iso(node.unstableUntilMs) }),
  connected,
  reasons: [...node.reasons],
  cpus: node.capacity.cpus,
  cpusReserved: replicas.reduce((sum, { cpusReserved }) => sum + cpusReserved, 0),
  cpuPercent: node.cpuPercent,
  memoryBytes: node.capacity.memoryBytes,
  memoryReservedBytes: replicas.reduce((sum, { memoryReservedBytes }) => sum + memoryReservedBytes, 0),
  memoryAvailableBytes: node.memoryAvailableBytes,
  diskBytes: node.capacity.diskBytes,
  diskFreeBytes: node.diskFreeBytes,
  replicas: replicas.length,
  images: [...node.images],
  labels: { ...node.labels },
  updatedAt: iso(node.updatedAtMs),
  links: {
    self: `/v1/nodes/${encodeURIComponent(node.id)}`,
    replicas: `/v1/replicas?node=${encodeURIComponent(node.id)}`,
  },
});

export const eventView = ({ id, event }: StoredEvent): EventView => ({
  id,
  at: iso(event.atMs),
  ...given('nodeAt', event.nodeAtMs === undefined ? undefined : iso(event.nodeAtMs)),
  level: event.level,
  type: event.type,
  message: event.message,
  ...given('project', event.project),
  ...given('microservice', event.microservice),
  ...given('operation', event.operation),
  ...given('replica', event.replica),
  ...given('node', event.node),
});

export const logLineView = (line: LogLine): LogLineView => ({
  replica: line.replica,
  container: line.container,
  stream: line.stream,
  at: iso(line.atMs),
  line: line.line,
});
