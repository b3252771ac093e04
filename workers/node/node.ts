/**
 * One node without Temporal: wires Docker and Consul into the node's activities, its keeper and its publisher.
 *
 * Invariants: it starts and goes on whichever of the two is away, and takes up again what comes back; stopping it
 * leaves the users' containers and their registrations as they are.
 */

import { join } from 'node:path';

import Docker from 'dockerode';
import type { Logger } from 'pino';

import { createNodeActivities } from '../../activities/node-activities';
import { createClusterPortAgent } from '../../adapters/cluster-port/agent';
import { createClusterPortLeases } from '../../adapters/cluster-port/leases';
import { createClusterPortWriter } from '../../adapters/cluster-port/documents';
import { createConsulAgent } from '../../adapters/consul/consul-agent';
import { createConsulClient } from '../../adapters/consul/consul-client';
import { createConsulLeases } from '../../adapters/consul/leases';
import { createDocumentWriter } from '../../adapters/consul/document-writer';
import { createReplicaRegistry } from '../../adapters/consul/replica-registry';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { readMembers, watchMembers } from '../../adapters/consul/watch-members';
import { createEngineContainers } from '../../adapters/docker/engine-containers';
import { createEngineEvents } from '../../adapters/docker/engine-events';
import { createHostPortChooser, isListeningOn } from '../../adapters/docker/host-ports';
import { imageInWords } from '../../domain/release-images';
import { readImageArchitecture } from '../../adapters/docker/engine-info';
import { createImagePuller } from '../../adapters/docker/image-puller';
import { createLimiter } from '../../domain/limiter';
import type { PublicPortTrouble } from '../../domain/model';
import { createReplicaContainers } from '../../adapters/docker/replica-containers';
import { createReplicaLocks } from '../../adapters/docker/replica-locks';
import { acceptedConnections } from '../../adapters/host/accepted-connections';
import { endConnections } from '../../adapters/host/end-connections';
import { createHostStatsReader } from '../../adapters/host/host-stats';
import { createCaddyAdmin } from '../../adapters/ingress/caddy-admin';
import { adminSocket } from '../../adapters/ingress/caddy-config';
import { openCertificateFiles } from '../../adapters/ingress/certificate-files';
import { openJudgedLog } from '../../adapters/ingress/judged-log';
import { openHandoverEnd } from '../../adapters/ingress/handover-end';
import { openLaneFiles } from '../../adapters/ingress/lane-files';
import { openPlaceFiles } from '../../adapters/ingress/place-files';
import { SERVER_NAME } from '../../contracts/authority';
import type { NodeActivities } from '../../contracts/activities';
import { createDocumentReader } from '../../contracts/documents';
import { ingressKvKey, nodeKvKey } from '../../contracts/kv';
import { version } from '../version';
import { createCertificateKeeper } from './certificate-keeper';
import { createCheckFeeder } from './check-feeder';
import { createConsulKeeper } from './consul-keeper';
import { createEngineKeeper } from './engine-keeper';
import { createEventLog } from './event-log';
import { createExclusiveKeeper } from './exclusive-keeper';
import { createIngressKeeper } from './ingress-keeper';
import { createRateLimits } from './rate-limits';
import { createRequestCounter } from './request-counts';
import { createLeaseGuard, LEASE_GUARD_PROGRAM } from './lease-guard-process';
import { createLogStreams } from './log-streams';
import type { NodeConfig } from './node-config';
import type { NodeMemory } from './node-memory';
import { createMissingBuilds } from './missing-builds';
import { createNodePublisher } from './node-publisher';
import { createPublicPorts } from './public-ports';
import { createReplicaKeeper } from './replica-keeper';
import { createReplicaPublisher } from './replica-publisher';
import { createReplicaRunner } from './replica-runner';
import { createWithdrawal } from './withdrawal';

/** More at once only make each other slower: the engine works through them one by one in its heart. */
const ENGINE_CONCURRENCY = 3;
export interface Node {
  readonly activities: NodeActivities;
  start(): void;
  stop(): void;
  /** After stopping: resolves when no command runs on that was run for somebody. */
  settled(): Promise<void>;
}

export interface NodeState {
  /** The engine answers. */
  readonly hasEngine: boolean;
  /** The node's document has been in Consul: before, nothing is placed on it. */
  readonly isKnown: boolean;
  /** Why hostnames do not lead where they should from this node; undefined: they do, or there is no ingress. */
  readonly ingressTrouble?: string | undefined;
  /** What the Consul agent calls this node; undefined before it has answered. */
  readonly agentNodeName?: string;
  /** Why the cluster will have nothing to do with this node. */
  readonly refusal?: string;
}

/** @param onState called when something of it has changed */
export const createNode = (config: NodeConfig, logger: Logger, onState: (state: NodeState) => void): Node => {
  const docker = new Docker({ socketPath: config.dockerSocketPath });
  const consul = createConsulClient({ address: config.consulUrl, token: config.consulToken });
  const throughPort =
    config.credentials === undefined
      ? undefined
      : createClusterPortWriter({
          url: config.apiUrl,
          nodeId: config.nodeId,
          credentials: config.credentials,
          serverName: SERVER_NAME,
        });
  const documents = throughPort ?? createDocumentWriter(consul);
  const kv = createKvStore(consul);
  const agent =
    throughPort === undefined
      ? createConsulAgent(consul)
      : createClusterPortAgent({ writer: throughPort, consul, nodeId: config.nodeId });
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
  const place = { clusterId, nodeId, advertiseAddress };
  const registry = createReplicaRegistry(agent, documents);
  const replicas = createReplicaPublisher(registry, place, advertiseAddress);
  const feeder = createCheckFeeder(
    docker,
    registry,
    (replicaId, container, failure) => replicaKeeper.setFailure(replicaId, container, failure),
    { runsAllChecks: throughPort !== undefined },
  );
  const containers = createReplicaContainers({
    docker,
    engine: createEngineContainers(docker, clusterId),
    settings: () => ({
      clusterId,
      nodeId,
      advertiseAddress,
      hostCpus: keeper.engine()?.cpus ?? 1,
      architecture: keeper.engine()?.architecture ?? '',
    }),
    ports,
    limiter: createLimiter(ENGINE_CONCURRENCY),
  });

  let state: NodeState = {
    hasEngine: false,
    isKnown: false,
    ...(config.ingress === undefined ? {} : { ingressTrouble: 'the ingress is starting' }),
  };
  const setState = (change: Partial<NodeState>): void => {
    state = { ...state, ...change };
    onState(state);
  };

  let publicPortTroubles: readonly PublicPortTrouble[] = [];
  const builds = createMissingBuilds({ nowMs: Date.now, onChange: () => publisher.tell() });
  const publisher = createNodePublisher({
    config,
    version: version(),
    docker,
    events,
    agent,
    documents,
    toldBefore: async () => {
      const { document } = await kv.get(nodeKvKey(nodeId));
      return document && createDocumentReader((message) => logger.error(message))('nodes', document);
    },
    hostStats: createHostStatsReader(diskPaths),
    missingBuilds: () => builds.all(),
    publicPortTroubles: () => publicPortTroubles,
    eventLog,
    logger,
    clockAheadMs: () => throughPort?.clockAheadMs() ?? 0,
    onPublished: () => {
      if (!state.isKnown) setState({ isKnown: true });
    },
  });
  const leaseFile = join(config.dataDir, 'run', `leases-${nodeId}.json`);
  const exclusive = createExclusiveKeeper({
    leases:
      config.credentials === undefined
        ? { ...createConsulLeases(consul, nodeId), close: () => undefined }
        : createClusterPortLeases({
            url: config.apiUrl,
            nodeId,
            credentials: config.credentials,
            serverName: SERVER_NAME,
          }),
    memory,
    containers,
    locks,
    guard: createLeaseGuard({
      program: config.leaseGuardProgram ?? LEASE_GUARD_PROGRAM,
      file: leaseFile,
      dockerSocketPath: config.dockerSocketPath,
      clusterId,
      logger,
    }),
    file: leaseFile,
    eventLog,
    look: (replicaId) => replicaKeeper.look(replicaId),
    logger,
  });
  const replicaKeeper = createReplicaKeeper({
    docker,
    memory,
    locks,
    containers,
    publisher: replicas,
    feeder,
    exclusive,
    eventLog,
    hostAddress: advertiseAddress,
    logger,
  });
  const keeper = createEngineKeeper({
    docker,
    events,
    containers,
    memory,
    ports,
    logger,
    onLookAtAll: () => replicaKeeper.lookAtAll(),
    onEngine: (engine) => {
      publisher.setEngine(engine);
      exclusive.adopt();
      replicaKeeper.onEngine();
      setState({ hasEngine: true });
    },
    onEngineAway: (reason) => {
      publisher.setEngineAway();
      replicaKeeper.onEngineLost();
      if (state.hasEngine) {
        eventLog.append(
          {
            level: 'error',
            type: 'engine.unreachable',
            message: `The Docker Engine of node ${config.nodeId} does not answer: ${reason}.`,
          },
          { key: 'engine.unreachable' },
        );
      }
      setState({ hasEngine: false });
    },
  });
  const consulKeeper = createConsulKeeper({
    clusterId,
    nodeId,
    consul,
    agent,
    memory,
    publisher: replicas,
    adopted: () => keeper.adopted(),
    onAgent: (agentNodeName) => setState({ agentNodeName }),
    onCritical: (critical) => replicaKeeper.setCritical(critical),
    onLost: () => replicaKeeper.lookAtAll(),
    onReturn: () => {
      publisher.writeAgain();
      replicaKeeper.doubtAll();
      replicaKeeper.lookAtAll();
    },
    logger,
  });
  events.listen({
    onContainer: (happening) => replicaKeeper.onHappening(happening),
    onNetworkLost: (containerId) => replicaKeeper.onNetworkLost(containerId),
  });
  const readiness = { docker, containers, events, hostAddress: advertiseAddress };
  const withdrawal = createWithdrawal({ kv, readMembers: () => readMembers(consul), logger });
  const runner = createReplicaRunner({
    withdrawal,
    eventLog,
    clusterId,
    memory,
    locks,
    containers,
    readiness,
    publisher: replicas,
    feeder,
    exclusive,
    agent,
    ports,
    hostStats: createHostStatsReader(diskPaths),
    builds,
    architecture: () => keeper.engine()?.architecture,
    imageArchitecture: (image) => readImageArchitecture(docker, image),
    adopted: () => keeper.adopted(),
    logger,
  });
  const logStreams = createLogStreams({
    config,
    docker,
    containers,
    events,
    logger,
    onRefused: (refusal) => setState({ refusal }),
  });
  const counter =
    config.ingress === undefined
      ? undefined
      : createRequestCounter({
          nodeId,
          log: openJudgedLog(config.ingress.settings.directory),
          documents,
          logger,
        });
  const ingress =
    config.ingress === undefined
      ? undefined
      : createIngressKeeper({
          nodeId,
          settings: config.ingress.settings,
          configFile: config.ingress.configFile,
          kv,
          watchMembers: (handlers) => watchMembers(consul, handlers),
          documents,
          admin: createCaddyAdmin(adminSocket(config.ingress.settings.directory)),
          openHandoverEnd,
          files: openPlaceFiles(config.ingress.settings.directory),
          laneFiles: openLaneFiles(config.ingress.settings.directory),
          acceptedConnections,
          endConnections,
          ...(counter === undefined ? {} : { onSplits: counter.follow }),
          publicPorts: createPublicPorts({
            nodeId,
            directory: config.ingress.settings.directory,
            reservedPorts: config.ingress.reservedPorts,
            onWanted: config.ingress.onPublicPorts,
            onTroubles: (troubles) => {
              publicPortTroubles = troubles;
              publisher.tell();
            },
            eventLog,
            logger,
          }),
          onState: (reason) => setState({ ingressTrouble: reason }),
          logger,
        });
  const rateLimits =
    config.ingress === undefined
      ? undefined
      : createRateLimits({
          directory: config.ingress.settings.directory,
          nowMs: () => performance.now(),
          logger,
        });
  const certificates =
    config.ingress?.settings.https === undefined
      ? undefined
      : createCertificateKeeper({
          kv,
          files: openCertificateFiles(config.ingress.settings.directory),
          openSealer: config.ingress.openSealer,
          nowMs: Date.now,
          logger,
        });
  const images = createImagePuller({ docker, builds, authFor: () => Promise.resolve(undefined) });
  const activities = createNodeActivities({
    images,
    replicas: runner,
    onPull: ({ project, name, operation, images: asked }, error) => {
      const about = { project, microservice: name, operation };
      if (error === undefined) {
        const names = asked.map(({ image }) => imageInWords(image)).join(', ');
        const message = `Node ${nodeId} has what it tried again to pull: ${names}.`;
        eventLog.append({ level: 'info', type: 'image.pulled', message, ...about });
        return;
      }
      const message = `${error.message} Node ${nodeId} tries again.`;
      eventLog.append(
        { level: 'warning', type: 'image.pull_failed', message, ...about },
        { key: `image.pull_failed/${operation}/${message}` },
      );
    },
    onPulledAhead: (image) =>
      eventLog.append({
        level: 'info',
        type: 'image.pulled_ahead',
        message: `Node ${nodeId} has pulled ${imageInWords(image)}, in case that it has to take over from another node.`,
      }),
  });

  return {
    activities,
    start: () => {
      eventLog.append({
        level: 'info',
        type: 'node.started',
        message: `Node ${config.nodeId} has started.`,
      });
      publisher.start();
      events.start();
      consulKeeper.start();
      exclusive.start();
      logStreams.start();
      if (ingress === undefined) {
        // Of an earlier start with one: whoever stops a replica would wait for it.
        documents
          .remove(ingressKvKey(nodeId))
          .catch((error: unknown) =>
            logger.debug({ err: error }, 'the ingress of before could not be taken back'),
          );
      } else ingress.start();
      rateLimits?.start();
      certificates?.start();
    },
    stop: () => {
      keeper.stop();
      consulKeeper.stop();
      exclusive.stop();
      logStreams.stop();
      ingress?.stop();
      rateLimits?.stop();
      certificates?.stop();
      counter?.stop();
      replicaKeeper.stop();
      feeder.stopAll();
      publisher.stop();
      eventLog.stop();
      events.stop();
      consul.close();
      throughPort?.close();
    },
    settled: () => logStreams.settled(),
  };
};
