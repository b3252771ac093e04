/**
 * One command in a container, as the API's side of contracts/exec.ts sees it.
 *
 * Invariants: output is read no faster than it is taken, and input is taken no faster than the command reads it; a
 * session ends with an exit code or with an error that says why there is none; closing it ends the command.
 */

import { once } from 'node:events';

import { z } from 'zod';

import {
  createFrameDecoder,
  encodeControl,
  encodeFrames,
  type ControlFromNode,
  type ControlToNode,
} from '../contracts/exec';
import { NODE_STREAM_KEEPALIVE_MS } from '../contracts/node-stream';
import { ContainerOsError, isErrorCode, type ErrorCode } from '../domain/errors';

import type { ExecWanted, NodeDuplex, NodeStreams } from './node-streams';

export type ExecOutput =
  | { readonly kind: 'started'; readonly container: string }
  | { readonly kind: 'data'; readonly channel: 'stdout' | 'stderr'; readonly data: Buffer }
  | { readonly kind: 'exited'; readonly exitCode: number };

export interface ExecSession {
  /**
   * What comes of it; the last is `exited`. To be read once.
   *
   * @throws {ContainerOsError} what the node says, or `unavailable` when it is not heard any more
   */
  output(): AsyncGenerator<ExecOutput, void>;
  /** Resolves when there is room for more. */
  write(data: Buffer): Promise<void>;
  endInput(): void;
  control(control: ControlToNode): void;
  /**
   * Also ends the command, unless it has ended. Repeating it does nothing.
   *
   * @param reason what `output` then throws
   */
  close(reason?: Error): void;
  /** Aborts when the session has ended, however that came. */
  readonly closed: AbortSignal;
}

/** Two keep-alives in a row were missed. */
const SILENCE_MS = 2.5 * NODE_STREAM_KEEPALIVE_MS;

/** What a node may say: it may be one that means no good. */
const controlSchema: z.ZodType<ControlFromNode> = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('started'), container: z.string().max(253) }),
  z.object({ kind: z.literal('exited'), exitCode: z.int().min(0).max(255) }),
  z.object({
    kind: z.literal('failed'),
    code: z.custom<ErrorCode>(isErrorCode),
    message: z.string().max(2_000),
  }),
  z.object({ kind: z.literal('alive') }),
]);

const sessionOf = (nodeId: string, { body, reply }: NodeDuplex): ExecSession => {
  const closed = new AbortController();
  const alive = setInterval(() => {
    if (!reply.writableNeedDrain) send(encodeControl({ kind: 'alive' }));
  }, NODE_STREAM_KEEPALIVE_MS);
  alive.unref();
  const send = (data: Buffer): boolean => closed.signal.aborted || reply.destroyed || reply.write(data);
  let reason: Error | undefined;
  const close = (why?: Error) => {
    if (closed.signal.aborted) return;
    reason = why;
    closed.abort();
    clearInterval(alive);
    reply.end();
    body.destroy();
  };
  reply.on('error', () => close());
  reply.once('close', () => close());

  const brokeOff = (cause?: unknown) =>
    new ContainerOsError(
      'unavailable',
      `The connection to node ${nodeId} broke off while the command ran: its worker was restarted, or the node is lost. The command ends with its session, as far as the node still runs. Look at the node, and try again.`,
      [],
      { cause },
    );

  const handle = (text: string): ExecOutput | undefined => {
    const control = controlSchema.parse(JSON.parse(text));
    switch (control.kind) {
      case 'started':
      case 'exited':
        return control;
      case 'failed':
        throw new ContainerOsError(control.code, control.message);
      case 'alive':
        return undefined;
    }
  };

  async function* output(): AsyncGenerator<ExecOutput, void> {
    const decoder = createFrameDecoder();
    const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    try {
      for (;;) {
        // Only while it is waited for: who does not read cannot complain of silence.
        const timer = setTimeout(() => body.destroy(), SILENCE_MS);
        const next = await chunks.next().finally(() => clearTimeout(timer));
        if (next.done === true) throw brokeOff();
        for (const { channel, data } of decoder.push(next.value)) {
          if (channel === 'stdin') throw new Error('the node sent input');
          const out =
            channel === 'control'
              ? handle(data.toString('utf8'))
              : ({ kind: 'data', channel, data } as const);
          if (out === undefined) continue;
          yield out;
          if (out.kind === 'exited') return;
        }
      }
    } catch (error) {
      throw reason ?? (error instanceof ContainerOsError ? error : brokeOff(error));
    } finally {
      close();
    }
  }

  return {
    output,
    write: async (data) => {
      // An empty frame would be the end.
      if (data.length === 0 || send(encodeFrames('stdin', data))) return;
      await once(reply, 'drain', { signal: closed.signal }).catch(() => undefined);
    },
    endInput: () => void send(encodeFrames('stdin', Buffer.alloc(0))),
    control: (control) => void send(encodeControl(control)),
    close,
    closed: closed.signal,
  };
};

/** @throws {ContainerOsError} as NodeStreams.openExec */
export const openExecSession = async (
  nodeStreams: NodeStreams,
  nodeId: string,
  wanted: ExecWanted,
  signal: AbortSignal,
): Promise<ExecSession> => {
  const duplex = await nodeStreams.openExec(nodeId, wanted, signal);
  const session = sessionOf(nodeId, duplex);
  if (signal.aborted) session.close();
  return session;
};
