/** The cluster's authority for hostnames on the head: its files in the data directory, and the certificates of it. */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import type { Logger } from 'pino';

import { createCertificateStore } from '../../adapters/certificates/certificate-store';
import type { AuthorityFiles } from '../../adapters/certificates/open-hostname-authority';
import { createSealer } from '../../adapters/certificates/seal';
import type { KeyValueStore } from '../../contracts/key-value-store';
import type { KvStore } from '../../contracts/kv-store';
import type { Config } from '../config';
import { openInstallation, readIfThere, writePrivateFile } from '../installation';
import { createInternalCertificates, type InternalCertificates } from '../internal-certificates';

import { clusterKeyOf } from './head-files';

export const hostnameAuthorityFiles = ({ dataDir }: Pick<Config, 'dataDir'>): AuthorityFiles => {
  const directory = join(dataDir, 'cluster');
  const certificateFile = join(directory, 'hostname-authority.pem');
  const keyFile = join(directory, 'hostname-authority-key.pem');
  return {
    read: () => {
      const [certificatePem, keyPem] = [readIfThere(certificateFile), readIfThere(keyFile)];
      return certificatePem === undefined || keyPem === undefined ? undefined : { certificatePem, keyPem };
    },
    write: ({ certificatePem, keyPem }) => {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      writePrivateFile(keyFile, keyPem);
      writePrivateFile(certificateFile, certificatePem);
    },
  };
};

/** Has private hostnames get certificates of the cluster's own authority, once it is started. */
export const keepInternalCertificates = (
  config: Config,
  deps: { readonly kv: KvStore; readonly store: KeyValueStore; readonly logger: Logger },
): InternalCertificates => {
  const { kv, store, logger } = deps;
  const { clusterId } = openInstallation(config);
  const sealer = createSealer(clusterKeyOf(config));
  const warn = (message: string) => logger.error(message);
  return createInternalCertificates({
    kv,
    certificates: createCertificateStore({ store, sealer, nowMs: Date.now, onUnreadable: warn }),
    // Loaded only where it is used: it would make every process some megabytes larger.
    openAuthority: async () => {
      const { openHostnameAuthority } =
        await import('../../adapters/certificates/open-hostname-authority.js');
      const files = hostnameAuthorityFiles(config);
      return openHostnameAuthority({ store, sealer, files, clusterId, nowMs: Date.now, warn });
    },
    issue: async (request) => {
      const { issueForHostname } = await import('../../adapters/certificates/hostname-authority.js');
      return issueForHostname(request);
    },
    isInternalOnly: config.dev,
    nowMs: Date.now,
    logger,
  });
};
