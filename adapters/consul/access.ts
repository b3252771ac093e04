/**
 * The token under which a node's agent and worker speak to Consul: made, replaced and revoked with a token that
 * manages.
 *
 * Invariants: a node has one policy, whose name is made from its id, and every token of that policy is the node's, or
 * that of one before it under its name; whoever deletes tokens has listed them before it made sure whose the name is,
 * and a machine gets its token after it has got its name, so nobody deletes the token of who comes after; a token that
 * was made for a name that was lost meanwhile is deleted by who made it. The policy stays when the tokens go: it gives
 * nobody anything, and Consul cannot delete one on condition that nobody has taken it up again. Nothing here keeps a
 * secret. Rights to write services are never given to a node by half: Consul lets whoever may write a service of any
 * one name overwrite every check of every node, so that narrower names protect nobody (docs/decisions/joining-nodes.md;
 * test/integration/consul-access.test.ts holds what is so).
 */

import { ContainerOsError } from '../../domain/errors';
import { isNodeId } from '../../domain/identity';

import type { ConsulClient } from './consul-client';

export interface NodeAccess {
  readonly accessorId: string;
  /** What requests carry. Consul tells it to whoever manages; it is for the node alone otherwise. */
  readonly secretId: string;
}

/**
 * `reader`: changes nothing that others see; its services are written by the control plane.
 * `registrar`: its own agent registers services. It can then spoil the services and checks of every node, so it is
 * for machines that are trusted as much as the control plane's.
 */
export type NodeRights = 'reader' | 'registrar';

const READS = `
node_prefix "" { policy = "read" }
service_prefix "" { policy = "read" }
key_prefix "containeros/nodes/" { policy = "read" }
key_prefix "containeros/replicas/" { policy = "read" }
key_prefix "containeros/hostnames/" { policy = "read" }
key_prefix "containeros/ingresses/" { policy = "read" }
key_prefix "containeros/traffic/" { policy = "read" }
key_prefix "containeros/certificates/" { policy = "read" }
key_prefix "containeros/http-challenges/" { policy = "read" }
key_prefix "containeros/routes/" { policy = "read" }
key_prefix "containeros/maintenance/" { policy = "read" }`;

const WRITES_SERVICES = 'service_prefix "" { policy = "write" }';

/** A reader's agent must not write its node: it would take what the control plane registers there out again. */
const rulesOf = (nodeId: string, rights: NodeRights): string =>
  rights === 'reader'
    ? `${READS}
agent "${nodeId}" { policy = "write" }`
    : `${READS}
agent "${nodeId}" { policy = "write" }
node "${nodeId}" { policy = "write" }
session "${nodeId}" { policy = "write" }
${WRITES_SERVICES}`;

interface Policy {
  readonly ID: string;
  readonly Rules: string;
}

interface Token {
  readonly AccessorID: string;
  readonly SecretID: string;
}

const POLICY_PREFIX = 'containeros-node-';

/** Ids go into rules, where a quotation mark would end them. */
const policyNameOf = (nodeId: string): string => {
  if (isNodeId(nodeId)) return `${POLICY_PREFIX}${nodeId}`;
  throw new ContainerOsError(
    'invalid',
    `There is no access for a node "${nodeId}": ids of nodes are DNS labels in lower case. Give the id that it joined with.`,
  );
};

const findPolicy = async (consul: ConsulClient, name: string): Promise<Policy | undefined> => {
  const { status, body } = await consul.request<Policy>({ path: `/acl/policy/name/${name}` });
  return status === 404 ? undefined : body;
};

const ensurePolicy = async (consul: ConsulClient, name: string, rules: string): Promise<Policy> => {
  const found = await findPolicy(consul, name);
  if (found?.Rules === rules) return found;
  const path = found === undefined ? '/acl/policy' : `/acl/policy/${found.ID}`;
  const { body } = await consul.request<Policy>({ method: 'PUT', path, body: { Name: name, Rules: rules } });
  return body;
};

const accessorsOf = async (consul: ConsulClient, policyId: string): Promise<readonly string[]> => {
  const { body } = await consul.request<readonly Pick<Token, 'AccessorID'>[]>({
    path: '/acl/tokens',
    query: { policy: policyId },
  });
  return body.map(({ AccessorID }) => AccessorID);
};

const deleteToken = (consul: ConsulClient, accessorId: string) =>
  consul.request({ method: 'DELETE', path: `/acl/token/${accessorId}` });

/** Whether the name of the node is still that of the machine that is dealt with, by a consistent read. */
export type IsStillItsName = () => Promise<boolean>;

/**
 * Gives a node a new token and takes the ones away that it had. It may be repeated: the last one made holds.
 *
 * @param consul with a token that may write ACLs
 * @param isStillItsName asked once the token is made
 * @throws {ContainerOsError} `invalid` when the id is none; `conflict` when the machine has lost the name meanwhile, and
 *   gets nothing; `unavailable` when Consul does not answer or refuses
 */
export const createNodeAccess = async (
  consul: ConsulClient,
  nodeId: string,
  rights: NodeRights = 'reader',
  isStillItsName: IsStillItsName = () => Promise.resolve(true),
): Promise<NodeAccess> => {
  const policy = await ensurePolicy(consul, policyNameOf(nodeId), rulesOf(nodeId, rights));
  const earlier = await accessorsOf(consul, policy.ID);
  const { body } = await consul.request<Token>({
    method: 'PUT',
    path: '/acl/token',
    body: { Description: `ContainerOS node ${nodeId}`, Policies: [{ ID: policy.ID }] },
  });
  if (!(await isStillItsName())) {
    await deleteToken(consul, body.AccessorID);
    throw new ContainerOsError(
      'conflict',
      `Node ${nodeId} was removed, or has joined again, while this machine joined under that name. Join again with another token.`,
    );
  }
  for (const accessorId of earlier) await deleteToken(consul, accessorId);
  return { accessorId: body.AccessorID, secretId: body.SecretID };
};

/** What a Consul that runs without ACLs says to whoever asks for them: there are no tokens then. */
const WITHOUT_ACLS = 'ACL support disabled';

const findPolicyIfAny = async (consul: ConsulClient, name: string): Promise<Policy | undefined> => {
  try {
    return await findPolicy(consul, name);
  } catch (error) {
    if (error instanceof Error && error.message.includes(WITHOUT_ACLS)) return undefined;
    throw error;
  }
};

/**
 * Takes all access away from a node; nothing happens when it has none, as on a Consul without ACLs. Servers refuse its
 * tokens from then on.
 *
 * @param consul with a token that may write ACLs
 * @param isStillItsName asked before any token is deleted: when it is not, none is
 * @throws {ContainerOsError} as createNodeAccess
 */
export const revokeNodeAccess = async (
  consul: ConsulClient,
  nodeId: string,
  isStillItsName: IsStillItsName = () => Promise.resolve(true),
): Promise<void> => {
  const policy = await findPolicyIfAny(consul, policyNameOf(nodeId));
  if (policy === undefined) return;
  const accessorIds = await accessorsOf(consul, policy.ID);
  if (!(await isStillItsName())) return;
  for (const accessorId of accessorIds) await deleteToken(consul, accessorId);
};

/**
 * Gives nodes that have joined before the rights that nodes have by now; their tokens stay.
 *
 * @param consul with a token that may write ACLs
 * @throws {ContainerOsError} as createNodeAccess
 */
export const renewNodeRights = async (consul: ConsulClient): Promise<void> => {
  const { body } = await consul.request<readonly { readonly Name: string }[]>({ path: '/acl/policies' });
  for (const { Name: name } of body) {
    if (!name.startsWith(POLICY_PREFIX)) continue;
    const nodeId = name.slice(POLICY_PREFIX.length);
    const policy = await findPolicy(consul, name);
    if (policy === undefined || !isNodeId(nodeId)) continue;
    const rights = policy.Rules.includes(WRITES_SERVICES) ? 'registrar' : 'reader';
    await ensurePolicy(consul, name, rulesOf(nodeId, rights));
  }
};

/** Consul's own token for requests that carry none, and its name for it. */
const ANONYMOUS_ACCESSOR = '00000000-0000-0000-0000-000000000002';
const READING_POLICY = 'containeros-reading';
const READING = `
node_prefix "" { policy = "read" }
service_prefix "" { policy = "read" }`;

/**
 * Lets whoever reaches the loopback interface of the server's machine look services up, by DNS and over HTTP, as before
 * there was a network. Others reach no server without a certificate, and on a node its agent's token reads.
 *
 * @param consul with a token that may write ACLs
 * @throws {ContainerOsError} as createNodeAccess
 */
export const allowReadingServices = async (consul: ConsulClient): Promise<void> => {
  const policy = await ensurePolicy(consul, READING_POLICY, READING);
  await consul.request({
    method: 'PUT',
    path: `/acl/token/${ANONYMOUS_ACCESSOR}`,
    body: { AccessorID: ANONYMOUS_ACCESSOR, Policies: [{ ID: policy.ID }] },
  });
};
