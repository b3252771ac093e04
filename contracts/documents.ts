/**
 * Reads what stands in Consul KV: anybody with access to Consul can write there, and one bad document must not take
 * the others down.
 *
 * Invariants: a document that is read has every field that its readers go by, and stands under its own key; one that
 * cannot be read counts as not there, and is told once for as long as it stays the same.
 */

import type { NodeStability } from '../domain/flapping';
import type { JoinToken, NodeIdentity } from '../domain/identity';
import type { RequestCounts } from '../domain/judgement';
import type { MaintenanceState, ReleaseRoutes, RouteSpec } from '../domain/ingress/route-options';
import type {
  ClusterEvent,
  IngressState,
  Microservice,
  MicroserviceKey,
  NodeSettings,
  ObservedNode,
  ObservedReplica,
  Operation,
  Release,
} from '../domain/model';
import { mismatch, type Shape } from '../domain/shape';
import type { Webhook } from '../domain/webhook';
import type { TrafficSplit } from '../domain/traffic';

import type { AcmeAccount, AcmeLimits, AcmeOrder, CertificateStatus } from './acme';
import type { Certificate, HttpChallenge } from './certificates';
import type { HostnameAuthority } from './hostname-authority';
import {
  KV_PREFIX,
  authorityKvKey,
  acmeAccountKvKey,
  acmeLimitsKvKey,
  acmeOrderKvKey,
  certificateKvKey,
  certificateStatusKvKey,
  httpChallengeKvKey,
  identityKvKey,
  ingressKvKey,
  joinTokenKvKey,
  maintenanceKvKey,
  microserviceKvKey,
  nodeKvKey,
  nodeSettingsKvKey,
  nodeStabilityKvKey,
  operationKvKey,
  removedKvKey,
  replicaKvKey,
  webhookKvKey,
  requestCountsKvKey,
  trafficKvKey,
  routesKvKey,
} from './kv';

/** What is under each prefix of contracts/kv. */
export interface Documents {
  readonly microservices: Microservice;
  readonly releases: Release;
  readonly operations: Operation;
  readonly replicas: ObservedReplica;
  readonly nodes: ObservedNode;
  readonly nodeSettings: NodeSettings;
  readonly nodeStability: NodeStability;
  readonly hostnames: MicroserviceKey;
  readonly removed: Microservice;
  readonly events: ClusterEvent;
  readonly joinTokens: JoinToken;
  readonly identities: NodeIdentity;
  readonly ingresses: IngressState;
  readonly webhooks: Webhook;
  readonly traffic: TrafficSplit;
  readonly requestCounts: RequestCounts;
  readonly certificates: Certificate;
  readonly authorities: HostnameAuthority;
  readonly httpChallenges: HttpChallenge;
  readonly certificateStatus: CertificateStatus;
  readonly acmeAccounts: AcmeAccount;
  readonly acmeOrders: AcmeOrder;
  readonly acmeLimits: AcmeLimits;
  readonly routes: ReleaseRoutes;
  readonly maintenance: MaintenanceState;
}

export type DocumentKind = keyof Documents;

const TEXTS = ['list', 'text'] as const;

const ACTOR = ['optional', { kind: 'text', name: ['optional', 'text'] }] as const;

const ROUTE = {
  hostnames: TEXTS,
  redirectFrom: ['optional', TEXTS],
  path: ['optional', 'text'],
  stripPath: ['optional', 'boolean'],
  protocol: ['optional', 'text'],
  basicAuth: ['optional', ['map', 'text']],
  allow: ['optional', TEXTS],
  sticky: ['optional', 'boolean'],
  rateLimit: ['optional', { requests: 'number', perMs: 'number' }],
  maxBodyBytes: ['optional', 'number'],
  responseTimeoutMs: ['optional', 'number'],
  errorPage: ['optional', 'text'],
} as const satisfies Shape<RouteSpec>;

const RELEASE: Shape<Release> = {
  number: 'number',
  createdAtMs: 'time',
  by: ACTOR,
  rollbackOf: ['optional', 'number'],
  healthyBefore: ['optional', 'number'],
  redeployOf: ['optional', 'number'],
  hostnamesTaken: ['optional', TEXTS],
  images: ['optional', ['map', 'text']],
  localImages: ['optional', ['map', ['map', 'text']]],
  spec: {
    containers: [
      'list',
      {
        name: 'text',
        image: 'text',
        command: ['optional', TEXTS],
        args: ['optional', TEXTS],
        env: TEXTS,
        ports: [
          'list',
          {
            port: 'number',
            protocol: 'text',
            hostnames: TEXTS,
            routes: ['optional', ['list', ROUTE]],
            publicPorts: ['optional', ['list', 'number']],
          },
        ],
        volumes: ['list', { kind: 'text', path: 'text' }],
        dropCapabilities: TEXTS,
        addCapabilities: TEXTS,
        labels: ['map', 'text'],
        checks: ['list', { kind: 'text' }],
      },
    ],
    restart: { policy: 'text' },
    update: {
      strategy: 'text',
      maxSurge: { kind: 'text' },
      maxUnavailable: { kind: 'text' },
      deadlineMs: ['optional', 'number'],
      keepOldMs: ['optional', 'number'],
      steps: ['optional', ['list', { weight: 'number', holdMs: 'number' }]],
    },
    constraints: ['map', 'text'],
  },
};

const MICROSERVICE: Shape<Microservice> = {
  project: 'text',
  name: 'text',
  generation: 'number',
  scale: 'number',
  release: RELEASE,
  settledRelease: ['optional', 'number'],
  releaseNumbers: ['list', 'number'],
  state: 'text',
  message: 'text',
  operation: 'text',
  createdAtMs: 'time',
  updatedAtMs: 'time',
};

const SHAPES: { readonly [K in DocumentKind]: Shape<Documents[K]> } = {
  microservices: MICROSERVICE,
  removed: MICROSERVICE,
  releases: RELEASE,
  operations: {
    project: 'text',
    name: 'text',
    id: 'text',
    kind: 'text',
    state: 'text',
    release: 'number',
    scale: 'number',
    message: 'text',
    plan: TEXTS,
    error: ['optional', { code: 'text', message: 'text', logTail: TEXTS }],
    by: ACTOR,
    createdAtMs: 'time',
    startedAtMs: ['optional', 'time'],
    endedAtMs: ['optional', 'time'],
  },
  replicas: {
    project: 'text',
    name: 'text',
    id: 'text',
    release: 'number',
    releasedAtMs: ['optional', 'time'],
    nodeId: 'text',
    operation: 'text',
    state: 'text',
    reason: ['optional', 'text'],
    containers: [
      'list',
      {
        name: 'text',
        containerId: 'text',
        image: 'text',
        imageId: 'text',
        running: 'boolean',
        restartCount: 'number',
        startedAtMs: ['optional', 'time'],
      },
    ],
    ports: [
      'list',
      {
        container: 'text',
        port: 'number',
        protocol: 'text',
        address: 'text',
        hostPort: 'number',
        serviceId: 'text',
        hostnames: TEXTS,
        publicPorts: ['optional', ['list', 'number']],
        proxyProtocol: ['optional', 'text'],
      },
    ],
    restartCount: 'number',
    cpusReserved: 'number',
    memoryReservedBytes: 'number',
    daemon: ['optional', 'boolean'],
    placedAtMs: ['optional', 'time'],
    createdAtMs: 'time',
    updatedAtMs: 'time',
  },
  nodes: {
    id: 'text',
    address: 'text',
    architecture: 'text',
    dockerVersion: 'text',
    containerosVersion: ['optional', 'text'],
    capacity: { cpus: 'number', memoryBytes: 'number', diskBytes: 'number' },
    cpuPercent: 'number',
    memoryAvailableBytes: 'number',
    diskFreeBytes: 'number',
    health: 'text',
    reasons: TEXTS,
    images: TEXTS,
    missingBuilds: ['optional', ['list', { image: 'text', available: TEXTS, seenAtMs: 'time' }]],
    engineLostAtMs: ['optional', 'time'],
    publicPortTroubles: ['optional', ['list', { port: 'number', protocol: 'text', reason: 'text' }]],
    labels: ['map', 'text'],
    updatedAtMs: 'time',
  },
  nodeSettings: { id: 'text', availability: 'text', setAtMs: 'time' },
  nodeStability: {
    id: 'text',
    up: 'boolean',
    changedAtMs: 'time',
    losses: 'number',
    firstLossAtMs: ['optional', 'time'],
    unstableUntilMs: ['optional', 'time'],
    lostWithAll: ['optional', { fromMs: 'time', untilMs: 'time', reportedAtMs: ['optional', 'time'] }],
  },
  hostnames: { project: 'text', name: 'text' },
  events: {
    atMs: 'time',
    nodeAtMs: ['optional', 'time'],
    level: 'text',
    type: 'text',
    message: 'text',
    project: ['optional', 'text'],
    microservice: ['optional', 'text'],
    operation: ['optional', 'text'],
    replica: ['optional', 'text'],
    node: ['optional', 'text'],
  },
  joinTokens: {
    id: 'text',
    secretHash: 'text',
    createdAtMs: 'time',
    expiresAtMs: 'time',
    usesLeft: 'number',
    revokedAtMs: ['optional', 'time'],
    usedBy: TEXTS,
  },
  identities: {
    nodeId: 'text',
    serial: 'text',
    previousSerial: ['optional', 'text'],
    publicKeyHash: 'text',
    joinedWith: 'text',
    issuedAtMs: 'time',
    expiresAtMs: 'time',
    revokedAtMs: ['optional', 'time'],
  },
  ingresses: {
    id: 'text',
    index: 'number',
    trafficIndex: ['optional', 'number'],
    maintenanceIndex: ['optional', 'number'],
    hostnamesIndex: ['optional', 'number'],
    routesIndex: ['optional', 'number'],
    publicPorts: ['optional', { index: 'number', trafficIndex: 'number', hostnamesIndex: 'number' }],
  },
  traffic: {
    project: 'text',
    name: 'text',
    operation: 'text',
    release: 'number',
    stage: 'number',
    isJudged: 'boolean',
    shares: ['list', { release: 'number', weight: 'number' }],
    writtenAtMs: 'time',
  },
  requestCounts: {
    id: 'text',
    splits: [
      'list',
      {
        operation: 'text',
        stage: 'number',
        releases: [
          'list',
          { release: 'number', requests: 'number', errors: 'number', latencies: ['list', 'number'] },
        ],
      },
    ],
  },
  webhooks: {
    id: 'text',
    microservice: { project: 'text', name: 'text' },
    name: 'text',
    secretHash: 'text',
    anyRepository: 'boolean',
    createdAtMs: 'time',
    rotatedAtMs: ['optional', 'time'],
    lastUse: [
      'optional',
      { atMs: 'time', result: 'text', image: ['optional', 'text'], operation: ['optional', 'text'] },
    ],
  },
  certificates: {
    hostname: 'text',
    hostnames: TEXTS,
    source: 'text',
    issuer: 'text',
    directory: ['optional', 'text'],
    notBeforeMs: 'time',
    notAfterMs: 'time',
    fingerprint: 'text',
    sealed: 'text',
    updatedAtMs: 'time',
  },
  authorities: { name: 'text', certificatePem: 'text', sealedKey: 'text', createdAtMs: 'time' },
  httpChallenges: { token: 'text', hostname: 'text', keyAuthorization: 'text', expiresAtMs: 'time' },
  certificateStatus: {
    hostname: 'text',
    state: 'text',
    message: 'text',
    renewAtMs: ['optional', 'time'],
    nextAttemptAtMs: ['optional', 'time'],
    failures: 'number',
    lastError: ['optional', { kind: 'text', message: 'text', atMs: 'time' }],
    updatedAtMs: 'time',
  },
  acmeAccounts: {
    id: 'text',
    directory: 'text',
    sealedKey: 'text',
    url: ['optional', 'text'],
    createdAtMs: 'time',
  },
  acmeOrders: {
    hostname: 'text',
    directory: 'text',
    url: 'text',
    sealedKey: 'text',
    tokens: TEXTS,
    txtValues: TEXTS,
    createdAtMs: 'time',
  },
  acmeLimits: { id: 'text', accountFullAtMs: 'time', domainsFullAtMs: ['map', 'time'] },
  routes: {
    project: 'text',
    name: 'text',
    releases: [
      'list',
      {
        number: 'number',
        createdAtMs: 'time',
        routes: [
          'list',
          {
            ...ROUTE,
            container: 'text',
            port: 'number',
          },
        ],
      },
    ],
  },
  maintenance: {
    project: 'text',
    name: 'text',
    text: 'text',
    retryAfterSeconds: 'number',
    allow: TEXTS,
    setAtMs: 'time',
  },
};

/** The last part of a key, where the document itself does not hold the rest. */
const lastOf = (key: string): string => key.slice(key.lastIndexOf('/') + 1);

/** Whether the document is the one that its key names; readers find it by both. */
const OWN_KEY: { readonly [K in DocumentKind]: (document: Documents[K], key: string) => boolean } = {
  microservices: (document, key) => microserviceKvKey(document) === key,
  releases: ({ number }, key) => String(number) === lastOf(key),
  operations: (document, key) => operationKvKey(document, document.id) === key,
  replicas: (document, key) => replicaKvKey(document, document.id) === key,
  nodes: ({ id }, key) => nodeKvKey(id) === key,
  nodeSettings: ({ id }, key) => nodeSettingsKvKey(id) === key,
  nodeStability: ({ id }, key) => nodeStabilityKvKey(id) === key,
  hostnames: () => true,
  removed: (document, key) => removedKvKey(document) === key,
  events: () => true,
  joinTokens: ({ id }, key) => joinTokenKvKey(id) === key,
  identities: ({ nodeId }, key) => identityKvKey(nodeId) === key,
  ingresses: ({ id }, key) => ingressKvKey(id) === key,
  webhooks: ({ id }, key) => webhookKvKey(id) === key,
  traffic: (document, key) => trafficKvKey(document) === key,
  requestCounts: ({ id }, key) => requestCountsKvKey(id) === key,
  certificates: ({ hostname }, key) => certificateKvKey(hostname) === key,
  authorities: ({ name }, key) => authorityKvKey(name) === key,
  httpChallenges: ({ token }, key) => httpChallengeKvKey(token) === key,
  certificateStatus: ({ hostname }, key) => certificateStatusKvKey(hostname) === key,
  acmeAccounts: ({ id }, key) => acmeAccountKvKey(id) === key,
  acmeOrders: ({ hostname }, key) => acmeOrderKvKey(hostname) === key,
  acmeLimits: ({ id }, key) => acmeLimitsKvKey(id) === key,
  routes: (document, key) => routesKvKey(document) === key,
  maintenance: (document, key) => maintenanceKvKey(document) === key,
};

export interface StoredText {
  readonly key: string;
  readonly text: string;
}

/** What is read, or why it cannot be, in words. */
export type Read<T> = { readonly document: T } | { readonly problem: string };

const parse = <K extends DocumentKind>(kind: K, { key, text }: StoredText): Read<Documents[K]> => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { problem: `it is not JSON (${(error as Error).message})` };
  }
  return checkDocument(kind, key, value);
};

/** Whether a value may stand under a key. */
export const checkDocument = <K extends DocumentKind>(
  kind: K,
  key: string,
  value: unknown,
): Read<Documents[K]> => {
  const problem = mismatch<Documents[K]>(value, SHAPES[kind]);
  if (problem !== undefined) return { problem };
  const document = value as Documents[K];
  return OWN_KEY[kind](document, key) ? { document } : { problem: 'it belongs under another key' };
};

/** The document, or undefined when it cannot be read. */
export type DocumentReader = <K extends DocumentKind>(
  kind: K,
  stored: StoredText,
) => Documents[K] | undefined;

/** @param tell called with what cannot be read, and why, in words: once, unless the reason changes */
export const createDocumentReader = (tell: (message: string) => void): DocumentReader => {
  const told = new Map<string, string>();
  return (kind, stored) => {
    const read = parse(kind, stored);
    if ('document' in read) {
      told.delete(stored.key);
      return read.document;
    }
    if (told.get(stored.key) !== read.problem) {
      told.set(stored.key, read.problem);
      tell(`${stored.key} in Consul cannot be read and is left out: ${read.problem}`);
    }
    return undefined;
  };
};

/** The kind of what stands under a key; undefined when nothing of ContainerOS does. */
export const kindOfKey = (key: string): DocumentKind | undefined =>
  (Object.keys(KV_PREFIX) as DocumentKind[]).find((kind) => key.startsWith(KV_PREFIX[kind]));
