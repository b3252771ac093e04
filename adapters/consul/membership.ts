/**
 * Takes nodes out of Consul: token, membership, catalogue.
 *
 * Invariants: each step may be repeated, and finds what one before it has left; a node that Consul does not know is no
 * error.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type { Membership } from '../../contracts/membership';

import { revokeNodeAccess } from './access';
import type { ConsulClient } from './consul-client';

interface Member {
  readonly Name: string;
  /** Of serf: 1 is alive. */
  readonly Status: number;
}

const ALIVE = 1;
/** A node that runs hears that it is refused, and stops its agent: to let go of one that is gone takes no time. */
const STOPS_WITHIN_MS = 6_000;
const LOOK_EVERY_MS = 200;

/** Consul waits until the others have heard of it, some seconds when one of them does not answer. */
const LEAVE_TIMEOUT_MS = 30_000;

const memberOf = async (consul: ConsulClient, nodeId: string): Promise<Member | undefined> => {
  const { body } = await consul.request<readonly Member[]>({ path: '/agent/members' });
  return body.find(({ Name }) => Name === nodeId);
};

/** Waits a while for it to be gone. */
const memberThatStopped = async (consul: ConsulClient, nodeId: string): Promise<Member | undefined> => {
  const endMs = performance.now() + STOPS_WITHIN_MS;
  for (;;) {
    const member = await memberOf(consul, nodeId);
    if (member?.Status !== ALIVE || performance.now() > endMs) return member;
    await delay(LOOK_EVERY_MS);
  }
};

/** @param consul with a token that may write ACLs, the operator's things and nodes; any where there are no ACLs */
export const createMembership = (consul: ConsulClient): Membership => ({
  removeNode: async (nodeId) => {
    await revokeNodeAccess(consul, nodeId);
    // Consul fails when it is asked to let go of whom it does not know.
    if ((await memberThatStopped(consul, nodeId)) !== undefined) {
      await consul.request({
        method: 'PUT',
        path: `/agent/force-leave/${encodeURIComponent(nodeId)}`,
        query: { prune: true },
        timeoutMs: LEAVE_TIMEOUT_MS,
      });
    }
    // What was registered for it and belongs to no membership, or was missed by it.
    await consul.request({ method: 'PUT', path: '/catalog/deregister', body: { Node: nodeId } });
  },
});
