/**
 * The lease of an exclusive microservice: a node runs its replica only as long as it holds it. Implemented over Consul
 * (adapters/consul/leases) and over the cluster port (adapters/cluster-port/leases).
 *
 * Invariants: at most one replica of a microservice holds its lease; how long a lease lasts is said as a duration that
 * counts from before the question was sent, never as a time of day, so that no two clocks have to agree; a node has
 * one session for all its leases, which outlives its worker.
 */

import type { MicroserviceKey } from '../domain/model';

export interface Lease extends MicroserviceKey {
  readonly replicaId: string;
}

/** What stands under a lease's key: who holds it or, without a session, held it last. */
export interface LeaseHolder extends Lease {
  readonly nodeId: string;
}

export type LeaseGrant =
  /** Nobody else gets it for `lastsMs` after the question was sent. */
  | { readonly kind: 'held'; readonly lastsMs: number }
  /** Without a holder it is nobody's, and not given away yet. */
  | {
      readonly kind: 'taken';
      readonly holder?: LeaseHolder;
      /** After that it is free, unless its holder renews it. */
      readonly forAtMostMs: number;
    };

export interface LeaseRenewal {
  /** Of those that are not lost. */
  readonly lastsMs: number;
  /** Replicas that hold their lease no more. */
  readonly lost: readonly string[];
}

/** Of one node. Every method throws ContainerOsError `unavailable` when nobody answers. */
export interface Leases {
  /** May be repeated: a replica that holds the lease has it renewed. */
  acquire(lease: Lease): Promise<LeaseGrant>;
  /** Renews all of them. */
  renew(leases: readonly Lease[]): Promise<LeaseRenewal>;
  /** All that the node has, also those whose release was lost with a worker. */
  held(): Promise<readonly Lease[]>;
  /** Others may have it at once. Nothing happens when the replica does not hold it. */
  release(lease: Lease): Promise<void>;
  /** Closes idle connections. */
  close(): void;
}

/** A lease that nobody holds; its key says who had it last. */
export interface FreeLease {
  /** `project/name` in lower case. */
  readonly microservice: string;
  /** Of the key's last change; it changes when somebody takes the lease. */
  readonly index: number;
}

/** For who keeps house. Both throw ContainerOsError `unavailable` when nobody answers. */
export interface LeaseKeys {
  free(): Promise<readonly FreeLease[]>;
  /** Nothing happens to one that has changed since. */
  forget(lease: FreeLease): Promise<void>;
}

/**
 * How long a lease lasts without being renewed. Long enough for Consul to be started again or to elect a leader, short
 * enough for people who wait. Consul's least is 10 s.
 */
export const LEASE_LASTS_MS = 15_000;
/**
 * How long Consul keeps a lease from everybody when its session ended before its time: because gossip holds the node
 * for lost, or because somebody took the node or the session out. The holder, which may not know of it, has until then
 * stopped.
 */
export const LEASE_LOCK_DELAY_MS = LEASE_LASTS_MS;
/** When a lease that nobody renews is free at the latest: Consul may keep a session for twice its time. */
export const LEASE_FREE_AFTER_MS = 2 * LEASE_LASTS_MS + LEASE_LOCK_DELAY_MS;

/** What a node asks the cluster port: `POST /internal/v1/nodes/<nodeId>/leases`. */
export type LeaseQuestion =
  | { readonly kind: 'acquire' | 'release'; readonly lease: Lease }
  | { readonly kind: 'renew'; readonly leases: readonly Lease[] }
  | { readonly kind: 'held' };

/** That of `release` is empty. */
export type LeaseAnswer =
  LeaseGrant | LeaseRenewal | { readonly leases: readonly Lease[] } | Record<string, never>;

export const nodeLeasesPath = (nodeId: string): string =>
  `/internal/v1/nodes/${encodeURIComponent(nodeId)}/leases`;

/**
 * How many leases a node may have through the cluster port: more than a machine runs of what is exclusive, so that one
 * that is stolen cannot take them all.
 */
export const MAX_NODE_LEASES = 200;

export const MAX_LEASES = 1_000;
export const MAX_LEASES_BYTES = 400_000;
