/**
 * What the watch over the cluster does now and then: deletes what is old and what nobody holds of what is gone, and has
 * removals taken up again that could not reach all replicas.
 *
 * Invariants: nobody's events push out those of everybody else; it takes a microservice for removed only where it is
 * written that it was; that nothing is known of one says nothing.
 */

import type { KeyValueStore } from '../contracts/key-value-store';
import type { LeaseKeys } from '../contracts/leases';
import { KEPT_EVENTS, KEPT_REMOVED, KV_PREFIX } from '../contracts/kv';
import { groupBy } from '../domain/group-by';
import {
  microserviceId,
  type ClusterEvent,
  type Microservice,
  type ObservedReplica,
  type Operation,
} from '../domain/model';

import { deleteAll } from './delete-all';

export interface HousekeepingDependencies {
  readonly store: KeyValueStore;
  readonly leases: LeaseKeys;
  readonly view: {
    nodes(): readonly { readonly id: string; readonly up: boolean; readonly engineLostAtMs?: number }[];
    replicas(): readonly ObservedReplica[];
  };
  /** Starts the entity of a microservice that was removed, to remove what is left of it; unless it runs. */
  readonly removeAgain: (microservice: Microservice) => Promise<void>;
}

const KEPT_AFTER_REMOVAL_MS = 24 * 3_600_000;

/**
 * The oldest of those of whom there are most: a node that tells very much pushes out what it told itself, and not what
 * is told of others.
 *
 * @param events in the order of their times
 * @returns their keys
 */
export const forgettableEvents = (
  events: readonly { readonly key: string; readonly value: Pick<ClusterEvent, 'node'> | null }[],
  kept = KEPT_EVENTS,
): readonly string[] => {
  const all = [...groupBy(events, ({ value }) => value?.node ?? '').values()];
  const keptOfEach = (most: number) => all.reduce((sum, { length }) => sum + Math.min(length, most), 0);
  let most = Math.max(0, ...all.map(({ length }) => length));
  while (keptOfEach(most) > kept) most -= 1;
  return all.flatMap((ones) => ones.slice(0, Math.max(0, ones.length - most)).map(({ key }) => key));
};

/** @returns a function that does it all once */
export const createHousekeeping = ({ store, leases, view, removeAgain }: HousekeepingDependencies) => {
  const removeOrphans = async (removed: readonly Microservice[]) => {
    const able = new Set(
      view.nodes().flatMap(({ id, up, engineLostAtMs }) => (up && engineLostAtMs === undefined ? [id] : [])),
    );
    const reachable = new Set(
      view.replicas().flatMap((one) => (able.has(one.nodeId) ? [microserviceId(one)] : [])),
    );
    for (const microservice of removed) {
      if (reachable.has(microserviceId(microservice))) await removeAgain(microservice);
    }
  };

  /** Of what was removed while its node was lost, which could not give its lease back. */
  const forgetLeases = async () => {
    const free = await leases.free();
    if (free.length === 0) return;
    const documents = await store.list<Microservice>(KV_PREFIX.microservices);
    const living = new Set(documents.map(({ value }) => microserviceId(value)));
    for (const lease of free) if (!living.has(lease.microservice)) await leases.forget(lease);
  };

  const forgetEvents = async () => {
    await deleteAll(store, forgettableEvents(await store.list<ClusterEvent>(KV_PREFIX.events)));
  };

  const forgetOperations = async () => {
    const documents = await store.list<Microservice>(KV_PREFIX.microservices);
    const living = new Set(documents.map(({ value }) => microserviceId(value)));
    const operations = await store.list<Operation>(KV_PREFIX.operations);
    const keptSinceMs = Date.now() - KEPT_AFTER_REMOVAL_MS;
    const old = operations.filter(
      ({ value }) => !living.has(microserviceId(value)) && (value.endedAtMs ?? Infinity) < keptSinceMs,
    );
    await deleteAll(
      store,
      old.map(({ key }) => key),
    );
  };

  /** Those of which replicas are known, on whatever nodes, are kept. */
  const forgetRemoved = async (
    removed: readonly { readonly key: string; readonly value: Microservice }[],
  ) => {
    const present = new Set(view.replicas().map(microserviceId));
    const old = removed
      .filter(({ value }) => !present.has(microserviceId(value)))
      .sort((a, b) => b.value.updatedAtMs - a.value.updatedAtMs)
      .slice(KEPT_REMOVED);
    await deleteAll(
      store,
      old.map(({ key }) => key),
    );
  };

  return async (): Promise<void> => {
    const removed = await store.list<Microservice>(KV_PREFIX.removed);
    await removeOrphans(removed.map(({ value }) => value));
    await forgetRemoved(removed);
    await forgetEvents();
    await forgetOperations();
    await forgetLeases();
  };
};
