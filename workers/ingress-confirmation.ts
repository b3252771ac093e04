/**
 * Waits until the ingress of every node leads requests, and its forwarder connections, as the documents said at an index
 * of Consul.
 *
 * Invariants: the wait has an end, as a node that hangs must keep nobody from what comes next; a node that is lost
 * meanwhile is waited for no longer.
 */

import type { Logger } from 'pino';

import { pause } from '../adapters/pause';
import { createDocumentReader } from '../contracts/documents';
import { KV_PREFIX } from '../contracts/kv';
import type { KvStore } from '../contracts/kv-store';
import type { Way } from '../domain/ingress/route-options';
import type { IngressState } from '../domain/model';

/** An ingress hears of a change in some ten milliseconds; one that has not within this hangs, or is cut off. */
export const CONFIRM_WITHIN_MS = 2_000;
/** One that needs a new configuration ends connections for a second first. */
export const CONFIRM_CONFIGURATION_WITHIN_MS = 5_000;

/** Who is alive is asked again this often. */
const MEMBERS_EVERY_MS = 1_000;

/**
 * @param index Consul's of the write that is to be followed
 * @returns nodes that are up and whose ingress has not confirmed it in time
 */
export type IngressConfirmation = (index: number, signal: AbortSignal) => Promise<readonly string[]>;

export interface IngressConfirmationDeps {
  readonly kv: KvStore;
  /** Whether the membership holds each node for alive. */
  readonly readMembers: () => Promise<ReadonlyMap<string, boolean>>;
  readonly logger: Logger;
}

type FollowedByBoth = Pick<IngressState, 'index' | 'trafficIndex' | 'hostnamesIndex'>;

/** @returns how far a node has followed by the slowest of the ways */
export const indexBy =
  (ways: readonly Way[], indexOf: (followed: FollowedByBoth) => number) =>
  (state: IngressState): number =>
    Math.min(...ways.map((way) => indexOf(way === 'hostnames' ? state : (state.publicPorts ?? state))));

/**
 * @param indexOf how far an ingress has followed what is waited for
 * @param withinMs how long it is waited for at most
 */
export const createIngressConfirmation = (
  deps: IngressConfirmationDeps,
  indexOf: (state: IngressState) => number,
  withinMs = CONFIRM_WITHIN_MS,
): IngressConfirmation => {
  const read = createDocumentReader((message) => deps.logger.error(message));
  return async (index, signal) => {
    const readMembers = () =>
      deps.readMembers().catch((error: unknown) => {
        deps.logger.debug({ err: error }, 'Consul does not tell who is up: every ingress is waited for');
        return undefined;
      });
    let members = await readMembers();
    const isUp = (nodeId: string): boolean => members === undefined || members.get(nodeId) === true;
    const missing = new Map<string, string>();
    let isKnown = false;
    const done = new AbortController();
    const watch = deps.kv.watch(KV_PREFIX.ingresses, {
      changed: ({ changed, removed }) => {
        isKnown = true;
        for (const key of removed) missing.delete(key);
        for (const stored of changed) {
          const state = read('ingresses', stored);
          const isBehind = state !== undefined && indexOf(state) < index && isUp(state.id);
          if (isBehind) missing.set(stored.key, state.id);
          else missing.delete(stored.key);
        }
        if (missing.size === 0) done.abort();
      },
      unreachable: () => undefined,
    });
    const leaveOutLost = async (): Promise<void> => {
      members = (await readMembers()) ?? members;
      for (const [key, nodeId] of missing) if (!isUp(nodeId)) missing.delete(key);
      if (isKnown && missing.size === 0) done.abort();
    };
    const looking = setInterval(() => void leaveOutLost(), MEMBERS_EVERY_MS);
    try {
      await pause(withinMs, AbortSignal.any([signal, done.signal]));
    } finally {
      clearInterval(looking);
      watch.close();
    }
    signal.throwIfAborted();
    if (!isKnown) deps.logger.warn('Consul did not tell in time which ingresses there are');
    return [...missing.values()].sort();
  };
};
