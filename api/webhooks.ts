/**
 * Keeps deploy webhooks: makes, lists, rotates and revokes them, and knows them by their secrets.
 *
 * Invariants: a secret leaves in the answer to its making and is kept nowhere, only its hash is; a webhook that is not
 * there and a secret that is wrong take the same way, so that neither answer nor time tells them apart.
 */

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

import type { KeyValueStore } from '../contracts/key-value-store';
import { KV_PREFIX, webhookKvKey } from '../contracts/kv';
import { ContainerOsError } from '../domain/errors';
import { microserviceId, type MicroserviceKey } from '../domain/model';
import type { Webhook, WebhookUse } from '../domain/webhook';

const SECRET_BYTES = 32;
const ID_BYTES = 9;
const MAX_WEBHOOKS = 20;
const REPLACE_ATTEMPTS = 20;
const ID = /^[a-f0-9]{18}$/;

const hashOf = (secret: string): string => createHash('sha256').update(secret, 'utf8').digest('hex');
/** What a secret is compared with where there is no webhook. */
const NO_HASH = '0'.repeat(64);

const isSame = (left: string, right: string): boolean =>
  left.length === right.length && timingSafeEqual(Buffer.from(left), Buffer.from(right));

export interface MadeWebhook {
  readonly webhook: Webhook;
  readonly secret: string;
}

export interface Webhooks {
  /** @throws {ContainerOsError} `conflict` when there is one of that name, or too many */
  create(
    key: MicroserviceKey,
    wanted: { readonly name: string; readonly anyRepository: boolean },
  ): Promise<MadeWebhook>;
  /** In the order of their names. */
  list(key: MicroserviceKey): Promise<readonly Webhook[]>;
  /** The old secret is worth nothing from then on. @throws {ContainerOsError} `not_found` */
  rotate(key: MicroserviceKey, nameOrId: string): Promise<MadeWebhook>;
  /** @throws {ContainerOsError} `not_found` */
  revoke(key: MicroserviceKey, nameOrId: string): Promise<void>;
  /** The webhook with this secret; undefined when there is none. */
  find(id: string, secret: string): Promise<Webhook | undefined>;
  /** Remembers how it was used; a webhook that is gone stays so. */
  used(id: string, use: WebhookUse): Promise<void>;
}

export const createWebhooks = ({
  store,
  nowMs,
}: {
  readonly store: KeyValueStore;
  readonly nowMs: () => number;
}): Webhooks => {
  const list: Webhooks['list'] = async (key) =>
    (await store.list<Webhook>(KV_PREFIX.webhooks))
      .map(({ value }) => value)
      .filter(({ microservice }) => microserviceId(microservice) === microserviceId(key))
      .sort((a, b) => (a.name < b.name ? -1 : 1));

  const findNamed = async (key: MicroserviceKey, nameOrId: string): Promise<Webhook> => {
    const all = await list(key);
    const found = all.find(({ name, id }) => name === nameOrId || id === nameOrId);
    if (found) return found;
    const names = all.map(({ name }) => name).join(', ');
    throw new ContainerOsError(
      'not_found',
      `${key.name} has no webhook ${nameOrId}.${names === '' ? '' : ` It has ${names}.`}`,
    );
  };

  /** Changes what is there now, whatever others have changed meanwhile. */
  const replace = async (id: string, change: (webhook: Webhook) => Webhook): Promise<Webhook | undefined> => {
    for (let attempt = 0; attempt < REPLACE_ATTEMPTS; attempt += 1) {
      const found = await store.get<Webhook>(webhookKvKey(id));
      if (found?.value === undefined) return undefined;
      const value = change(found.value);
      const { kind } = await store.transact([
        { kind: 'replace', key: webhookKvKey(id), value, ifIndex: found.index },
      ]);
      if (kind === 'written') return value;
    }
    throw new ContainerOsError('unavailable', 'The webhook is being used too much to change it. Try again.');
  };

  const newSecret = () => randomBytes(SECRET_BYTES).toString('base64url');

  return {
    create: async (key, { name, anyRepository }) => {
      const all = await list(key);
      if (all.some((one) => one.name === name)) {
        throw new ContainerOsError(
          'conflict',
          `${key.name} has a webhook ${name} already. Use another name, or rotate its secret.`,
        );
      }
      if (all.length >= MAX_WEBHOOKS) {
        throw new ContainerOsError(
          'conflict',
          `${key.name} has ${MAX_WEBHOOKS} webhooks, which is as many as there may be. Revoke one that is not used.`,
        );
      }
      const secret = newSecret();
      const webhook: Webhook = {
        id: randomBytes(ID_BYTES).toString('hex'),
        microservice: { project: key.project, name: key.name },
        name,
        secretHash: hashOf(secret),
        anyRepository,
        createdAtMs: nowMs(),
      };
      const { kind } = await store.transact([
        { kind: 'create', key: webhookKvKey(webhook.id), value: webhook },
      ]);
      if (kind === 'conflict') throw new Error(`there is a webhook ${webhook.id} already`);
      return { webhook, secret };
    },
    list,
    rotate: async (key, nameOrId) => {
      const { id } = await findNamed(key, nameOrId);
      const secret = newSecret();
      const webhook = await replace(id, (one) => ({
        ...one,
        secretHash: hashOf(secret),
        rotatedAtMs: nowMs(),
      }));
      if (!webhook)
        throw new ContainerOsError('not_found', `${key.name} has no webhook ${nameOrId} any more.`);
      return { webhook, secret };
    },
    revoke: async (key, nameOrId) => {
      const { id } = await findNamed(key, nameOrId);
      await store.transact([{ kind: 'delete', key: webhookKvKey(id) }]);
    },
    find: async (id, secret) => {
      const found = await store.get<Webhook>(webhookKvKey(ID.test(id) ? id : '0'.repeat(2 * ID_BYTES)));
      const isRight = isSame(hashOf(secret), found?.value?.secretHash ?? NO_HASH);
      return isRight ? found?.value : undefined;
    },
    used: async (id, lastUse) => {
      await replace(id, (webhook) => ({ ...webhook, lastUse }));
    },
  };
};
