/**
 * The logs of containers, as lines.
 *
 * Invariants: nothing is read ahead of who takes the lines, however much there is; aborting ends the stream at the
 * engine, too.
 */

import type Docker from 'dockerode';

import { createDemultiplexer, createLineSplitter, type OutputLine } from './log-demux';

export interface LogOptions {
  /** How many of the newest lines; all when left out. */
  readonly tail?: number;
  readonly sinceMs?: number;
  /** Lines after the one with this timestamp. */
  readonly after?: string;
  readonly follow: boolean;
}

/** Ends with the log; when it is followed, with the container's run. */
export async function* readLog(
  docker: Docker,
  container: string,
  options: LogOptions,
  signal: AbortSignal,
): AsyncGenerator<OutputLine> {
  const since = options.after === undefined ? sinceOf(options.sinceMs) : unixTime(options.after);
  const stream = await openLog(
    docker,
    container,
    {
      stdout: true,
      stderr: true,
      timestamps: true,
      follow: options.follow,
      ...(options.tail === undefined ? {} : { tail: options.tail }),
      ...(since === undefined ? {} : { since }),
    },
    signal,
  );
  const lines: OutputLine[] = [];
  const splitter = createLineSplitter({ timestamps: true }, (line) => lines.push(line));
  const demultiplex = createDemultiplexer(splitter.push);
  const take = (): OutputLine[] =>
    lines.splice(0).filter(({ at }) => options.after === undefined || at > options.after);
  for await (const chunk of stream) {
    demultiplex(chunk);
    yield* take();
  }
  splitter.end();
  yield* take();
}

/** The client would read a log that is not followed into memory, and it may be as large as its files. */
const openLog = (
  docker: Docker,
  container: string,
  query: object,
  signal: AbortSignal,
): Promise<AsyncIterable<Buffer>> =>
  new Promise((resolve, reject) => {
    docker.modem.dial(
      {
        path: `/containers/${container}/logs?`,
        method: 'GET',
        options: query,
        isStream: true,
        abortSignal: signal,
        statusCodes: { 200: true, 404: 'no such container', 500: 'server error' },
      },
      (error: Error | null, stream: unknown) => {
        if (error !== null) reject(error);
        else resolve(stream as AsyncIterable<Buffer>);
      },
    );
  });

/** Docker takes seconds, with a fraction after the point. */
const sinceOf = (sinceMs: number | undefined): string | undefined =>
  sinceMs === undefined ? undefined : (sinceMs / 1_000).toFixed(3);

/** `2024-01-02T03:04:05.678901234Z` in Docker's form of Unix time, exact to the nanosecond. */
export const unixTime = (timestamp: string): string => {
  const fraction = /\.(\d+)/.exec(timestamp)?.[1] ?? '0';
  return `${Math.floor(Date.parse(timestamp) / 1_000)}.${fraction.padEnd(9, '0')}`;
};

/** Several logs as one, in the order of their times, one line read ahead of each. */
export async function* mergeLogs<T extends { readonly at: string }>(
  logs: readonly AsyncIterator<T>[],
): AsyncGenerator<T> {
  const heads = await Promise.all(logs.map((log) => log.next()));
  for (;;) {
    let first: number | undefined;
    for (const [index, head] of heads.entries()) {
      if (head.done === true) continue;
      const best = first === undefined ? undefined : heads[first];
      if (best === undefined || best.done === true || head.value.at < best.value.at) first = index;
    }
    if (first === undefined) return;
    yield (heads[first] as IteratorYieldResult<T>).value;
    heads[first] = await (logs[first] as AsyncIterator<T>).next();
  }
}

/** Several logs as one, each line as soon as it is there, one line read ahead of each. */
export async function* interleaveLogs<T>(logs: readonly AsyncIterator<T>[]): AsyncGenerator<T> {
  const read: { readonly log: AsyncIterator<T>; readonly result: Promise<IteratorResult<T>> }[] = [];
  let wake = (): void => undefined;
  // A race of all logs would leave something behind at the silent ones with every line of the others.
  const advance = (log: AsyncIterator<T>): void => {
    const result = log.next();
    const arrive = (): void => {
      read.push({ log, result });
      wake();
    };
    result.then(arrive, arrive);
  };
  logs.forEach(advance);
  for (let open = logs.length; open > 0;) {
    if (read.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    for (const { log, result } of read.splice(0)) {
      const next = await result;
      if (next.done === true) {
        open -= 1;
        continue;
      }
      yield next.value;
      advance(log);
    }
  }
}

/** The last lines of a log that is too long to keep. */
export async function* lastOf<T>(log: AsyncIterable<T>, count: number): AsyncGenerator<T> {
  let kept: T[] = [];
  for await (const line of log) {
    kept.push(line);
    if (kept.length > 2 * count + 1) kept = kept.slice(-count);
  }
  yield* count === 0 ? [] : kept.slice(-count);
}
