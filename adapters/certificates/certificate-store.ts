/**
 * Certificates of hostnames in Consul KV, sealed.
 *
 * Invariants: what is written says of itself what its certificate says; chain and key belong together; a key leaves
 * this file only to who reads with the cluster's key.
 */

import { createPrivateKey } from 'node:crypto';

import type { Certificate, CertificateMaterial, CertificateStore } from '../../contracts/certificates';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { KV_PREFIX, certificateKvKey } from '../../contracts/kv';

import { describeCertificate, readChain } from './read-chain';
import type { Sealer } from './seal';

export interface CertificateStoreDeps {
  readonly store: Pick<KeyValueStore, 'get' | 'list' | 'transact'>;
  readonly sealer: Sealer;
  readonly nowMs: () => number;
  /** Told of what cannot be opened, in words. */
  readonly onUnreadable: (message: string) => void;
}

/**
 * Opens what stands in Consul.
 *
 * @throws {ContainerOsError} `internal` when it cannot be opened
 */
export const openCertificate = (
  sealer: Sealer,
  { hostname, sealed }: Pick<Certificate, 'hostname' | 'sealed'>,
): CertificateMaterial => {
  const { chainPem, keyPem } = JSON.parse(sealer.open(sealed, hostname)) as CertificateMaterial;
  return { chainPem, keyPem };
};

export interface OwnCertificateStore extends CertificateStore {
  /**
   * Keeps one of the cluster's own, unless people or a public authority have given one meanwhile.
   *
   * @returns undefined when they have
   */
  writeInternal(
    certificate: { readonly hostname: string } & CertificateMaterial,
  ): Promise<Certificate | undefined>;
  /** Removes it as long as it is one of the cluster's own. */
  removeInternal(hostname: string): Promise<void>;
}

/**
 * @throws {Error} from `write`: when the chain or the key cannot be read, or do not belong together: who writes has seen
 *   to that; otherwise as of KeyValueStore
 */
export const createCertificateStore = ({
  store,
  sealer,
  nowMs,
  onUnreadable,
}: CertificateStoreDeps): OwnCertificateStore => {
  const sealed = ({
    hostname,
    source,
    directory,
    chainPem,
    keyPem,
  }: Parameters<CertificateStore['write']>[0]) => {
    const read = readChain(chainPem);
    const key = createPrivateKey(keyPem);
    if (!read.checkPrivateKey(key)) {
      throw new Error(`the key for ${hostname} is not that of its certificate`);
    }
    const material: CertificateMaterial = {
      chainPem,
      keyPem: key.export({ type: 'pkcs8', format: 'pem' }) as string,
    };
    const certificate: Certificate = {
      hostname,
      ...describeCertificate(read),
      source,
      ...(directory === undefined ? {} : { directory }),
      sealed: sealer.seal(JSON.stringify(material), hostname),
      updatedAtMs: nowMs(),
    };
    return certificate;
  };

  return {
    read: async (hostname) => {
      const found = (await store.get<Certificate>(certificateKvKey(hostname)))?.value;
      if (found === undefined) return undefined;
      try {
        return { ...found, ...openCertificate(sealer, found) };
      } catch (error) {
        onUnreadable((error as Error).message);
        return undefined;
      }
    },

    list: async () => (await store.list<Certificate>(KV_PREFIX.certificates)).map(({ value }) => value),

    write: async (given) => {
      const value = sealed(given);
      await store.transact([{ kind: 'set', key: certificateKvKey(value.hostname), value }]);
      return value;
    },

    writeInternal: async (given) => {
      const key = certificateKvKey(given.hostname);
      const found = await store.get<Certificate>(key);
      if (found?.value !== undefined && found.value.source !== 'internal') return undefined;
      const value = sealed({ ...given, source: 'internal' });
      const { kind } = await store.transact([
        found === undefined
          ? { kind: 'create', key, value }
          : { kind: 'replace', key, value, ifIndex: found.index },
      ]);
      return kind === 'written' ? value : undefined;
    },

    removeInternal: async (hostname) => {
      const key = certificateKvKey(hostname);
      const found = await store.get<Certificate>(key);
      if (found?.value?.source !== 'internal') return;
      await store.transact([
        { kind: 'unchanged', key, index: found.index },
        { kind: 'delete', key },
      ]);
    },

    remove: async (hostname) => {
      await store.transact([{ kind: 'delete', key: certificateKvKey(hostname) }]);
    },
  };
};
