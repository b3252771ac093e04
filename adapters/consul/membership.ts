/**
 * Takes nodes out of Consul: token, membership, catalogue.
 *
 * Invariants: each step may be repeated, and finds what one before it has left; a node that Consul does not know is no
 * error; nothing is kept of how far a removal is, as each step asks for itself whether the name is free still. Of all
 * that can only be asked before, and not in one transaction with it, nothing harms who takes the name in between: its
 * tokens are not among those that were listed, and a member that lives contradicts the word that it has left.
 */

import { setTimeout as delay } from 'node:timers/promises';

import { identityKvKey } from '../../contracts/kv';
import type { Membership, RemovedName } from '../../contracts/membership';
import { ContainerOsError } from '../../domain/errors';

import { revokeNodeAccess } from './access';
import { kvPath, type ConsulClient, type ConsulKvEntry } from './consul-client';
import { conflictOf, kvOnWire, type TransactionAnswer } from './transactions';

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

const isFree = async (consul: ConsulClient, { nodeId, identityIndex }: RemovedName): Promise<boolean> => {
  const { status, body } = await consul.request<readonly ConsulKvEntry[]>({
    path: kvPath(identityKvKey(nodeId)),
    query: { consistent: true },
  });
  return (status === 404 ? undefined : body[0]?.ModifyIndex) === identityIndex;
};

/** What was registered for it and belongs to no membership, or was missed by it. @returns whether the name is free */
const deregister = async (consul: ConsulClient, { nodeId, identityIndex }: RemovedName): Promise<boolean> => {
  const { status, body } = await consul.request<TransactionAnswer>({
    method: 'PUT',
    path: '/txn',
    body: [
      kvOnWire({ kind: 'unchanged', key: identityKvKey(nodeId), index: identityIndex }),
      { Node: { Verb: 'delete', Node: { Node: nodeId } } },
    ],
  });
  if (status === 200) return true;
  try {
    conflictOf(body, () => '');
  } catch (error) {
    throw new ContainerOsError(
      'unavailable',
      `Consul at ${consul.address} did not take node ${nodeId} out: ${(error as Error).message}. Give the token of the control plane the right to write nodes.`,
      [],
      { cause: error },
    );
  }
  return false;
};

/** @param consul with a token that may write ACLs, the operator's things and nodes; any where there are no ACLs */
export const createMembership = (consul: ConsulClient): Membership => ({
  removeNode: async (name) => {
    const { nodeId } = name;
    await revokeNodeAccess(consul, nodeId, () => isFree(consul, name));
    // Consul fails when it is asked to let go of whom it does not know.
    if ((await memberThatStopped(consul, nodeId)) !== undefined) {
      if (!(await isFree(consul, name))) return false;
      await consul.request({
        method: 'PUT',
        path: `/agent/force-leave/${encodeURIComponent(nodeId)}`,
        query: { prune: true },
        timeoutMs: LEAVE_TIMEOUT_MS,
      });
    }
    return deregister(consul, name);
  },
});
