/**
 * What Consul knows of the replicas on this node: their service instances at the local agent, and their documents
 * in KV.
 *
 * Invariants: every check of a service that is registered anew begins as passing, because the container has just been
 * seen to serve; Consul would give a check that it knows by its id the state that it had, so ids hold an epoch that
 * changes with each return of the agent. An agent that starts holds the checks of before for critical until it has run
 * them, so only those of the epoch say anything. Only differences are written, as far as this process knows what is
 * there; `forgetWhatIsKnown` makes everything be written again. Service calls for one id never overlap, and the last
 * one asked for wins.
 */

import type { ObservedReplica } from '../../domain/model';
import { replicaKvKey } from '../../contracts/kv';
import type { MicroserviceKey } from '../../domain/model';
import { serviceCheckId } from './service-definitions';
import type { AgentServiceDefinition, ConsulAgent, HealthStatus } from './consul-agent';
import type { DocumentWriter } from '../document-writer';

/** The agent tells the catalogue of a new service within this time. */
const SYNC_TIME_MS = 2_000;

export interface ReplicaRegistry {
  register(services: readonly AgentServiceDefinition[]): Promise<void>;
  deregister(serviceIds: readonly string[]): Promise<void>;
  /**
   * Writes the document when anything but its time differs from the last one written.
   *
   * @returns Consul's index of the last write; undefined when that is not known, or was an earlier process's
   */
  publish(replica: ObservedReplica): Promise<number | undefined>;
  unpublish(key: MicroserviceKey & { readonly replicaId: string }): Promise<void>;
  /** Tells the agent the result of a check that it does not run itself. */
  report(serviceId: string, check: number, status: HealthStatus, output: string): Promise<void>;
  isRegistered(serviceId: string): boolean;
  /** Registered since the agent is back, rather than before. */
  isRegisteredAnew(serviceId: string): boolean;
  /** Whether the check is one of a service that is registered anew. */
  isOwnCheck(serviceId: string, checkId: string): boolean;
  /** The catalogue has services with these ids, and no others. @returns those that were lost */
  noteCatalogue(serviceIds: ReadonlySet<string>): string[];
  /** These services are at the agent, whatever they look like. */
  assumeRegistered(serviceIds: readonly string[]): void;
  /**
   * KV had these keys of replicas, and no others, when it was asked.
   *
   * @param askedAt by the monotonic clock; what was written after that, or is being written, may be missing
   * @returns the replicas whose documents were lost
   */
  noteDocuments(keys: ReadonlySet<string>, askedAt: number): string[];
  /** This is what is in KV. */
  assumePublished(replica: ObservedReplica): void;
  published(replicaId: string): ObservedReplica | undefined;
  /** Until `assumeAllPublished`, nobody knows what KV says. */
  forgetWhatIsKnown(): void;
  /** Every document of before has been assumed. */
  assumeAllPublished(): void;
  /** Whether a document that is not known is not there. */
  knowsDocuments(): boolean;
}

interface Published {
  readonly text: string;
  readonly replica: ObservedReplica;
  /** By the monotonic clock; infinite while it is being written. */
  writtenAt: number;
  index?: number;
}

interface Registered {
  readonly text: string;
  readonly at: number;
  /** Left out when it was registered before. */
  readonly epoch?: number;
}

export const createReplicaRegistry = (agent: ConsulAgent, documents: DocumentWriter): ReplicaRegistry => {
  let epoch = Date.now();
  let knowsDocuments = false;
  const registered = new Map<string, Registered>();
  const published = new Map<string, Published>();
  const queues = new Map<string, Promise<unknown>>();

  /** Runs after what was asked before for the same service. */
  const inTurn = <T>(id: string, work: () => Promise<T>): Promise<T> => {
    const turn = (queues.get(id) ?? Promise.resolve()).then(work, work);
    queues.set(id, turn);
    const clean = (): void => {
      if (queues.get(id) === turn) queues.delete(id);
    };
    turn.then(clean, clean);
    return turn;
  };

  const inEpoch = (service: AgentServiceDefinition): AgentServiceDefinition => ({
    ...service,
    Checks: service.Checks.map((check) => ({ ...check, CheckID: checkIdIn(check.CheckID) })),
  });
  const epochSuffix = (): string => `:${epoch.toString(36)}`;
  const checkIdIn = (id: string): string => `${id}${epochSuffix()}`;
  const isRegisteredAnew = (serviceId: string): boolean => registered.get(serviceId)?.epoch === epoch;

  return {
    register: async (services) => {
      await Promise.all(
        services.map((described) =>
          inTurn(described.ID, async () => {
            const begunIn = epoch;
            const service = inEpoch(described);
            const text = JSON.stringify(service);
            if (registered.get(service.ID)?.text === text) return;
            await agent.register(service);
            registered.set(service.ID, { text, at: performance.now(), epoch: begunIn });
          }),
        ),
      );
    },
    deregister: async (serviceIds) => {
      await Promise.all(
        serviceIds.map((id) =>
          inTurn(id, async () => {
            registered.delete(id); // first: after a failure nobody knows
            await agent.deregister(id);
          }),
        ),
      );
    },
    publish: async (replica) => {
      const text = JSON.stringify({ ...replica, updatedAtMs: 0 });
      const known = published.get(replica.id);
      if (known?.text === text) return known.index;
      const written: Published = { text, replica, writtenAt: Infinity };
      published.set(replica.id, written);
      try {
        const { index } = await documents.put(replicaKvKey(replica, replica.id), replica);
        written.writtenAt = performance.now();
        written.index = index;
        return index;
      } catch (error) {
        if (published.get(replica.id)?.text === text) published.delete(replica.id);
        throw error;
      }
    },
    unpublish: async (key) => {
      published.delete(key.replicaId);
      await documents.remove(replicaKvKey(key, key.replicaId));
    },
    report: (serviceId, check, status, output) =>
      agent.report(checkIdIn(serviceCheckId(serviceId, check)), status, output),
    isRegistered: (id) => registered.has(id),
    isRegisteredAnew,
    isOwnCheck: (serviceId, checkId) => isRegisteredAnew(serviceId) && checkId.endsWith(epochSuffix()),
    noteCatalogue: (ids) => {
      const now = performance.now();
      const lost = [...registered].filter(([id, { at }]) => !ids.has(id) && now - at > SYNC_TIME_MS);
      for (const [id] of lost) registered.delete(id);
      return lost.map(([id]) => id);
    },
    assumeRegistered: (ids) => {
      for (const id of ids) if (!registered.has(id)) registered.set(id, { text: '', at: performance.now() });
    },
    noteDocuments: (keys, askedAt) => {
      const lost = [...published].filter(
        ([id, { replica, writtenAt }]) => writtenAt < askedAt && !keys.has(replicaKvKey(replica, id)),
      );
      for (const [id] of lost) published.delete(id);
      return lost.map(([id]) => id);
    },
    assumePublished: (replica) => {
      if (published.has(replica.id)) return;
      const text = JSON.stringify({ ...replica, updatedAtMs: 0 });
      published.set(replica.id, { text, replica, writtenAt: performance.now() });
    },
    published: (replicaId) => published.get(replicaId)?.replica,
    forgetWhatIsKnown: () => {
      epoch += 1;
      knowsDocuments = false;
      registered.clear();
      published.clear();
    },
    assumeAllPublished: () => {
      knowsDocuments = true;
    },
    knowsDocuments: () => knowsDocuments,
  };
};
