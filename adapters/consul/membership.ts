/**
 * Takes nodes out of Consul: token, membership, catalogue.
 *
 * Invariants: each step may be repeated, and finds what one before it has left; a node that Consul does not know is no
 * error.
 */

import type { Membership } from '../../contracts/membership';

import { revokeNodeAccess } from './access';
import type { ConsulClient } from './consul-client';

interface Member {
  readonly Name: string;
}

/** Consul waits until the others have heard of it, some seconds when one of them does not answer. */
const LEAVE_TIMEOUT_MS = 30_000;

/** Consul fails when it is asked to let go of whom it does not know. */
const isMember = async (consul: ConsulClient, nodeId: string): Promise<boolean> => {
  const { body } = await consul.request<readonly Member[]>({ path: '/agent/members' });
  return body.some(({ Name }) => Name === nodeId);
};

/** @param consul with a token that may write ACLs, the operator's things and nodes; any where there are no ACLs */
export const createMembership = (consul: ConsulClient): Membership => ({
  removeNode: async (nodeId) => {
    await revokeNodeAccess(consul, nodeId);
    if (await isMember(consul, nodeId)) {
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
