/**
 * Waits until a microservice's hostnames answer as its release says: an ingress may need a new configuration for them,
 * which takes longer than the deploy itself.
 *
 * Invariants: whoever has no hostname waits for nothing, and nothing is read for it; an operation that has succeeded stays
 * so, whatever an ingress or Consul does.
 */

import type { Logger } from 'pino';

import type { KeyValueStore } from '../contracts/key-value-store';
import { KV_PREFIX, routesKvKey } from '../contracts/kv';
import { isSameMicroservice, type MicroserviceKey } from '../domain/model';
import { reachesIngress } from '../domain/release-stages';

import type { ReadModel } from './read-model';

/** Waits a while for every ingress; @returns the nodes of those that have not confirmed the index in time. */
type Confirmed = (index: number, signal: AbortSignal) => Promise<readonly string[]>;

export interface RouteConfirmationDeps {
  readonly readModel: Pick<ReadModel, 'microservice'>;
  readonly store: Pick<KeyValueStore, 'get' | 'list'>;
  readonly confirmed: {
    /** Who holds which hostname. */
    readonly hostnames: Confirmed;
    /** What releases say of their routes. */
    readonly routes: Confirmed;
  };
  readonly log: Logger;
}

/** Resolves when every ingress goes by the microservice's routes, or has had its time, or `signal` aborts. */
export type RouteConfirmation = (key: MicroserviceKey, signal: AbortSignal) => Promise<void>;

export const createRouteConfirmation =
  ({ readModel, store, confirmed, log }: RouteConfirmationDeps): RouteConfirmation =>
  async (key, signal) => {
    const microservice = readModel.microservice(key);
    if (microservice === undefined || !reachesIngress(microservice.release.spec)) return;
    try {
      const [claims, routes] = await Promise.all([
        store.list<MicroserviceKey>(KV_PREFIX.hostnames),
        store.get(routesKvKey(key)),
      ]);
      const held = claims.filter(({ value }) => isSameMicroservice(value, key));
      if (held.length === 0) return;
      const behind = await Promise.all([
        confirmed.hostnames(Math.max(...held.map(({ index }) => index)), signal),
        ...(routes === undefined ? [] : [confirmed.routes(routes.index, signal)]),
      ]);
      const nodes = [...new Set(behind.flat())].sort();
      if (nodes.length > 0)
        log.warn({ microservice: key.name, nodes }, 'the ingress of nodes does not answer by its routes yet');
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, microservice: key.name }, 'its routes are not waited for');
    }
  };
