/**
 * Whether a replica fits on this node. The node has the last word, because plans made at the same time know nothing
 * of each other. Pure.
 */

import type { KnownReplica } from '../../adapters/docker/replica-containers';
import type { StartReplica } from '../../contracts/activities';
import { isSameMicroservice, type NodeCapacity } from '../../domain/model';
import { portInUseInWords } from '../../domain/placement/filters';
import { needsOf } from '../../domain/placement/needs';

/** Below these nothing more is started: the machine itself, and what runs on it, comes first. */
export const MEMORY_FLOOR_BYTES = 48 * 1024 * 1024;
export const DISK_FLOOR_BYTES = 256 * 1024 * 1024;

export interface Reservation {
  readonly cpusReserved: number;
  readonly memoryReservedBytes: number;
}

export interface Room {
  readonly capacity: NodeCapacity;
  readonly memoryAvailableBytes: number;
  readonly diskFreeBytes: number;
  /** Of every replica on the node. */
  readonly reserved: Reservation;
}

/** @returns why it does not fit, for people; undefined when it does */
export const whyRefused = (wanted: Reservation, room: Room): string | undefined => {
  const freeCpus = room.capacity.cpus - room.reserved.cpusReserved;
  if (wanted.cpusReserved > 0 && wanted.cpusReserved > freeCpus + 1e-9) {
    return `needs ${count(wanted.cpusReserved)} CPUs, ${count(Math.max(0, freeCpus))} are free`;
  }
  const freeBytes = room.capacity.memoryBytes - room.reserved.memoryReservedBytes;
  if (wanted.memoryReservedBytes > 0 && wanted.memoryReservedBytes > freeBytes) {
    return `needs ${megabytes(wanted.memoryReservedBytes)} of memory, ${megabytes(Math.max(0, freeBytes))} is free`;
  }
  if (room.memoryAvailableBytes < MEMORY_FLOOR_BYTES) {
    return `only ${megabytes(room.memoryAvailableBytes)} of memory is available`;
  }
  if (room.capacity.diskBytes > 0 && room.diskFreeBytes < DISK_FLOOR_BYTES) {
    return `only ${megabytes(room.diskFreeBytes)} of disk is free`;
  }
  return undefined;
};

/** Ports of the host that a replica uses, as `port/protocol`: its own, or those that were chosen for it. */
const portsOf = ({ spec, hostPorts }: Pick<KnownReplica, 'spec' | 'hostPorts'>): readonly string[] => [
  ...needsOf(spec.release.spec, spec).hostPorts,
  ...[...hostPorts].map(([key, port]) => `${port}/${key.endsWith('/udp') ? 'udp' : 'tcp'}`),
];

/**
 * @param others replicas of the node that have not ended
 * @returns who has a port of the host that the replica needs, for people; undefined when all are free
 */
export const whyNoPorts = (
  wanted: StartReplica,
  others: Iterable<Pick<KnownReplica, 'spec' | 'hostPorts'>>,
): string | undefined => {
  const needed = needsOf(wanted.release.spec, wanted).hostPorts;
  if (needed.length === 0) return undefined;
  for (const other of others) {
    if (isSameMicroservice(other.spec, wanted)) continue;
    const port = portsOf(other).find((one) => needed.includes(one));
    if (port !== undefined) return portInUseInWords({ port, user: other.spec }, wanted);
  }
  return undefined;
};

export const addReservations = (all: Iterable<Reservation>): Reservation => {
  let cpusReserved = 0;
  let memoryReservedBytes = 0;
  for (const one of all) {
    cpusReserved += one.cpusReserved;
    memoryReservedBytes += one.memoryReservedBytes;
  }
  return { cpusReserved, memoryReservedBytes };
};

const count = (value: number): string => String(Math.round(value * 100) / 100);
const megabytes = (bytes: number): string => `${Math.floor(bytes / 1e6)} MB`;
