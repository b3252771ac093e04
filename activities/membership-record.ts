/**
 * What becomes of nodes over time: tells that one is lost, is back, comes and goes, or stays again, and remembers it.
 *
 * Invariants: a change is told once, whichever watch has seen it: what was told stands beside the event that told it,
 * and the two are one write on condition that nobody else has written; changes of a node are recorded in their order;
 * of what is no node (any more) nothing is recorded.
 */

import { checkDocument } from '../contracts/documents';
import type { KeyValueStore, KvOperation } from '../contracts/key-value-store';
import { eventKvKey, KV_PREFIX, nodeKvKey, nodeStabilityKvKey } from '../contracts/kv';
import { ContainerOsError } from '../domain/errors';
import {
  afterLoss,
  afterPeriod,
  afterReturn,
  durationInWords,
  firstSeen,
  instabilityInWords,
  isUnheard,
  isPeriodOver,
  timeAloneAt,
  type NodeStability,
} from '../domain/flapping';
import { microserviceId, type ClusterEvent, type ObservedReplica, type SnapshotNode } from '../domain/model';
import { isMovable } from '../domain/placement/snapshot';

export interface MembershipRecordDependencies {
  readonly store: KeyValueStore;
  readonly view: {
    nodes(): readonly Pick<SnapshotNode, 'id' | 'up' | 'updatedAtMs'>[];
    replicas(): readonly ObservedReplica[];
  };
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
  readonly nowMs: () => number;
}

export interface MembershipRecord {
  /** Notes that the membership of a node has changed; `keep` records it. */
  note(nodeId: string, up: boolean): void;
  /** Notes a node that is new, perhaps under an old name. */
  noteNew(nodeId: string, up: boolean): void;
  /** Whether something was noted that is not recorded yet. */
  hasNews(): boolean;
  /**
   * Records what was noted, and ends the periods that are over. What fails is tried again the next time.
   *
   * @param isBack called when a node's return has been recorded, or could not be: it is back all the same; and when one
   *   is found to have come back while nobody watched
   * @param isCalm called when a node has stayed for as long as it had to
   */
  keep(isBack: (nodeId: string) => void, isCalm: (nodeId: string) => void): Promise<void>;
}

interface Noted {
  readonly nodeId: string;
  readonly up: boolean;
  readonly atMs: number;
  /** Whether it is to be told that the node is back, whatever is recorded. */
  tellsBack: boolean;
}

type News = Pick<ClusterEvent, 'level' | 'type' | 'message'>;

const ATTEMPTS = 10;

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;

/** @param replicas those on the node */
const newsOfLoss = (nodeId: string, replicas: readonly ObservedReplica[]): News => {
  const moving = replicas.filter(isMovable);
  const microservices = new Set(moving.map(microserviceId)).size;
  const follows =
    moving.length === 0
      ? 'nothing that ran there has to start elsewhere'
      : `${count(moving.length, 'replica')} of ${count(microservices, 'microservice')} that ran there ${moving.length === 1 ? 'has' : 'have'} to start elsewhere`;
  return { level: 'warning', type: 'node.lost', message: `node ${nodeId} is lost: ${follows}` };
};

const newsOfReturn = (before: NodeStability, after: NodeStability): readonly News[] => {
  const instability = instabilityInWords(after);
  const awayMs = after.changedAtMs - before.changedAtMs;
  const all =
    after.lostWithAll === undefined
      ? ''
      : ': it was lost together with all others but one, as when that one is cut off, so the loss does not count';
  return [
    {
      level: 'info',
      type: 'node.returned',
      message: `node ${after.id} is back after ${durationInWords(awayMs)}${all}`,
    },
    ...(instability === undefined
      ? []
      : [{ level: 'warning', type: 'node.unstable', message: `node ${after.id} ${instability}` } as const]),
  ];
};

const newsOfCalm = ({ id, changedAtMs }: NodeStability, nowMs: number): News => ({
  level: 'info',
  type: 'node.stable',
  message: `node ${id} has stayed for ${durationInWords(nowMs - changedAtMs)}: it is used like other nodes again`,
});

export const createMembershipRecord = (deps: MembershipRecordDependencies): MembershipRecord => {
  const { store, view, randomSuffix, nowMs } = deps;
  const noted: Noted[] = [];
  /** What was told of each node, and the nodes whose period is not over; undefined until it has been read. */
  let told: Map<string, NodeStability> | undefined;
  const unstable = new Map<string, NodeStability>();
  /** Nodes that are back, and of whose replicas nobody knows yet. */
  const unheard = new Set<string>();

  const remember = (known: NodeStability) => {
    told?.set(known.id, known);
    if (known.up && known.lostWithAll !== undefined) unheard.add(known.id);
    else unheard.delete(known.id);
    if (known.unstableUntilMs === undefined) unstable.delete(known.id);
    else unstable.set(known.id, known);
  };

  const forget = (nodeId: string) => {
    told?.delete(nodeId);
    unstable.delete(nodeId);
    unheard.delete(nodeId);
  };

  const eventsOf = (nodeId: string, news: readonly News[], atMs: number): readonly KvOperation[] =>
    news.map((one, index) => {
      const event: ClusterEvent = { atMs, ...one, node: nodeId };
      return { kind: 'set', key: eventKvKey(atMs, `${index}${randomSuffix()}`), value: event };
    });

  /**
   * Writes what a node becomes together with the news of it.
   *
   * @param change what it becomes; undefined when there is nothing to record
   * @returns whether there was
   */
  const write = async (
    nodeId: string,
    change: (
      known: NodeStability | undefined,
    ) => { readonly after: NodeStability; readonly news: readonly News[] } | undefined,
  ): Promise<boolean> => {
    const key = nodeStabilityKvKey(nodeId);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const found = await store.get(key);
      // Asked after it: who removes a node deletes the node first.
      if ((await store.get(nodeKvKey(nodeId))) === undefined) {
        forget(nodeId);
        return false;
      }
      const read = found?.value === undefined ? undefined : checkDocument('nodeStability', key, found.value);
      const known = read !== undefined && 'document' in read ? read.document : undefined;
      const changed = change(known);
      if (changed === undefined) {
        if (known !== undefined) remember(known);
        return false;
      }
      const { after, news } = changed;
      const result = await store.transact([
        found === undefined
          ? { kind: 'create', key, value: after }
          : { kind: 'replace', key, value: after, ifIndex: found.index },
        ...eventsOf(nodeId, news, nowMs()),
      ]);
      if (result.kind === 'written') {
        remember(after);
        return true;
      }
    }
    throw new ContainerOsError('unavailable', `What is remembered of node ${nodeId} changes too often now.`);
  };

  const record = ({ nodeId, up, atMs }: Noted) =>
    write(nodeId, (known) => {
      // Of a node that has not been there yet nobody can say that it is lost.
      if (known === undefined) return up ? { after: firstSeen(nodeId, atMs), news: [] } : undefined;
      if (known.up === up) return undefined;
      if (up) {
        const others = [...(told?.values() ?? [])].filter(({ id }) => id !== nodeId);
        const alone = timeAloneAt(known, others, atMs);
        const reportedAtMs = view.nodes().find(({ id }) => id === nodeId)?.updatedAtMs;
        const after = afterReturn(
          known,
          atMs,
          alone && { ...alone, ...(reportedAtMs === undefined ? {} : { reportedAtMs }) },
        );
        return { after, news: newsOfReturn(known, after) };
      }
      const there = view.replicas().filter((replica) => replica.nodeId === nodeId);
      return { after: afterLoss(known, atMs), news: [newsOfLoss(nodeId, there)] };
    });

  const note = (nodeId: string, up: boolean, tellsBack: boolean) =>
    noted.push({ nodeId, up, atMs: nowMs(), tellsBack });

  const load = async () => {
    if (told !== undefined) return;
    const documents = await store.list(KV_PREFIX.nodeStability);
    told = new Map();
    for (const { key, value } of documents) {
      const read = checkDocument('nodeStability', key, value);
      if ('document' in read) remember(read.document);
    }
    // What happened while nobody watched.
    for (const { id, up } of view.nodes()) if (told.get(id)?.up !== up) note(id, up, up && told.has(id));
  };

  const recordNoted = async (isBack: (nodeId: string) => void) => {
    for (let next = noted[0]; next !== undefined; next = noted[0]) {
      try {
        if (told?.get(next.nodeId)?.up !== next.up) await record(next);
        noted.shift();
      } finally {
        if (next.tellsBack) {
          next.tellsBack = false;
          isBack(next.nodeId);
        }
      }
    }
  };

  /** Only then what was started in place of what they have can stop (domain/reconcile). */
  const hearOf = (isBack: (nodeId: string) => void) => {
    for (const { id, updatedAtMs } of view.nodes()) {
      if (!unheard.has(id) || isUnheard({ lostWithAll: told?.get(id)?.lostWithAll, updatedAtMs }, nowMs()))
        continue;
      unheard.delete(id);
      isBack(id);
    }
  };

  const endPeriods = async (isCalm: (nodeId: string) => void) => {
    for (const known of [...unstable.values()]) {
      if (!isPeriodOver(known, nowMs())) continue;
      const isEnded = await write(known.id, (found) =>
        found === undefined || !isPeriodOver(found, nowMs())
          ? undefined
          : { after: afterPeriod(found), news: [newsOfCalm(found, nowMs())] },
      );
      if (isEnded) isCalm(known.id);
    }
  };

  return {
    note: (nodeId, up) => note(nodeId, up, up),
    noteNew: (nodeId, up) => {
      forget(nodeId);
      if (up) note(nodeId, up, false);
    },
    hasNews: () => noted.length > 0,
    keep: async (isBack, isCalm) => {
      await load();
      await recordNoted(isBack);
      hearOf(isBack);
      await endPeriods(isCalm);
    },
  };
};
