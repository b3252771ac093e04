/**
 * What this machine is called as a node. Pure.
 *
 * Invariants: a name that somebody chose is taken as it is, or refused; a host name, which others chose for other ends, is
 * made one where that can be done.
 */

import { isNodeId, nodeIdFromHostname } from '../domain/identity';

export interface NodeName {
  readonly nodeId: string;
  /** The host name that the name was made from; undefined when it is the host name itself, or was chosen. */
  readonly namedAfterHost?: string;
}

/**
 * @param given what `--node-name` says
 * @param refuse told why there is no name
 */
export const readNodeName = (
  given: string | undefined,
  hostname: string,
  refuse: (message: string) => void,
): NodeName => {
  if (given !== undefined) {
    const nodeId = given.toLowerCase();
    if (!isNodeId(nodeId)) refuse(`must be a DNS label, not "${nodeId}"`);
    return { nodeId };
  }
  const nodeId = nodeIdFromHostname(hostname);
  if (nodeId === '') {
    refuse(`is needed: the host name of this machine, "${hostname}", has nothing that a node can be called`);
  }
  return nodeId === hostname ? { nodeId } : { nodeId, namedAfterHost: hostname };
};

/** What it is called and why, and how to choose. */
export const nodeNameInWords = ({ nodeId, namedAfterHost }: NodeName): string =>
  namedAfterHost === undefined
    ? nodeId
    : `${nodeId}, after the host name ${namedAfterHost}; --node-name chooses another`;
