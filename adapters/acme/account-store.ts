/**
 * The cluster's accounts with authorities in Consul KV: one key for each directory, made once and kept sealed.
 *
 * Invariants: a key is kept before an authority hears of it, so that no account is made twice, whoever makes it and
 * whenever a process dies; a key that cannot be opened any more is replaced, and a new account is made.
 */

import { createHash, generateKeyPair } from 'node:crypto';
import { promisify } from 'node:util';

import { acmeAccountPurpose, type AcmeAccount, type KeySealer } from '../../contracts/acme';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { acmeAccountKvKey } from '../../contracts/kv';
import { ContainerOsError } from '../../domain/errors';

export interface OpenAccount {
  readonly keyPem: string;
  /** Undefined: the authority does not know it yet. */
  readonly url?: string;
}

export interface AccountStore {
  open(directory: string): Promise<OpenAccount>;
  /** @param url undefined: the authority has forgotten it */
  remember(directory: string, url: string | undefined): Promise<void>;
}

export interface AccountStoreDeps {
  readonly store: Pick<KeyValueStore, 'get' | 'transact'>;
  readonly sealer: KeySealer;
  readonly warn: (message: string) => void;
  readonly nowMs: () => number;
}

/** Stands for a directory in keys of KV. */
export const directoryId = (directory: string): string =>
  createHash('sha256').update(directory).digest('hex').slice(0, 16);

/** ECDSA P-256, PKCS #8 in PEM. */
export const generateKeyPem = async (): Promise<string> => {
  const { privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
};

const RACES = 5;

export const createAccountStore = ({ store, sealer, warn, nowMs }: AccountStoreDeps): AccountStore => {
  const tryOpen = (account: AcmeAccount): string | undefined => {
    try {
      return sealer.open(account.sealedKey, acmeAccountPurpose(account.id));
    } catch (error) {
      warn(`A new account is made with ${new URL(account.directory).host}: ${(error as Error).message}`);
      return undefined;
    }
  };

  return {
    open: async (directory) => {
      const id = directoryId(directory);
      const key = acmeAccountKvKey(id);
      for (let race = 0; race < RACES; race += 1) {
        const found = await store.get<AcmeAccount>(key);
        const known = found?.value;
        const knownKey = known === undefined ? undefined : tryOpen(known);
        if (known !== undefined && knownKey !== undefined) {
          return { keyPem: knownKey, ...(known.url === undefined ? {} : { url: known.url }) };
        }
        const keyPem = await generateKeyPem();
        const value: AcmeAccount = {
          id,
          directory,
          sealedKey: sealer.seal(keyPem, acmeAccountPurpose(id)),
          createdAtMs: nowMs(),
        };
        const made = await store.transact([
          found === undefined
            ? { kind: 'create', key, value }
            : { kind: 'replace', key, value, ifIndex: found.index },
        ]);
        if (made.kind === 'written') return { keyPem };
      }
      throw new ContainerOsError('unavailable', `The account with ${directory} is changed all the time.`);
    },

    remember: async (directory, url) => {
      const key = acmeAccountKvKey(directoryId(directory));
      const found = await store.get<AcmeAccount>(key);
      if (found?.value === undefined) return;
      const { url: _before, ...account } = found.value;
      await store.transact([
        {
          kind: 'replace',
          key,
          value: { ...account, ...(url === undefined ? {} : { url }) },
          ifIndex: found.index,
        },
      ]);
    },
  };
};
