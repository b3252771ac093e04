/**
 * Opens the cluster's authority for hostnames, which is made once: it stands in Consul, sealed, and in files of the head.
 *
 * Invariants: what Consul has counts, so that all control planes sign with one root; what only the files have goes back
 * to Consul; a new one is made only when there is none that can be opened.
 */

import { X509Certificate, createPrivateKey } from 'node:crypto';

import {
  HOSTNAME_AUTHORITY,
  type AuthorityMaterial,
  type HostnameAuthority,
} from '../../contracts/hostname-authority';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { authorityKvKey } from '../../contracts/kv';

import { createHostnameAuthority } from './hostname-authority';
import type { Sealer } from './seal';

const KEY = authorityKvKey(HOSTNAME_AUTHORITY);
const PURPOSE = `authority ${HOSTNAME_AUTHORITY}`;

export interface AuthorityFiles {
  /** Undefined when there are none, or they cannot be read. */
  read(): AuthorityMaterial | undefined;
  write(material: AuthorityMaterial): void;
}

export interface OpenHostnameAuthorityDeps {
  readonly store: Pick<KeyValueStore, 'get' | 'transact'>;
  readonly sealer: Sealer;
  readonly files: AuthorityFiles;
  readonly clusterId: string;
  readonly nowMs: () => number;
  /** Told what is wrong with the one that there is, and what is done about it, in words. */
  readonly warn: (message: string) => void;
}

/** @throws {Error} when they do not belong together, or cannot be read */
const assertPair = ({ certificatePem, keyPem }: AuthorityMaterial): AuthorityMaterial => {
  if (new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem))) {
    return { certificatePem, keyPem };
  }
  throw new Error('the key is not that of the root');
};

/** @throws {ContainerOsError} as of KeyValueStore, when Consul does not answer */
export const openHostnameAuthority = async (deps: OpenHostnameAuthorityDeps): Promise<AuthorityMaterial> => {
  const { store, sealer, files, clusterId, nowMs, warn } = deps;

  const openStored = (stored: HostnameAuthority): AuthorityMaterial | undefined => {
    try {
      return assertPair({
        certificatePem: stored.certificatePem,
        keyPem: sealer.open(stored.sealedKey, PURPOSE),
      });
    } catch (error) {
      warn(`The authority for hostnames in Consul cannot be opened: ${(error as Error).message}`);
      return undefined;
    }
  };
  const readFiles = (): AuthorityMaterial | undefined => {
    const found = files.read();
    try {
      return found && assertPair(found);
    } catch (error) {
      warn(`The authority for hostnames in the data directory is not used: ${(error as Error).message}.`);
      return undefined;
    }
  };

  for (;;) {
    const found = await store.get<HostnameAuthority>(KEY);
    const stored = found?.value && openStored(found.value);
    if (stored !== undefined) {
      if (files.read()?.certificatePem.trim() !== stored.certificatePem.trim()) files.write(stored);
      return stored;
    }
    const kept = readFiles();
    const material = kept ?? (await createHostnameAuthority({ clusterId, nowMs: nowMs() }));
    if (kept === undefined && found !== undefined) {
      warn(
        'A new authority for hostnames was made. Machines that trusted the other one have to trust it anew.',
      );
    }
    const value: HostnameAuthority = {
      name: HOSTNAME_AUTHORITY,
      certificatePem: material.certificatePem,
      sealedKey: sealer.seal(material.keyPem, PURPOSE),
      createdAtMs: nowMs(),
    };
    const { kind } = await store.transact([
      found === undefined
        ? { kind: 'create', key: KEY, value }
        : { kind: 'replace', key: KEY, value, ifIndex: found.index },
    ]);
    // Another control plane was first: what it made counts.
    if (kind === 'conflict') continue;
    files.write(material);
    return material;
  }
};
