/**
 * Takes the API's requests, over a connection that the node opened, and answers those for logs.
 *
 * Invariants: one connection waits for requests and is opened again with back-off; each answer is a connection of
 * its own, and no faster than the API reads; what the API stops reading ends at the engine, too.
 */

import { once } from 'node:events';

import type Docker from 'dockerode';
import type { Logger } from 'pino';

import { pause } from '../../adapters/pause';
import { interleaveLogs, lastOf, mergeLogs, readLog } from '../../adapters/docker/container-logs';
import { isEngineAway, isNotFound } from '../../adapters/docker/docker-error';
import type { EngineEvents } from '../../adapters/docker/engine-events';
import type { ReplicaContainers } from '../../adapters/docker/replica-containers';
import { LABEL } from '../../contracts/docker';
import {
  NODE_STREAM_KEEPALIVE_MS,
  nodeRequestsPath,
  nodeStreamPath,
  type LogLine,
  type LogsRequest,
  type NodeStreamRequest,
} from '../../contracts/node-stream';
import { ContainerOsError, type ErrorCode } from '../../domain/errors';
import { createApiConnection } from './api-connection';
import { createExecStreams } from './exec-streams';
import type { NodeConfig } from './node-config';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2_000;
/** Two keep-alives in a row were missed. */
const SILENCE_MS = 2.5 * NODE_STREAM_KEEPALIVE_MS;
const MAX_STREAMS = 64;

/** A single one may be a mistake of an API that has just started. */
const MAX_REFUSALS = 3;

class Refused extends Error {}

const MAX_PROBLEM_CHARACTERS = 10_000;

/** What the answer says for people. */
const wordsOf = async (response: AsyncIterable<Buffer>): Promise<string> => {
  let text = '';
  for await (const chunk of response) text = (text + chunk.toString('utf8')).slice(0, MAX_PROBLEM_CHARACTERS);
  try {
    const { detail } = JSON.parse(text) as { readonly detail?: unknown };
    if (typeof detail === 'string') return detail;
  } catch {
    // Not an answer of ours.
  }
  return 'The API refuses this node.';
};

export interface LogStreams {
  start(): void;
  stop(): void;
  /** After stopping: resolves when no command runs on that was run for somebody. */
  settled(): Promise<void>;
}

interface NodeLogLine extends LogLine {
  readonly at: string;
}

interface Changes {
  /**
   * Waits until something has happened since the last call.
   *
   * @returns false when nothing has within the limit, or when nobody reads any more
   */
  next(limitMs?: number): Promise<boolean>;
  close(): void;
}

export const createLogStreams = (deps: {
  readonly config: Pick<NodeConfig, 'apiUrl' | 'credentials' | 'internalToken' | 'nodeId'>;
  readonly docker: Docker;
  readonly containers: ReplicaContainers;
  readonly events: EngineEvents;
  readonly logger: Logger;
  /** The API has refused this node several times in a row, in these words. */
  readonly onRefused?: (words: string) => void;
}): LogStreams => {
  const { config, docker, logger } = deps;
  const stopped = new AbortController();
  let streams = 0;
  let refusals = 0;

  const connection = createApiConnection(config, stopped.signal, logger);
  const commands = createExecStreams({
    nodeId: config.nodeId,
    docker,
    containers: deps.containers,
    connection,
    stopped: stopped.signal,
    logger,
  });

  const waitForRequests = async (): Promise<void> => {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const signal = AbortSignal.any([stopped.signal, silence.signal]);
      const asking = connection.open('GET', nodeRequestsPath(config.nodeId), signal).end();
      const [response] = (await once(asking, 'response')) as [
        AsyncIterable<Buffer> & { statusCode?: number; destroy(): void },
      ];
      if (response.statusCode === 403) throw new Refused(await wordsOf(response));
      if (response.statusCode !== 200) {
        response.destroy();
        throw new Error(`the API answered ${response.statusCode}`);
      }
      refusals = 0;
      let rest = '';
      for await (const chunk of response) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE_MS);
        const lines = (rest + chunk.toString('utf8')).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line.trim() !== '') take(JSON.parse(line) as NodeStreamRequest);
        }
      }
    } finally {
      clearTimeout(timer);
    }
  };

  const take = (request: NodeStreamRequest): void => {
    switch (request.kind) {
      case 'logs':
        void answer(request);
        return;
      case 'exec':
        commands
          .answer(request)
          .catch((error: unknown) => logger.error({ err: error }, 'a command met a defect'));
        return;
    }
  };

  const answer = async (request: LogsRequest): Promise<void> => {
    const ended = new AbortController();
    const signal = AbortSignal.any([stopped.signal, ended.signal]);
    streams += 1;
    try {
      const found = await find(request);
      if (typeof found === 'string') return refuse(request, 'not_found', found);
      if (streams > MAX_STREAMS)
        return refuse(request, 'rate_limited', 'The node answers too many requests for logs.');
      const sending = connection.open('POST', nodeStreamPath(request.requestId), signal);
      // An answer means that the API reads no more.
      sending.on('response', (response) => {
        response.resume();
        ended.abort();
      });
      sending.on('error', () => ended.abort());
      sending.on('close', () => ended.abort());
      sending.flushHeaders();
      for await (const { at: _, ...line } of linesFor(request, found, signal)) {
        if (signal.aborted) break;
        if (!sending.write(`${JSON.stringify(line)}\n`)) {
          await once(sending, 'drain', { signal });
        }
      }
      sending.end();
    } catch (error) {
      if (!signal.aborted) {
        logger.debug({ err: error, replica: request.replicaId }, 'a stream of logs ended early');
        ended.abort();
        refuse(request, 'unavailable', 'The Docker Engine does not give the logs.');
      }
    } finally {
      streams -= 1;
    }
  };

  /** Names of the containers asked for, or why there are none. */
  const find = async (request: LogsRequest): Promise<readonly string[] | string> => {
    const all = (await deps.containers.list(request.replicaId)).filter(
      ({ labels }) => labels[LABEL.role] !== 'sandbox',
    );
    if (all.length === 0) return `There is no replica ${request.replicaId} on node ${config.nodeId}.`;
    const names = all.map(({ labels }) => labels[LABEL.container] ?? '').sort();
    if (request.container === undefined) return names;
    return names.includes(request.container)
      ? [request.container]
      : `Replica ${request.replicaId} has no container ${request.container}; it has ${names.join(', ')}.`;
  };

  const linesFor = (
    request: LogsRequest,
    names: readonly string[],
    signal: AbortSignal,
  ): AsyncIterable<NodeLogLine> => {
    const logs = names.map((name) => (request.follow ? followed : whole)(request, name, signal));
    if (request.follow) return interleaveLogs(logs);
    const merged = mergeLogs(logs);
    return request.tail === undefined ? merged : lastOf(merged, request.tail);
  };

  async function* whole(
    request: LogsRequest,
    container: string,
    signal: AbortSignal,
    after?: string,
  ): AsyncGenerator<NodeLogLine> {
    const options = {
      follow: request.follow,
      ...(request.tail === undefined || after !== undefined ? {} : { tail: request.tail }),
      ...(request.sinceMs === undefined ? {} : { sinceMs: request.sinceMs }),
      ...(after === undefined ? {} : { after }),
    };
    const id = await idOf(request.replicaId, container);
    if (id === undefined) return;
    for await (const { stream, at, line } of readLog(docker, id, options, signal)) {
      yield { replica: request.replicaId, container, stream, at, atMs: Date.parse(at), line };
    }
  }

  const idOf = async (replicaId: string, container: string): Promise<string | undefined> =>
    (await deps.containers.list(replicaId)).findLast(({ labels }) => labels[LABEL.container] === container)
      ?.id;

  /** Goes on with the container's next run, also over a restart of the engine, until the replica is gone. */
  async function* followed(
    request: LogsRequest,
    container: string,
    signal: AbortSignal,
  ): AsyncGenerator<NodeLogLine> {
    const changes = watchChanges(request.replicaId, container, signal);
    let after: string | undefined;
    try {
      do {
        try {
          for await (const line of whole(request, container, signal, after)) {
            after = line.at;
            yield line;
          }
        } catch (error) {
          // The engine was stopped, or the container removed: what comes now tells.
          if (signal.aborted || !(isAway(error) || isNotFound(error))) throw error;
        }
        after ??= new Date(0).toISOString();
      } while (await runsAgain(request.replicaId, container, changes, signal));
    } finally {
      changes.close();
    }
  }

  /** Waits until the container runs; false when it is gone and not made again, or nobody reads any more. */
  const runsAgain = async (
    replicaId: string,
    container: string,
    changes: Changes,
    signal: AbortSignal,
  ): Promise<boolean> => {
    // A log may end a moment before its container, or for reasons of its own.
    await changes.next(LOOK_AGAIN_MS);
    while (!signal.aborted) {
      try {
        const id = await idOf(replicaId, container);
        const seen = id === undefined ? undefined : await deps.containers.inspectContainer(id);
        if (seen?.State.Running === true) return true;
        const limitMs = seen === undefined ? REMADE_WITHIN_MS : undefined;
        if (!(await changes.next(limitMs))) return false;
      } catch (error) {
        if (!isAway(error)) throw error;
        await changes.next(LOOK_AGAIN_MS);
      }
    }
    return false;
  };

  /** Listens for what happens to a container, and for an engine that is back, when anything may have happened. */
  const watchChanges = (replicaId: string, container: string, signal: AbortSignal): Changes => {
    let hasChanged = false;
    let wake = (): void => undefined;
    const note = (): void => {
      hasChanged = true;
      wake();
    };
    const stopListening = deps.events.listen({
      onConnected: note,
      onContainer: (happening) => {
        if (happening.replicaId === replicaId && happening.container === container) note();
      },
    });
    return {
      next: async (limitMs) => {
        if (!hasChanged && !signal.aborted) {
          await new Promise<void>((resolve) => {
            const timer = limitMs === undefined ? undefined : setTimeout(resolve, limitMs);
            wake = () => {
              clearTimeout(timer);
              resolve();
            };
            signal.addEventListener('abort', wake, { once: true });
          });
          signal.removeEventListener('abort', wake);
        }
        const was = hasChanged;
        hasChanged = false;
        return was && !signal.aborted;
      },
      close: stopListening,
    };
  };

  const refuse = ({ requestId }: LogsRequest, ...reason: [code: ErrorCode, message: string]): void =>
    connection.refuse(requestId, ...reason);

  const run = async (): Promise<void> => {
    let retryMs = FIRST_RETRY_MS;
    while (!stopped.signal.aborted) {
      const startedAt = performance.now();
      try {
        await waitForRequests();
      } catch (error) {
        logger.debug({ err: error }, 'no connection to the API for requests');
        refusals = error instanceof Refused ? refusals + 1 : 0;
        if (error instanceof Refused && refusals === MAX_REFUSALS) deps.onRefused?.(error.message);
      }
      if (performance.now() - startedAt > LAST_RETRY_MS) retryMs = FIRST_RETRY_MS;
      await pause(retryMs, stopped.signal);
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    }
  };

  return {
    start: () => void run(),
    stop: () => stopped.abort(),
    settled: () => commands.settled(),
  };
};

const isAway = (error: unknown): boolean =>
  isEngineAway(error) || (error instanceof ContainerOsError && error.code === 'unavailable');

/** How long to wait for word of a container whose log has ended. */
const LOOK_AGAIN_MS = 1_000;
/** A container that is made again keeps its followers. */
const REMADE_WITHIN_MS = 3_000;
