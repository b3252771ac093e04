/**
 * Follows the engine's event stream: what happens to the containers of this cluster, to their networks, and to images.
 *
 * Invariants: one stream for all listeners; it is opened again with back-off when it breaks, and listeners hear
 * `connected` each time, because events may have been missed meanwhile. A stream that is open but dead (a frozen
 * engine) is noticed by pings.
 */

import type Docker from 'dockerode';

import { LABEL } from '../../contracts/docker';
import { pause } from '../pause';

export interface ContainerHappening {
  /** `create`, `start`, `die`, `kill`, `stop`, `pause`, `unpause`, `oom`, `destroy`, … */
  readonly action: string;
  readonly containerId: string;
  readonly replicaId: string;
  /** Undefined for a sandbox. */
  readonly container: string | undefined;
  readonly exitCode: number | undefined;
}

export interface EngineEventsListener {
  onConnected?(): void;
  onDisconnected?(reason: string): void;
  onContainer?(happening: ContainerHappening): void;
  onImage?(action: string): void;
  /** A container, of whatever cluster, lost a network: it ended, or somebody took the network away. */
  onNetworkLost?(containerId: string): void;
}

export interface EngineEvents {
  /** @returns the way to listen no more */
  listen(listener: EngineEventsListener): () => void;
  isConnected(): boolean;
  start(): void;
  stop(): void;
}

interface RawEvent {
  readonly Type?: string;
  readonly Action?: string;
  readonly Actor?: { readonly ID?: string; readonly Attributes?: Readonly<Record<string, string>> };
}

const FIRST_RETRY_MS = 50;
const LAST_RETRY_MS = 1_000;
const CONNECT_TIMEOUT_MS = 5_000;
const PING_EVERY_MS = 10_000;
const PING_TIMEOUT_MS = 5_000;
/** Of no interest: execs are our own checks. */
const IGNORED = /^(exec_|attach|resize|top|copy|export|archive)/;

export const createEngineEvents = (docker: Docker, clusterId: string): EngineEvents => {
  const listeners = new Set<EngineEventsListener>();
  let isConnected = false;
  let stopped: AbortController | undefined;

  const tell = (call: (listener: EngineEventsListener) => void): void => {
    for (const listener of [...listeners]) call(listener);
  };

  const follow = async (signal: AbortSignal): Promise<string> => {
    const attempt = new AbortController();
    const both = AbortSignal.any([signal, attempt.signal]);
    const timer = setTimeout(() => attempt.abort(), CONNECT_TIMEOUT_MS);
    let stream: NodeJS.ReadableStream;
    try {
      // Images carry none of our labels, so the engine cannot filter by label; `type` keeps the rest away.
      stream = await docker.getEvents({
        filters: JSON.stringify({ type: ['container', 'image', 'network'] }),
        abortSignal: both,
      });
    } finally {
      clearTimeout(timer);
    }
    isConnected = true;
    tell((listener) => listener.onConnected?.());
    const pings = setInterval(() => {
      ping(docker, PING_TIMEOUT_MS).catch(() => attempt.abort());
    }, PING_EVERY_MS);
    try {
      await readLines(stream, both, (line) => {
        const event = JSON.parse(line) as RawEvent;
        dispatch(event);
      });
      return 'the engine closed its event stream';
    } finally {
      clearInterval(pings);
      isConnected = false;
    }
  };

  const dispatch = ({ Type, Action = '', Actor }: RawEvent): void => {
    if (IGNORED.test(Action)) return;
    if (Type === 'image') return tell((listener) => listener.onImage?.(Action));
    const attributes = Actor?.Attributes ?? {};
    if (Type === 'network' && Action === 'disconnect') {
      return tell((listener) => listener.onNetworkLost?.(attributes['container'] ?? ''));
    }
    const replicaId = attributes[LABEL.replica];
    if (Type !== 'container' || attributes[LABEL.cluster] !== clusterId || replicaId === undefined) return;
    const happening: ContainerHappening = {
      action: Action,
      containerId: Actor?.ID ?? '',
      replicaId,
      container: attributes[LABEL.container],
      exitCode: attributes.exitCode === undefined ? undefined : Number(attributes.exitCode),
    };
    tell((listener) => listener.onContainer?.(happening));
  };

  const run = async (signal: AbortSignal): Promise<void> => {
    let retryMs = FIRST_RETRY_MS;
    while (!signal.aborted) {
      const startedAt = performance.now();
      let reason: string;
      try {
        reason = await follow(signal);
      } catch (error) {
        reason = error instanceof Error ? error.message : String(error);
      }
      if (signal.aborted) return;
      tell((listener) => listener.onDisconnected?.(reason));
      if (performance.now() - startedAt > LAST_RETRY_MS) retryMs = FIRST_RETRY_MS;
      await pause(retryMs, signal);
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    }
  };

  return {
    listen: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    isConnected: () => isConnected,
    start: () => {
      if (stopped !== undefined) return;
      stopped = new AbortController();
      void run(stopped.signal);
    },
    stop: () => {
      stopped?.abort();
      stopped = undefined;
    },
  };
};

/** The client's types know no signal here; its code does. */
const ping = (docker: Docker, timeoutMs: number): Promise<unknown> =>
  (docker.ping as unknown as (options: { abortSignal: AbortSignal }) => Promise<unknown>).call(docker, {
    abortSignal: AbortSignal.timeout(timeoutMs),
  });

const readLines = (
  stream: NodeJS.ReadableStream,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<void> =>
  new Promise((resolve, reject) => {
    let rest = '';
    const end = (error?: Error): void => {
      signal.removeEventListener('abort', onAbort);
      (stream as Partial<{ destroy(): void }>).destroy?.();
      if (error === undefined) resolve();
      else reject(error);
    };
    const onAbort = (): void => end(new Error('the engine does not answer'));
    signal.addEventListener('abort', onAbort, { once: true });
    stream.setEncoding('utf8');
    stream.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line.trim() !== '') onLine(line);
    });
    stream.once('end', () => end());
    stream.once('close', () => end());
    stream.once('error', end);
  });
