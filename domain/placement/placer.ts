/**
 * Chooses a node for each replica of one plan, and keeps the account of what the plan has taken and freed.
 *
 * Invariants: a node is never filled above what it can allocate; the choice depends on the seed and on what was
 * observed, not on the order in which it was listed; every node that was not an option has a reason in words.
 */

import { isUnstable } from '../flapping';
import { hashText } from '../hash';
import type { NodeRejection, ObservedReplica, SnapshotNode } from '../model';
import { hasImage } from '../release-images';
import {
  FIXED_FILTERS,
  RENEWAL_FILTERS,
  ROOM_FILTERS,
  allocatableCpus,
  allocatableMemoryBytes,
  isBuilt,
  isNear,
  isOpen,
  type Candidate,
  type Filter,
} from './filters';
import { createHeap, type Heap } from './heap';
import type { Neighbour, ReplicaNeeds } from './needs';

/** What the scores compare, the first difference decides; less is better. */
interface Scored extends Candidate {
  readonly fixed: Filter | undefined;
  /** One that comes and goes is taken only when no other one will do. */
  readonly unstable: 0 | 1;
  /** And so is a degraded one, before that. */
  readonly degraded: 0 | 1;
  /** The release keeps failing there: it may be the node. */
  readonly crashLoops: 0 | 1;
  /** Where it stands, as its operator says; nodes that nobody has labelled are in one zone. */
  readonly zone: Zone;
  /** Replicas of the microservice that stay or are to come there. */
  placed: number;
  /** Replicas of the microservice that were there and left their volumes. */
  readonly observed: number;
  /** How many of the microservices that it should be near are not there, and of those that it should be apart from are. */
  readonly unlikely: number;
  readonly imagesMissing: number;
  /** Reserved of what can be, in thousandths; the fuller of CPUs and memory. */
  fullness: number;
  replicas: number;
  /** In tens of percent, so that noise decides nothing. */
  readonly load: number;
  readonly tieBreak: number;
}

interface Zone {
  readonly name: string;
  /** Replicas of the microservice that stay or are to come anywhere in it. */
  placed: number;
}

/** The label that tells where a node stands: replicas are spread over its values first. */
export const ZONE_LABEL = 'zone';

export interface PlacerInput {
  readonly nodes: readonly SnapshotNode[];
  /** Replicas of the microservice on nodes that are up, of any release. */
  readonly observed: readonly ObservedReplica[];
  /** Those of them that stay. */
  readonly staying: readonly ObservedReplica[];
  readonly needs: ReplicaNeeds;
  readonly refusals: Readonly<Record<string, string>>;
  readonly seed: string;
  readonly nowMs: number;
}

export interface Placer {
  /** Takes room for one more replica. @returns the node, or undefined when none will do */
  readonly place: () => string | undefined;
  /** Takes room for one more replica on this very node, whatever others there are. @returns whether it will do */
  readonly placeOn: (nodeId: string, renewal: boolean) => boolean;
  /**
   * Takes room for a replica in place of one of the others, so that nodes are more equal than before.
   *
   * @param mayMoveTo whether a stable node may be moved to for the sake of balance
   * @returns the node that takes it, and the node that has too many; undefined when all is as equal as it can be
   */
  readonly level: (mayMoveTo: (node: SnapshotNode) => boolean) => Move | undefined;
  /** Gives back the room of a replica that has been stopped. */
  readonly free: (replica: ObservedReplica) => void;
  /** Whether a replica could go to a healthy, stable node on which none of the microservice is crash-looping. */
  readonly hasRoomAwayFromCrashes: () => boolean;
  /** Why each node that would not take one more replica now would not, in the order of their ids. */
  readonly explain: () => readonly NodeRejection[];
  /** What speaks for and against each node that would take one more now, by its id. */
  readonly merits: () => ReadonlyMap<string, readonly string[]>;
}

export interface Move {
  readonly from: string;
  readonly to: string;
}

const countByNode = (replicas: readonly ObservedReplica[]): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>();
  for (const { nodeId } of replicas) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  return counts;
};

/** What orders the nodes of one zone, the first difference decides. */
const isBefore = (left: Scored, right: Scored, needs: ReplicaNeeds): boolean => {
  if (!needs.keepsData && left.unstable !== right.unstable) return left.unstable < right.unstable;
  if (left.degraded !== right.degraded) return left.degraded < right.degraded;
  if (needs.keepsData) {
    // Volumes stay on their node: a new replica goes where one before it has left its data.
    const [leftData, rightData] = [left.observed > left.placed, right.observed > right.placed];
    if (leftData !== rightData) return leftData;
    if (left.unstable !== right.unstable) return left.unstable < right.unstable;
  }
  if (left.crashLoops !== right.crashLoops) return left.crashLoops < right.crashLoops;
  if (left.zone.placed !== right.zone.placed) return left.zone.placed < right.zone.placed;
  if (left.placed !== right.placed) return left.placed < right.placed;
  if (left.unlikely !== right.unlikely) return left.unlikely < right.unlikely;
  if (left.imagesMissing !== right.imagesMissing) return left.imagesMissing < right.imagesMissing;
  // What says how large it is goes where it still fits, so that there is a place left for what is larger.
  if (needs.cpus + needs.memoryBytes > 0 && left.fullness !== right.fullness) {
    return left.fullness > right.fullness;
  }
  if (left.replicas !== right.replicas) return left.replicas < right.replicas;
  if (left.load !== right.load) return left.load < right.load;
  if (left.tieBreak !== right.tieBreak) return left.tieBreak < right.tieBreak;
  return left.node.id < right.node.id;
};

/** Whether it may be chosen where nothing has to be. */
const isSound = ({ unstable, degraded, crashLoops }: Scored): boolean =>
  unstable + degraded + crashLoops === 0;

const count = (number: number, noun: string): string => `${number} ${noun}${number === 1 ? '' : 's'}`;

const list = (neighbours: readonly Neighbour[]): string => neighbours.map(({ name }) => name).join(', ');

/** What decides over a node, in words, in the order in which it decides. */
const meritsOf = (candidate: Scored, needs: ReplicaNeeds, zoneCount: number): readonly string[] => {
  const { node, zone, placed, imagesMissing } = candidate;
  const isThere = ({ id }: Neighbour) => Object.hasOwn(node.microservices, id);
  const [near, far] = [needs.near.filter(isThere), needs.near.filter((one) => !isThere(one))];
  const disturbing = needs.apart.filter(isThere);
  return [
    ...(needs.keepsData && candidate.observed > placed ? ['has the data of an earlier replica'] : []),
    ...(candidate.crashLoops === 0 ? [] : ['a replica keeps ending there']),
    ...(zoneCount > 1
      ? [`its zone ${zone.name === '' ? '(none)' : zone.name} runs ${count(zone.placed, 'replica')} of it`]
      : []),
    placed === 0 ? 'runs none of it yet' : `runs ${count(placed, 'replica')} of it`,
    ...(near.length === 0 ? [] : [`is near ${list(near)}`]),
    ...(far.length === 0 ? [] : [`is not near ${list(far)}`]),
    ...(disturbing.length === 0 ? [] : [`runs ${list(disturbing)}, which it should be apart from`]),
    imagesMissing === 0 ? 'has its images' : `has to get ${count(imagesMissing, 'image')}`,
    ...(needs.cpus + needs.memoryBytes > 0 ? [`is ${Math.round(candidate.fullness / 10)}% reserved`] : []),
    `runs ${count(candidate.replicas, 'replica')} in all`,
    `uses about ${candidate.load * 10}% of its CPUs`,
  ];
};

/** @returns the account of one plan; it lives no longer than the call that plans */
export const createPlacer = (input: PlacerInput): Placer => {
  const { needs, refusals, seed, nowMs } = input;
  const observed = countByNode(input.observed);
  const staying = countByNode(input.staying);
  const crashLooping = countByNode(input.observed.filter(({ state }) => state === 'crash_looping'));

  const zones = new Map<string, Zone>();
  const zoneOf = ({ labels }: SnapshotNode): Zone => {
    const name = Object.hasOwn(labels, ZONE_LABEL) ? (labels[ZONE_LABEL] ?? '') : '';
    const zone = zones.get(name) ?? { name, placed: 0 };
    zones.set(name, zone);
    return zone;
  };
  const fullnessOf = (candidate: Pick<Candidate, 'node' | 'cpusFree' | 'memoryFreeBytes'>): number => {
    const { node, cpusFree, memoryFreeBytes } = candidate;
    const free = Math.min(
      cpusFree / allocatableCpus(node),
      memoryFreeBytes / Math.max(1, allocatableMemoryBytes(node)),
    );
    return Math.round((1 - free) * 1_000);
  };

  const candidates = input.nodes.map((node): Scored => {
    const present = new Set(node.images);
    const candidate: Candidate = {
      node,
      refusal: Object.hasOwn(refusals, node.id) ? refusals[node.id] : undefined,
      cpusFree: allocatableCpus(node) - node.cpusReserved,
      memoryFreeBytes: allocatableMemoryBytes(node) - node.memoryReservedBytes,
      memoryAvailableBytes: node.memoryAvailableBytes,
      ownReplicas: observed.get(node.id) ?? 0,
      dataLeft: needs.keepsData ? (observed.get(node.id) ?? 0) - (staying.get(node.id) ?? 0) : 0,
    };
    const zone = zoneOf(node);
    zone.placed += staying.get(node.id) ?? 0;
    const isThere = ({ id }: { readonly id: string }) => Object.hasOwn(node.microservices, id);
    return {
      ...candidate,
      zone,
      unlikely:
        needs.near.filter((one) => !isThere(one)).length + needs.apart.filter((one) => isThere(one)).length,
      fullness: fullnessOf(candidate),
      fixed: FIXED_FILTERS.find((filter) => !filter.passes(candidate, needs)),
      unstable: isUnstable(node, nowMs) ? 1 : 0,
      degraded: node.health === 'degraded' ? 1 : 0,
      crashLoops: crashLooping.has(node.id) ? 1 : 0,
      placed: staying.get(node.id) ?? 0,
      observed: observed.get(node.id) ?? 0,
      imagesMissing: needs.images.filter((image) => !hasImage(present, image)).length,
      replicas: node.replicaCount,
      load: Math.floor(node.cpuPercent / 10),
      tieBreak: hashText(`${seed}/${node.id}`),
    };
  });
  const open = candidates.filter(({ fixed }) => fixed === undefined);
  const byId = new Map(candidates.map((candidate) => [candidate.node.id, candidate]));
  const hasRoom = (candidate: Candidate) => ROOM_FILTERS.every((filter) => filter.passes(candidate, needs));

  const mayTake = (candidate: Candidate) => isOpen.passes(candidate, needs) && hasRoom(candidate);

  const account = (candidate: Scored, sign: 1 | -1, cpus: number, memoryBytes: number): void => {
    candidate.cpusFree -= sign * cpus;
    candidate.memoryFreeBytes -= sign * memoryBytes;
    candidate.memoryAvailableBytes -= sign * memoryBytes;
    candidate.ownReplicas += sign;
    candidate.replicas += sign;
    candidate.fullness = fullnessOf(candidate);
  };

  const take = (candidate: Scored): void => {
    account(candidate, 1, needs.cpus, needs.memoryBytes);
    candidate.placed += 1;
    candidate.dataLeft = Math.max(0, candidate.dataLeft - 1);
    candidate.zone.placed += 1;
  };

  // The order of the nodes of each zone that may still have room. Taking room makes only the first node of a zone less
  // good than the others of it, so the order holds; giving some back makes any node better, so it is made anew.
  let queues: readonly Heap<Scored>[] | undefined;
  const queuesOfZones = (): readonly Heap<Scored>[] =>
    [...zones.values()].map((zone) =>
      createHeap(
        open.filter((candidate) => candidate.zone === zone),
        (left, right) => isBefore(left, right, needs),
      ),
    );

  /** The first node of a zone that has room. */
  const firstOf = (queue: Heap<Scored>): Scored | undefined => {
    for (let best = queue.first(); best !== undefined; best = queue.first()) {
      if (mayTake(best)) return best;
      queue.removeFirst();
    }
    return undefined;
  };

  return {
    place: () => {
      queues ??= queuesOfZones();
      let best: Scored | undefined;
      let from: Heap<Scored> | undefined;
      for (const queue of queues) {
        const first = firstOf(queue);
        if (first === undefined || (best !== undefined && !isBefore(first, best, needs))) continue;
        best = first;
        from = queue;
      }
      if (best === undefined) return undefined;
      take(best);
      from?.demoteFirst();
      return best.node.id;
    },
    placeOn: (nodeId, renewal) => {
      const candidate = byId.get(nodeId);
      if (candidate === undefined || !hasRoom(candidate)) return false;
      const fixed = renewal
        ? RENEWAL_FILTERS.find((filter) => !filter.passes(candidate, needs))
        : candidate.fixed;
      if (fixed !== undefined) return false;
      take(candidate);
      queues = undefined;
      return true;
    },
    level: (mayMoveTo) => {
      // Nothing could be stopped where the engine does not answer.
      const sources = candidates.filter(
        ({ placed, node }) => placed >= 2 && node.engineLostAtMs === undefined,
      );
      const targets = open
        .filter((one) => isSound(one) && mayMoveTo(one.node) && hasRoom(one))
        .sort((left, right) => (isBefore(left, right, needs) ? -1 : 1));
      const bySurplus = [...sources].sort((left, right) =>
        left.placed !== right.placed ? right.placed - left.placed : left.node.id < right.node.id ? -1 : 1,
      );
      for (const target of targets) {
        const source = bySurplus.find(
          (one) =>
            one.placed - target.placed >= 2 &&
            // Never at the cost of the spread over zones: so each move brings the whole nearer to its end.
            (one.zone === target.zone || one.zone.placed > target.zone.placed),
        );
        if (source === undefined) continue;
        take(target);
        queues = undefined;
        return { from: source.node.id, to: target.node.id };
      }
      return undefined;
    },
    free: (replica) => {
      const candidate = byId.get(replica.nodeId);
      if (candidate === undefined) return;
      account(candidate, -1, replica.cpusReserved, replica.memoryReservedBytes);
      queues = undefined;
    },
    hasRoomAwayFromCrashes: () => open.some((candidate) => isSound(candidate) && hasRoom(candidate)),
    explain: () =>
      candidates
        .flatMap((candidate) => {
          const filter =
            candidate.fixed ?? [isOpen, ...ROOM_FILTERS].find((filter) => !filter.passes(candidate, needs));
          return filter === undefined
            ? []
            : [
                {
                  nodeId: candidate.node.id,
                  reason: filter.reason(candidate, needs),
                  ...(filter === isBuilt ? { noBuild: true as const } : {}),
                  ...(filter === isNear ? { noNeighbour: true as const } : {}),
                },
              ];
        })
        .sort((left, right) => (left.nodeId < right.nodeId ? -1 : 1)),
    merits: () =>
      new Map(
        open
          .filter((candidate) => mayTake(candidate))
          .map((candidate) => [candidate.node.id, meritsOf(candidate, needs, zones.size)]),
      ),
  };
};
