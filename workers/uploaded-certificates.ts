/**
 * Tells by events of certificates that somebody has brought, soon before they end and when they have, as nobody else
 * renews them.
 *
 * Invariant: each notice is one event, whoever tells it and however often.
 */

import type { Logger } from 'pino';

import type { Certificate } from '../contracts/certificates';
import { createDocumentReader } from '../contracts/documents';
import { knownOwnerOf } from '../contracts/hostname-owners';
import type { KeyValueStore } from '../contracts/key-value-store';
import { KV_PREFIX, eventKvKey } from '../contracts/kv';
import type { KvStore } from '../contracts/kv-store';
import { endingNotices, type EndingNotice } from '../domain/certificates/ending';
import type { ClusterEvent } from '../domain/model';

import { createTurns } from './turns';

export interface UploadedCertificates {
  start(): void;
  stop(): void;
}

export interface UploadedCertificatesDeps {
  readonly kv: Pick<KvStore, 'watch'>;
  readonly store: Pick<KeyValueStore, 'get' | 'list' | 'transact'>;
  readonly nowMs: () => number;
  readonly logger: Logger;
}

export const createUploadedCertificates = (deps: UploadedCertificatesDeps): UploadedCertificates => {
  const { kv, store, nowMs, logger } = deps;
  const known = new Map<string, Certificate>();
  const read = createDocumentReader((message) => logger.error(message));

  const tell = async (
    { hostname, fingerprint }: Certificate,
    { type, atMs, message }: EndingNotice,
  ): Promise<void> => {
    const owner = await knownOwnerOf(store, hostname);
    const value: ClusterEvent = {
      atMs,
      level: 'warning',
      type,
      message,
      ...(owner === undefined ? {} : { project: owner.project, microservice: owner.name }),
    };
    // Under a key that is the notice's own.
    await store.transact([{ kind: 'create', key: eventKvKey(atMs, fingerprint.slice(0, 16)), value }]);
  };

  const turn = async (): Promise<number | undefined> => {
    const now = nowMs();
    let nextAtMs: number | undefined;
    const all = [...known.values()];
    for (const certificate of all.filter(({ source }) => source === 'uploaded')) {
      for (const notice of endingNotices(certificate, all)) {
        if (notice.atMs <= now) await tell(certificate, notice);
        else nextAtMs = Math.min(nextAtMs ?? Infinity, notice.atMs);
      }
    }
    return nextAtMs;
  };

  const turns = createTurns({
    sources: ['certificates'],
    follow: () => [
      kv.watch(KV_PREFIX.certificates, {
        changed: ({ changed, removed }) => {
          for (const stored of changed) {
            const certificate = read('certificates', stored);
            if (certificate === undefined) known.delete(stored.key);
            else known.set(stored.key, certificate);
          }
          for (const key of removed) known.delete(key);
          turns.heard('certificates', { changed, removed });
        },
        unreachable: (error) =>
          logger.debug({ err: error }, 'certificates that end cannot be followed in Consul'),
      }),
    ],
    turn,
    words: {
      failing: 'it is not told which uploaded certificates end',
      well: 'it is told again which uploaded certificates end',
    },
    nowMs,
    logger,
  });
  return { start: () => turns.start(), stop: () => turns.stop() };
};
