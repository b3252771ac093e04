/** What the API has to do with certificates of hostnames. */

import type { Client } from '@temporalio/client';

import { createCertificateStore } from '../../adapters/certificates/certificate-store';
import { checkMaterial } from '../../adapters/certificates/check-material';
import { createSealer } from '../../adapters/certificates/seal';
import type { ApiCertificates } from '../../api/api-deps';
import { createCertificateRetry } from '../../api/certificate-retry';
import { HOSTNAME_AUTHORITY, type HostnameAuthority } from '../../contracts/hostname-authority';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { authorityKvKey } from '../../contracts/kv';
import { authorityFor } from '../../domain/ingress/authority-for';
import { isWildcard } from '../../domain/ingress/wildcard';
import type { Config } from '../config';

import { clusterKeyOf } from './head-files';

export const apiCertificates = (
  config: Config,
  store: KeyValueStore,
  client: Client,
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
  isPublic: (hostname) => authorityFor(hostname, config.dev) === 'public',
  willBeIssued: (hostname) =>
    authorityFor(hostname, config.dev) === 'internal' ||
    (config.acme.authorities.length > 0 && (!isWildcard(hostname) || config.acme.dns !== undefined)),
  retry: createCertificateRetry(client),
});
