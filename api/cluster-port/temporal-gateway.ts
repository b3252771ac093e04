/**
 * The way of a node's worker to Temporal: gRPC's unary calls over HTTP/2, checked and passed on.
 *
 * Invariants: a call that temporal-calls does not let through never reaches Temporal; a message is read whole, and
 * within its limit, before anything is done about it; whichever side gives a call up, the other one is told; a
 * Temporal that is away is UNAVAILABLE at once, and the worker tries again. Messages are passed as they are but for
 * the task token.
 *
 * Compressed messages are refused in the words at which the SDK makes its connection without compression.
 */

import {
  constants,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2';

import type { Logger } from 'pino';

import { MalformedMessage } from './protobuf-fields';
import type { TaskTokens } from './task-tokens';
import {
  GRPC,
  GrpcError,
  temporalCallOf,
  type CallScope,
  type GrpcCode,
  type TemporalCall,
} from './temporal-calls';
import { createTemporalSession } from './temporal-session';

export interface TemporalGatewayDeps {
  /** Of Temporal's frontend, like 127.0.0.1:7233. */
  readonly address: string;
  readonly namespace: string;
  readonly tokens: TaskTokens;
  readonly log: Logger;
  /** A node asked for what it may not have. */
  readonly onRefused: (nodeId: string, words: string) => void;
}

export interface TemporalGateway {
  /** Answers one gRPC request of a node; never throws. */
  handle(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, nodeId: string): void;
  close(): void;
}

const MAX_MESSAGE_BYTES = 4_194_304;
/** A task holds an input and the details of the last heartbeat, each of 2 MB at most. */
const MAX_ANSWER_BYTES = 16_777_216;
const FRAME_HEAD_BYTES = 5;
const BODY_TIMEOUT_MS = 10_000;
/** For calls that name no deadline, and the most that is granted: longer than Temporal lets a poll wait. */
const MAX_DEADLINE_MS = 120_000;
/** How long a node may take to read its answer. */
const DRAIN_TIMEOUT_MS = 30_000;

const PASSED_HEADERS = [
  'grpc-timeout',
  'client-name',
  'client-version',
  'supported-server-versions',
  'supported-features',
  'user-agent',
];
const PASSED_ANSWER = ['content-type', 'grpc-status', 'grpc-message', 'grpc-status-details-bin'];

const UNITS_MS: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1e-3,
  n: 1e-6,
};

const deadlineMs = (timeout: string | string[] | undefined): number => {
  const [, digits, unit = ''] = /^([0-9]{1,8})([HMSmun])$/.exec(String(timeout)) ?? [];
  return digits === undefined
    ? MAX_DEADLINE_MS
    : Math.min(MAX_DEADLINE_MS, Number(digits) * (UNITS_MS[unit] ?? 0));
};

const pick = (headers: IncomingHttpHeaders, names: readonly string[]): OutgoingHttpHeaders =>
  Object.fromEntries(names.flatMap((name) => (headers[name] === undefined ? [] : [[name, headers[name]]])));

/** Percent-encoded as gRPC has it: printable ASCII but for the percent sign stays. */
const encodeMessage = (words: string): string =>
  [...Buffer.from(words)]
    .map((byte) =>
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`,
    )
    .join('');

/** Ends a gRPC request with a status and words, whatever of it has arrived. */
export const answerGrpcError = (stream: ServerHttp2Stream, code: GrpcCode, words: string): void => {
  if (stream.destroyed || stream.closed) return;
  if (stream.headersSent) return stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  stream.respond(
    {
      ':status': 200,
      'content-type': 'application/grpc',
      'grpc-status': String(code),
      'grpc-message': encodeMessage(words),
    },
    { endStream: true },
  );
  // What is still on its way is not waited for.
  if (!stream.readableEnded) stream.close(constants.NGHTTP2_NO_ERROR);
};

/** The message of a whole body. */
const unframe = (body: Buffer): Buffer => {
  if (body.length < FRAME_HEAD_BYTES) throw new GrpcError(GRPC.internal, 'The request has no message.');
  if (body[0] === 1) {
    throw new GrpcError(
      GRPC.unimplemented,
      'grpc-encoding: compressed messages are not taken; send identity.',
    );
  }
  if (body[0] !== 0) throw new GrpcError(GRPC.internal, 'The message has an unknown flag.');
  if (body.readUInt32BE(1) !== body.length - FRAME_HEAD_BYTES) {
    throw new GrpcError(GRPC.internal, 'The request does not consist of one message.');
  }
  return body.subarray(FRAME_HEAD_BYTES);
};

const frameOf = (message: Buffer): Buffer => {
  const head = Buffer.alloc(FRAME_HEAD_BYTES);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
};

/** @returns the body, whole; the stream is read to its end */
const readBody = (stream: ServerHttp2Stream): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const end = (error: GrpcError) => {
      clearTimeout(timer);
      stream.removeAllListeners('data');
      stream.pause();
      reject(error);
    };
    const timer = setTimeout(
      () =>
        end(new GrpcError(GRPC.deadlineExceeded, `The request did not arrive within ${BODY_TIMEOUT_MS} ms.`)),
      BODY_TIMEOUT_MS,
    );
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes > MAX_MESSAGE_BYTES + FRAME_HEAD_BYTES) {
        end(new GrpcError(GRPC.resourceExhausted, `A message may have ${MAX_MESSAGE_BYTES} bytes at most.`));
      }
    });
    stream.once('end', () => {
      clearTimeout(timer);
      resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks));
    });
    stream.once('close', () => end(new GrpcError(GRPC.cancelled, 'The call was given up.')));
  });

interface Answer {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly trailers: IncomingHttpHeaders;
}

const gone = (error?: Error): GrpcError =>
  new GrpcError(
    GRPC.unavailable,
    `Temporal does not answer now${error === undefined ? '' : `: ${error.message}`}. Try again.`,
  );

/** Reads the whole answer of a call. */
const readAnswer = (stream: ClientHttp2Stream): Promise<Answer> =>
  new Promise((resolve, reject) => {
    let headers: IncomingHttpHeaders | undefined;
    let trailers: IncomingHttpHeaders = {};
    const chunks: Buffer[] = [];
    let bytes = 0;
    let isWhole = false;
    stream.on('response', (found: IncomingHttpHeaders) => {
      headers = found;
    });
    stream.on('trailers', (found: IncomingHttpHeaders) => {
      trailers = found;
    });
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes > MAX_ANSWER_BYTES) stream.close(constants.NGHTTP2_CANCEL);
    });
    stream.on('end', () => {
      isWhole = bytes <= MAX_ANSWER_BYTES;
    });
    stream.on('error', (error: Error) => reject(gone(error)));
    // Only here is it known whether the answer was ended or broken off.
    stream.on('close', () => {
      const hasStatus = (headers?.['grpc-status'] ?? trailers['grpc-status']) !== undefined;
      if (headers === undefined || !isWhole || !hasStatus) return reject(gone());
      resolve({ headers, trailers, body: Buffer.concat(chunks) });
    });
  });

const sendAnswer = (stream: ServerHttp2Stream, { headers, trailers }: Answer, body: Buffer): void => {
  const head = { ':status': headers[':status'] ?? 200, ...pick(headers, PASSED_ANSWER) };
  const end = pick(trailers, PASSED_ANSWER);
  if (body.length === 0) return stream.respond({ ...head, ...end }, { endStream: true });
  stream.respond(head, { waitForTrailers: true });
  stream.once('wantTrailers', () => stream.sendTrailers(end));
  stream.end(body);
};

export const createTemporalGateway = (deps: TemporalGatewayDeps): TemporalGateway => {
  const { namespace, tokens, log } = deps;
  const session = createTemporalSession(deps.address);

  const forward = async (
    headers: OutgoingHttpHeaders,
    body: Buffer,
    signal: AbortSignal,
  ): Promise<Answer> => {
    let up: ClientHttp2Stream;
    try {
      up = session.request(headers);
    } catch (error) {
      throw gone(error as Error);
    }
    const cancel = () => up.close(constants.NGHTTP2_CANCEL);
    signal.addEventListener('abort', cancel);
    const answer = readAnswer(up);
    up.end(body);
    try {
      return await answer;
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  };

  const outgoing = (headers: IncomingHttpHeaders): OutgoingHttpHeaders => ({
    ':method': 'POST',
    ':path': headers[':path'],
    'content-type': 'application/grpc',
    te: 'trailers',
    ...pick(headers, PASSED_HEADERS),
    'temporal-namespace': namespace,
  });

  const pass = async (
    call: TemporalCall,
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    scope: CallScope,
    signal: AbortSignal,
  ): Promise<void> => {
    const message = unframe(await readBody(stream));
    const request = call.request(message, scope);
    const answer = await forward(outgoing(headers), frameOf(request), signal);
    const body =
      call.answer === undefined || answer.body.length === 0
        ? answer.body
        : frameOf(call.answer(unframe(answer.body), scope));
    if (!stream.destroyed && !stream.closed && !signal.aborted) sendAnswer(stream, answer, body);
  };

  const fail = (stream: ServerHttp2Stream, nodeId: string, error: unknown): void => {
    if (error instanceof GrpcError) {
      if (error.code === GRPC.permissionDenied) deps.onRefused(nodeId, error.message);
      return answerGrpcError(stream, error.code, error.message);
    }
    if (error instanceof MalformedMessage) {
      return answerGrpcError(stream, GRPC.internal, `The message cannot be read: ${error.message}.`);
    }
    log.error({ err: error, node: nodeId }, 'a call of a node to Temporal failed');
    return answerGrpcError(stream, GRPC.internal, 'Something went wrong that should not have.');
  };

  return {
    handle: (stream, headers, nodeId) => {
      const abort = new AbortController();
      const timer = setTimeout(() => {
        abort.abort();
        answerGrpcError(stream, GRPC.deadlineExceeded, 'The time of the call is over.');
      }, deadlineMs(headers['grpc-timeout']));
      const ended = () => {
        clearTimeout(timer);
        abort.abort();
      };
      stream.once('close', ended);
      stream.on('error', (error) => log.debug({ err: error, node: nodeId }, 'a call of a node broke off'));
      const answer = async (): Promise<void> => {
        const isGrpc = /^application\/grpc($|[+;])/.test(headers['content-type'] ?? '');
        if (headers[':method'] !== 'POST' || !isGrpc) {
          throw new GrpcError(GRPC.internal, 'This path takes gRPC only: a POST of application/grpc.');
        }
        await pass(
          temporalCallOf(headers[':path'] ?? ''),
          stream,
          headers,
          { nodeId, namespace, tokens },
          abort.signal,
        );
      };
      answer()
        .catch((error: unknown) => fail(stream, nodeId, error))
        .finally(() => {
          clearTimeout(timer);
          stream.setTimeout(DRAIN_TIMEOUT_MS, () => stream.close(constants.NGHTTP2_CANCEL));
        });
    },
    close: () => session.close(),
  };
};
