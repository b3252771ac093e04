/** Renews the certificate of a machine that has joined. Invariants: the key stays; otherwise as of renewal. */

import type { Logger } from 'pino';

import { createConsulClient } from '../../adapters/consul/consul-client';
import { nodeCertificatePath, type CertificateAnswer } from '../../contracts/join';
import { consulAddressOf, type Config } from '../config';

import { askCluster } from './ask-cluster';
import { memberReloadMark, readCredentials, writeMemberCertificate, type Membership } from './membership';
import { keepRenewed, type Renewing } from './renewal';

/** @param onRenewed called when there is a new certificate; the Consul agent may not have it yet */
export const keepCertificate = (
  config: Config,
  { nodeId, clusterAddress, consul: { token } }: Membership,
  log: Logger,
  onRenewed: () => void,
): Renewing =>
  keepRenewed({
    owner: `node ${nodeId}`,
    shown: () => readCredentials(config).certificatePem,
    renew: async () => {
      const credentials = readCredentials(config);
      const { createSigningRequest } = await import('../../adapters/certificates/authority.js');
      const { signingRequestPem } = await createSigningRequest(nodeId, credentials.keyPem);
      const { certificatePem } = await askCluster<CertificateAnswer>({
        address: clusterAddress,
        path: nodeCertificatePath(nodeId),
        body: { signingRequestPem },
        credentials,
      });
      return () => writeMemberCertificate(config, certificatePem);
    },
    onRenewed,
    reloadAgent: async () => {
      const consul = createConsulClient({ address: consulAddressOf(config), token });
      try {
        await consul.request({ method: 'PUT', path: '/agent/reload' });
      } finally {
        consul.close();
      }
    },
    reloadMark: memberReloadMark(config),
    log,
  });
