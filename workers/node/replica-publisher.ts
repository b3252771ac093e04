/**
 * Says in Consul what is known of a replica: its document, and the services of those of its containers that serve.
 */

import type { ReplicaRegistry } from '../../adapters/consul/replica-registry';
import {
  observedPorts,
  serviceDefinitions,
  type ServicePlace,
} from '../../adapters/consul/service-definitions';
import { observedContainers, observedReplica } from '../../adapters/docker/observed-replica';
import { networkAddress } from '../../adapters/docker/readiness';
import type { InspectedReplica } from '../../adapters/docker/replica-containers';
import type { ObservedPort, ObservedReplica, ReplicaState } from '../../domain/model';
import type { NodeReplica } from './node-memory';

export interface ReplicaPublisher {
  readonly registry: ReplicaRegistry;
  ports(replica: NodeReplica): ObservedPort[];
  /**
   * @param inspected undefined: the containers are as they were
   * @returns Consul's index of the last write; undefined when that is not known
   */
  publish(
    replica: NodeReplica,
    state: ReplicaState,
    inspected: InspectedReplica | undefined,
    reason?: string,
  ): Promise<number | undefined>;
  /** Its document as a replica that is gone. */
  publishBroken(document: ObservedReplica, reason: string): Promise<void>;
  /** Registers the ports of these containers, which have just been seen to serve. */
  register(replica: NodeReplica, inspected: InspectedReplica, containers: readonly string[]): Promise<void>;
  /** @param containers all when left out */
  deregister(replica: NodeReplica, containers?: readonly string[]): Promise<void>;
}

export const createReplicaPublisher = (
  registry: ReplicaRegistry,
  place: ServicePlace,
  hostAddress: string,
): ReplicaPublisher => {
  const ports = (replica: NodeReplica): ObservedPort[] =>
    observedPorts(replica.spec, place.advertiseAddress, replica.hostPorts);

  return {
    registry,
    ports,
    publish: (replica, state, inspected, reason) => {
      const before = registry.published(replica.spec.replicaId);
      return registry.publish(
        observedReplica(replica, place.nodeId, {
          state,
          reason,
          containers:
            inspected === undefined ? (before?.containers ?? []) : observedContainers(replica, inspected),
          ports: inspected === undefined ? (before?.ports ?? []) : ports(replica),
          restartCount: replica.restartCount,
          nowMs: Date.now(),
        }),
      );
    },
    publishBroken: async (document, reason) => {
      await registry.publish({
        ...document,
        state: 'broken',
        reason,
        containers: [],
        ports: [],
        updatedAtMs: Date.now(),
      });
    },
    register: async (replica, inspected, containers) => {
      const definitions = replica.spec.release.spec.containers
        .filter(({ name }) => containers.includes(name))
        .flatMap((container) => {
          const owner = inspected.sandbox ?? inspected.containers.get(container.name);
          if (owner === undefined) return [];
          const address = networkAddress(owner, hostAddress);
          if (address === undefined) return [];
          return serviceDefinitions(replica.spec, container, place, {
            address,
            hostPorts: replica.hostPorts,
          });
        });
      await registry.register(definitions);
    },
    deregister: async (replica, containers) => {
      const ids = ports(replica)
        .filter(({ container }) => containers === undefined || containers.includes(container))
        .map(({ serviceId }) => serviceId);
      await registry.deregister(ids);
    },
  };
};
