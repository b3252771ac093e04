/**
 * The control plane's view of the cluster, kept by blocking queries: which nodes there are, which of them Consul's
 * membership holds for alive, unless that is doubted, and which come and go, what their operators say of them, what is
 * reserved on each; and word of every change.
 *
 * Invariants: the view may be some milliseconds old (the node is the admission authority), and under changes without end
 * that of the replicas a quarter of a second, unless somebody asks it to catch up; `ready` resolves when each of its parts
 * has been read once.
 */

import type { ClusterChange, MembersWatch } from '../../contracts/cluster';
import { createDocumentReader, type Documents } from '../../contracts/documents';
import { KV_PREFIX } from '../../contracts/kv';
import type { KvStore, KvWatch } from '../../contracts/kv-store';
import { afterSaying, doubtEndsAtMs, NOBODY_KNOWN } from '../../domain/doubted-losses';
import { returnOf, type NodeStability } from '../../domain/flapping';
import type { NodeAvailability, ObservedNode, ObservedReplica, SnapshotNode } from '../../domain/model';
import { snapshotNodes } from '../../domain/placement/snapshot';
import { sameJson } from '../../domain/spec/diff';

import type { ConsulClient } from './consul-client';
import { watchMembers } from './watch-members';

export interface ClusterView {
  readonly ready: Promise<void>;
  /** Resolves when the replicas are those that there were at the time of the call, as far as Consul has told it. */
  catchUp(): Promise<void>;
  nodes(): readonly SnapshotNode[];
  replicas(): readonly ObservedReplica[];
  /** Calls back on every change from now on, until the function that it returns is called. */
  subscribe(listener: (change: ClusterChange) => void): () => void;
  close(): void;
}

const engineChange = (before: ObservedNode | undefined, after: ObservedNode): 'lost' | 'back' | undefined => {
  const [wasLost, isLost] = [before?.engineLostAtMs !== undefined, after.engineLostAtMs !== undefined];
  if (wasLost === isLost) return undefined;
  return isLost ? 'lost' : 'back';
};

/** @param nowMs of a clock that nobody sets */
export const createClusterView = (
  consul: ConsulClient,
  kv: KvStore,
  onUnreachable: (error: unknown) => void,
  onUnreadable: (message: string) => void,
  nowMs: () => number = () => performance.now(),
): ClusterView => {
  const nodes = new Map<string, ObservedNode>();
  const replicas = new Map<string, ObservedReplica>();
  const settings = new Map<string, NodeAvailability>();
  const availabilityOf = (nodeId: string) => settings.get(nodeId);
  /** By node: whether it comes and goes. */
  const stability = new Map<string, NodeStability>();
  /** What the membership says, and what is believed of it. */
  let said: ReadonlyMap<string, boolean> = new Map();
  let members = NOBODY_KNOWN;
  let nextLook: NodeJS.Timeout | undefined;
  const listeners = new Set<(change: ClusterChange) => void>();
  const tell = (change: ClusterChange) => {
    for (const listener of listeners) listener(change);
  };

  const read = createDocumentReader(onUnreadable);

  const follow = <K extends 'nodes' | 'nodeSettings' | 'nodeStability' | 'replicas'>(
    kind: K,
    onSet: (key: string, document: Documents[K]) => void,
    onGone: (key: string) => void,
    pace?: 'calm',
  ) => {
    let watch: KvWatch | undefined;
    const first = new Promise<void>((resolve) => {
      watch = kv.watch(
        KV_PREFIX[kind],
        {
          changed: ({ changed, removed }) => {
            for (const stored of changed) {
              const document = read(kind, stored);
              if (document) onSet(stored.key, document);
              else onGone(stored.key);
            }
            for (const key of removed) onGone(key);
            resolve();
          },
          unreachable: onUnreachable,
        },
        pace,
      );
    });
    return { first, catchUp: async () => watch?.catchUp(), close: () => watch?.close() };
  };

  const nodesFollowed = follow(
    'nodes',
    (key, node) => {
      const before = nodes.get(key);
      nodes.set(key, node);
      const isRelabelled =
        before !== undefined &&
        (before.architecture !== node.architecture || !sameJson(before.labels, node.labels));
      const engine = engineChange(before, node);
      tell({
        kind: 'node',
        nodeId: node.id,
        isNew: before === undefined,
        isRelabelled,
        ...(engine === undefined ? {} : { engine }),
      });
    },
    (key) => {
      const gone = nodes.get(key);
      nodes.delete(key);
      if (gone) tell({ kind: 'node', nodeId: gone.id, isNew: false });
    },
  );

  const setAvailability = (nodeId: string, availability: NodeAvailability) => {
    const before = availabilityOf(nodeId) ?? 'active';
    if (availability === 'active') settings.delete(nodeId);
    else settings.set(nodeId, availability);
    if (before !== availability) tell({ kind: 'availability', nodeId, availability });
  };

  const settingsFollowed = follow(
    'nodeSettings',
    (_key, { id, availability }) => setAvailability(id, availability),
    (key) => setAvailability(key.slice(KV_PREFIX.nodeSettings.length), 'active'),
  );

  const stabilityFollowed = follow(
    'nodeStability',
    (_key, known) => void stability.set(known.id, known),
    (key) => stability.delete(key.slice(KV_PREFIX.nodeStability.length)),
  );

  const replicasFollowed = follow(
    'replicas',
    (key, after) => {
      const before = replicas.get(key);
      replicas.set(key, after);
      tell({ kind: 'replica', after, ...(before ? { before } : {}) });
    },
    (key) => {
      const before = replicas.get(key);
      replicas.delete(key);
      if (before) tell({ kind: 'replica', before });
    },
    // Every start and stop writes them; who plans catches up.
    'calm',
  );

  const lookAtMembers = () => {
    const before = members.up;
    members = afterSaying(members, said, nowMs());
    clearTimeout(nextLook);
    const doubtEnds = doubtEndsAtMs(members);
    if (doubtEnds !== undefined) nextLook = setTimeout(lookAtMembers, doubtEnds - nowMs());
    for (const [nodeId, up] of members.up) {
      if (before.get(nodeId) !== up) tell({ kind: 'membership', nodeId, up });
    }
    for (const nodeId of before.keys()) {
      if (!members.up.has(nodeId)) tell({ kind: 'membership', nodeId, up: false });
    }
  };

  let membersFollowed: MembersWatch | undefined;
  const membersRead = new Promise<void>((resolve) => {
    membersFollowed = watchMembers(consul, {
      changed: (now) => {
        said = now;
        lookAtMembers();
        resolve();
      },
      unreachable: onUnreachable,
    });
  });

  return {
    ready: Promise.all([
      nodesFollowed.first,
      settingsFollowed.first,
      stabilityFollowed.first,
      replicasFollowed.first,
      membersRead,
    ]).then(() => undefined),
    catchUp: () => replicasFollowed.catchUp(),
    nodes: () =>
      snapshotNodes([...nodes.values()], [...replicas.values()], {
        isUp: (nodeId) => members.up.get(nodeId) === true,
        availabilityOf,
        unstableUntilMs: (nodeId) => stability.get(nodeId)?.unstableUntilMs,
        returnedAtMs: (nodeId) => {
          const known = stability.get(nodeId);
          return known && returnOf(known);
        },
        lostWithAll: (nodeId) => stability.get(nodeId)?.lostWithAll,
      }),
    replicas: () => [...replicas.values()],
    subscribe: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => {
      membersFollowed?.close();
      clearTimeout(nextLook);
      nodesFollowed.close();
      settingsFollowed.close();
      stabilityFollowed.close();
      replicasFollowed.close();
    },
  };
};
