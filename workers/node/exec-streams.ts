/**
 * Runs commands in containers for the API (contracts/exec.ts), over connections that the node opens.
 *
 * Invariants: a command begins only when the API still wants it; neither side reads ahead of the other, however much
 * there is; a command does not outlive its session: when the connection breaks off, it is told so as a closed terminal
 * tells it (SIGHUP), and is killed when it still runs after a while.
 */

import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

import type Docker from 'dockerode';
import type { Logger } from 'pino';

import { signalExec, startExec, type ContainerExec } from '../../adapters/docker/container-exec';
import { createDemultiplexer } from '../../adapters/docker/log-demux';
import type { ReplicaContainers } from '../../adapters/docker/replica-containers';
import { LABEL } from '../../contracts/docker';
import {
  createFrameDecoder,
  encodeControl,
  encodeFrames,
  type ControlFromNode,
  type ControlToNode,
  type ExecFrame,
  type ExecRequest,
} from '../../contracts/exec';
import { NODE_STREAM_KEEPALIVE_MS, nodeStreamPath } from '../../contracts/node-stream';
import { ContainerOsError } from '../../domain/errors';
import type { ApiConnection } from './api-connection';

export const MAX_EXEC_SESSIONS = 32;
/** Two keep-alives in a row were missed. */
const SILENCE_MS = 2.5 * NODE_STREAM_KEEPALIVE_MS;
/** Between the hang-up and the kill. */
const GRACE_MS = 5_000;
/** How long the API may take to close after the end. */
const GOODBYE_MS = 5_000;
/** Of a reason, which the API takes no longer. */
const MAX_WORDS = 2_000;
/** Of what Docker says in place of a command that it cannot run. */
const MAX_WORDS_BYTES = 4_096;

export interface ExecStreams {
  answer(request: ExecRequest): Promise<void>;
  /** Resolves when no command is left that has to be ended. */
  settled(): Promise<void>;
}

interface Target {
  readonly containerId: string;
  readonly container: string;
}

export const createExecStreams = (deps: {
  readonly nodeId: string;
  readonly docker: Docker;
  readonly containers: ReplicaContainers;
  readonly connection: ApiConnection;
  readonly stopped: AbortSignal;
  readonly logger: Logger;
}): ExecStreams => {
  const { nodeId, docker, connection, stopped, logger } = deps;
  const sessions = new Set<Promise<void>>();
  /** Ids of requests whose commands have not ended. */
  const running = new Set<string>();

  /** @throws {ContainerOsError} `not_found`, or `invalid` when it could be any of several */
  const find = async ({ replicaId, container }: ExecRequest): Promise<Target> => {
    const all = (await deps.containers.list(replicaId)).filter(
      ({ labels }) => labels[LABEL.role] !== 'sandbox',
    );
    const names = [...new Set(all.map(({ labels }) => labels[LABEL.container] ?? ''))].sort();
    const [only] = names;
    if (only === undefined) {
      throw new ContainerOsError('not_found', `There is no replica ${replicaId} on node ${nodeId}.`);
    }
    if (container === undefined && names.length > 1) {
      throw new ContainerOsError(
        'invalid',
        `Replica ${replicaId} has several containers: say which of ${names.join(', ')}.`,
      );
    }
    const name = container ?? only;
    const found = all.findLast(({ labels }) => labels[LABEL.container] === name);
    if (found !== undefined) return { containerId: found.id, container: name };
    throw new ContainerOsError(
      'not_found',
      `Replica ${replicaId} has no container ${name}; it has ${names.join(', ')}.`,
    );
  };

  /** The command goes with its session. */
  const endCommand = async (
    request: ExecRequest,
    { containerId }: Target,
    exec: ContainerExec,
  ): Promise<void> => {
    const about = { replica: request.replicaId, command: request.command[0] };
    const marked = { mark: request.requestId, ...(request.user === undefined ? {} : { user: request.user }) };
    try {
      const hasShell = await signalExec(docker, containerId, marked, 'SIGHUP');
      const hasEnded = await Promise.race([
        exec.exitCode().then(() => true),
        delay(GRACE_MS, undefined, { ref: false }).then(() => false),
      ]);
      if (hasEnded) return;
      if (hasShell) await signalExec(docker, containerId, marked, 'SIGKILL');
      else logger.warn(about, 'a command goes on without its session: its container has no shell to end it');
    } catch (error) {
      // A container that does not run any more has no command either.
      if (error instanceof ContainerOsError && error.code === 'conflict') return;
      logger.warn({ err: error, ...about }, 'a command may go on without its session');
    }
  };

  const run = async (request: ExecRequest, target: Target): Promise<void> => {
    const ended = new AbortController();
    const signal = AbortSignal.any([stopped, ended.signal]);
    const sending = connection.open('POST', nodeStreamPath(request.requestId), signal);
    sending.on('error', () => ended.abort());
    sending.on('close', () => ended.abort());
    sending.flushHeaders();
    let response: IncomingMessage;
    try {
      [response] = (await once(sending, 'response', { signal })) as [IncomingMessage];
    } catch {
      return; // nobody wants it any more
    }
    if (response.statusCode !== 200) {
      response.resume();
      ended.abort();
      return;
    }
    const tell = (control: ControlFromNode) => write(sending, encodeControl(control), signal);
    const alive = setInterval(() => {
      if (!sending.writableNeedDrain && !sending.writableEnded)
        sending.write(encodeControl({ kind: 'alive' }));
    }, NODE_STREAM_KEEPALIVE_MS);
    let exec: ContainerExec | undefined;
    let hasEnded = false;
    try {
      exec = await startExec(docker, target.containerId, { ...request, mark: request.requestId });
      const { stream } = exec;
      stream.on('error', (error) => logger.debug({ err: error }, 'the stream of a command broke off'));
      signal.addEventListener('abort', () => stream.destroy());
      if (signal.aborted) stream.destroy();
      const command = exec;
      void takeInput(request, target, command, response, signal).catch((error: unknown) => {
        if (!signal.aborted) logger.debug({ err: error }, 'the input of a command broke off');
        ended.abort();
      });
      await tell({ kind: 'started', container: target.container });
      await giveOutput(request, command, sending, signal);
      const exitCode = await exec.exitCode();
      hasEnded = true;
      running.delete(request.requestId);
      await tell({ kind: 'exited', exitCode });
    } catch (error) {
      if (!signal.aborted) {
        const isSaid = error instanceof ContainerOsError;
        if (!isSaid) logger.warn({ err: error, replica: request.replicaId }, 'a command failed to run');
        if (isSaid && ['command_not_found', 'command_not_executable', 'invalid'].includes(error.code))
          hasEnded = true;
        const code = isSaid ? error.code : 'unavailable';
        const message = isSaid ? error.message : 'The Docker Engine broke off the command. Try again.';
        await tell({ kind: 'failed', code, message: message.slice(0, MAX_WORDS) }).catch(() => undefined);
      }
    } finally {
      clearInterval(alive);
      exec?.stream.destroy();
      if (!signal.aborted) {
        sending.end();
        await Promise.race([once(ended.signal, 'abort'), delay(GOODBYE_MS, undefined, { ref: false })]);
      }
      ended.abort();
      if (exec !== undefined && !hasEnded) await endCommand(request, target, exec);
    }
  };

  /** Until the API ends it, which is the end of the session. */
  const takeInput = async (
    request: ExecRequest,
    { containerId }: Target,
    exec: ContainerExec,
    response: IncomingMessage,
    signal: AbortSignal,
  ): Promise<void> => {
    const decoder = createFrameDecoder();
    const take = async ({ channel, data }: ExecFrame): Promise<void> => {
      if (channel === 'stdin') {
        // What has ended by itself takes no input, and that is no trouble.
        if (!request.stdin || exec.stream.writableEnded || exec.stream.destroyed) return;
        if (data.length === 0) exec.stream.end();
        else await write(exec.stream, data, signal);
        return;
      }
      if (channel !== 'control') throw new Error(`the API sent ${channel}`);
      const control = JSON.parse(data.toString('utf8')) as ControlToNode;
      switch (control.kind) {
        case 'resize':
          if (request.tty) await exec.resize(control);
          return;
        case 'signal': {
          const { requestId: mark, user } = request;
          await signalExec(
            docker,
            containerId,
            { mark, ...(user === undefined ? {} : { user }) },
            control.signal,
          );
          return;
        }
        case 'alive':
          return;
      }
    };
    const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    for (;;) {
      // Only while it is waited for: who does not read cannot complain of silence.
      const timer = setTimeout(() => response.destroy(), SILENCE_MS);
      const next = await chunks.next().finally(() => clearTimeout(timer));
      if (next.done === true) throw new Error('the API ended the session');
      for (const frame of decoder.push(next.value)) await take(frame);
    }
  };

  const giveOutput = async (
    request: ExecRequest,
    exec: ContainerExec,
    sending: Writable,
    signal: AbortSignal,
  ): Promise<void> => {
    let frames: Buffer[] = [];
    const push = (channel: 'stdout' | 'stderr', data: Buffer) => frames.push(encodeFrames(channel, data));
    const take = request.tty ? (chunk: Buffer) => push('stdout', chunk) : createDemultiplexer(push);
    let isFirst = true;
    for await (const chunk of exec.stream as AsyncIterable<Buffer>) {
      if (isFirst) await exec.assertStarted(chunk.subarray(0, MAX_WORDS_BYTES));
      isFirst = false;
      take(chunk);
      const data = Buffer.concat(frames);
      frames = [];
      await write(sending, data, signal);
    }
  };

  return {
    answer: (request) => {
      const { requestId } = request;
      if (running.size >= MAX_EXEC_SESSIONS) {
        const words = `The node ${nodeId} runs ${MAX_EXEC_SESSIONS} commands for you already, which is its limit. End one first.`;
        connection.refuse(requestId, 'rate_limited', words);
        return Promise.resolve();
      }
      running.add(requestId);
      const session = (async () => {
        let target: Target;
        try {
          target = await find(request);
        } catch (error) {
          const isSaid = error instanceof ContainerOsError;
          if (!isSaid)
            logger.warn({ err: error, replica: request.replicaId }, 'a command found no container');
          const words = isSaid
            ? error.message
            : `The Docker Engine of node ${nodeId} does not answer. Try again.`;
          connection.refuse(requestId, isSaid ? error.code : 'unavailable', words);
          return;
        }
        await run(request, target);
      })().finally(() => {
        running.delete(requestId);
        sessions.delete(session);
      });
      sessions.add(session);
      return session;
    },
    settled: async () => {
      await Promise.allSettled(sessions);
    },
  };
};

/** Writes, and waits until there is room for more. */
const write = async (to: Writable, data: Buffer, signal: AbortSignal): Promise<void> => {
  if (to.destroyed || to.write(data)) return;
  const gone = new AbortController();
  const onClose = () => gone.abort();
  to.once('close', onClose);
  try {
    await once(to, 'drain', { signal: AbortSignal.any([signal, gone.signal]) });
  } catch (error) {
    // Nothing drains any more, and whoever reads it has noticed.
    if (!gone.signal.aborted) throw error;
  } finally {
    to.off('close', onClose);
  }
};
