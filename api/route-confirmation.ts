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
import { isHostnameClaim } from '../domain/ingress/public-ports';
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
    /** Who holds which public port. */
    readonly publicPorts: Confirmed;
    /** What releases say of their routes. */
    readonly routes: Confirmed;
  };
  readonly log: Logger;
}

/** Resolves when every node goes by the microservice's routes, or has had its time, or `signal` aborts. */
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
      const isHostname = ({ key: claim }: { readonly key: string }) =>
        isHostnameClaim(claim.slice(KV_PREFIX.hostnames.length));
      const newest = (some: typeof held) => Math.max(...some.map(({ index }) => index));
      const [hostnames, publicPorts] = [held.filter(isHostname), held.filter((one) => !isHostname(one))];
      const behind = await Promise.all([
        ...(hostnames.length === 0 ? [] : [confirmed.hostnames(newest(hostnames), signal)]),
        ...(publicPorts.length === 0 ? [] : [confirmed.publicPorts(newest(publicPorts), signal)]),
        ...(routes === undefined ? [] : [confirmed.routes(routes.index, signal)]),
      ]);
      const nodes = [...new Set(behind.flat())].sort();
      if (nodes.length > 0)
        log.warn({ microservice: key.name, nodes }, 'the ingress of nodes does not answer by its routes yet');
    } catch (error) {
      if (!signal.aborted) log.warn({ err: error, microservice: key.name }, 'its routes are not waited for');
    }
  };
