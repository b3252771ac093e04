/**
 * The control plane's view of the cluster, kept by blocking queries: which nodes there are, which of them Consul's
 * membership holds for alive, what is reserved on each; and word of every change.
 *
 * Invariants: the view may be some milliseconds old (the node is the admission authority); `ready` resolves when
 * each of its parts has been read once.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type { ClusterChange } from '../../contracts/cluster';
import { createDocumentReader, type Documents } from '../../contracts/documents';
import { KV_PREFIX } from '../../contracts/kv';
import type { KvStore, KvWatch } from '../../contracts/kv-store';
import type { ObservedNode, ObservedReplica, SnapshotNode } from '../../domain/model';

import type { ConsulClient } from './consul-client';

export interface ClusterView {
  readonly ready: Promise<void>;
  nodes(): readonly SnapshotNode[];
  replicas(): readonly ObservedReplica[];
  /** Calls back on every change from now on, until the function that it returns is called. */
  subscribe(listener: (change: ClusterChange) => void): () => void;
  close(): void;
}

interface SerfCheck {
  readonly Node: string;
  readonly Status: string;
}

const WAIT_MS = 60_000;
const RETRY_MS = 500;

export const createClusterView = (
  consul: ConsulClient,
  kv: KvStore,
  onUnreachable: (error: unknown) => void,
  onUnreadable: (message: string) => void,
): ClusterView => {
  const nodes = new Map<string, ObservedNode>();
  const replicas = new Map<string, ObservedReplica>();
  let members = new Map<string, boolean>();
  const listeners = new Set<(change: ClusterChange) => void>();
  const abort = new AbortController();
  const tell = (change: ClusterChange) => {
    for (const listener of listeners) listener(change);
  };

  const read = createDocumentReader(onUnreadable);

  const follow = <K extends 'nodes' | 'replicas'>(
    kind: K,
    onSet: (key: string, document: Documents[K]) => void,
    onGone: (key: string) => void,
  ) => {
    let watch: KvWatch | undefined;
    const first = new Promise<void>((resolve) => {
      watch = kv.watch(KV_PREFIX[kind], {
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
      });
    });
    return { first, close: () => watch?.close() };
  };

  const nodesFollowed = follow(
    'nodes',
    (key, node) => {
      const isNew = !nodes.has(key);
      nodes.set(key, node);
      tell({ kind: 'node', nodeId: node.id, isNew });
    },
    (key) => {
      const gone = nodes.get(key);
      nodes.delete(key);
      if (gone) tell({ kind: 'node', nodeId: gone.id, isNew: false });
    },
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
  );

  const followMembers = async (firstRead: () => void): Promise<void> => {
    let index = 0;
    while (!abort.signal.aborted) {
      try {
        const answer = await consul.request<readonly SerfCheck[] | undefined>({
          path: '/health/state/any',
          query: { filter: 'CheckID == "serfHealth"' },
          wait: { index, waitMs: WAIT_MS },
          signal: abort.signal,
        });
        // An index that goes backwards belongs to a Consul that lost its data: read anew (Consul's own advice).
        index = answer.index < index ? 0 : answer.index;
        const now = new Map((answer.body ?? []).map(({ Node, Status }) => [Node, Status === 'passing']));
        const before = members;
        members = now;
        for (const [nodeId, up] of now) {
          if (before.get(nodeId) !== up) tell({ kind: 'membership', nodeId, up });
        }
        for (const nodeId of before.keys()) {
          if (!now.has(nodeId)) tell({ kind: 'membership', nodeId, up: false });
        }
        firstRead();
      } catch (error) {
        if (abort.signal.aborted) return;
        onUnreachable(error);
        index = 0;
        await delay(RETRY_MS);
      }
    }
  };
  const membersRead = new Promise<void>((resolve) => void followMembers(resolve));

  return {
    ready: Promise.all([nodesFollowed.first, replicasFollowed.first, membersRead]).then(() => undefined),
    nodes: () => {
      const reserved = new Map<string, { cpus: number; memoryBytes: number; count: number }>();
      for (const replica of replicas.values()) {
        const sum = reserved.get(replica.nodeId) ?? { cpus: 0, memoryBytes: 0, count: 0 };
        sum.cpus += replica.cpusReserved;
        sum.memoryBytes += replica.memoryReservedBytes;
        sum.count += 1;
        reserved.set(replica.nodeId, sum);
      }
      return [...nodes.values()].map((node) => {
        const sum = reserved.get(node.id);
        return {
          ...node,
          up: members.get(node.id) ?? false,
          cpusReserved: sum?.cpus ?? 0,
          memoryReservedBytes: sum?.memoryBytes ?? 0,
          replicaCount: sum?.count ?? 0,
        };
      });
    },
    replicas: () => [...replicas.values()],
    subscribe: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => {
      abort.abort();
      nodesFollowed.close();
      replicasFollowed.close();
    },
  };
};
