/**
 * What a plan is made from.
 *
 * Invariant: what an operator was told to be in force is in it. The view follows Consul and may be behind, by moments
 * usually and by seconds after Consul was away; who was answered that a node is cordoned must not see it get replicas.
 */

import type { KeyValueStore } from '../contracts/key-value-store';
import { KV_PREFIX, replicasKvPrefix } from '../contracts/kv';
import { ContainerOsError } from '../domain/errors';
import type { MicroserviceKey, NodeSettings, ObservedReplica, Snapshot, SnapshotNode } from '../domain/model';

interface SnapshotDependencies {
  readonly store: Pick<KeyValueStore, 'list'>;
  readonly view: {
    readonly ready: Promise<void>;
    catchUp(): Promise<void>;
    nodes(): readonly SnapshotNode[];
  };
}

/**
 * @returns reads the nodes as they are followed, and the microservice's replicas and the nodes' settings as they are
 * @throws {ContainerOsError} `unavailable`, from what it returns, when no node is up
 */
export const createSnapshotReader =
  ({ store, view }: SnapshotDependencies) =>
  async (key: MicroserviceKey): Promise<Snapshot> => {
    await view.ready;
    const [replicas, settings] = await Promise.all([
      store.list<ObservedReplica>(replicasKvPrefix(key)),
      store.list<NodeSettings>(KV_PREFIX.nodeSettings),
      // What has left makes room at once.
      view.catchUp(),
    ]);
    const nodes = view.nodes();
    // Not a lack of room but of everything: it passes, and a plan without nodes would only fail.
    if (!nodes.some(({ up }) => up)) {
      throw new ContainerOsError(
        'unavailable',
        'No node is up. Look at GET /v1/nodes and at the nodes themselves.',
      );
    }
    const availability = new Map(settings.map(({ value }) => [value.id, value.availability]));
    return {
      nodes: nodes.map((node) => ({ ...node, availability: availability.get(node.id) ?? 'active' })),
      replicas: replicas.map(({ value }) => value),
    };
  };
