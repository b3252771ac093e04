// A node for tests: a machine with a real Docker Engine and a real Consul server, and the node's parts in the test's
// own process. Its containers' own addresses are routed to the test, as they are on the node itself.
import { type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { MockActivityEnvironment } from '@temporalio/testing';
import { pino } from 'pino';

import {
  createConsulClient,
  kvText,
  type ConsulClient,
  type ConsulKvEntry,
} from '../../adapters/consul/consul-client';
import type { AgentService, NodeCheck } from '../../adapters/consul/consul-agent';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createServiceCatalogue } from '../../adapters/consul/service-catalogue';
import { createNodeLiveness } from '../../api/cluster-port/node-liveness';
import type { NodeActivities, StartOutcome, StartReplica, StopOutcome } from '../../contracts/activities';
import { KV_PREFIX, replicaKvKey } from '../../contracts/kv';
import type { ClusterEvent, ObservedReplica } from '../../domain/model';
import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { GOSSIP_PROFILE } from '../../workers/up/consul-settings';
import { createNode, type Node } from '../../workers/node/node';
import type { NodeConfig } from '../../workers/node/node-config';
import { buildRelease } from '../support/builders';
import { startDockerEngine, type DockerEngine, type DockerEngineOptions } from '../support/engine';
import { projectRoot, runCommand } from '../support/process';
import { engineVariables } from '../support/programs';
import { eventually } from '../support/wait';
import { useWorld } from '../support/world';
import { CLUSTER_ID, startTestPort, type TestPort } from './cluster-port';

export interface NodeMachineOptions extends DockerEngineOptions {
  /**
   * As one that has joined: its services go through a cluster port, and its Consul agent may write nothing about it.
   * Left out: it registers them at its agent.
   */
  readonly isJoined?: boolean;
  /** The machine whose Consul server this one's agent joins; left out: it has a server of its own. */
  readonly joins?: NodeMachine;
}

export interface NodeMachine {
  readonly engine: DockerEngine;
  readonly consul: ConsulClient;
  readonly consulProcess: ConsulProcess;
  readonly config: NodeConfig;
  /** Of a node that has joined. */
  readonly port?: TestPort;
  readonly node: Node;
  readonly activities: NodeActivities;
  /** The node worker ends without any farewell, and another one begins. */
  restartNode(options?: {
    readonly between?: () => Promise<void>;
    readonly config?: Partial<NodeConfig>;
  }): Promise<void>;
  document(replica: StartReplica): Promise<ObservedReplica | undefined>;
  services(): Promise<readonly AgentService[]>;
  checks(): Promise<readonly NodeCheck[]>;
  events(): Promise<readonly ClusterEvent[]>;
  dispose(): Promise<void>;
}

export interface ConsulProcess {
  stop(): Promise<void>;
  start(): Promise<void>;
  wipe(): Promise<void>;
}

const CONTAINER_SUBNETS = 16;
let machines = 0;

export const startNodeMachine = async ({
  isJoined = false,
  joins,
  ...options
}: NodeMachineOptions = {}): Promise<NodeMachine> => {
  let engine: DockerEngine | undefined;
  let node: Node | undefined;
  let head: Head | undefined;
  try {
    const bridge = containerSubnet();
    engine = await startDockerEngine({
      ...options,
      daemonConfig: { ...options.daemonConfig, bip: await bridge.bip() },
    });
    await runCommand('ip', ['route', 'replace', await bridge.subnet(), 'via', engine.address]);
    const consulProcess = await startConsul(engine, {
      ...(isJoined ? WITHOUT_RIGHTS : {}),
      ...(joins === undefined
        ? ALONE
        : { server: false, retry_join: [joins.engine.address], retry_interval: '1s' }),
    });
    const consulUrl = `http://${engine.address}:8500`;
    if (isJoined) head = await startHead(consulUrl);
    const config: NodeConfig = {
      nodeId: engine.hostname,
      clusterId: `test-${engine.name}`,
      dockerSocketPath: engine.socketPath,
      consulUrl,
      temporalAddress: '127.0.0.1:1',
      namespace: 'default',
      advertiseAddress: engine.address,
      hostPortRange: { first: 20_000, last: 29_999 },
      apiUrl: 'http://127.0.0.1:1',
      internalToken: 'test',
      dataDir: engine.folder,
      ...head?.configOf(engine.hostname),
      leaseGuardProgram: join(projectRoot(), 'dist', 'workers', 'node', 'lease-guard.js'),
    };
    const consul = createConsulClient({ address: consulUrl });
    const begin = (changed: Partial<NodeConfig> = {}): Node => {
      const made = createNode(
        { ...config, ...changed },
        pino({ level: process.env['TEST_LOG_LEVEL'] ?? 'silent' }),
        () => undefined,
      );
      made.start();
      return made;
    };
    node = begin();
    const running = engine;
    return {
      engine,
      consul,
      consulProcess,
      config,
      ...(head === undefined ? {} : { port: head.port }),
      get node() {
        return node as Node;
      },
      get activities() {
        return inActivity((node as Node).activities);
      },
      restartNode: async ({ between, config: changed } = {}) => {
        node?.stop();
        await between?.();
        node = begin(changed);
      },
      document: async (replica) => {
        const { status, body } = await consul.request<ConsulKvEntry[]>({
          path: `/kv/${replicaKvKey(replica, replica.replicaId)}`,
        });
        const entry = status === 404 ? undefined : body[0];
        return entry === undefined ? undefined : (JSON.parse(kvText(entry)) as ObservedReplica);
      },
      services: async () => {
        const filter = '"replica" in Meta';
        if (isJoined) {
          const { body } = await consul.request<{ readonly Services: readonly AgentService[] | null }>({
            path: `/catalog/node-services/${running.hostname}`,
            query: { filter },
          });
          return body.Services ?? [];
        }
        const { body } = await consul.request<Record<string, AgentService>>({
          path: '/agent/services',
          query: { filter },
        });
        return Object.values(body);
      },
      checks: async () => {
        const { body } = await consul.request<NodeCheck[]>({ path: `/health/node/${running.hostname}` });
        return body;
      },
      events: async () => {
        const { status, body } = await consul.request<ConsulKvEntry[]>({
          path: `/kv/${KV_PREFIX.events}`,
          query: { recurse: true },
        });
        return status === 404 ? [] : body.map((entry) => JSON.parse(kvText(entry)) as ClusterEvent);
      },
      dispose: async () => {
        node?.stop();
        consul.close();
        await head?.close();
        await consulProcess.stop();
        await running.dispose();
      },
    };
  } catch (error) {
    node?.stop();
    await head?.close();
    await engine?.dispose();
    throw error;
  }
};

/** A token that nobody made: the agent can write nothing about its node, and everybody else everything. */
const WITHOUT_RIGHTS = {
  acl: {
    enabled: true,
    default_policy: 'allow',
    tokens: { agent: '22222222-3333-4444-5555-666666666666' },
  },
};

/** What of a head node a node that has joined talks to. */
interface Head {
  readonly port: TestPort;
  configOf(nodeId: string): Required<Pick<NodeConfig, 'clusterId' | 'apiUrl' | 'credentials'>>;
  close(): Promise<void>;
}

const startHead = async (consulUrl: string): Promise<Head> => {
  const consul = createConsulClient({ address: consulUrl });
  const store = createKeyValueStore({ address: consulUrl }, () => undefined);
  const catalogue = createServiceCatalogue(consul);
  const liveness = createNodeLiveness({ catalogue, log: pino({ level: 'silent' }) });
  const port = await startTestPort({ consul: { store, catalogue, liveness } });
  liveness.start();
  return {
    port,
    configOf: (nodeId) => ({
      clusterId: CLUSTER_ID,
      apiUrl: `https://${port.port.address}`,
      credentials: () => ({
        ...port.certificateOf(nodeId),
        authorityPem: port.authority.certificatePem,
      }),
    }),
    close: async () => {
      liveness.stop();
      await port.close();
      store.close();
      consul.close();
    },
  };
};

/** Activities as Temporal runs them, each call in an activity context of its own. */
export const inActivity = (activities: NodeActivities): NodeActivities => ({
  pullAhead: (input) => new MockActivityEnvironment().run(() => activities.pullAhead(input)),
  resolveImages: (input) => new MockActivityEnvironment().run(() => activities.resolveImages(input)),
  pullImages: (input) => new MockActivityEnvironment().run(() => activities.pullImages(input)),
  startReplicas: (input) => new MockActivityEnvironment().run(() => activities.startReplicas(input)),
  stopReplicas: (input) => new MockActivityEnvironment().run(() => activities.stopReplicas(input)),
});

let replicas = 0;

/** A replica to start. */
export const buildStart = (
  raw: Partial<RawMicroserviceSpec> = {},
  overrides: Partial<StartReplica> = {},
): StartReplica => {
  replicas += 1;
  const name = raw.name ?? 'web';
  return {
    project: 'default',
    name,
    replicaId: `${name}-${replicas.toString(36).padStart(4, '0')}`,
    release: buildRelease(1, raw),
    operation: `deploy.default.${name}.test`,
    ...overrides,
  };
};

export const startOne = async (machine: NodeMachine, replica: StartReplica): Promise<StartOutcome> => {
  const { release, replicaId, ...asked } = replica;
  const outcomes = await machine.activities.startReplicas({
    ...asked,
    nodeId: machine.config.nodeId,
    releases: [release],
    replicas: [{ replicaId, release: release.number }],
  });
  return outcomes[0] as StartOutcome;
};

export const stopOne = async (machine: NodeMachine, replica: StartReplica): Promise<StopOutcome> => {
  const outcomes = await machine.activities.stopReplicas({
    nodeId: machine.config.nodeId,
    replicas: [{ ...replica, reason: 'scaled_down' }],
  });
  return outcomes[0] as StopOutcome;
};

/** Containers get a subnet of their own on each machine, so that they can be told apart from out here. */
const containerSubnet = () => {
  machines += 1;
  const number = async (): Promise<string> => {
    const world = await useWorld();
    const [, second = 0, third = 0] = world.subnet.split('.').map(Number);
    await world.release();
    const index = ((second - 210) * 256 + third) * CONTAINER_SUBNETS + (machines % CONTAINER_SUBNETS);
    return `100.${64 + (index >> 8)}.${index & 255}`;
  };
  const prefix = number();
  return {
    bip: async () => `${await prefix}.1/24`,
    subnet: async () => `${await prefix}.0/24`,
  };
};

const ALONE = { server: true, bootstrap_expect: 1 };

const startConsul = async (engine: DockerEngine, more: object): Promise<ConsulProcess> => {
  const dataDir = join(engine.folder, 'data', 'consul');
  const configFile = join(engine.folder, 'consul.json');
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(
    configFile,
    JSON.stringify({
      gossip_lan: GOSSIP_PROFILE.lan,
      node_name: engine.hostname,
      data_dir: dataDir,
      bind_addr: engine.address,
      client_addr: '0.0.0.0',
      ports: { serf_wan: -1, dns: -1, grpc: -1, grpc_tls: -1 },
      connect: { enabled: false },
      log_level: 'WARN',
      disable_update_check: true,
      performance: { raft_multiplier: 1 },
      limits: { http_max_conns_per_client: 4096 },
      ...more,
    }),
  );
  let process_: ChildProcess | undefined;
  const client = createConsulClient({ address: `http://${engine.address}:8500` });
  const start = async (): Promise<void> => {
    process_ = engine.spawn(
      [engineVariables()['CONTAINEROS_CONSUL_BIN'] ?? 'consul', 'agent', `-config-file=${configFile}`],
      {
        cwd: '/',
        stdio: 'ignore',
      },
    );
    process_.unref();
    await eventually(
      async () => {
        const { body } = await client.request<string>({ path: '/status/leader' });
        if (body === '') throw new Error('no leader');
        // The leader has registered the node when its health can be read.
        const health = await client.request<NodeCheck[]>({ path: `/health/node/${engine.hostname}` });
        if (health.body.length === 0) throw new Error('the node is not in the catalogue yet');
      },
      { describe: 'Consul leads', intervalMs: 20 },
    );
  };
  const stop = async (): Promise<void> => {
    const child = process_;
    process_ = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    const pid = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim());
    process.kill(pid, 'SIGKILL');
    await gone;
  };
  await start();
  return {
    start,
    stop,
    wipe: async () => {
      await runCommand('rm', ['-rf', dataDir]);
      mkdirSync(dataDir, { recursive: true });
    },
  };
};
