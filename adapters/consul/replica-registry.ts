/**
 * What Consul knows of the replicas on this node: their service instances at the local agent, and their documents
 * in KV.
 *
 * Invariants: only differences are written, as far as this process knows what is there; `forgetWhatIsKnown` makes
 * everything be written again. Service calls for one id never overlap, and the last one asked for wins.
 */

import type { ObservedReplica } from '../../domain/model';
import { replicaKvKey } from '../../contracts/kv';
import type { MicroserviceKey } from '../../domain/model';
import type { AgentServiceDefinition, ConsulAgent } from './consul-agent';
import type { DocumentWriter } from './document-writer';

export interface ReplicaRegistry {
  register(services: readonly AgentServiceDefinition[]): Promise<void>;
  deregister(serviceIds: readonly string[]): Promise<void>;
  /** Writes the document when anything but its time differs from the last one written. */
  publish(replica: ObservedReplica): Promise<void>;
  unpublish(key: MicroserviceKey & { readonly replicaId: string }): Promise<void>;
  isRegistered(serviceId: string): boolean;
  published(replicaId: string): ObservedReplica | undefined;
  forgetWhatIsKnown(): void;
}

export const createReplicaRegistry = (agent: ConsulAgent, documents: DocumentWriter): ReplicaRegistry => {
  const registered = new Map<string, string>();
  const published = new Map<string, { text: string; replica: ObservedReplica }>();
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

  return {
    register: async (services) => {
      await Promise.all(
        services.map((service) =>
          inTurn(service.ID, async () => {
            const text = JSON.stringify(service);
            if (registered.get(service.ID) === text) return;
            await agent.register(service);
            registered.set(service.ID, text);
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
      if (published.get(replica.id)?.text === text) return;
      published.set(replica.id, { text, replica });
      try {
        await documents.put(replicaKvKey(replica, replica.id), replica);
      } catch (error) {
        if (published.get(replica.id)?.text === text) published.delete(replica.id);
        throw error;
      }
    },
    unpublish: async (key) => {
      published.delete(key.replicaId);
      await documents.remove(replicaKvKey(key, key.replicaId));
    },
    isRegistered: (id) => registered.has(id),
    published: (replicaId) => published.get(replicaId)?.replica,
    forgetWhatIsKnown: () => {
      registered.clear();
      published.clear();
    },
  };
};
