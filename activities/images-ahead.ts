/**
 * Has images pulled ahead on the nodes that would take over when a node is lost, so that a replacement waits for no
 * registry. Part of the watch over the cluster, beside all operations: none waits for it, or knows of it.
 *
 * Invariants: what a node has is not asked for; a node is asked for one thing after the other, and less and less often
 * for what it does not get; in a cluster of one node nothing is read, and nothing asked.
 */

import type { ClusterChange } from '../contracts/cluster';
import type { KeyValueStore } from '../contracts/key-value-store';
import { KV_PREFIX } from '../contracts/kv';
import { AHEAD } from '../contracts/timeouts';
import { groupBy } from '../domain/group-by';
import { microserviceId, type Microservice, type ObservedReplica, type SnapshotNode } from '../domain/model';
import { findSpares } from '../domain/placement/spares';

export interface ImagesAheadDependencies {
  readonly store: Pick<KeyValueStore, 'list'>;
  readonly view: {
    nodes(): readonly SnapshotNode[];
    replicas(): readonly ObservedReplica[];
  };
  /**
   * Has a node pull images, one after the other, when it has nothing better to do.
   *
   * @returns false when it is still at what it was asked for before
   */
  readonly pullAhead: (nodeId: string, images: readonly string[]) => Promise<boolean>;
  readonly nowMs: () => number;
}

export interface ImagesAhead {
  /** Something has changed in the cluster. */
  note(change: ClusterChange): void;
  /** Looks what is to be pulled, when it is time to. */
  keep(): Promise<void>;
}

interface Asked {
  readonly times: number;
  readonly againAtMs: number;
}

/** So that a large cluster does not stop the process: after each so many microservices, others have their turn. */
const TURN = 20;

/** Whether what would be started elsewhere may be different ones, on other nodes. */
const matters = (change: ClusterChange): boolean => {
  switch (change.kind) {
    case 'replica':
      return change.before === undefined || change.after?.state !== change.before.state;
    case 'node':
      return change.isNew || change.isRelabelled === true || change.engine !== undefined;
    case 'availability':
    case 'membership':
      return true;
  }
};

export const createImagesAhead = (deps: ImagesAheadDependencies): ImagesAhead => {
  const { store, view, nowMs } = deps;
  let dueAtMs = nowMs() + AHEAD.settleMs;
  let notBeforeMs = 0;
  /** By node and image. */
  const asked = new Map<string, Asked>();
  const keyOf = (nodeId: string, image: string) => JSON.stringify([nodeId, image]);

  const wantedByNode = async (
    nodes: readonly SnapshotNode[],
  ): Promise<ReadonlyMap<string, ReadonlySet<string>>> => {
    const replicas = groupBy(view.replicas(), microserviceId);
    const wanted = new Map<string, Set<string>>();
    const microservices = await store.list<Microservice>(KV_PREFIX.microservices);
    for (const [index, { value }] of microservices.entries()) {
      if (index % TURN === TURN - 1) await new Promise((resolve) => setImmediate(resolve));
      // Before it has converged nobody knows where it will run, or whether its images are any good.
      if (value.state !== 'steady') continue;
      const id = microserviceId(value);
      const snapshot = { nodes, replicas: replicas.get(id) ?? [] };
      for (const { nodeId, images } of findSpares(value, snapshot, id, nowMs())) {
        const known = wanted.get(nodeId) ?? new Set();
        wanted.set(nodeId, known);
        for (const image of images) known.add(image);
      }
    }
    return wanted;
  };

  const look = async (): Promise<void> => {
    const nodes = view.nodes();
    if (nodes.filter(({ up }) => up).length < 2) return;
    const wanted = await wantedByNode(nodes);
    // What it has, or is not wanted there any more, is forgotten.
    const open = new Set<string>();
    for (const [nodeId, images] of wanted) for (const image of images) open.add(keyOf(nodeId, image));
    for (const key of [...asked.keys()]) if (!open.has(key)) asked.delete(key);

    for (const [nodeId, images] of wanted) {
      const due = [...images]
        .filter((image) => (asked.get(keyOf(nodeId, image))?.againAtMs ?? 0) <= nowMs())
        .sort()
        .slice(0, AHEAD.maxImages);
      if (due.length === 0 || !(await deps.pullAhead(nodeId, due))) continue;
      for (const image of due) {
        const times = (asked.get(keyOf(nodeId, image))?.times ?? 0) + 1;
        const pauseMs = Math.min(AHEAD.backoffMs * 2 ** (times - 1), AHEAD.maxBackoffMs);
        asked.set(keyOf(nodeId, image), { times, againAtMs: nowMs() + pauseMs });
      }
    }
  };

  return {
    note: (change) => {
      if (matters(change)) dueAtMs = Math.min(dueAtMs, Math.max(notBeforeMs, nowMs() + AHEAD.settleMs));
    },
    keep: async () => {
      if (nowMs() < dueAtMs) return;
      dueAtMs = nowMs() + AHEAD.everyMs;
      notBeforeMs = nowMs() + AHEAD.noSoonerMs;
      await look();
    },
  };
};
