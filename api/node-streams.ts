/**
 * The API's side of contracts/node-stream.ts: asks a node for a stream over the connection that the node opened, and
 * joins the node's answer to whoever asked: lines of logs, or both ways of a command.
 *
 * Invariants: a reader that is slower than its node slows the node down, nothing is gathered in memory; whichever side
 * goes first, the other one is let go; a node has one connection, the newest.
 */

import { randomUUID } from 'node:crypto';
import type { Readable, Writable } from 'node:stream';

import type { ExecRequest } from '../contracts/exec';
import type { LogLine, LogsRequest, NodeStreamRequest } from '../contracts/node-stream';
import { ContainerOsError } from '../domain/errors';

/** How long a node may take to begin its answer. */
const ANSWER_TIMEOUT_MS = 10_000;
/** How long a node that has just lost its connection is waited for. */
const CONNECT_TIMEOUT_MS = 3_000;
const MAX_LINE_BYTES = 1_000_000;

export type LogsWanted = Omit<LogsRequest, 'requestId'>;
export type ExecWanted = Omit<ExecRequest, 'requestId'>;

/** Both bodies of a node's answer; whoever has it ends it by destroying `body`, when `reply` has ended. */
export interface NodeDuplex {
  readonly body: Readable;
  readonly reply: Writable;
}

export interface NodeConnection {
  /** Sends one request line; false when the connection is gone. */
  send(line: string): boolean;
  close(): void;
}

export interface NodeStreams {
  /** @returns how to end it */
  connected(nodeId: string, connection: NodeConnection): () => void;
  isConnected(nodeId: string): boolean;
  /**
   * Hands a node's answer to who waits for it.
   *
   * @param from the node that answers, where it is known: an answer of another one than was asked is `forbidden`
   * @param beginReply begins the answer to the node's own request, when both have something to say
   * @returns resolves when the answer has been read to its end, or nobody wants it any more
   */
  answer(requestId: string, body: Readable, from?: string, beginReply?: () => Writable): Promise<void>;
  /** A node's word that it cannot answer; `from` as above. */
  refuse(requestId: string, error: ContainerOsError, from?: string): void;
  /**
   * @throws {ContainerOsError} `unavailable` when the node is not connected or does not answer, or what it said
   */
  open(nodeId: string, wanted: LogsWanted, signal: AbortSignal): Promise<AsyncIterable<LogLine>>;
  /**
   * Has a command run; contracts/exec.ts says what goes both ways.
   *
   * @param signal gives up the wait for the node; what came of it is the caller's to end
   * @throws {ContainerOsError} as `open`
   */
  openExec(nodeId: string, wanted: ExecWanted, signal: AbortSignal): Promise<NodeDuplex>;
}

interface Answer {
  readonly body: Readable;
  readonly beginReply: (() => Writable) | undefined;
}

interface Pending {
  readonly nodeId: string;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

async function* linesOf(body: Readable): AsyncGenerator<LogLine, void> {
  let rest = '';
  body.setEncoding('utf8');
  for await (const chunk of body as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_LINE_BYTES)
      throw new ContainerOsError('unavailable', 'The node sent a line without end.');
    for (const line of lines) if (line !== '') yield JSON.parse(line) as LogLine;
  }
  if (rest !== '') yield JSON.parse(rest) as LogLine;
}

export const createNodeStreams = (): NodeStreams => {
  const connections = new Map<string, NodeConnection>();
  const arrivals = new Map<string, Set<() => void>>();
  const pending = new Map<string, Pending>();

  const arrival = (nodeId: string, signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      const set = arrivals.get(nodeId) ?? new Set();
      arrivals.set(nodeId, set);
      const done = () => {
        clearTimeout(timer);
        set.delete(done);
        if (set.size === 0) arrivals.delete(nodeId);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, CONNECT_TIMEOUT_MS);
      signal.addEventListener('abort', done);
      set.add(done);
    });

  const answerOf = (requestId: string, nodeId: string, signal: AbortSignal): Promise<Answer> =>
    new Promise<Answer>((resolve, reject) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', abort);
        pending.delete(requestId);
      };
      const abort = () => {
        end();
        reject(new ContainerOsError('unavailable', 'The request was given up.'));
      };
      const timer = setTimeout(() => {
        end();
        reject(
          new ContainerOsError(
            'unavailable',
            `The node ${nodeId} did not answer within ${ANSWER_TIMEOUT_MS / 1_000} s. Try again in a moment.`,
          ),
        );
      }, ANSWER_TIMEOUT_MS);
      signal.addEventListener('abort', abort);
      pending.set(requestId, {
        nodeId,
        resolve: (answer) => {
          end();
          resolve(answer);
        },
        reject: (error) => {
          end();
          reject(error);
        },
      });
    });

  const waitingFor = (requestId: string, from: string | undefined): Pending | undefined => {
    const waiting = pending.get(requestId);
    if (waiting !== undefined && from !== undefined && waiting.nodeId !== from) {
      throw new ContainerOsError('forbidden', `The node ${from} was not asked for this stream.`);
    }
    return waiting;
  };

  /** Sends a request to a node, and waits until the node begins to answer. */
  const ask = async (
    nodeId: string,
    wanted: LogsWanted | ExecWanted,
    what: string,
    signal: AbortSignal,
  ): Promise<Answer> => {
    if (!connections.has(nodeId)) await arrival(nodeId, signal);
    const connection = connections.get(nodeId);
    if (!connection) {
      throw new ContainerOsError(
        'unavailable',
        `The node ${nodeId} is not connected now, so ${what}. It connects again by itself.`,
      );
    }
    const request: NodeStreamRequest = { ...wanted, requestId: randomUUID() };
    const answered = answerOf(request.requestId, nodeId, signal);
    if (!connection.send(`${JSON.stringify(request)}\n`)) {
      pending
        .get(request.requestId)
        ?.reject(new ContainerOsError('unavailable', `The connection of node ${nodeId} has just broken.`));
    }
    return answered;
  };

  return {
    connected: (nodeId, connection) => {
      connections.get(nodeId)?.close();
      connections.set(nodeId, connection);
      for (const wake of [...(arrivals.get(nodeId) ?? [])]) wake();
      return () => {
        if (connections.get(nodeId) === connection) connections.delete(nodeId);
      };
    },
    isConnected: (nodeId) => connections.has(nodeId),
    answer: (requestId, body, from, beginReply) => {
      const waiting = waitingFor(requestId, from);
      if (!waiting) throw new ContainerOsError('not_found', 'Nobody waits for this stream any more.');
      return new Promise((resolve) => {
        body.once('close', resolve);
        waiting.resolve({ body, beginReply });
      });
    },
    refuse: (requestId, error, from) => waitingFor(requestId, from)?.reject(error),
    open: async (nodeId, wanted, signal) => {
      const { body } = await ask(nodeId, wanted, 'its logs cannot be read', signal);
      const stop = () => body.destroy();
      signal.addEventListener('abort', stop);
      return (async function* () {
        try {
          yield* linesOf(body);
        } catch (error) {
          if (!signal.aborted) throw error;
        } finally {
          signal.removeEventListener('abort', stop);
          body.destroy();
        }
      })();
    },
    openExec: async (nodeId, wanted, signal) => {
      const { body, beginReply } = await ask(nodeId, wanted, 'nothing can be run there', signal);
      if (beginReply !== undefined) return { body, reply: beginReply() };
      body.destroy();
      throw new ContainerOsError('unavailable', `The connection of node ${nodeId} goes one way only.`);
    },
  };
};
