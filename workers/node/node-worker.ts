/**
 * The node worker: wires Docker, Consul and Temporal for one node.
 *
 * Invariants: it starts and goes on whichever of the three is away, and takes up again what comes back; stopping it
 * leaves the users' containers and their registrations as they are.
 */

import { join } from 'node:path';

import Docker from 'dockerode';
import type { Logger } from 'pino';

import { createNodeActivities } from '../../activities/node-activities';
import { createConsulAgent } from '../../adapters/consul/consul-agent';
import { createConsulClient } from '../../adapters/consul/consul-client';
import { createDocumentWriter } from '../../adapters/consul/document-writer';
import { createReplicaRegistry } from '../../adapters/consul/replica-registry';
import { createEngineEvents } from '../../adapters/docker/engine-events';
import { createHostPortChooser, isListeningOn } from '../../adapters/docker/host-ports';
import { createImagePuller } from '../../adapters/docker/image-puller';
import { createLimiter } from '../../adapters/docker/limiter';
import { createReplicaContainers } from '../../adapters/docker/replica-containers';
import { createReplicaLocks } from '../../adapters/docker/replica-locks';
import { createHostStatsReader } from '../../adapters/host/host-stats';
import { nodeQueue } from '../../contracts/queues';
import { installTemporalRuntime, startTemporalWorker } from '../temporal-worker';
import { createEngineKeeper } from './engine-keeper';
import { createEventLog } from './event-log';
import type { NodeConfig } from './node-config';
import type { NodeMemory } from './node-memory';
import { createNodePublisher } from './node-publisher';
import { createReplicaRunner } from './replica-runner';

/** More at once only make each other slower: the engine works through them one by one in its heart. */
const ENGINE_CONCURRENCY = 4;
/** So that a cancellation arrives soon: the server's answer to a heartbeat carries it. */
const HEARTBEAT_THROTTLE_MS = 500;

export interface NodeWorkerStatus {
  /** Whether tasks are taken from the node's queue. */
  readonly polling: boolean;
  readonly engine: boolean;
}

export interface NodeWorker {
  status(): NodeWorkerStatus;
  stop(): Promise<void>;
}

/** @param onStatus called with every change */
export const startNodeWorker = (
  config: NodeConfig,
  logger: Logger,
  onStatus: (status: NodeWorkerStatus) => void = () => undefined,
): NodeWorker => {
  const docker = new Docker({ socketPath: config.dockerSocketPath });
  const consul = createConsulClient({ address: config.consulUrl });
  const agent = createConsulAgent(consul);
  const documents = createDocumentWriter(consul);
  const registry = createReplicaRegistry(agent, documents);
  const eventLog = createEventLog(config.nodeId, documents, logger);
  const memory: NodeMemory = new Map();
  const locks = createReplicaLocks();
  const events = createEngineEvents(docker, config.clusterId);
  const ports = createHostPortChooser(config.hostPortRange, isListeningOn(config.advertiseAddress));
  const diskPaths = (): string[] => [
    ...(keeper.engine() === undefined ? [] : [keeper.engine()?.rootDir ?? '']),
    config.dataDir,
    join('/'),
  ];
  const { nodeId, clusterId, advertiseAddress } = config;
  const containers = createReplicaContainers({
    docker,
    settings: () => ({ clusterId, nodeId, advertiseAddress, hostCpus: keeper.engine()?.cpus ?? 1 }),
    ports,
    limiter: createLimiter(ENGINE_CONCURRENCY),
  });

  let status: NodeWorkerStatus = { polling: false, engine: false };
  const change = (changed: Partial<NodeWorkerStatus>): void => {
    status = { ...status, ...changed };
    onStatus(status);
  };

  const publisher = createNodePublisher({
    config,
    docker,
    events,
    agent,
    documents,
    hostStats: createHostStatsReader(diskPaths),
    eventLog,
    logger,
  });
  const keeper = createEngineKeeper({
    docker,
    events,
    containers,
    memory,
    ports,
    logger,
    onEngine: (engine) => {
      publisher.setEngine(engine);
      change({ engine: true });
    },
    onEngineAway: (reason) => {
      publisher.setEngineAway();
      if (status.engine) {
        eventLog.append(
          {
            level: 'error',
            type: 'engine.unreachable',
            message: `The Docker Engine of node ${config.nodeId} does not answer: ${reason}.`,
          },
          { key: 'engine.unreachable' },
        );
      }
      change({ engine: false });
    },
  });
  const place = { clusterId, nodeId, advertiseAddress };
  const readiness = { docker, containers, events, hostAddress: advertiseAddress };
  const runner = createReplicaRunner({
    place,
    memory,
    locks,
    containers,
    readiness,
    registry,
    agent,
    ports,
    hostStats: createHostStatsReader(diskPaths),
    adopted: () => keeper.adopted(),
    logger,
  });
  const images = createImagePuller({ docker, authFor: () => Promise.resolve(undefined) });
  const activities = createNodeActivities({ images, replicas: runner });

  installTemporalRuntime(logger);
  const worker = startTemporalWorker({
    address: config.temporalAddress,
    logger,
    options: async (connection) => ({
      connection,
      namespace: config.namespace,
      taskQueue: nodeQueue(config.nodeId),
      identity: `node-${config.nodeId}-${process.pid}`,
      activities: { ...activities },
      activityTaskPollerBehavior: { type: 'simple-maximum', maximum: 2 },
      maxHeartbeatThrottleInterval: HEARTBEAT_THROTTLE_MS,
      defaultHeartbeatThrottleInterval: HEARTBEAT_THROTTLE_MS,
      shutdownGraceTime: '2s',
    }),
    onPolling: (polling) => change({ polling }),
  });
  eventLog.append({
    level: 'info',
    type: 'node.started',
    message: `Node ${config.nodeId} has started.`,
  });
  publisher.start();
  events.start();

  return {
    status: () => status,
    stop: async () => {
      await worker.stop();
      keeper.stop();
      publisher.stop();
      eventLog.stop();
      events.stop();
      consul.close();
    },
  };
};
