/**
 * Consul's KV store as its readers need it: follow a prefix, read one document, wait for one document to change.
 *
 * Invariants: waiting is a blocking query, never a timer; a follower is told every change in the order of Consul's
 * index, only of documents whose index changed, and what it was told adds up to the whole prefix; after any failure
 * it begins again with a full read, because a Consul that lost its data numbers its writes from the beginning; what
 * is read without waiting is never older than what was written before.
 */

import { isFolderKvKey } from '../../contracts/kv';
import type { KvChange, KvDocument, KvStore, KvWatch, KvWatchHandlers } from '../../contracts/kv-store';

import { pause } from '../pause';

import { kvPath, kvText, type ConsulClient, type ConsulKvEntry, type ConsulResponse } from './consul-client';
import { nextPauseMs, wholePauseMs } from './strides';

/** Bounds how long a frozen Consul goes unnoticed; Consul answers with what it has when nothing has changed. */
const WAIT_MS = 10_000;
const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 2_000;
/**
 * While there is nothing under a prefix, no folder either, Consul answers with every write to any key (it has no index for
 * it then).
 */
const EMPTY_PAUSE_MS = 150;
/** The whole pause of who is content with what was there at the last reading, until it says that it is not. */
const CALM_PAUSE_MS = 250;

/** Otherwise a Consul that has just started answers with what it had some writes ago, as if those had never been. */
const CONSISTENT = { consistent: true } as const;

const toDocument = (entry: ConsulKvEntry): KvDocument => ({
  key: entry.Key,
  text: kvText(entry),
  index: entry.ModifyIndex,
});

const entriesOf = (response: ConsulResponse<readonly ConsulKvEntry[] | undefined>) =>
  response.status === 404 ? [] : (response.body ?? []);

const isDocument = ({ Key }: ConsulKvEntry): boolean => !isFolderKvKey(Key);

/**
 * What differs between what was told and what is there now.
 *
 * @param told key to index of everything told so far; brought up to date
 */
const difference = (
  told: Map<string, number>,
  entries: readonly ConsulKvEntry[],
  index: number,
  everything: boolean,
): KvChange => {
  const present = new Set<string>();
  const changed: KvDocument[] = [];
  for (const entry of entries) {
    present.add(entry.Key);
    if (!everything && told.get(entry.Key) === entry.ModifyIndex) continue;
    told.set(entry.Key, entry.ModifyIndex);
    changed.push(toDocument(entry));
  }
  const removed = [...told.keys()].filter((key) => !present.has(key));
  for (const key of removed) told.delete(key);
  changed.sort((a, b) => a.index - b.index || (a.key < b.key ? -1 : 1));
  return { index, changed, removed };
};

const watchPrefix = (
  client: ConsulClient,
  prefix: string,
  handlers: KvWatchHandlers,
  leastWholeMs: number,
): KvWatch => {
  const told = new Map<string, number>();
  let closed = false;
  let interruption = new AbortController();
  let refreshWanted: { readonly resolve: () => void; readonly reject: (error: unknown) => void }[] = [];
  let lastIndex = 0;
  let failures = 0;
  let everTold = false;
  let strideMs = 0;
  /** Whether a full read is under way: what it waits for is an answer, not a change, so it is never interrupted. */
  let reading = false;
  /** Whether only the time that it leaves to Consul keeps it from reading. */
  let pausing = false;

  const read = async (): Promise<number> => {
    const refreshing = refreshWanted;
    refreshWanted = [];
    const blocking = refreshing.length === 0 && lastIndex > 0 && failures === 0;
    reading = !blocking;
    const askedMs = performance.now();
    try {
      const response = await client.request<readonly ConsulKvEntry[] | undefined>({
        path: kvPath(prefix),
        query: { recurse: true, ...(blocking ? {} : CONSISTENT) },
        ...(blocking ? { wait: { index: lastIndex, waitMs: WAIT_MS } } : {}),
        signal: interruption.signal,
      });
      if (closed) return 0;
      const entries = entriesOf(response);
      const isNumberedAnew = response.index < lastIndex;
      const change = difference(told, entries.filter(isDocument), response.index, isNumberedAnew);
      const isNews = change.changed.length > 0 || change.removed.length > 0 || response.index !== lastIndex;
      if (isNews || !everTold || failures > 0) handlers.changed(change);
      everTold = true;
      failures = 0;
      lastIndex = Math.max(1, response.index);
      for (const one of refreshing) one.resolve();
      if (entries.length === 0) return EMPTY_PAUSE_MS;
      const wholeMs = Math.max(leastWholeMs, wholePauseMs(entries.length));
      strideMs = nextPauseMs(strideMs, wholeMs, performance.now() - askedMs);
      return strideMs;
    } catch (error) {
      if (interruption.signal.aborted) {
        refreshWanted.unshift(...refreshing);
        return 0;
      }
      failures += 1;
      for (const one of refreshing) one.reject(error);
      handlers.unreachable(error);
      // Spread, so that many readers do not fall upon a Consul that has just come back all at once.
      return Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** (failures - 1)) * (0.75 + Math.random() / 2);
    } finally {
      reading = false;
    }
  };

  const loop = async () => {
    while (!closed) {
      const pauseMs = await read();
      if (interruption.signal.aborted) interruption = new AbortController();
      pausing = failures === 0;
      if (refreshWanted.length === 0) await pause(pauseMs, interruption.signal);
      pausing = false;
      if (interruption.signal.aborted) interruption = new AbortController();
    }
    for (const one of refreshWanted) one.reject(new Error('the watch was closed'));
  };
  const running = loop();
  running.catch((error: unknown) => {
    handlers.unreachable(error);
  });

  const refresh = (): Promise<void> =>
    new Promise((resolve, reject) => {
      if (closed) {
        reject(new Error('the watch was closed'));
        return;
      }
      refreshWanted.push({ resolve, reject });
      if (!reading) interruption.abort();
    });

  return {
    refresh,
    catchUp: async () => {
      if (pausing || (reading && failures === 0)) await refresh().catch(() => undefined);
    },
    close: () => {
      closed = true;
      interruption.abort();
    },
  };
};

export const createKvStore = (client: ConsulClient): KvStore => ({
  watch: (prefix, handlers, pace) =>
    watchPrefix(client, prefix, handlers, pace === 'calm' ? CALM_PAUSE_MS : 0),
  list: async (prefix) => {
    const response = await client.request<readonly ConsulKvEntry[] | undefined>({
      path: kvPath(prefix),
      query: { recurse: true, ...CONSISTENT },
    });
    return { index: response.index, documents: entriesOf(response).filter(isDocument).map(toDocument) };
  },
  get: async (key, wait) => {
    const response = await client.request<readonly ConsulKvEntry[] | undefined>({
      path: kvPath(key),
      ...(wait === undefined
        ? { query: CONSISTENT }
        : {
            wait: { index: Math.max(1, wait.afterIndex), waitMs: wait.waitMs },
            ...(wait.signal === undefined ? {} : { signal: wait.signal }),
          }),
    });
    const [entry] = entriesOf(response);
    return { index: response.index, ...(entry === undefined ? {} : { document: toDocument(entry) }) };
  },
});
