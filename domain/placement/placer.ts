/**
 * Chooses a node for each replica of one plan, and keeps the account of what the plan has taken and freed.
 *
 * Invariants: a node is never filled above what it can allocate; the choice depends on the seed and on what was
 * observed, not on the order in which it was listed; every node that was not an option has a reason in words.
 */

import { hashText } from '../hash';
import type { NodeRejection, ObservedReplica, SnapshotNode } from '../model';
import {
  FIXED_FILTERS,
  ROOM_FILTERS,
  allocatableCpus,
  allocatableMemoryBytes,
  type Candidate,
  type Filter,
} from './filters';
import { createHeap, type Heap } from './heap';
import type { ReplicaNeeds } from './needs';

/** What the scores compare, the first difference decides; less is better. */
interface Scored extends Candidate {
  readonly fixed: Filter | undefined;
  /** A degraded node is taken only when no other one will do. */
  readonly degraded: 0 | 1;
  /** The release keeps failing there: it may be the node. */
  readonly crashLoops: 0 | 1;
  /** Replicas of the microservice that stay or are to come there. */
  placed: number;
  /** Replicas of the microservice that were there and left their volumes. */
  readonly observed: number;
  readonly imagesMissing: number;
  replicas: number;
  /** In tens of percent, so that noise decides nothing. */
  readonly load: number;
  readonly tieBreak: number;
}

export interface PlacerInput {
  readonly nodes: readonly SnapshotNode[];
  /** Replicas of the microservice on nodes that are up, of any release. */
  readonly observed: readonly ObservedReplica[];
  /** Those of them that stay. */
  readonly staying: readonly ObservedReplica[];
  readonly needs: ReplicaNeeds;
  readonly refusals: Readonly<Record<string, string>>;
  readonly seed: string;
}

export interface Placer {
  /** Takes room for one more replica. @returns the node, or undefined when none will do */
  readonly place: () => string | undefined;
  /** Gives back the room of a replica that has been stopped. */
  readonly free: (replica: ObservedReplica) => void;
  /** Whether a replica could go to a healthy node on which none of the microservice is crash-looping. */
  readonly hasRoomAwayFromCrashes: () => boolean;
  /** Why each node that would not take one more replica now would not, in the order of their ids. */
  readonly explain: () => readonly NodeRejection[];
}

const countByNode = (replicas: readonly ObservedReplica[]): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>();
  for (const { nodeId } of replicas) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  return counts;
};

const isBefore = (left: Scored, right: Scored, keepsData: boolean): boolean => {
  if (left.degraded !== right.degraded) return left.degraded < right.degraded;
  if (keepsData) {
    // Volumes stay on their node: a new replica goes where one before it has left its data.
    const [leftData, rightData] = [left.observed > left.placed, right.observed > right.placed];
    if (leftData !== rightData) return leftData;
  }
  if (left.crashLoops !== right.crashLoops) return left.crashLoops < right.crashLoops;
  if (left.placed !== right.placed) return left.placed < right.placed;
  if (left.imagesMissing !== right.imagesMissing) return left.imagesMissing < right.imagesMissing;
  if (left.replicas !== right.replicas) return left.replicas < right.replicas;
  if (left.load !== right.load) return left.load < right.load;
  if (left.tieBreak !== right.tieBreak) return left.tieBreak < right.tieBreak;
  return left.node.id < right.node.id;
};

/** @returns the account of one plan; it lives no longer than the call that plans */
export const createPlacer = (input: PlacerInput): Placer => {
  const { needs, refusals, seed } = input;
  const observed = countByNode(input.observed);
  const staying = countByNode(input.staying);
  const crashLooping = countByNode(input.observed.filter(({ state }) => state === 'crash_looping'));

  const candidates = input.nodes.map((node): Scored => {
    const present = new Set(node.images);
    const candidate: Candidate = {
      node,
      refusal: Object.hasOwn(refusals, node.id) ? refusals[node.id] : undefined,
      cpusFree: allocatableCpus(node) - node.cpusReserved,
      memoryFreeBytes: allocatableMemoryBytes(node) - node.memoryReservedBytes,
      memoryAvailableBytes: node.memoryAvailableBytes,
      ownReplicas: observed.get(node.id) ?? 0,
    };
    return {
      ...candidate,
      fixed: FIXED_FILTERS.find((filter) => !filter.passes(candidate, needs)),
      degraded: node.health === 'degraded' ? 1 : 0,
      crashLoops: crashLooping.has(node.id) ? 1 : 0,
      placed: staying.get(node.id) ?? 0,
      observed: observed.get(node.id) ?? 0,
      imagesMissing: needs.images.filter((image) => !present.has(image)).length,
      replicas: node.replicaCount,
      load: Math.floor(node.cpuPercent / 10),
      tieBreak: hashText(`${seed}/${node.id}`),
    };
  });
  const open = candidates.filter(({ fixed }) => fixed === undefined);
  const byId = new Map(candidates.map((candidate) => [candidate.node.id, candidate]));
  const hasRoom = (candidate: Candidate) => ROOM_FILTERS.every((filter) => filter.passes(candidate, needs));

  const account = (candidate: Scored, sign: 1 | -1, cpus: number, memoryBytes: number): void => {
    candidate.cpusFree -= sign * cpus;
    candidate.memoryFreeBytes -= sign * memoryBytes;
    candidate.memoryAvailableBytes -= sign * memoryBytes;
    candidate.ownReplicas += sign;
    candidate.replicas += sign;
  };

  // The order of the nodes that may still have room. Taking room makes only the first node less good, so the order
  // holds; giving some back makes any node better, so it is made anew.
  let queue: Heap<Scored> | undefined;

  return {
    place: () => {
      queue ??= createHeap(open, (left, right) => isBefore(left, right, needs.keepsData));
      for (let best = queue.first(); best !== undefined; best = queue.first()) {
        if (hasRoom(best)) {
          account(best, 1, needs.cpus, needs.memoryBytes);
          best.placed += 1;
          queue.demoteFirst();
          return best.node.id;
        }
        queue.removeFirst();
      }
      return undefined;
    },
    free: (replica) => {
      const candidate = byId.get(replica.nodeId);
      if (candidate === undefined) return;
      account(candidate, -1, replica.cpusReserved, replica.memoryReservedBytes);
      queue = undefined;
    },
    hasRoomAwayFromCrashes: () =>
      open.some((candidate) => candidate.degraded === 0 && candidate.crashLoops === 0 && hasRoom(candidate)),
    explain: () =>
      candidates
        .flatMap((candidate) => {
          const filter = candidate.fixed ?? ROOM_FILTERS.find((filter) => !filter.passes(candidate, needs));
          return filter === undefined
            ? []
            : [{ nodeId: candidate.node.id, reason: filter.reason(candidate, needs) }];
        })
        .sort((left, right) => (left.nodeId < right.nodeId ? -1 : 1)),
  };
};
