/**
 * Keeps an entry at each prefix of documents in Consul KV, so that those who follow one with nothing under it are not
 * answered with every write to any key.
 *
 * Invariants: nobody needs them to be there, they save work; they are made again when Consul has lost its data; at rest
 * this is one blocking query.
 */

import type { Logger } from 'pino';

import { pause } from '../adapters/pause';
import { FOLDERS_KV_KEY, KV_PREFIX } from '../contracts/kv';
import type { KeyValueStore } from '../contracts/key-value-store';
import type { KvStore } from '../contracts/kv-store';

/** How long a Consul that numbers its writes from the beginning goes unnoticed. */
const WAIT_MS = 60_000;
const RETRY_MS = 2_000;

export interface KvFoldersDeps {
  readonly kv: Pick<KvStore, 'get'>;
  readonly store: Pick<KeyValueStore, 'transact'>;
  readonly logger: Logger;
}

export const keepKvFolders = ({ kv, store, logger }: KvFoldersDeps): { stop(): void } => {
  const folders = Object.values(KV_PREFIX).sort();
  const stopped = new AbortController();
  const { signal } = stopped;

  const run = async (): Promise<void> => {
    let afterIndex = 0;
    while (!signal.aborted) {
      try {
        const found = await kv.get(
          FOLDERS_KV_KEY,
          afterIndex === 0 ? undefined : { afterIndex, waitMs: WAIT_MS, signal },
        );
        afterIndex = found.index;
        if (found.document?.text === JSON.stringify(folders)) continue;
        await store.transact([
          ...folders.map((key) => ({ kind: 'set', key, value: {} }) as const),
          { kind: 'set', key: FOLDERS_KV_KEY, value: folders },
        ]);
      } catch (error) {
        if (signal.aborted) return;
        afterIndex = 0;
        logger.debug({ err: error }, 'folders cannot be kept in Consul');
        await pause(RETRY_MS, signal);
      }
    }
  };
  void run();
  return { stop: () => stopped.abort() };
};
