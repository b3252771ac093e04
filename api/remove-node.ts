/**
 * Removes nodes for good: identity, documents, replicas, membership.
 *
 * Invariants: what a node may do is taken away before what is known of it; from the moment that its document is gone
 * nothing new is placed there, and only then its replicas' documents go, which has them replaced; what was done half is
 * found and finished by a repeated removal: what is remembered of the node goes last. The event is one write with the
 * end of the node's document.
 */

import { checkDocument } from '../contracts/documents';
import type { KeyValueStore, KvOperation } from '../contracts/key-value-store';
import {
  KV_PREFIX,
  eventKvKey,
  identityKvKey,
  nodeKvKey,
  nodeSettingsKvKey,
  nodeStabilityKvKey,
} from '../contracts/kv';
import type { Membership } from '../contracts/membership';
import { ContainerOsError } from '../domain/errors';
import { isNodeId, type NodeIdentity } from '../domain/identity';
import type { ClusterEvent, ObservedReplica } from '../domain/model';
import { isMovable } from '../domain/placement/snapshot';

import { revokeIdentity } from './join/identities';

export interface NodeRemover {
  /** @throws {ContainerOsError} `conflict` for the machine that runs the control plane */
  assertRemovable(nodeId: string): void;
  /**
   * @returns Consul's index of the write that ended the node; undefined when no such node was ever heard of
   * @throws {ContainerOsError} as `assertRemovable`; `unavailable` when Consul does not answer: what is left is done by
   *   repeating
   */
  remove(nodeId: string): Promise<number | undefined>;
}

export interface NodeRemoverDeps {
  readonly store: KeyValueStore;
  readonly membership: Membership;
  /** The machine that runs the control plane. */
  readonly controlPlaneNodeId: string;
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
  readonly nowMs: () => number;
}

interface Stored {
  readonly key: string;
  readonly replica: ObservedReplica;
}

/** Consul takes 64 operations in one transaction. */
const DELETED_AT_ONCE = 60;

export const createNodeRemover = (deps: NodeRemoverDeps): NodeRemover => {
  const { store, membership, controlPlaneNodeId, randomSuffix, nowMs } = deps;

  const write = async (operations: readonly KvOperation[]): Promise<number> => {
    const result = await store.transact(operations);
    if (result.kind === 'written') return result.index;
    throw new ContainerOsError('unavailable', `Consul did not take the removal of ${result.key}. Try again.`);
  };

  const replicasOn = async (nodeId: string): Promise<readonly Stored[]> => {
    const stored = await store.list(KV_PREFIX.replicas);
    return stored.flatMap(({ key, value }) => {
      const read = checkDocument('replicas', key, value);
      return 'document' in read && read.document.nodeId === nodeId ? [{ key, replica: read.document }] : [];
    });
  };

  const forget = async (replicas: readonly Stored[]): Promise<void> => {
    for (let first = 0; first < replicas.length; first += DELETED_AT_ONCE) {
      const portion = replicas.slice(first, first + DELETED_AT_ONCE);
      await write(portion.map(({ key }) => ({ kind: 'delete', key })));
    }
  };

  const eventOf = (nodeId: string, replicas: readonly Stored[]): KvOperation => {
    const moving = replicas.filter(({ replica }) => isMovable(replica)).length;
    const follows =
      moving === 0
        ? ''
        : `: ${moving} ${moving === 1 ? 'replica that was there has' : 'replicas that were there have'} to start elsewhere`;
    const atMs = nowMs();
    const event: ClusterEvent = {
      atMs,
      level: 'info',
      type: 'node.removed',
      message: `node ${nodeId} is removed${follows}`,
      node: nodeId,
    };
    return { kind: 'set', key: eventKvKey(atMs, randomSuffix()), value: event };
  };

  const assertRemovable = (nodeId: string): void => {
    if (nodeId !== controlPlaneNodeId) return;
    throw new ContainerOsError(
      'conflict',
      `Node ${nodeId} runs the control plane, which the cluster cannot be without. To have nothing else run there, drain it: POST /v1/nodes/${nodeId}/drain.`,
    );
  };

  return {
    assertRemovable,
    remove: async (nodeId) => {
      assertRemovable(nodeId);
      if (!isNodeId(nodeId)) return undefined;
      const [node, settings, stability] = [
        nodeKvKey(nodeId),
        nodeSettingsKvKey(nodeId),
        nodeStabilityKvKey(nodeId),
      ];
      const hasIdentity = await revokeIdentity({ store, nowMs }, nodeId);
      const isThere = (await store.get(node)) !== undefined;
      const replicas = await replicasOn(nodeId);
      const isKnown =
        hasIdentity || isThere || replicas.length > 0 || (await store.get(stability)) !== undefined;
      if (!isKnown) return undefined;

      const index = await write([
        { kind: 'delete', key: node },
        { kind: 'delete', key: settings },
        ...(isThere ? [eventOf(nodeId, replicas)] : []),
      ]);
      await forget(replicas);
      await membership.removeNode(nodeId);

      // What the node was about to write when it was refused; unless another machine has taken its name meanwhile.
      const identity = await store.get<NodeIdentity>(identityKvKey(nodeId));
      if (identity?.value !== undefined && identity.value.revokedAtMs === undefined) return index;
      await forget(await replicasOn(nodeId));
      await write([node, settings, stability].map((key) => ({ kind: 'delete', key })));
      return index;
    },
  };
};
