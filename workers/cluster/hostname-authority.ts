/** The files of the head's data directory that hold the cluster's authority for hostnames. */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import type { AuthorityFiles } from '../../adapters/certificates/open-hostname-authority';
import type { Config } from '../config';
import { readIfThere, writePrivateFile } from '../installation';

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
