/** `?watch=`: an answer that waits until there is something newer than what the client has. */

import { ContainerOsError } from '../domain/errors';
import { MAX_WAIT_MS, parseDurationMs } from '../openapi/parameters';

import type { RouteDeps } from './api-deps';
import type { Exchange } from './exchange';

const DEFAULT_TIMEOUT_MS = 60_000;

export interface WatchQuery {
  readonly watch?: string | undefined;
  readonly timeout?: string | undefined;
}

/** Resolves when the topic is beyond the version that the client has; at once when it did not ask to wait. */
export const waitAsWatched = async (
  { readModel }: RouteDeps,
  { signal }: Exchange,
  query: WatchQuery,
  topic: string,
): Promise<void> => {
  if (query.timeout !== undefined && query.watch === undefined) {
    throw new ContainerOsError(
      'invalid',
      'The query parameter timeout says how long to watch, and needs watch=<index>.',
    );
  }
  readModel.assertLoaded();
  if (query.watch === undefined) return;
  const timeoutMs = query.timeout === undefined ? DEFAULT_TIMEOUT_MS : (parseDurationMs(query.timeout) ?? 0);
  if (timeoutMs > MAX_WAIT_MS) {
    throw new ContainerOsError('invalid', `A watch may take ${MAX_WAIT_MS / 60_000} minutes at most.`);
  }
  await readModel.versions.waitBeyond(topic, Number(query.watch), timeoutMs, signal);
};

/** Headers that every answer from the read model has. */
export const versionHeaders = (
  { readModel }: RouteDeps,
  version: number,
): Readonly<Record<string, string>> => {
  const { staleSinceMs } = readModel.status();
  return {
    'x-containeros-index': String(version),
    ...(staleSinceMs === undefined
      ? {}
      : { 'x-containeros-stale-since': new Date(staleSinceMs).toISOString() }),
  };
};
