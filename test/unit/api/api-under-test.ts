/**
 * The whole API on a free port, over a store in memory. Whatever a test does not give it throws when it is used.
 */

import { randomUUID } from 'node:crypto';

import pino from 'pino';
import { Registry } from 'prom-client';

import { createCertificateStore } from '../../../adapters/certificates/certificate-store';
import { checkMaterial } from '../../../adapters/certificates/check-material';
import { createSealer, generateClusterKey } from '../../../adapters/certificates/seal';
import type { ApiConfig } from '../../../api/api-deps';
import type { RetryCertificate } from '../../../api/certificate-retry';
import type { Changes } from '../../../api/changes';
import { createApp } from '../../../api/create-app';
import { createExecLog } from '../../../api/exec-log';
import { createMaintenanceWriter, type MaintenanceDeps } from '../../../api/maintenance';
import { createNodeSettingsWriter } from '../../../api/node-settings';
import { createNodeStreams, type NodeStreams } from '../../../api/node-streams';
import { createOperations } from '../../../api/operations';
import { createReadModel, type ReadModel, type ReadModelDeps } from '../../../api/read-model';
import { createNodeRemover } from '../../../api/remove-node';
import { createRouteConfirmation, type RouteConfirmationDeps } from '../../../api/route-confirmation';
import { startApiServer } from '../../../api/server';
import type { KeyValueStore } from '../../../contracts/key-value-store';
import type { HostnameAuthority } from '../../../contracts/hostname-authority';
import {
  authorityKvKey,
  eventKvKey,
  microserviceKvKey,
  nodeKvKey,
  operationKvKey,
  releaseKvKey,
  replicaKvKey,
} from '../../../contracts/kv';
import type { Membership } from '../../../contracts/membership';
import { parseOperationId } from '../../../contracts/workflows';
import { authorityFor } from '../../../domain/ingress/authority-for';
import type { ClusterEvent, Microservice, ObservedReplica, Operation } from '../../../domain/model';
import { createMemoryStore, type MemoryStore } from '../../support/memory-store';
import { NOW_MS, buildNode, buildRelease } from '../../support/builders';
import { httpRequest, type HttpAnswer, type HttpOptions } from '../../support/http';

import { createFakeKv, type FakeKv } from './fake-kv';

export const PASSWORD = 'right-password';
export const TOKEN = 'node-token';

export interface ApiUnderTest {
  readonly url: string;
  readonly port: number;
  readonly kv: FakeKv;
  /** Where join tokens and certificates are. */
  readonly store: MemoryStore;
  readonly members: FakeMembers;
  readonly readModel: ReadModel;
  readonly nodeStreams: NodeStreams;
  /** Lines that were logged. */
  readonly logged: readonly string[];
  readonly closing: AbortController;
  /** As JSON, with the password, unless told otherwise. */
  call(method: string, path: string, options?: CallOptions): Promise<HttpAnswer>;
  close(): Promise<void>;
}

/** The membership of a cluster whose nodes are all there until they are lost. */
export interface FakeMembers {
  readonly watch: ReadModelDeps['watchMembers'];
  lose(nodeId: string): void;
}

export const createFakeMembers = (): FakeMembers => {
  const members = new Map(['node-1', 'node-2', 'node-3'].map((id) => [id, true]));
  const tells = new Set<() => void>();
  return {
    watch: (handlers) => {
      const tell = () => handlers.changed(new Map(members));
      tells.add(tell);
      setImmediate(tell);
      return { close: () => tells.delete(tell) };
    },
    lose: (nodeId) => {
      members.set(nodeId, false);
      for (const tell of tells) tell();
    },
  };
};

export interface CallOptions extends HttpOptions {
  readonly body?: unknown;
  readonly password?: string | null;
}

const notFaked = (what: string) => (): never => {
  throw new Error(`not faked: ${what}`);
};

export const fakeChanges = (given: Partial<Changes> = {}): Changes => ({
  apply: notFaked('apply'),
  scale: notFaked('scale'),
  rollback: notFaked('rollback'),
  restart: notFaked('restart'),
  redeploy: notFaked('redeploy'),
  steer: notFaked('steer'),
  remove: notFaked('remove'),
  preview: notFaked('preview'),
  ...given,
});

/** What the API writes itself goes where the read model reads. */
const storeOf = (kv: FakeKv): KeyValueStore => ({
  get: async <T>(key: string) => {
    const { document } = await kv.get(key);
    return document && { key, value: JSON.parse(document.text) as T, index: document.index };
  },
  list: async <T>(prefix: string) => {
    const { documents } = await kv.list(prefix);
    return documents.map(({ key, text, index }) => ({ key, value: JSON.parse(text) as T, index }));
  },
  transact: async (operations) => {
    const sets: Record<string, unknown> = {};
    const deletes: string[] = [];
    for (const one of operations) {
      if (one.kind === 'unchanged') {
        if ((await kv.get(one.key)).document?.index !== one.index) return { kind: 'conflict', key: one.key };
      } else if (one.kind === 'delete') deletes.push(one.key);
      else if (one.kind === 'create') {
        if ((await kv.get(one.key)).document !== undefined) return { kind: 'conflict', key: one.key };
        sets[one.key] = one.value;
      } else if (one.kind === 'set' || one.kind === 'replace') sets[one.key] = one.value;
      else notFaked(one.kind)();
    }
    const deletedAt = deletes.length === 0 ? 0 : kv.delete(...deletes);
    return { kind: 'written', index: Object.keys(sets).length === 0 ? deletedAt : kv.put(sets) };
  },
  close: () => undefined,
});

export interface ApiUnderTestOptions {
  readonly changes?: Partial<Changes> | ((kv: FakeKv) => Partial<Changes>);
  readonly config?: Partial<ApiConfig>;
  readonly notReady?: () => Promise<readonly string[]>;
  readonly nowMs?: () => number;
  readonly kv?: FakeKv;
  /** What Consul does when a node is taken out of the membership; `node-1` runs the control plane. */
  readonly removeMember?: Membership['removeNode'];
  readonly retryCertificate?: RetryCertificate;
  /** Which nodes do not go by maintenance in time; left out: all do. */
  readonly confirmed?: MaintenanceDeps['confirmed'];
  /** The same of routes. */
  readonly confirmedRoutes?: RouteConfirmationDeps['confirmed'];
  readonly port?: number;
  /** Undefined: no other machine can reach this one. */
  readonly clusterAddress?: string;
}

/** Of the ContainerOS that answers. */
export const VERSION = '1.2.3';

export const startApi = async (options: ApiUnderTestOptions = {}): Promise<ApiUnderTest> => {
  const logged: string[] = [];
  const log = pino({ level: 'debug' }, { write: (line: string) => logged.push(line) });
  const nowMs = options.nowMs ?? Date.now;
  const kv = options.kv ?? createFakeKv();
  const members = createFakeMembers();
  const readModel = createReadModel({
    kv,
    watchMembers: members.watch,
    log,
    nowMs: Date.now,
    version: VERSION,
  });
  await readModel.whenLoaded(1_000);
  const changes = typeof options.changes === 'function' ? options.changes(kv) : options.changes;
  const nodeStreams = createNodeStreams();
  const store = createMemoryStore();
  const closing = new AbortController();
  const app = createApp({
    config: {
      version: VERSION,
      password: PASSWORD,
      internalToken: TOKEN,
      allowedHosts: ['api.example.com'],
      allowHostAccess: false,
      webUiUrl: 'http://127.0.0.1:8233',
      temporalNamespace: 'default',
      ...options.config,
    },
    readModel,
    operations: createOperations({ kv, readModel, log }),
    changes: fakeChanges(changes),
    store: storeOf(kv),
    nodeStreams,
    execLog: createExecLog({ store: storeOf(kv), randomSuffix: randomUUID, nowMs, log }),
    joining: {
      store,
      clusterAddress: options.clusterAddress,
      authorityFingerprint: 'a'.repeat(64),
    },
    nodeSettings: createNodeSettingsWriter({ store: storeOf(kv), randomSuffix: randomUUID, nowMs }),
    maintenance: createMaintenanceWriter({
      store: storeOf(kv),
      confirmed: options.confirmed ?? (async () => []),
      randomSuffix: randomUUID,
      nowMs,
    }),
    routesConfirmed: createRouteConfirmation({
      readModel,
      store: storeOf(kv),
      confirmed: options.confirmedRoutes ?? {
        hostnames: async () => [],
        publicPorts: async () => [],
        routes: async () => [],
      },
      log,
    }),
    nodeRemover: createNodeRemover({
      store: storeOf(kv),
      membership: { removeNode: options.removeMember ?? notFaked('removeNode') },
      headNodeId: 'node-1',
      randomSuffix: randomUUID,
      nowMs,
    }),
    certificates: {
      store: createCertificateStore({
        store,
        sealer: createSealer(generateClusterKey()),
        nowMs,
        onUnreadable: notFaked('certificates that cannot be opened'),
      }),
      check: checkMaterial,
      rootPem: async () =>
        (await store.get<HostnameAuthority>(authorityKvKey('hostnames')))?.value?.certificatePem,
      isPublic: (hostname) => authorityFor(hostname) === 'public',
      willBeIssued: (hostname) => authorityFor(hostname) === 'internal',
      retry: options.retryCertificate ?? notFaked('retry of a certificate'),
    },
    notReady: options.notReady ?? (async () => []),
    log,
    metrics: new Registry(),
    nowMs,
    closing: closing.signal,
  });
  const server = await startApiServer(app, { host: '127.0.0.1', port: options.port ?? 0 });
  return {
    url: server.url,
    port: server.port,
    kv,
    store,
    members,
    readModel,
    nodeStreams,
    logged,
    closing,
    call: (method, path, { body, password = PASSWORD, headers, ...rest } = {}) =>
      httpRequest(`${server.url}${path}`, {
        ...rest,
        method,
        headers: {
          ...(password === null ? {} : { authorization: `Bearer ${password}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      }),
    close: async () => {
      closing.abort();
      readModel.close();
      await server.close(100);
    },
  };
};

/** Runs an API for the tests of a block. */
export const useApi = (options: ApiUnderTestOptions = {}): { readonly api: ApiUnderTest } => {
  let api: ApiUnderTest | undefined;
  beforeEach(async () => {
    api = await startApi(options);
  });
  afterEach(() => api?.close());
  return {
    get api() {
      if (!api) throw new Error('no test is running');
      return api;
    },
  };
};

// ---- documents, as entities and nodes publish them ----

export const buildMicroservice = (name: string, overrides: Partial<Microservice> = {}): Microservice => ({
  project: 'default',
  name,
  generation: 1,
  scale: 2,
  release: buildRelease(1),
  releaseNumbers: [1],
  state: 'steady',
  message: '',
  operation: `deploy.default.${name.toLowerCase()}.aaaaaaaa`,
  createdAtMs: NOW_MS,
  updatedAtMs: NOW_MS,
  ...overrides,
});

export const buildOperation = (id: string, overrides: Partial<Operation> = {}): Operation => {
  const parsed = parseOperationId(id);
  if (!parsed) throw new Error(`${id} is no operation id`);
  return {
    ...parsed,
    id,
    state: 'queued',
    release: 1,
    scale: 2,
    message: '',
    plan: [],
    createdAtMs: NOW_MS,
    ...overrides,
  };
};

export const microserviceDocuments = (microservice: Microservice): Record<string, unknown> => ({
  [microserviceKvKey(microservice)]: microservice,
  [releaseKvKey(microservice, microservice.release.number)]: microservice.release,
});

export const operationDocument = (operation: Operation): Record<string, unknown> => ({
  [operationKvKey(operation, operation.id)]: operation,
});

export const replicaDocument = (replica: ObservedReplica): Record<string, unknown> => ({
  [replicaKvKey(replica, replica.id)]: replica,
});

export const nodeDocument = (id: string): Record<string, unknown> => {
  const {
    up: _up,
    cpusReserved: _cpus,
    memoryReservedBytes: _memory,
    replicaCount: _count,
    availability: _availability,
    microservices: _microservices,
    hostPorts: _hostPorts,
    movableReplicas: _movable,
    ...node
  } = buildNode(id);
  return { [nodeKvKey(id)]: node };
};

export const eventDocument = (
  atMs: number,
  suffix: string,
  event: Partial<ClusterEvent> = {},
): Record<string, unknown> => ({
  [eventKvKey(atMs, suffix)]: { atMs, level: 'info', type: 'test.happened', message: suffix, ...event },
});
