/**
 * Log lines of one or many replicas as one stream.
 *
 * Invariants: lines that are there already come in the order of their times, lines that are being written in the
 * order of their arrival; a replica whose node does not answer is told with its reason, and does not end the others.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type { LogLine } from '../contracts/node-stream';
import { ContainerOsError } from '../domain/errors';

import type { LogsWanted, NodeStreams } from './node-streams';
import type { ShownReplica } from './read-model';

export type LogItem =
  | { readonly kind: 'line'; readonly line: LogLine }
  /** This replica has no more to say, because of trouble. */
  | {
      readonly kind: 'trouble';
      readonly replica: string;
      readonly reason: string;
      /** Its node does not have it: not yet, or no more. */
      readonly isMissing: boolean;
    };

export type LogFilter = Pick<LogsWanted, 'container' | 'tail' | 'sinceMs'>;

/** A replica is published before its containers exist: it is asked for again, soon and so often at least. */
const MISSING_RETRY_MS = 200;
const MISSING_RETRIES = 5;

const reasonOf = (error: unknown): string => {
  if (error instanceof ContainerOsError) return error.message;
  return 'The stream from the node broke off.';
};

const open = (
  nodeStreams: NodeStreams,
  replica: ShownReplica,
  filter: LogFilter,
  follow: boolean,
  signal: AbortSignal,
) => nodeStreams.open(replica.nodeId, { kind: 'logs', replicaId: replica.id, ...filter, follow }, signal);

async function* itemsOf(
  replica: ShownReplica,
  opening: Promise<AsyncIterable<LogLine>>,
): AsyncGenerator<LogItem> {
  try {
    for await (const line of await opening) yield { kind: 'line', line };
  } catch (error) {
    const isMissing = error instanceof ContainerOsError && error.code === 'not_found';
    yield { kind: 'trouble', replica: replica.id, reason: reasonOf(error), isMissing };
  }
}

const timeOf = (item: LogItem): number => (item.kind === 'line' ? item.line.atMs : Infinity);

/** Merges sources that have an end by the times of their lines; holds one line of each. */
async function* mergedByTime(sources: readonly AsyncGenerator<LogItem>[]): AsyncGenerator<LogItem> {
  const heads = await Promise.all(sources.map(async (source) => ({ source, next: await source.next() })));
  try {
    for (;;) {
      let first: (typeof heads)[number] | undefined;
      for (const head of heads) {
        if (head.next.done === true) continue;
        if (
          first === undefined ||
          first.next.done === true ||
          timeOf(head.next.value) < timeOf(first.next.value)
        ) {
          first = head;
        }
      }
      if (first === undefined || first.next.done === true) return;
      yield first.next.value;
      first.next = await first.source.next();
    }
  } finally {
    await Promise.all(sources.map((source) => source.return(undefined)));
  }
}

/**
 * Everything that has been written until now.
 *
 * @throws {ContainerOsError} when there is one replica only and its node cannot be asked
 */
export const pastLogs = async (
  nodeStreams: NodeStreams,
  replicas: readonly ShownReplica[],
  filter: LogFilter,
  signal: AbortSignal,
): Promise<AsyncGenerator<LogItem>> => {
  const openings = replicas.map((replica) => open(nodeStreams, replica, filter, false, signal));
  for (const opening of openings) opening.catch(() => undefined);
  if (openings.length === 1) await openings[0];
  return mergedByTime(
    replicas.map((replica, index) => itemsOf(replica, openings[index] ?? Promise.reject(new Error()))),
  );
};

export interface FollowedReplicas {
  /** Those to follow now; asked again after each change. */
  current(): readonly ShownReplica[];
  onChange(listener: () => void): () => void;
}

/** Everything that is written from now on (and what `filter` asks of before), also by replicas that come later. */
export async function* followedLogs(
  nodeStreams: NodeStreams,
  replicas: FollowedReplicas,
  filter: LogFilter,
  signal: AbortSignal,
  endsWithReplicas: boolean,
): AsyncGenerator<LogItem> {
  const ended = new AbortController();
  const all = AbortSignal.any([signal, ended.signal]);
  const followed = new Set<string>();
  const queue: { readonly item: LogItem; readonly taken: () => void }[] = [];
  let running = 0;
  let isFirst = true;
  let wake: () => void = () => undefined;

  const isStarting = ({ id }: ShownReplica) =>
    replicas.current().some((one) => one.id === id && one.state === 'starting');

  const run = async (replica: ShownReplica, ownFilter: LogFilter, attempt = 1) => {
    running += 1;
    try {
      for await (const item of itemsOf(replica, open(nodeStreams, replica, ownFilter, true, all))) {
        if (all.aborted) return;
        if (
          item.kind === 'trouble' &&
          item.isMissing &&
          (attempt <= MISSING_RETRIES || isStarting(replica))
        ) {
          await delay(MISSING_RETRY_MS, undefined, { signal: all }).catch(() => undefined);
          if (!all.aborted) void run(replica, ownFilter, attempt + 1);
          return;
        }
        // The next line is read when this one has been taken, so a slow reader slows the node down.
        await new Promise<void>((resolve) => {
          queue.push({ item, taken: resolve });
          wake();
        });
      }
    } finally {
      running -= 1;
      wake();
    }
  };

  const join = () => {
    for (const replica of replicas.current()) {
      if (followed.has(replica.id)) continue;
      followed.add(replica.id);
      // A replica that comes later is new from its first line on.
      const { tail: _tail, sinceMs: _sinceMs, ...container } = filter;
      void run(replica, isFirst ? filter : container);
    }
    isFirst = false;
  };

  const stop = replicas.onChange(join);
  const onAbort = () => wake();
  all.addEventListener('abort', onAbort);
  try {
    join();
    while (!all.aborted) {
      const next = queue.shift();
      if (next) {
        yield next.item;
        next.taken();
      } else if (running === 0 && endsWithReplicas) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    stop();
    all.removeEventListener('abort', onAbort);
    ended.abort();
    for (const { taken } of queue) taken();
  }
}
