/**
 * Says in Consul how this node is: its document in KV when something has changed enough, and a service whose check
 * shows that the node worker lives.
 *
 * Invariants: pushed, never polled; a write that failed is repeated with the next look, the first one at once, until
 * it is stopped; the engine's absence is said as well, at first as a reason to be degraded, and when it lasts so that
 * others replace what does not serve here.
 */

import type Docker from 'dockerode';
import type { Logger } from 'pino';

import type { ConsulAgent } from '../../adapters/consul/consul-agent';
import type { DocumentWriter } from '../../adapters/document-writer';
import { listImageReferences, type EngineInfo } from '../../adapters/docker/engine-info';
import type { EngineEvents } from '../../adapters/docker/engine-events';
import type { HostStatsReader } from '../../adapters/host/host-stats';
import { SERVICE_META, SERVICE_TAG } from '../../contracts/docker';
import { nodeKvKey } from '../../contracts/kv';
import {
  NODE_SERVICE,
  NODE_SERVICE_CLUSTER,
  nodeAliveCheckId,
  nodeServiceId,
} from '../../contracts/services';
import type { MissingBuild, ObservedNode, PublicPortTrouble } from '../../domain/model';
import { createClockReason } from './clock-reason';
import { createEngineAbsence } from './engine-absence';
import type { EventLog } from './event-log';
import { tellableImages } from './known-images';
import { ENGINE_REASON, healthReasons, isMaterialChange } from './node-health';
import type { NodeConfig } from './node-config';

const SAMPLE_EVERY_MS = 5_000;
const RETRY_MS = 200;
const IMAGES_DEBOUNCE_MS = 200;
const LIVENESS_TTL = '20s';
/** Beyond this the document is written again, so that one that was lost is back before long. */
const REPEAT_AFTER_MS = 60_000;

export interface NodePublisher {
  start(): void;
  /** The engine was reached, or reached again. */
  setEngine(engine: EngineInfo): void;
  /** It does not answer; told again and again as long as it does not. */
  setEngineAway(): void;
  /** What is told of the node has changed. */
  tell(): void;
  /** Consul may have lost what was written. */
  writeAgain(): void;
  stop(): void;
}

/** What the node's document says of its engine. */
type KnownEngine = Pick<EngineInfo, 'cpus' | 'memoryBytes' | 'architecture' | 'version'>;

export const createNodePublisher = (deps: {
  readonly config: NodeConfig;
  /** Of this ContainerOS. */
  readonly version: string;
  readonly docker: Docker;
  readonly events: EngineEvents;
  readonly agent: ConsulAgent;
  readonly documents: DocumentWriter;
  /** The node's document as it stands in Consul; undefined when there is none that can be read. */
  readonly toldBefore: () => Promise<ObservedNode | undefined>;
  readonly hostStats: HostStatsReader;
  readonly missingBuilds: () => readonly MissingBuild[];
  readonly publicPortTroubles: () => readonly PublicPortTrouble[];
  readonly eventLog: EventLog;
  readonly logger: Logger;
  /** How far the clock of this machine is ahead of the head node's. */
  readonly clockAheadMs: () => number;
  /** The node's document has been written. */
  readonly onPublished: () => void;
  /** A clock that nobody sets. */
  readonly nowMs?: () => number;
}): NodePublisher => {
  const { config, docker, agent, documents, hostStats, logger, nowMs = () => performance.now() } = deps;
  const serviceId = nodeServiceId(config.nodeId);
  const checkId = nodeAliveCheckId(config.nodeId);
  const absence = createEngineAbsence(nowMs, Date.now);
  const clockReason = createClockReason();
  let engine: KnownEngine | undefined;
  let images: readonly string[] = [];
  let written: { readonly node: ObservedNode; readonly at: number } | undefined;
  let reasons: readonly string[] = [];
  let isServiceRegistered = false;
  /** Before, it is only not reached yet. */
  let isToldAway = false;
  let isStopped = false;
  let timer: NodeJS.Timeout | undefined;
  let imagesTimer: NodeJS.Timeout | undefined;
  let retryTimer: NodeJS.Timeout | undefined;
  let turn: Promise<void> = Promise.resolve();

  const observe = async (known: KnownEngine): Promise<ObservedNode> => {
    const stats = await hostStats.read();
    const capacity = { cpus: known.cpus, memoryBytes: known.memoryBytes, diskBytes: stats.diskBytes };
    const measured = {
      capacity,
      memoryAvailableBytes: stats.memoryAvailableBytes,
      diskFreeBytes: stats.diskFreeBytes,
    };
    const missingBuilds = deps.missingBuilds();
    const publicPortTroubles = deps.publicPortTroubles();
    const engineLostAtMs = absence.lostAtMs();
    const isEngineThere = !absence.isAway() && engineLostAtMs === undefined;
    const ofClock = clockReason(deps.clockAheadMs());
    const now = [
      ...(isEngineThere ? [] : [ENGINE_REASON]),
      ...healthReasons(measured, reasons),
      ...(ofClock === undefined ? [] : [ofClock]),
    ];
    return {
      id: config.nodeId,
      address: config.advertiseAddress,
      architecture: known.architecture,
      dockerVersion: known.version,
      containerosVersion: deps.version,
      ...measured,
      cpuPercent: stats.cpuPercent,
      health: now.length === 0 ? 'healthy' : 'degraded',
      reasons: now,
      images,
      ...(missingBuilds.length === 0 ? {} : { missingBuilds }),
      ...(engineLostAtMs === undefined ? {} : { engineLostAtMs }),
      ...(publicPortTroubles.length === 0 ? {} : { publicPortTroubles }),
      labels: config.labels ?? {},
      updatedAtMs: Date.now(),
    };
  };

  /** What an earlier process has told, so that others hear that an engine is away which this one never reached. */
  const engineOfBefore = async (): Promise<KnownEngine | undefined> => {
    if (!absence.isAway() || !isToldAway) return undefined;
    const before = await deps.toldBefore();
    if (before === undefined || engine !== undefined) return engine;
    if (images.length === 0) images = before.images;
    const { architecture, dockerVersion: version, capacity } = before;
    return { architecture, version, cpus: capacity.cpus, memoryBytes: capacity.memoryBytes };
  };

  const publish = async (): Promise<void> => {
    engine ??= await engineOfBefore();
    if (engine === undefined) return; // nothing is known yet, not even how large the node is
    const node = await observe(engine);
    sayHealth(node);
    const isDue =
      written === undefined ||
      isMaterialChange(written.node, node) ||
      performance.now() - written.at > REPEAT_AFTER_MS;
    if (!isDue) return;
    await documents.put(nodeKvKey(config.nodeId), node);
    written = { node, at: performance.now() };
    deps.onPublished();
  };

  const sayHealth = (node: ObservedNode): void => {
    const before = reasons;
    reasons = node.reasons;
    if (before.join() === reasons.join()) return;
    const isWell = reasons.length === 0;
    deps.eventLog.append({
      level: isWell ? 'info' : 'warning',
      type: isWell ? 'node.recovered' : 'node.degraded',
      message: isWell
        ? `Node ${config.nodeId} is well again.`
        : `Node ${config.nodeId} is degraded: ${reasons.join(', ')}.`,
    });
  };

  const feed = async (): Promise<void> => {
    if (!isServiceRegistered) {
      await agent.register({
        ID: serviceId,
        Name: NODE_SERVICE,
        Tags: [SERVICE_TAG],
        Meta: { [SERVICE_META.node]: config.nodeId, kind: 'node', [NODE_SERVICE_CLUSTER]: config.clusterId },
        Address: config.advertiseAddress,
        Port: 0,
        Checks: [{ CheckID: checkId, Name: 'Node worker', TTL: LIVENESS_TTL, Status: 'passing' }],
      });
      isServiceRegistered = true;
    }
    await agent.report(checkId, 'passing', 'The node worker is alive.').catch((error: unknown) => {
      isServiceRegistered = false; // perhaps the agent forgot it
      throw error;
    });
  };

  /** One look at a time; failures are for the next one. */
  const look = (): void => {
    turn = turn.then(async () => {
      if (isStopped) return;
      const results = await Promise.allSettled([publish(), feed()]);
      for (const result of results) {
        if (result.status === 'rejected')
          logger.debug({ err: result.reason as unknown }, 'could not tell Consul of the node');
      }
      // Until it is known, nothing can be placed on it.
      if (written === undefined && engine !== undefined && !isStopped) {
        clearTimeout(retryTimer);
        retryTimer = setTimeout(look, RETRY_MS);
      }
    });
  };

  const refreshImages = (): void => {
    clearTimeout(imagesTimer);
    imagesTimer = setTimeout(() => {
      listImageReferences(docker).then(
        (found) => {
          images = tellableImages(found);
          look();
        },
        (error: unknown) => logger.debug({ err: error }, 'could not list images'),
      );
    }, IMAGES_DEBOUNCE_MS);
  };

  let stopListening: () => void = () => undefined;

  return {
    start: () => {
      stopListening = deps.events.listen({ onConnected: refreshImages, onImage: refreshImages });
      timer = setInterval(look, SAMPLE_EVERY_MS);
      look();
    },
    setEngine: (info) => {
      engine = info;
      absence.back();
      look();
    },
    setEngineAway: () => {
      absence.gone();
      isToldAway = true;
      look();
    },
    tell: look,
    writeAgain: () => {
      written = undefined;
      isServiceRegistered = false;
      look();
    },
    stop: () => {
      isStopped = true;
      stopListening();
      clearInterval(timer);
      clearTimeout(retryTimer);
      clearTimeout(imagesTimer);
    },
  };
};
