/**
 * Holds on to the local Consul agent: follows the checks of this node, notices when Consul was away, and removes
 * what has no replica any more.
 *
 * Invariants: one blocking query; after each absence everything is compared and written again, and now and then what
 * was written is looked for in KV; nothing is removed before the engine has said what runs, and only what belongs to
 * this cluster and node; what checks said before the services were registered anew counts for nothing.
 */

import type { Logger } from 'pino';

import { pause } from '../../adapters/pause';
import type { ConsulAgent, NodeCheck } from '../../adapters/consul/consul-agent';
import { kvPath, kvText, type ConsulClient, type ConsulKvEntry } from '../../adapters/consul/consul-client';
import { SERVICE_META } from '../../contracts/docker';
import { createDocumentReader } from '../../contracts/documents';
import { KV_PREFIX, isFolderKvKey } from '../../contracts/kv';
import type { ObservedReplica } from '../../domain/model';
import type { NodeMemory } from './node-memory';
import type { ReplicaPublisher } from './replica-publisher';

const WAIT_MS = 60_000;
/** Whoever deletes a replica's document hides it: nobody would stop it, and another one would take its place. */
const SWEEP_EVERY_MS = 5 * 60_000;
/** What Consul calls the check of a service in maintenance. */
const MAINTENANCE = '_service_maintenance';
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 1_000;
/** A check may change many times a second; the blocking query is asked again no sooner than this. */
const MIN_TURN_MS = 50;

export interface ConsulKeeper {
  start(): void;
  stop(): void;
}

export const createConsulKeeper = (deps: {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly consul: ConsulClient;
  readonly agent: ConsulAgent;
  readonly memory: NodeMemory;
  readonly publisher: ReplicaPublisher;
  /** Waits until everything on the engine is in the memory. */
  readonly adopted: () => Promise<unknown>;
  /** The name of the agent's node, which the membership goes by. */
  readonly onAgent: (nodeName: string) => void;
  readonly onCritical: (critical: ReadonlyMap<string, string>) => void;
  /** Services or documents of replicas are no longer in Consul. */
  readonly onLost: () => void;
  /** Consul answers, for the first time or again, and what it has is known. */
  readonly onReturn: () => void;
  readonly logger: Logger;
  /** Left out: five minutes. */
  readonly sweepEveryMs?: number;
}): ConsulKeeper => {
  const { agent, consul, memory, publisher, logger, sweepEveryMs = SWEEP_EVERY_MS } = deps;
  const stopped = new AbortController();
  const read = createDocumentReader((message) => logger.error(message));
  let sweptAt = 0;

  const sweepServices = async (): Promise<void> => {
    const services = await agent.services(SERVICE_META.cluster, deps.clusterId);
    const orphans: string[] = [];
    for (const { ID, Meta } of services) {
      if (Meta?.[SERVICE_META.node] !== deps.nodeId) continue;
      const replica = memory.get(Meta[SERVICE_META.replica] ?? '');
      const isKnown =
        replica !== undefined && publisher.ports(replica).some(({ serviceId }) => serviceId === ID);
      if (isKnown) publisher.registry.assumeRegistered([ID]);
      else orphans.push(ID);
    }
    await publisher.registry.deregister(orphans);
  };

  const compareDocuments = async (): Promise<void> => {
    const known = new Set(memory.keys());
    // Consistent: a server that has just been started shows documents for a moment that were deleted long ago.
    const { status, body } = await consul.request<readonly ConsulKvEntry[]>({
      path: kvPath(KV_PREFIX.replicas),
      query: { recurse: true, consistent: true },
    });
    const all =
      status === 404
        ? []
        : body
            .filter(({ Key }) => !isFolderKvKey(Key))
            .flatMap((entry) => read('replicas', { key: entry.Key, text: kvText(entry) }) ?? []);
    const gone: ObservedReplica[] = [];
    for (const document of all.filter(({ nodeId }) => nodeId === deps.nodeId)) {
      const replica = memory.get(document.id);
      if (replica !== undefined) {
        publisher.registry.assumePublished(document);
        replica.createdAtMs = document.createdAtMs;
        replica.restartCount = Math.max(replica.restartCount, document.restartCount);
      } else if (!known.has(document.id)) gone.push(document); // else its stop has ended meanwhile
    }
    for (const document of gone) {
      if (memory.has(document.id)) continue;
      const key = { project: document.project, name: document.name, replicaId: document.id };
      // One that was being stopped is gone as it should be; any other one is missed by somebody.
      if (document.state === 'stopping') await publisher.registry.unpublish(key);
      else await publisher.publishBroken(document, 'its containers are gone');
    }
  };

  const sweepDocuments = async (): Promise<void> => {
    const askedAt = performance.now();
    const { status, body } = await consul.request<readonly string[]>({
      path: kvPath(KV_PREFIX.replicas),
      query: { keys: true, consistent: true },
    });
    sweptAt = performance.now();
    const keys = new Set(status === 404 ? [] : body);
    if (publisher.registry.noteDocuments(keys, askedAt).length > 0) deps.onLost();
  };

  const compare = async (): Promise<void> => {
    await deps.adopted();
    publisher.registry.forgetWhatIsKnown();
    await Promise.all([sweepServices(), compareDocuments()]);
    publisher.registry.assumeAllPublished();
    sweptAt = performance.now();
    deps.onReturn();
  };

  const take = (checks: readonly NodeCheck[]): void => {
    const critical = new Map<string, string>();
    const services = new Set<string>();
    for (const { ServiceID, CheckID, Status, Name, Output } of checks) {
      services.add(ServiceID);
      // An operator has taken its traffic away; the container is well.
      if (CheckID.startsWith(MAINTENANCE)) continue;
      if (Status === 'critical' && publisher.registry.isOwnCheck(ServiceID, CheckID)) {
        critical.set(ServiceID, describeOutput(Name, Output));
      }
    }
    deps.onCritical(critical);
    const withoutChecks = new Set(servicesWithoutChecks(memory, publisher));
    const lost = publisher.registry.noteCatalogue(new Set([...services, ...withoutChecks]));
    if (lost.length > 0) deps.onLost();
  };

  const run = async (): Promise<void> => {
    let retryMs = FIRST_RETRY_MS;
    let nodeName: string | undefined;
    let index = 0;
    while (!stopped.signal.aborted) {
      try {
        if (nodeName === undefined) {
          nodeName = await agent.nodeName();
          deps.onAgent(nodeName);
          await compare();
          index = 0;
        }
        if (performance.now() - sweptAt > sweepEveryMs) await sweepDocuments();
        const wait = { index, waitMs: WAIT_MS, signal: stopped.signal };
        const answer = await agent.nodeChecks(nodeName, index === 0 ? undefined : wait);
        // An index that goes back means another history: begin anew.
        index = answer.index < index ? 0 : Math.max(1, answer.index);
        take(answer.body);
        retryMs = FIRST_RETRY_MS;
        await pause(MIN_TURN_MS, stopped.signal);
      } catch (error) {
        if (stopped.signal.aborted) return;
        logger.debug({ err: error }, 'Consul does not answer');
        nodeName = undefined;
        await pause(retryMs, stopped.signal);
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  };

  return {
    start: () => void run(),
    stop: () => stopped.abort(),
  };
};

/** Of these the catalogue's checks tell nothing. */
const servicesWithoutChecks = (memory: NodeMemory, publisher: ReplicaPublisher): string[] =>
  [...memory.values()].flatMap((replica) => {
    const bare = replica.spec.release.spec.containers
      .filter(({ checks }) => checks.length === 0)
      .map(({ name }) => name);
    return publisher
      .ports(replica)
      .filter(({ container }) => bare.includes(container))
      .map(({ serviceId }) => serviceId);
  });

const MAX_OUTPUT = 200;

/** Consul's output of a check, down to a line. */
const describeOutput = (name: string, output: string): string => {
  const line = output.trim().split('\n')[0] ?? '';
  return line === '' ? `check ${name} fails` : `check ${name} fails: ${line.slice(0, MAX_OUTPUT)}`;
};
