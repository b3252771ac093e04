/**
 * Renews the certificate of a machine that has joined, long before it runs out.
 *
 * Invariants: the key stays; a renewal that failed is tried again with the next look; whatever shows the certificate
 * is told, so that nothing goes on with one that has run out.
 */

import type { Logger } from 'pino';

import { createConsulClient } from '../../adapters/consul/consul-client';
import { nodeCertificatePath, type CertificateAnswer } from '../../contracts/join';
import { consulAddressOf, type Config } from '../config';

import { askCluster } from './ask-cluster';
import { isDueForRenewal } from './certificate-time';
import { readCredentials, writeMemberCertificate, type Membership } from './membership';

const LOOK_EVERY_MS = 3_600_000;

export interface CertificateKeeper {
  stop(): void;
}

/** @param onRenewed called when there is a new certificate; the Consul agent may not have it yet */
export const keepCertificate = (
  config: Config,
  membership: Membership,
  logger: Logger,
  onRenewed: () => void,
): CertificateKeeper => {
  const { nodeId, clusterAddress } = membership;
  /** Whether there is a certificate that the agent has not read yet. */
  let isReloadDue = false;

  const reload = async (): Promise<void> => {
    const consul = createConsulClient({ address: consulAddressOf(config), token: membership.consul.token });
    try {
      await consul.request({ method: 'PUT', path: '/agent/reload' });
      isReloadDue = false;
    } finally {
      consul.close();
    }
  };

  const look = async (): Promise<void> => {
    if (isReloadDue) await reload();
    const credentials = readCredentials(config);
    if (!isDueForRenewal(credentials.certificatePem, Date.now())) return;
    const { createSigningRequest } = await import('../../adapters/certificates/authority.js');
    const { signingRequestPem } = await createSigningRequest(nodeId, credentials.keyPem);
    const { certificatePem } = await askCluster<CertificateAnswer>({
      address: clusterAddress,
      path: nodeCertificatePath(nodeId),
      body: { signingRequestPem },
      credentials,
    });
    writeMemberCertificate(config, certificatePem);
    isReloadDue = true;
    onRenewed();
    await reload();
    logger.info(`the certificate of node ${nodeId} was renewed`);
  };
  const lookAndTell = () => {
    look().catch((error: unknown) =>
      logger.error(
        { err: error },
        isReloadDue
          ? 'the Consul agent could not be told of the new certificate of this node; trying again in an hour'
          : 'the certificate of this node could not be renewed; trying again in an hour',
      ),
    );
  };
  lookAndTell();
  const timer = setInterval(lookAndTell, LOOK_EVERY_MS);
  return { stop: () => clearInterval(timer) };
};
