/**
 * Brings Consul up to which containers of a replica serve, and into the memory what Consul's checks say of them.
 *
 * Invariant: what does not serve in its present run is not in Consul, unless nobody has looked yet since it was.
 */

import type { InspectedReplica } from '../../adapters/docker/replica-containers';
import type { CheckFeeder } from './check-feeder';
import { upkeepOf, type NodeReplica } from './node-memory';
import type { ReplicaPublisher } from './replica-publisher';

export interface ReplicaTraffic {
  /** Takes what does not serve out of Consul. */
  withdraw(replica: NodeReplica, inspected: InspectedReplica): Promise<void>;
  /** Puts back what Consul has lost of containers that serve, or has only from before it was away. */
  registerMissing(replica: NodeReplica, inspected: InspectedReplica): Promise<void>;
}

export const createReplicaTraffic = (publisher: ReplicaPublisher, feeder: CheckFeeder): ReplicaTraffic => ({
  withdraw: async (replica, inspected) => {
    const idle = replica.spec.release.spec.containers.filter(({ name }) => {
      const upkeep = upkeepOf(replica, name);
      return (
        inspected.containers.get(name) === undefined ||
        (upkeep.servingRun !== upkeep.run && !upkeep.isDoubted)
      );
    });
    const registered = publisher
      .ports(replica)
      .filter(
        ({ container, serviceId }) =>
          idle.some(({ name }) => name === container) && publisher.registry.isRegistered(serviceId),
      );
    for (const { name } of idle) feeder.stop(replica.spec.replicaId, name);
    if (registered.length > 0) {
      await publisher.deregister(replica, [...new Set(registered.map(({ container }) => container))]);
    }
  },

  registerMissing: async (replica, inspected) => {
    const missing = publisher.ports(replica).filter(({ container, serviceId }) => {
      const upkeep = upkeepOf(replica, container);
      return (
        upkeep.servingRun === upkeep.run &&
        upkeep.run !== '' &&
        !publisher.registry.isRegisteredAnew(serviceId)
      );
    });
    if (missing.length === 0) return;
    const containers = [...new Set(missing.map(({ container }) => container))];
    await publisher.register(replica, inspected, containers);
    for (const container of containers) feeder.tellAgain(replica.spec.replicaId, container);
  },
});

/** Brings what Consul says of a replica's services into its memory. */
export const noteCritical = (
  publisher: ReplicaPublisher,
  replica: NodeReplica,
  critical: ReadonlyMap<string, string>,
  look: (replicaId: string) => void,
): void => {
  const failing = new Map<string, string>();
  for (const { container, serviceId } of publisher.ports(replica)) {
    const words = critical.get(serviceId);
    if (words !== undefined) failing.set(container, words);
  }
  for (const { name, ports } of replica.spec.release.spec.containers) {
    if (ports.length > 0) noteFailure(replica, name, failing.get(name), look);
  }
};

export const noteFailure = (
  replica: NodeReplica,
  container: string,
  failure: string | undefined,
  look: (replicaId: string) => void,
): void => {
  const upkeep = upkeepOf(replica, container);
  const isServing = upkeep.servingRun !== undefined && upkeep.servingRun === upkeep.run;
  if (!isServing || (failure === undefined) === (upkeep.criticalSince === undefined)) return;
  upkeep.criticalSince = failure === undefined ? undefined : performance.now();
  upkeep.failure = failure ?? '';
  look(replica.spec.replicaId);
};
