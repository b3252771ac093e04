/**
 * Identities of nodes after they have joined: renewal, revocation, and who is revoked.
 *
 * Invariants: whoever is not known is revoked, and stays so while Consul is away; a node may show its newest
 * certificate and the one that it renewed it with, none before. Whoever gives a certificate out refreshes the view
 * before it does.
 */

import { createDocumentReader } from '../../contracts/documents';
import type { Authority } from '../../contracts/authority';
import type { KeyValueStore } from '../../contracts/key-value-store';
import type { KvStore } from '../../contracts/kv-store';
import { KV_PREFIX, identityKvKey } from '../../contracts/kv';
import { ContainerOsError } from '../../domain/errors';
import { isCurrentCertificate, isNodeId, type NodeIdentity } from '../../domain/identity';

const ATTEMPTS = 100;

export interface IdentitiesDeps {
  readonly store: KeyValueStore;
  readonly authority: Authority;
  readonly clusterId: string;
  readonly nowMs: () => number;
}

export interface Identities {
  /**
   * @param shown the certificate that the node showed; TLS has checked that it is one of the authority
   * @throws {ContainerOsError} `unauthenticated` when that certificate is revoked, `invalid` for a bad request
   */
  renewCertificate(
    shown: { readonly nodeId: string; readonly serial: string },
    signingRequestPem: string,
  ): Promise<{ readonly certificatePem: string; readonly authorityPem: string }>;
  /** Revoking twice is no error. @throws {ContainerOsError} `not_found` */
  revokeNode(nodeId: string): Promise<void>;
}

const busy = (nodeId: string) =>
  new ContainerOsError('unavailable', `The identity of ${nodeId} changes too often now. Try again.`);

/** In the place of an identity that cannot be read. No certificate is of it. */
const unreadable = (nodeId: string, atMs: number): NodeIdentity => ({
  nodeId,
  serial: '-',
  publicKeyHash: '-',
  joinedWith: '-',
  issuedAtMs: atMs,
  expiresAtMs: atMs,
});

const readIdentity = (store: KeyValueStore, nodeId: string) =>
  isNodeId(nodeId) ? store.get<NodeIdentity>(identityKvKey(nodeId)) : Promise.resolve(undefined);

/**
 * Revoking twice is no error.
 *
 * @param serial of the certificate of whoever asks for itself; left out: whoever has the name
 * @returns Consul's index of the revoked identity; undefined when no such node has ever joined
 * @throws {ContainerOsError} `unauthenticated` when the serial is that of a machine that had the name before
 */
export const revokeIdentity = async (
  { store, nowMs }: Pick<IdentitiesDeps, 'store' | 'nowMs'>,
  nodeId: string,
  serial?: string,
): Promise<number | undefined> => {
  const key = identityKvKey(nodeId);
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const found = await readIdentity(store, nodeId);
    if (found === undefined) return undefined;
    if (serial !== undefined && found.value?.serial !== serial && found.value?.previousSerial !== serial) {
      throw new ContainerOsError(
        'unauthenticated',
        `The name ${nodeId} is that of another machine now: this one was removed before. It has left already.`,
      );
    }
    if (found.value?.revokedAtMs !== undefined) return found.index;
    const atMs = nowMs();
    const value: NodeIdentity = { ...(found.value ?? unreadable(nodeId, atMs)), revokedAtMs: atMs };
    const result = await store.transact([{ kind: 'replace', key, value, ifIndex: found.index }]);
    if (result.kind === 'written') return result.index;
  }
  throw busy(nodeId);
};

export const createIdentities = ({ store, authority, clusterId, nowMs }: IdentitiesDeps): Identities => {
  const read = (nodeId: string) => readIdentity(store, nodeId);

  return {
    renewCertificate: async ({ nodeId, serial }, signingRequestPem) => {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const found = await read(nodeId);
        if (found?.value === undefined || !isCurrentCertificate(found.value, serial)) {
          throw new ContainerOsError(
            'unauthenticated',
            `The certificate of ${nodeId} is revoked. Join again with a new token.`,
          );
        }
        const atMs = nowMs();
        const issued = await authority.issueNodeCertificate({
          nodeId,
          signingRequestPem,
          clusterId,
          nowMs: atMs,
        });
        const value: NodeIdentity = {
          ...found.value,
          serial: issued.serial,
          previousSerial: serial,
          publicKeyHash: issued.publicKeyHash,
          issuedAtMs: atMs,
          expiresAtMs: issued.expiresAtMs,
        };
        const key = identityKvKey(nodeId);
        const result = await store.transact([{ kind: 'replace', key, value, ifIndex: found.index }]);
        if (result.kind === 'written') {
          return { certificatePem: issued.certificatePem, authorityPem: authority.certificatePem };
        }
      }
      throw busy(nodeId);
    },

    revokeNode: async (nodeId) => {
      if ((await revokeIdentity({ store, nowMs }, nodeId)) !== undefined) return;
      throw new ContainerOsError('not_found', `No node ${nodeId} has joined.`);
    },
  };
};

export interface RevocationView {
  /** Resolves when all identities have been read once; before that everybody counts as revoked. */
  readonly ready: Promise<void>;
  /** @param serial of the certificate that was shown, in hex of either case */
  isRevoked(nodeId: string, serial: string): boolean;
  /**
   * Reads the identities now: who has just been given a certificate is known afterwards.
   *
   * @throws {ContainerOsError} `unavailable` when Consul cannot be asked
   */
  refresh(): Promise<void>;
  /**
   * Calls back when an identity has changed.
   *
   * @returns how to end it
   */
  onChange(listener: () => void): () => void;
  close(): void;
}

/** @param tell called with what cannot be read, and why */
export const followRevocations = (kv: KvStore, tell: (message: string) => void): RevocationView => {
  const identities = new Map<string, NodeIdentity>();
  const listeners = new Set<() => void>();
  const read = createDocumentReader(tell);
  let isReady: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    isReady = resolve;
  });
  const watch = kv.watch(KV_PREFIX.identities, {
    changed: ({ changed, removed }) => {
      for (const key of removed) identities.delete(key);
      for (const document of changed) {
        const identity = read('identities', document);
        if (identity === undefined) identities.delete(document.key);
        else identities.set(document.key, identity);
      }
      isReady();
      for (const listener of listeners) listener();
    },
    unreachable: () => undefined, // what was known holds
  });
  return {
    ready,
    isRevoked: (nodeId, serial) => {
      const identity = identities.get(identityKvKey(nodeId));
      return identity === undefined || !isCurrentCertificate(identity, serial.toLowerCase());
    },
    refresh: () => watch.refresh(),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: () => watch.close(),
  };
};
