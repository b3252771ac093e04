/**
 * Which nodes may take a replica, and why the others may not.
 *
 * Invariants: a filter looks at one node and what one replica needs, and at nothing else; `passes` is cheap (it runs
 * for every replica on every node), `reason` is one line for people. A degraded node passes: it is the last choice,
 * not a wrong one (placer.ts).
 */

import { timeInWords } from '../flapping';
import { isSameMicroservice, type MicroserviceKey, type SnapshotNode } from '../model';
import { lackingBuilds, missingBuildInWords } from './builds';
import { unmetConstraints } from './constraints';
import type { Neighbour, ReplicaNeeds } from './needs';

/** A node as a plan sees it: what was observed, less what the plan has put there, plus what it has stopped there. */
export interface Candidate {
  readonly node: SnapshotNode;
  readonly refusal: string | undefined;
  cpusFree: number;
  memoryFreeBytes: number;
  /** What the machine really has left, whoever uses the rest. */
  memoryAvailableBytes: number;
  /** Replicas of the microservice that run there now, of any release. */
  ownReplicas: number;
  /** Replicas that leave data in volumes there, less those that have taken it up: a replica may come back to it. */
  dataLeft: number;
}

export interface PortInUse {
  /** `port/protocol` */
  readonly port: string;
  readonly user: MicroserviceKey;
}

export interface Filter {
  readonly passes: (candidate: Candidate, needs: ReplicaNeeds) => boolean;
  readonly reason: (candidate: Candidate, needs: ReplicaNeeds) => string;
}

const MB = 1_000_000;

/** Kept for the system and ContainerOS itself: 5%, and of memory no less than 128 MB. */
const SYSTEM_SHARE = 0.05;
const SYSTEM_MEMORY_BYTES = 128 * MB;
/** Below either floor the engine itself gets into trouble: 5%, and no more than this on large machines. */
const FLOOR_SHARE = 0.05;
const MEMORY_FLOOR_BYTES = 128 * MB;
const DISK_FLOOR_BYTES = 1_000 * MB;
/** Sums of decimal fractions of CPUs are not exact. */
const CPU_TOLERANCE = 1e-9;

export const allocatableCpus = (node: SnapshotNode): number => node.capacity.cpus * (1 - SYSTEM_SHARE);

export const allocatableMemoryBytes = (node: SnapshotNode): number =>
  node.capacity.memoryBytes - Math.max(SYSTEM_MEMORY_BYTES, node.capacity.memoryBytes * SYSTEM_SHARE);

const memoryFloorBytes = (node: SnapshotNode): number =>
  Math.min(MEMORY_FLOOR_BYTES, node.capacity.memoryBytes * FLOOR_SHARE);

const diskFloorBytes = (node: SnapshotNode): number =>
  Math.min(DISK_FLOOR_BYTES, node.capacity.diskBytes * FLOOR_SHARE);

const words = (value: number): string => String(Math.round(Math.max(0, value) * 100) / 100);

export const formatCpus = (cpus: number): string => {
  const text = words(cpus);
  return `${text} ${text === '1' ? 'CPU' : 'CPUs'}`;
};

export const formatBytes = (bytes: number): string =>
  bytes >= 1_000 * MB ? `${words(bytes / (1_000 * MB))} GB` : `${Math.round(Math.max(0, bytes) / MB)} MB`;

const isUp: Filter = {
  passes: ({ node }) => node.up,
  reason: () => 'is not reachable',
};

const hasEngine: Filter = {
  passes: ({ node }) => node.engineLostAtMs === undefined,
  reason: ({ node }) =>
    `has had no answer from its Docker Engine since ${timeInWords(node.engineLostAtMs ?? 0)}`,
};

/** Whether the images are to be had for the architecture of the node, as far as that is known. */
export const isBuilt: Filter = {
  passes: ({ node }, { images }) => lackingBuilds(node, images).length === 0,
  reason: ({ node }, { images }) =>
    `cannot run it: ${lackingBuilds(node, images)
      .map((one) => missingBuildInWords(one, node.architecture))
      .join('; ')}`,
};

const hasNotRefused: Filter = {
  passes: ({ refusal }) => refusal === undefined,
  reason: ({ refusal }) => `refused: ${refusal ?? ''}`,
};

/** What comes back to its data is nothing new: anywhere else it would find none. */
export const isOpen: Filter = {
  passes: ({ node, dataLeft }) => node.availability === 'active' || dataLeft > 0,
  reason: ({ node }) =>
    node.availability === 'draining' ? 'is being drained' : 'is cordoned, so it takes nothing new',
};

const meetsConstraints: Filter = {
  passes: ({ node }, { constraints }) => unmetConstraints(node, constraints).length === 0,
  reason: ({ node }, { constraints }) =>
    unmetConstraints(node, constraints)
      .map(({ key, value, actual }) =>
        key.startsWith('node.') && actual !== undefined
          ? `is ${actual}, but ${key} has to be ${value}`
          : `needs the label ${key}=${value}, which ${actual === undefined ? 'is not set' : `is ${actual}`}`,
      )
      .join('; '),
};

const has = (node: SnapshotNode, microservice: string): boolean =>
  Object.hasOwn(node.microservices, microservice);

const lacking = (node: SnapshotNode, near: readonly Neighbour[]): readonly Neighbour[] =>
  near.filter(({ required, id }) => required && !has(node, id));

/** All that comes before it is well. */
export const isNear: Filter = {
  passes: ({ node }, { near }) => lacking(node, near).length === 0,
  reason: ({ node }, { near }) =>
    `has no replica of ${lacking(node, near)
      .map(({ name }) => name)
      .join(', ')}, which it has to be near`,
};

const disturbing = (node: SnapshotNode, apart: readonly Neighbour[]): readonly Neighbour[] =>
  apart.filter(({ required, id }) => required && has(node, id));

const isApart: Filter = {
  passes: ({ node }, { apart }) => disturbing(node, apart).length === 0,
  reason: ({ node }, { apart }) =>
    `runs ${disturbing(node, apart)
      .map(({ name }) => name)
      .join(', ')}, which it has to be apart from`,
};

/** Who has the ports of the host that a replica needs, other than replicas of its own microservice. */
const portsInUse = (node: SnapshotNode, { hostPorts, of }: ReplicaNeeds): readonly PortInUse[] =>
  hostPorts.flatMap((port) => {
    const user = node.hostPorts[port]?.find((one) => !isSameMicroservice(one, of));
    return user === undefined ? [] : [{ port, user }];
  });

/** @param of whose replica needs it: of the same project, no project is named */
export const portInUseInWords = ({ port, user }: PortInUse, { project }: MicroserviceKey): string =>
  `port ${port} of the host is used by ${user.project === project ? user.name : `${user.project}/${user.name}`}`;

const hasPortsFree: Filter = {
  passes: ({ node }, needs) => portsInUse(node, needs).length === 0,
  reason: ({ node }, needs) =>
    `cannot give it its ports: ${portsInUse(node, needs)
      .map((one) => portInUseInWords(one, needs.of))
      .join('; ')}`,
};

const hasDisk: Filter = {
  passes: ({ node }) => node.diskFreeBytes >= diskFloorBytes(node),
  reason: ({ node }) =>
    `has ${formatBytes(node.diskFreeBytes)} of disk free, less than the ${formatBytes(diskFloorBytes(node))} that it needs itself`,
};

const fitsCpus: Filter = {
  passes: ({ cpusFree }, { cpus }) => cpus === 0 || cpus <= cpusFree + CPU_TOLERANCE,
  reason: ({ cpusFree }, { cpus }) => `needs ${formatCpus(cpus)}, ${words(cpusFree)} are free`,
};

const fitsMemory: Filter = {
  passes: ({ memoryFreeBytes }, { memoryBytes }) => memoryBytes === 0 || memoryBytes <= memoryFreeBytes,
  reason: ({ memoryFreeBytes }, { memoryBytes }) =>
    `needs ${formatBytes(memoryBytes)} of memory, ${formatBytes(memoryFreeBytes)} are free`,
};

const hasMemoryAvailable: Filter = {
  passes: ({ node, memoryAvailableBytes }, { memoryBytes }) =>
    memoryAvailableBytes - memoryBytes >= memoryFloorBytes(node),
  reason: ({ node, memoryAvailableBytes }, { memoryBytes }) =>
    `has ${formatBytes(memoryAvailableBytes)} of memory left; ${formatBytes(memoryBytes + memoryFloorBytes(node))} are needed`,
};

const hasOwnPortsFree: Filter = {
  passes: ({ ownReplicas }, { hostPorts }) => hostPorts.length === 0 || ownReplicas === 0,
  reason: () => 'runs a replica already, and two cannot share the ports of the host',
};

/** What no step of a plan can change, from the most telling reason to the least. */
export const FIXED_FILTERS: readonly Filter[] = [
  isUp,
  hasEngine,
  isBuilt,
  hasNotRefused,
  isOpen,
  meetsConstraints,
  isNear,
  isApart,
  hasPortsFree,
  hasDisk,
];

/** Those for a replica that is renewed on its own node, where it may stay whatever else is said of new ones. */
export const RENEWAL_FILTERS: readonly Filter[] = [isUp, hasEngine, isBuilt, hasNotRefused, hasDisk];

/** What each step may change: asked anew for every replica. */
export const ROOM_FILTERS: readonly Filter[] = [fitsCpus, fitsMemory, hasMemoryAvailable, hasOwnPortsFree];
