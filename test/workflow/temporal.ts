/**
 * A real Temporal server with the workers of a fake cluster for each project, so that tests share a server and
 * nothing else.
 *
 * Invariants: a project knows only its own cluster; when a project is closed, its entities are terminated.
 */

import { Client } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import pino from 'pino';

import type { Changes } from '../../api/changes';
import { createTemporalChanges } from '../../api/temporal-changes';
import type { ClusterActivities, ControlPlaneActivities, NodeActivities } from '../../contracts/activities';
import type { CertificateActivities } from '../../contracts/certificate-workflow';
import { CONTROL_PLANE_QUEUE, nodeQueue } from '../../contracts/queues';
import { ensureSearchAttributes } from '../../workers/search-attributes';
import { createFakeCluster, waitWhile, type FakeCluster } from '../support/fake-cluster';
import { eventually } from '../support/wait';

import { temporalBinary } from './temporal-binary';
import { workflowBundle } from './workflow-bundle';

/** Nodes with a worker; any other node of a cluster is silent. */
export const NODE_IDS = ['a', 'b', 'c'] as const;

export interface Project {
  readonly name: string;
  readonly cluster: FakeCluster;
  readonly changes: Changes;
  readonly client: Client;
  close(): Promise<void>;
}

export interface Temporal {
  readonly client: Client;
  /** Address of the server. */
  readonly address: string;
  /** A project with a fake cluster of its own, whose nodes are NODE_IDS. */
  openProject(): Project;
  close(): Promise<void>;
}

export interface TemporalOptions {
  /** Events after which the server suggests to continue as new. */
  readonly suggestContinueAsNewAfter?: number;
  /** Real time limits instead of short ones: for histories that are kept. */
  readonly realTimeouts?: boolean;
  /** What workers and client call themselves; left out, it tells of the machine. */
  readonly identity?: string;
  /** What workflows of certificates ask; they belong to no project. */
  readonly certificates?: CertificateActivities;
  /** How many workflows a worker remembers; 0: each task replays all of the history. */
  readonly maxCachedWorkflows?: number;
}

const SETTINGS = {
  'history.transferProcessorMaxPollRPS': 1000,
  'history.timerProcessorMaxPollRPS': 1000,
  'history.visibilityProcessorMaxPollRPS': 1000,
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
};

const NAMESPACE = 'default';

const startServer = (options: TemporalOptions) => {
  const settings = {
    ...SETTINGS,
    ...(options.suggestContinueAsNewAfter === undefined
      ? {}
      : { 'limit.historyCount.suggestContinueAsNew': options.suggestContinueAsNewAfter }),
  };
  return TestWorkflowEnvironment.createLocal({
    ...(options.identity === undefined ? {} : { client: { identity: options.identity } }),
    server: {
      executable: { type: 'existing-path', path: temporalBinary() },
      ip: '127.0.0.1',
      namespace: NAMESPACE,
      log: { format: 'pretty', level: 'never' },
      extraArgs: Object.entries(settings).flatMap(([key, value]) => [
        '--dynamic-config-value',
        `${key}=${value}`,
      ]),
    },
  });
};

const keyOf = (input: unknown): string => {
  const { project } = input as { readonly project: string };
  return project;
};

/** Hands each call to the activities of its project. */
const createDispatchers = (clusters: ReadonlyMap<string, FakeCluster>) => {
  const find = (project: string): FakeCluster => {
    const cluster = clusters.get(project);
    if (!cluster) throw ApplicationFailure.nonRetryable(`the project ${project} is closed`);
    return cluster;
  };
  const plane = (project: string) => find(project).controlPlane;
  const controlPlane: ControlPlaneActivities = {
    planOperation: (input) => plane(keyOf(input.request.desired)).planOperation(input),
    previewPlan: (request) => plane(keyOf(request.desired)).previewPlan(request),
    findImageSources: (request) => plane(keyOf(request.desired)).findImageSources(request),
    publishMicroservice: (input) => plane(keyOf(input.microservice)).publishMicroservice(input),
    publishTraffic: (input) => plane(keyOf(input)).publishTraffic(input),
    readTraffic: (input) => plane(keyOf(input)).readTraffic(input),
    clearTraffic: (input) => plane(keyOf(input)).clearTraffic(input),
    judgeTraffic: (input) => plane(keyOf(input)).judgeTraffic(input),
    forgetMicroservice: (input) => plane(keyOf(input)).forgetMicroservice(input),
    claimHostnames: (input) => plane(keyOf(input)).claimHostnames(input),
    moveHostnames: (input) => plane(keyOf(input)).moveHostnames(input),
    releaseHostnames: (input) => plane(keyOf(input)).releaseHostnames(input),
  };
  const node: NodeActivities = {
    resolveImages: (input) => find(keyOf(input)).nodeActivities.resolveImages(input),
    pullImages: (input) => find(keyOf(input)).nodeActivities.pullImages(input),
    // It belongs to no project: what is tried of it is tried in one that is alone.
    pullAhead: (input) => {
      const [cluster, ...others] = clusters.values();
      if (!cluster || others.length > 0) throw new Error('which cluster the node is of cannot be told');
      return cluster.nodeActivities.pullAhead(input);
    },
    startReplicas: (input) => find(keyOf(input)).nodeActivities.startReplicas(input),
    stopReplicas: (input) => find(keyOf(input.replicas[0])).nodeActivities.stopReplicas(input),
  };
  return { controlPlane, node };
};

/** A watch that sees nothing; the first one ends at once, to be begun anew. */
const createQuietWatch = (): ClusterActivities => {
  let watches = 0;
  return {
    recoverEntities: async () => ({ recovered: [] }),
    watchCluster: async () => {
      watches += 1;
      if (watches > 1) await waitWhile(new Promise(() => undefined));
    },
  };
};

const installRuntime = () => {
  // Refusals and outages are what these tests are about: their warnings would bury what matters.
  Runtime.install({
    logger: new DefaultLogger('ERROR'),
    telemetryOptions: { logging: { filter: 'ERROR', forward: {} } },
    shutdownSignals: [],
  });
};

let projects = 0;

export const startTemporal = async (options: TemporalOptions = {}): Promise<Temporal> => {
  installRuntime();
  const [environment, codePath] = await Promise.all([
    startServer(options),
    workflowBundle({ shortTimeouts: options.realTimeouts !== true }),
  ]);
  const { client, nativeConnection: connection } = environment;
  await ensureSearchAttributes(environment.connection, NAMESPACE);

  const identity = options.identity === undefined ? {} : { identity: options.identity };
  const clusters = new Map<string, FakeCluster>();
  const { controlPlane, node } = createDispatchers(clusters);
  const workers = await Promise.all([
    Worker.create({
      connection,
      namespace: NAMESPACE,
      taskQueue: CONTROL_PLANE_QUEUE,
      ...identity,
      workflowBundle: { codePath },
      activities: { ...controlPlane, ...createQuietWatch(), ...options.certificates },
      workflowThreadPoolSize: 1,
      maxHeartbeatThrottleInterval: '50ms',
      defaultHeartbeatThrottleInterval: '50ms',
      ...(options.maxCachedWorkflows === undefined ? {} : { maxCachedWorkflows: options.maxCachedWorkflows }),
    }),
    ...NODE_IDS.map((id) =>
      Worker.create({
        connection,
        namespace: NAMESPACE,
        taskQueue: nodeQueue(id),
        ...identity,
        activities: { ...node },
        maxHeartbeatThrottleInterval: '50ms',
        defaultHeartbeatThrottleInterval: '50ms',
      }),
    ),
  ]);
  const running = Promise.all(workers.map((worker) => worker.run()));

  const terminateAll = (project: string) =>
    eventually(
      async () => {
        const open: string[] = [];
        const query = `ContainerosProject = '${project}' AND ExecutionStatus = 'Running'`;
        for await (const { workflowId } of client.workflow.list({ query })) open.push(workflowId);
        await Promise.all(
          open.map((id) =>
            client.workflow
              .getHandle(id)
              .terminate()
              .catch(() => undefined),
          ),
        );
        if (open.length > 0) throw new Error(`${open.join(', ')} still run`);
      },
      { intervalMs: 20 },
    );

  return {
    client,
    address: environment.address,
    openProject: () => {
      projects += 1;
      const name = `p${projects}`;
      const cluster = createFakeCluster(NODE_IDS);
      clusters.set(name, cluster);
      return {
        name,
        cluster,
        client,
        changes: createTemporalChanges({ client, log: pino({ level: 'silent' }) }),
        close: async () => {
          await terminateAll(name);
          for (const { id } of cluster.view.nodes()) cluster.revive(id);
          clusters.delete(name);
        },
      };
    },
    close: async () => {
      for (const worker of workers) worker.shutdown();
      await running;
      await environment.teardown();
    },
  };
};

/** Runs a server for the tests of a file, and a fresh project for each of them. */
export const useTemporal = (
  options: TemporalOptions = {},
): { readonly temporal: Temporal; readonly project: Project } => {
  // Waits have limits of their own, which say what was waited for.
  jest.setTimeout(30_000);
  let temporal: Temporal | undefined;
  let project: Project | undefined;
  beforeAll(async () => {
    temporal = await startTemporal(options);
  }, 120_000);
  beforeEach(() => {
    project = temporal?.openProject();
  });
  afterEach(() => project?.close());
  afterAll(() => temporal?.close());
  return {
    get temporal() {
      if (!temporal) throw new Error('the server is not started yet');
      return temporal;
    },
    get project() {
      if (!project) throw new Error('no test is running');
      return project;
    },
  };
};
