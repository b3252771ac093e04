/**
 * Commands in containers: once, over HTTP, and interactive, over a WebSocket.
 *
 * Invariants: a command ends when nobody wants it any more, be it that the client has gone, its time is over, or its
 * node is lost; what is left out of an answer is said to be; every command that begins is an event.
 *
 * Frames of the WebSocket: the first message is the text `{"kind":"start", …}` (openapi/exec-schemas.ts). Then binary
 * messages are one byte for the channel (0 stdin, 1 stdout, 2 stderr) and the data, stdin without data being its end;
 * text messages are JSON: `resize` and `signal` of the client, `started`, `exited` and `failed` of the API.
 */

import type { WebSocket } from 'ws';

import { ContainerOsError } from '../../domain/errors';
import { wordIssue, wordProblems } from '../../domain/spec/wording';
import {
  DEFAULT_EXEC_TIMEOUT_SECONDS,
  MAX_EXEC_OUTPUT_BYTES,
  execControlSchema,
  execRequestSchema,
  execStartSchema,
  type ExecMessage,
  type ExecResultView,
  type ExecStart,
} from '../../openapi/exec-schemas';
import { emptyQuery } from '../../openapi/parameters';
import type { RouteDeps } from '../api-deps';
import { openExecSession, type ExecSession } from '../exec-session';
import { parsedBodyOf, pathParameter, queryOf, sendJson, type Exchange, type Route } from '../exchange';
import { containerNotFound, findReplica } from '../find';
import { parseJsonText } from '../json-text';
import { sentence, toProblem } from '../problem';
import { TOPIC } from '../read-documents';
import type { ShownReplica } from '../read-model';
import {
  acceptWebSocket,
  closeWebSocket,
  messagesOf,
  sendMessage,
  type WebSocketMessage,
} from '../web-socket';

const START_TIMEOUT_MS = 10_000;
/** Exit code of `timeout`. */
const TIMED_OUT = 124;
const STDIN = 0;
const CHANNELS = { stdout: 1, stderr: 2 } as const;
/** Codes of WebSockets from here on are for applications. */
const FIRST_OWN_CLOSE_CODE = 4_000;
const NORMAL_CLOSURE = 1_000;

type Wanted = Pick<ExecStart, 'command' | 'container' | 'env' | 'user' | 'workingDirectory'>;

/** @throws {ContainerOsError} `invalid` */
const parseMessage = <T>(schema: import('zod').ZodType<T>, { isBinary, data }: WebSocketMessage): T => {
  if (isBinary)
    throw new ContainerOsError('invalid', 'The first message has to be the JSON text of kind start.');
  const raw = parseJsonText(data.toString('utf8'));
  const parsed = schema.safeParse(raw, { error: wordIssue });
  if (parsed.success) return parsed.data;
  const problems = wordProblems(schema, raw, parsed.error);
  const { path = '', message = 'is not what is expected' } = problems[0] ?? {};
  const place = path === '' ? 'it' : path.slice(1);
  throw new ContainerOsError('invalid', sentence(`The message is not valid: ${place} ${message}`), problems);
};

/** The beginning of an output, which is all that is kept. */
const createKeeper = () => {
  const kept: Buffer[] = [];
  let room = MAX_EXEC_OUTPUT_BYTES;
  let isTruncated = false;
  return {
    take: (data: Buffer) => {
      if (data.length > room) isTruncated = true;
      if (room === 0) return;
      const part = Buffer.from(data.subarray(0, room));
      room -= part.length;
      kept.push(part);
    },
    isTruncated: () => isTruncated,
    // A character that is cut in two at the end is left out.
    text: () => new TextDecoder().decode(Buffer.concat(kept), { stream: isTruncated }),
  };
};

export const execRoutes = (deps: RouteDeps): readonly Route[] => {
  const { readModel, nodeStreams, execLog, log } = deps;

  /** @throws {ContainerOsError} `not_found`; `invalid` when it could be any of several; `unavailable` with its node */
  const assertContainer = (replica: ShownReplica, container: string | undefined): void => {
    const names = replica.containers.map(({ name }) => name);
    if (replica.state === 'lost') {
      throw new ContainerOsError(
        'unavailable',
        `The node ${replica.nodeId} of replica ${replica.id} does not answer. Choose another replica, or wait until the node is back.`,
      );
    }
    if (names.length === 0) return; // it is being made: its node knows
    if (container !== undefined && !names.includes(container)) throw containerNotFound(container, names);
    if (container === undefined && names.length > 1) {
      throw new ContainerOsError(
        'invalid',
        `Replica ${replica.id} has several containers: say which of ${names.join(', ')}.`,
      );
    }
  };

  interface Opening {
    readonly stdin: boolean;
    readonly tty: boolean;
    readonly size?: { readonly columns: number; readonly rows: number };
  }

  /** Has it run; the session ends with its node and with `exchange`. */
  const begin = async (
    exchange: Exchange,
    replica: ShownReplica,
    { command, container, env = {}, user, workingDirectory }: Wanted,
    opening: Opening,
  ): Promise<ExecSession> => {
    assertContainer(replica, container);
    const { nodeId } = replica;
    const { signal } = exchange;
    const session = await openExecSession(
      nodeStreams,
      nodeId,
      {
        kind: 'exec',
        replicaId: replica.id,
        command,
        env: Object.entries(env).map(([key, value]) => `${key}=${value}`),
        ...(container === undefined ? {} : { container }),
        ...(user === undefined ? {} : { user }),
        ...(workingDirectory === undefined ? {} : { workingDirectory }),
        ...opening,
      },
      signal,
    );
    const onNode = () => {
      if (readModel.node(nodeId)?.health !== 'lost') return;
      session.close(
        new ContainerOsError(
          'unavailable',
          `The node ${nodeId} was lost while the command ran. Whether it has ended is not known. Choose another replica, or wait until the node is back.`,
        ),
      );
    };
    const stopListening = readModel.versions.listen(TOPIC.node(nodeId), onNode);
    const onGone = () =>
      session.close(
        new ContainerOsError('unavailable', 'The API is closing, and the command ends. Try again.'),
      );
    signal.addEventListener('abort', onGone);
    session.closed.addEventListener('abort', () => {
      stopListening();
      signal.removeEventListener('abort', onGone);
    });
    onNode();
    if (signal.aborted) onGone();
    return session;
  };

  const executed = (
    exchange: Exchange,
    replica: ShownReplica,
    container: string,
    { command, user }: Wanted,
  ) =>
    execLog.executed({
      replica,
      container,
      command,
      user,
      from: (exchange.req.socket.remoteAddress ?? 'somebody').replace(/^::ffff:/, ''),
    });

  const runOnce = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const replica = findReplica(readModel, pathParameter(exchange, 'id'));
    const { value: wanted } = await parsedBodyOf(exchange, execRequestSchema);
    const { stdin, timeoutSeconds = DEFAULT_EXEC_TIMEOUT_SECONDS } = wanted;
    const session = await begin(exchange, replica, wanted, { stdin: stdin !== undefined, tty: false });
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      session.close();
    }, timeoutSeconds * 1_000);
    const output = { stdout: createKeeper(), stderr: createKeeper() };
    let container = wanted.container ?? '';
    let exitCode = TIMED_OUT;
    try {
      for await (const one of session.output()) {
        switch (one.kind) {
          case 'started':
            ({ container } = one);
            await executed(exchange, replica, container, wanted);
            if (stdin !== undefined) void session.write(Buffer.from(stdin)).then(() => session.endInput());
            break;
          case 'data':
            output[one.channel].take(one.data);
            break;
          case 'exited':
            ({ exitCode } = one);
            break;
        }
      }
    } catch (error) {
      if (!timedOut) throw error;
    } finally {
      clearTimeout(timer);
      session.close();
    }
    const value: ExecResultView = {
      replica: replica.id,
      container,
      node: replica.nodeId,
      exitCode,
      timedOut,
      stdout: output.stdout.text(),
      stderr: output.stderr.text(),
      stdoutTruncated: output.stdout.isTruncated(),
      stderrTruncated: output.stderr.isTruncated(),
    };
    sendJson(exchange, 200, { value });
  };

  /** Until the client closes, which ends the command. */
  const takeInput = async (
    session: ExecSession,
    messages: AsyncGenerator<WebSocketMessage, void>,
  ): Promise<void> => {
    for await (const message of messages) {
      const { isBinary, data } = message;
      if (!isBinary) session.control(parseMessage(execControlSchema, message));
      else if (data[0] !== STDIN) {
        throw new ContainerOsError('invalid', 'A binary message has to begin with 0, the channel of stdin.');
      } else if (data.length === 1) session.endInput();
      else await session.write(data.subarray(1));
    }
    session.close();
  };

  const converse = async (exchange: Exchange, replica: ShownReplica, socket: WebSocket): Promise<void> => {
    const messages = messagesOf(socket);
    const late = setTimeout(
      () => closeWebSocket(socket, FIRST_OWN_CLOSE_CODE + 400, 'no start in time'),
      START_TIMEOUT_MS,
    );
    const first = await messages.next().finally(() => clearTimeout(late));
    if (first.done === true) return;
    const wanted = parseMessage(execStartSchema, first.value);
    const { stdin = false, tty = false, columns, rows } = wanted;
    const session = await begin(exchange, replica, wanted, {
      stdin,
      tty,
      ...(columns === undefined || rows === undefined ? {} : { size: { columns, rows } }),
    });
    // What is wrong with the input ends the session, and is told where the output ends.
    takeInput(session, messages).catch((error: Error) => session.close(error));
    const tell = (message: ExecMessage) => sendMessage(socket, JSON.stringify(message));
    try {
      for await (const one of session.output()) {
        switch (one.kind) {
          case 'started':
            await executed(exchange, replica, one.container, wanted);
            await tell({
              kind: 'started',
              replica: replica.id,
              container: one.container,
              node: replica.nodeId,
            });
            break;
          case 'data':
            await sendMessage(socket, Buffer.concat([Buffer.of(CHANNELS[one.channel]), one.data]));
            break;
          case 'exited':
            await tell(one);
            break;
        }
      }
    } finally {
      session.close();
    }
    closeWebSocket(socket, NORMAL_CLOSURE, 'exited');
  };

  const attach = async (exchange: Exchange): Promise<void> => {
    queryOf(exchange, emptyQuery);
    const replica = findReplica(readModel, pathParameter(exchange, 'id'));
    const socket = await acceptWebSocket(exchange);
    try {
      await converse(exchange, replica, socket);
    } catch (error) {
      const { status, body, errorId } = toProblem(error, exchange.requestId);
      if (errorId !== undefined) log.error({ err: error, errorId }, 'a command met a defect');
      await sendMessage(socket, JSON.stringify({ kind: 'failed', problem: body } satisfies ExecMessage));
      closeWebSocket(socket, FIRST_OWN_CLOSE_CODE + status, body.code);
    }
  };

  const access = 'password';
  return [
    { method: 'POST', path: '/v1/replicas/{id}/exec', access, handle: runOnce },
    { method: 'GET', path: '/v1/replicas/{id}/exec', access, handle: attach },
  ];
};
