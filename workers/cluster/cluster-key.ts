/**
 * The cluster's key for private keys of hostnames, as this machine has it: made on the head, given to members.
 *
 * Invariant: a member keeps it, so that it opens certificates also while the head is away.
 */

import { createSealer, type Sealer } from '../../adapters/certificates/seal';
import { nodeClusterKeyPath, type ClusterKeyAnswer } from '../../contracts/join';
import type { Config } from '../config';

import { askCluster } from './ask-cluster';
import { clusterKeyOf } from './head-files';
import { readCredentials, readMemberClusterKey, writeMemberClusterKey, type Membership } from './membership';

/**
 * @param isAnew whether a member asks the head again, as what it has does not fit
 * @throws {ContainerOsError} as askCluster, when a member has to ask for it
 */
export const openSealer = async (
  config: Config,
  membership: Membership | undefined,
  { isAnew }: { readonly isAnew: boolean } = { isAnew: false },
): Promise<Sealer> => {
  if (membership === undefined) return createSealer(clusterKeyOf(config));
  const known = readMemberClusterKey(config);
  // One that a power cut has spoiled is none.
  const sealer = known === undefined ? undefined : sealerOf(known);
  if (sealer !== undefined && !isAnew) return sealer;
  const { nodeId, clusterAddress: address } = membership;
  const { clusterKey } = await askCluster<ClusterKeyAnswer>({
    address,
    path: nodeClusterKeyPath(nodeId),
    body: {},
    credentials: readCredentials(config),
  });
  const given = createSealer(clusterKey);
  if (clusterKey !== known) writeMemberClusterKey(config, clusterKey);
  return given;
};

const sealerOf = (clusterKey: string): Sealer | undefined => {
  try {
    return createSealer(clusterKey);
  } catch {
    return undefined;
  }
};
