/** What the API has to do with certificates of hostnames. */

import { createCertificateStore } from '../../adapters/certificates/certificate-store';
import { checkMaterial } from '../../adapters/certificates/check-material';
import { createSealer } from '../../adapters/certificates/seal';
import type { ApiCertificates } from '../../api/api-deps';
import { HOSTNAME_AUTHORITY, type HostnameAuthority } from '../../contracts/hostname-authority';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { authorityKvKey } from '../../contracts/kv';
import type { Config } from '../config';

import { clusterKeyOf } from './head-files';

export const apiCertificates = (
  config: Config,
  store: KeyValueStore,
  onUnreadable: (message: string) => void,
): ApiCertificates => ({
  store: createCertificateStore({
    store,
    sealer: createSealer(clusterKeyOf(config)),
    nowMs: Date.now,
    onUnreadable,
  }),
  check: checkMaterial,
  rootPem: async () =>
    (await store.get<HostnameAuthority>(authorityKvKey(HOSTNAME_AUTHORITY)))?.value?.certificatePem,
});
