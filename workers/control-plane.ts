/**
 * The control-plane worker: hosts the workflows, plans, publishes, and watches the cluster.
 *
 * Invariant: it holds nothing that is not in Temporal or Consul; any number of them may run.
 */

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';

import { Client } from '@temporalio/client';
import type { NativeConnection, WorkerOptions } from '@temporalio/worker';
import type { Logger } from 'pino';

import { createClusterActivities } from '../activities/cluster-activities';
import { createControlPlaneActivities } from '../activities/control-plane-activities';
import { createImagesAhead } from '../activities/images-ahead';
import { createClusterView } from '../adapters/consul/cluster-view';
import { createConsulClient } from '../adapters/consul/consul-client';
import { createConsulLeaseKeys } from '../adapters/consul/leases';
import { createKeyValueStore } from '../adapters/consul/kv-store';
import { createKvStore } from '../adapters/consul/watch-kv';
import { readMembers } from '../adapters/consul/watch-members';
import { CONTROL_PLANE_QUEUE } from '../contracts/queues';
import { CLUSTER_WORKFLOW_ID, WORKFLOW } from '../contracts/workflows';

import { createPublicCertificates } from './acme/public-certificates';
import { consulOf } from './cluster/head-files';
import { keepInternalCertificates } from './cluster/hostname-authority';
import { temporalAddressOf, type Config } from './config';
import { entitiesOf, pullsAheadBy } from './entities';
import type { Way } from '../domain/ingress/route-options';
import { createIngressConfirmation, indexBy } from './ingress-confirmation';
import { keepKvFolders } from './kv-folders';
import { createSnapshotReader } from './read-snapshot';
import { ensureSearchAttributes } from './search-attributes';
import { installTemporalRuntime, startTemporalWorker } from './temporal-worker';
import { createUploadedCertificates } from './uploaded-certificates';

export interface StoppableRole {
  stop(): Promise<void>;
}

/** Where the build puts the workflows' bundle; this file is dist/workers/control-plane.js then. */
const WORKFLOW_BUNDLE = join(__dirname, '..', 'workflow-bundle.js');

/**
 * Starts the control plane and returns at once; it connects when Temporal and Consul can be reached.
 *
 * @param onReady called when it begins or ceases to take work, with the reason
 */
export const startControlPlane = (
  config: Config,
  logger: Logger,
  onReady: (ready: boolean, reason?: string) => void,
): StoppableRole => {
  installTemporalRuntime(logger);
  const consul = createConsulClient(consulOf(config));
  const leftOut = (message: string) => logger.error(message);
  const store = createKeyValueStore(consulOf(config), leftOut);
  const view = createClusterView(
    consul,
    createKvStore(consul),
    (error) => logger.warn({ err: error }, 'Consul does not answer; trying again'),
    leftOut,
  );

  const randomSuffix = () => randomBytes(6).toString('hex');
  const kv = createKvStore(consul);
  const stopped = new AbortController();
  const confirmTraffic = (index: number, ways: readonly Way[]): Promise<readonly string[]> =>
    createIngressConfirmation(
      { kv, readMembers: () => readMembers(consul), logger },
      indexBy(ways, ({ trafficIndex = 0 }) => trafficIndex),
    )(index, stopped.signal);
  const controlPlane = createControlPlaneActivities({
    store,
    confirmTraffic,
    readSnapshot: createSnapshotReader({ store, view }),
    randomSuffix,
  });

  const folders = keepKvFolders({ kv, store, logger });
  const internalCertificates = keepInternalCertificates(config, { kv: createKvStore(consul), store, logger });
  internalCertificates.start();
  const uploadedCertificates = createUploadedCertificates({ kv, store, nowMs: Date.now, logger });
  uploadedCertificates.start();
  const publicCertificates = createPublicCertificates(config, {
    kv: createKvStore(consul),
    store,
    logger,
    randomSuffix,
  });

  const options = async (connection: NativeConnection): Promise<WorkerOptions> => {
    const client = new Client({ connection, namespace: config.temporalNamespace });
    await ensureSearchAttributes(connection, config.temporalNamespace);
    await client.workflow.start(WORKFLOW.cluster, {
      workflowId: CLUSTER_WORKFLOW_ID,
      taskQueue: CONTROL_PLANE_QUEUE,
      workflowIdConflictPolicy: 'USE_EXISTING',
      staticSummary: 'watch over the cluster',
    });
    const cluster = createClusterActivities({
      store,
      view,
      entities: entitiesOf(client),
      leases: createConsulLeaseKeys(consul),
      imagesAhead: createImagesAhead({ store, view, pullAhead: pullsAheadBy(client), nowMs: Date.now }),
      randomSuffix,
      warn: (message, error) => logger.warn({ err: error }, message),
    });
    publicCertificates.follow(client);
    return {
      connection,
      namespace: config.temporalNamespace,
      taskQueue: CONTROL_PLANE_QUEUE,
      workflowBundle: { codePath: WORKFLOW_BUNDLE },
      activities: { ...controlPlane, ...cluster, ...publicCertificates.activities },
      // Entities sleep nearly always; those that do not fit are replayed when they wake.
      maxCachedWorkflows: 250,
      // A worker that was killed leaves its workflows bound to its own queue for this long; the default is 10 s.
      stickyQueueScheduleToStartTimeout: '2 seconds',
      workflowThreadPoolSize: 1,
      maxConcurrentWorkflowTaskExecutions: 40,
      workflowTaskPollerBehavior: { type: 'simple-maximum', maximum: 4 },
      activityTaskPollerBehavior: { type: 'simple-maximum', maximum: 1 },
      // Each public hostname may wait for minutes in one, and the watch over the nodes is one of them.
      maxConcurrentActivityTaskExecutions: 5_000,
      maxHeartbeatThrottleInterval: '1 second',
      shutdownGraceTime: '2 seconds',
      shutdownForceTime: '5 seconds',
    };
  };

  const worker = startTemporalWorker({
    address: temporalAddressOf(config),
    logger,
    options,
    onPolling: (polling) =>
      onReady(polling, polling ? undefined : 'the control plane is not connected to Temporal'),
  });

  return {
    stop: async () => {
      await publicCertificates.stop();
      await worker.stop();
      internalCertificates.stop();
      folders.stop();
      uploadedCertificates.stop();
      stopped.abort();
      view.close();
      store.close();
      consul.close();
    },
  };
};
