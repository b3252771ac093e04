/**
 * Removes nodes for good: identity, documents, replicas, membership.
 *
 * Invariants: what a node may do is taken away before what is known of it; from the moment that its document is gone
 * nothing new is placed there, and only then its replicas' documents go, which has them replaced; what was done half is
 * found and finished by a repeated removal: what is remembered of the node goes last. The event is one write with the
 * end of the node's document. From the moment that the identity is revoked another machine may take the name, in
 * whatever process: every step holds only as long as the identity is the revoked one, so that nothing of that machine's
 * is touched.
 */

import { checkDocument } from '../contracts/documents';
import type { KeyValueStore, KvOperation } from '../contracts/key-value-store';
import {
  KV_PREFIX,
  eventKvKey,
  identityKvKey,
  ingressKvKey,
  requestCountsKvKey,
  nodeKvKey,
  nodeSettingsKvKey,
  nodeStabilityKvKey,
} from '../contracts/kv';
import type { Membership, RemovedName } from '../contracts/membership';
import { ContainerOsError } from '../domain/errors';
import { isNodeId } from '../domain/identity';
import type { ClusterEvent, ObservedReplica } from '../domain/model';
import { isMovable } from '../domain/placement/snapshot';

import { revokeIdentity } from './join/identities';

export interface NodeRemover {
  /** @throws {ContainerOsError} `conflict` for the head node */
  assertRemovable(nodeId: string): void;
  /**
   * @param serial of the certificate of a node that asks for itself, in hex of either case; left out: whoever has the name
   * @returns Consul's index of the write that ended the node; undefined when no such node was ever heard of
   * @throws {ContainerOsError} as `assertRemovable`; `unauthenticated` when the serial is not that of who has the name
   *   now; `unavailable` when Consul does not answer: what is left is done by
   *   repeating
   */
  remove(nodeId: string, serial?: string): Promise<number | undefined>;
}

export interface NodeRemoverDeps {
  readonly store: KeyValueStore;
  readonly membership: Membership;
  readonly headNodeId: string;
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
  const { store, membership, headNodeId, randomSuffix, nowMs } = deps;

  /** @returns Consul's index of the write; undefined when another machine has taken the name */
  const write = async (
    { nodeId, identityIndex }: RemovedName,
    operations: readonly KvOperation[],
  ): Promise<number | undefined> => {
    const key = identityKvKey(nodeId);
    const result = await store.transact([{ kind: 'unchanged', key, index: identityIndex }, ...operations]);
    if (result.kind === 'written') return result.index;
    if (result.key === key) return undefined;
    throw new ContainerOsError('unavailable', `Consul did not take the removal of ${result.key}. Try again.`);
  };

  const replicasOn = async (nodeId: string): Promise<readonly Stored[]> => {
    const stored = await store.list(KV_PREFIX.replicas);
    return stored.flatMap(({ key, value }) => {
      const read = checkDocument('replicas', key, value);
      return 'document' in read && read.document.nodeId === nodeId ? [{ key, replica: read.document }] : [];
    });
  };

  const forget = async (name: RemovedName, replicas: readonly Stored[]): Promise<void> => {
    for (let first = 0; first < replicas.length; first += DELETED_AT_ONCE) {
      const portion = replicas.slice(first, first + DELETED_AT_ONCE);
      await write(
        name,
        portion.map(({ key }) => ({ kind: 'delete', key })),
      );
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
    if (nodeId !== headNodeId) return;
    throw new ContainerOsError(
      'conflict',
      `Node ${nodeId} runs the control plane, which the cluster cannot be without. To have nothing else run there, drain it: POST /v1/nodes/${nodeId}/drain.`,
    );
  };

  return {
    assertRemovable,
    remove: async (nodeId, serial) => {
      assertRemovable(nodeId);
      if (!isNodeId(nodeId)) return undefined;
      const [node, settings, stability] = [
        nodeKvKey(nodeId),
        nodeSettingsKvKey(nodeId),
        nodeStabilityKvKey(nodeId),
      ];
      const identityIndex = await revokeIdentity({ store, nowMs }, nodeId, serial?.toLowerCase());
      const name: RemovedName = { nodeId, identityIndex };
      const isThere = (await store.get(node)) !== undefined;
      const replicas = await replicasOn(nodeId);
      const isKnown =
        identityIndex !== undefined ||
        isThere ||
        replicas.length > 0 ||
        (await store.get(stability)) !== undefined;
      if (!isKnown) return undefined;

      const index = await write(name, [
        { kind: 'delete', key: node },
        { kind: 'delete', key: settings },
        { kind: 'delete', key: ingressKvKey(nodeId) },
        { kind: 'delete', key: requestCountsKvKey(nodeId) },
        ...(isThere ? [eventOf(nodeId, replicas)] : []),
      ]);
      // What is left of it then ends with the join of the machine that has its name, or is found there by its worker.
      if (index === undefined) return identityIndex ?? 0;
      await forget(name, replicas);
      if (!(await membership.removeNode(name))) return index;

      // What the node was about to write when it was refused.
      await forget(name, await replicasOn(nodeId));
      await write(
        name,
        [node, settings, stability].map((key) => ({ kind: 'delete', key })),
      );
      return index;
    },
  };
};
