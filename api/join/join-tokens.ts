/**
 * Makes, lists and revokes join tokens.
 *
 * Invariants: the secret leaves in the answer to its making and is kept nowhere; tokens that ended long ago are
 * removed when another one is made.
 */

import { createHash, randomBytes, randomInt } from 'node:crypto';

import type { KeyValueStore, KvOperation } from '../../contracts/key-value-store';
import { KV_PREFIX, joinTokenKvKey } from '../../contracts/kv';
import { ContainerOsError } from '../../domain/errors';
import type { JoinToken } from '../../domain/identity';
import { TOKEN_ID_LENGTH, formatJoinToken, isJoinTokenId } from '../../domain/join-token';

export const DEFAULT_TOKEN_USES = 1;
export const DEFAULT_TOKEN_MS = 3_600_000;
/** For how long a token that has expired is still shown. */
const KEPT_MS = 7 * 86_400_000;
const MAX_REMOVED_AT_ONCE = 60;
const SECRET_BYTES = 24;
const REVOKE_ATTEMPTS = 100;
const ID_CHARACTERS = 'abcdefghijklmnopqrstuvwxyz0123456789';

export interface JoinTokensDeps {
  readonly store: KeyValueStore;
  /** Host and port of the cluster port; undefined when others cannot reach this installation. */
  readonly clusterAddress: string | undefined;
  readonly authorityFingerprint: string | undefined;
  readonly nowMs: () => number;
}

export interface MadeJoinToken {
  readonly id: string;
  readonly token: string;
  /** What to run on the machine that is to become a node. */
  readonly command: string;
  readonly expiresAtMs: number;
  readonly uses: number;
}

export interface JoinTokens {
  /** @throws {ContainerOsError} `conflict` when no other machine can reach this installation */
  create(wanted: { readonly uses?: number; readonly expiresInMs?: number }): Promise<MadeJoinToken>;
  /** The newest first. */
  list(): Promise<readonly JoinToken[]>;
  /** Revoking twice is no error. @throws {ContainerOsError} `not_found` */
  revoke(id: string): Promise<void>;
}

/** SHA-256 in hex: the secret has 192 bits of chance, so no slow hash is needed. */
export const hashSecret = (secret: string): string =>
  createHash('sha256').update(secret, 'utf8').digest('hex');

const newId = (): string =>
  Array.from({ length: TOKEN_ID_LENGTH }, () => ID_CHARACTERS[randomInt(ID_CHARACTERS.length)]).join('');

export const createJoinTokens = (deps: JoinTokensDeps): JoinTokens => {
  const { store, clusterAddress, authorityFingerprint, nowMs } = deps;
  const list = async () => (await store.list<JoinToken>(KV_PREFIX.joinTokens)).map(({ value }) => value);

  return {
    create: async ({ uses = DEFAULT_TOKEN_USES, expiresInMs = DEFAULT_TOKEN_MS }) => {
      if (clusterAddress === undefined || authorityFingerprint === undefined) {
        throw new ContainerOsError(
          'conflict',
          'No machine can join: others do not reach this one. Start it without --dev and --consul-address, and with --advertise-address ADDRESS.',
        );
      }
      const createdAtMs = nowMs();
      const removals: KvOperation[] = (await list())
        .filter(({ expiresAtMs }) => expiresAtMs + KEPT_MS < createdAtMs)
        .slice(0, MAX_REMOVED_AT_ONCE)
        .map(({ id }) => ({ kind: 'delete', key: joinTokenKvKey(id) }));
      const id = newId();
      const secret = randomBytes(SECRET_BYTES).toString('base64url');
      const expiresAtMs = createdAtMs + expiresInMs;
      const value: JoinToken = {
        id,
        secretHash: hashSecret(secret),
        createdAtMs,
        expiresAtMs,
        usesLeft: uses,
        usedBy: [],
      };
      const { kind } = await store.transact([
        { kind: 'create', key: joinTokenKvKey(id), value },
        ...removals,
      ]);
      // One in 36^8, or a defect of the source of chance.
      if (kind === 'conflict') throw new Error(`there is a join token ${id} already`);
      const token = formatJoinToken({ id, secret, authorityFingerprint });
      const command = `containeros join ${clusterAddress} --token ${token}`;
      return { id, token, command, expiresAtMs, uses };
    },

    list: async () =>
      [...(await list())].sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? -1 : 1)),

    revoke: async (id) => {
      const key = joinTokenKvKey(id);
      for (let attempt = 0; attempt < REVOKE_ATTEMPTS; attempt += 1) {
        const found = isJoinTokenId(id) ? await store.get<JoinToken>(key) : undefined;
        if (found === undefined) {
          throw new ContainerOsError(
            'not_found',
            `There is no join token ${id}. GET /v1/join-tokens lists them.`,
          );
        }
        if (found.value?.revokedAtMs !== undefined) return;
        const write: KvOperation =
          found.value === undefined
            ? { kind: 'delete', key }
            : { kind: 'replace', key, value: { ...found.value, revokedAtMs: nowMs() }, ifIndex: found.index };
        if ((await store.transact([write])).kind === 'written') return;
      }
      throw new ContainerOsError(
        'unavailable',
        `The join token ${id} is being used too much to revoke it. Try again.`,
      );
    },
  };
};
