/**
 * Maintenance of microservices: the only writer of who is under it. It is no part of a release, so it begins and ends
 * without one, and every ingress goes by it at once; who sets it hears when that is so.
 *
 * Invariants: a setting and the event that tells of it are one write; it is for a microservice that is there; saying again
 * what holds already writes nothing.
 */

import type { KeyValueStore } from '../contracts/key-value-store';
import { eventKvKey, maintenanceKvKey, microserviceKvKey } from '../contracts/kv';
import { ContainerOsError } from '../domain/errors';
import type { Maintenance, MaintenanceState } from '../domain/ingress/route-options';
import type { ClusterEvent, MicroserviceKey } from '../domain/model';
import { sameJson } from '../domain/spec/diff';

export interface MaintenanceWriter {
  /**
   * @throws {ContainerOsError} `unavailable` when Consul does not answer
   */
  read(key: MicroserviceKey): Promise<Maintenance | undefined>;
  /**
   * @param maintenance undefined: it is over
   * @throws {ContainerOsError} `not_found` when there is no such microservice any more; `unavailable` when Consul does not
   *   take it
   * @returns nodes that are up and whose ingress has not confirmed in time that it goes by it
   */
  set(
    key: MicroserviceKey,
    maintenance: Maintenance | undefined,
    signal: AbortSignal,
  ): Promise<readonly string[]>;
}

export interface MaintenanceDeps {
  readonly store: KeyValueStore;
  /** Waits until every ingress goes by what was written up to this index; @returns the nodes of those that do not in time. */
  readonly confirmed: (index: number, signal: AbortSignal) => Promise<readonly string[]>;
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
  readonly nowMs: () => number;
}

const maintenanceOf = ({ text, retryAfterSeconds, allow }: MaintenanceState): Maintenance => ({
  text,
  retryAfterSeconds,
  allow,
});

export const createMaintenanceWriter = ({
  store,
  confirmed,
  randomSuffix,
  nowMs,
}: MaintenanceDeps): MaintenanceWriter => {
  const read = async (key: MicroserviceKey): Promise<Maintenance | undefined> => {
    const known = await store.get<MaintenanceState>(maintenanceKvKey(key));
    return known?.value ? maintenanceOf(known.value) : undefined;
  };

  return {
    read,
    set: async (key, maintenance, signal) => {
      if (sameJson(await read(key), maintenance)) return [];
      const there = await store.get(microserviceKvKey(key));
      if (!there) throw new ContainerOsError('not_found', `There is no microservice ${key.name}.`);
      const atMs = nowMs();
      const event: ClusterEvent = {
        atMs,
        level: 'info',
        type: maintenance === undefined ? 'microservice.maintenance-ended' : 'microservice.maintenance',
        message:
          maintenance === undefined
            ? `${key.name}: maintenance is over`
            : `${key.name}: its hostnames answer that it is under maintenance`,
        project: key.project,
        microservice: key.name,
      };
      const path = maintenanceKvKey(key);
      const state: MaintenanceState = {
        project: key.project,
        name: key.name,
        ...(maintenance ?? { text: '', retryAfterSeconds: 0, allow: [] }),
        setAtMs: atMs,
      };
      const result = await store.transact([
        // One that is removed meanwhile would leave it to the next of its name.
        { kind: 'unchanged', key: microserviceKvKey(key), index: there.index },
        maintenance === undefined ? { kind: 'delete', key: path } : { kind: 'set', key: path, value: state },
        { kind: 'set', key: eventKvKey(atMs, randomSuffix()), value: event },
      ]);
      if (result.kind === 'written') return confirmed(result.index, signal);
      throw new ContainerOsError('unavailable', `${key.name} has just been changed. Try again.`);
    },
  };
};
