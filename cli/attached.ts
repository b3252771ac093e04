/**
 * A command in a container, joined to this terminal over a WebSocket of the API (docs/api.md has the frames).
 *
 * Invariants: the terminal is left as it was found, whatever happens; nothing is read faster than it can be sent, and
 * nothing is received faster than it can be written; the command ends with the connection.
 */

import type { Writable } from 'node:stream';

import type { WebSocket } from 'ws';

import type { ExecMessage, ExecStart } from '../openapi/exec-schemas';

import { CommandError } from './command';
import type { Terminal, TerminalSignal } from './terminal';

const CHANNEL = { stdin: 0, stdout: 1, stderr: 2 } as const;
const NUMBERS: Readonly<Record<TerminalSignal, number>> = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

const sizeOf = ({ output: { columns, rows } }: Terminal): { columns: number; rows: number } | undefined =>
  columns === undefined || rows === undefined || columns < 1 || rows < 1 ? undefined : { columns, rows };

/** Sends what is read, and then its end. */
const feed = ({ input }: Terminal, socket: WebSocket): (() => void) => {
  const onData = (chunk: Buffer | string) => {
    input.pause();
    socket.send(Buffer.concat([Buffer.of(CHANNEL.stdin), Buffer.from(chunk)]), () => {
      if (socket.readyState === socket.OPEN) input.resume();
    });
  };
  const onEnd = () => socket.send(Buffer.of(CHANNEL.stdin), () => undefined);
  // What cannot be read any more has ended, too.
  input.on('data', onData).once('end', onEnd).once('error', onEnd);
  return () => {
    input.off('data', onData).off('end', onEnd);
    input.pause();
  };
};

/**
 * Runs the command, and resolves with its exit code.
 *
 * @param socket open; closed in the end
 * @throws {CommandError} with the code of the API's problem; `unavailable` when the connection breaks off
 */
export const attach = async (
  terminal: Terminal,
  socket: WebSocket,
  start: Omit<ExecStart, 'kind' | 'columns' | 'rows'>,
): Promise<number> => {
  const { input, output, errors } = terminal;
  const isTty = start.tty === true;
  const isRaw = isTty && start.stdin === true && input.isTTY === true;
  const undo: (() => void)[] = [];
  const tell = (message: object) => socket.send(JSON.stringify(message), () => undefined);

  const write = (to: Writable, data: Buffer): void => {
    if (to.write(data) || socket.isPaused) return;
    socket.pause();
    to.once('drain', () => socket.resume());
  };

  const ended = new Promise<number>((resolve, reject) => {
    let outcome: (() => void) | undefined;
    socket.on('message', (data: Buffer, isBinary) => {
      if (isBinary) {
        write(data[0] === CHANNEL.stderr ? errors : output, data.subarray(1));
        return;
      }
      const message = JSON.parse(data.toString('utf8')) as ExecMessage;
      switch (message.kind) {
        case 'started':
          return;
        case 'exited':
          outcome = () => resolve(message.exitCode);
          return;
        case 'failed':
          outcome = () => reject(new CommandError(message.problem.code, message.problem.detail));
      }
    });
    socket.once('close', () => {
      if (outcome !== undefined) return outcome();
      reject(
        new CommandError(
          'unavailable',
          'The connection to the API broke off while the command ran, and the command ends with it. Try again.',
        ),
      );
    });
    let last: TerminalSignal | undefined;
    const onSignal = (signal: TerminalSignal) => {
      // In a terminal Ctrl-C is a character like others; a signal is meant for this process.
      if (isTty || signal === 'SIGHUP' || signal === last) {
        outcome = () => resolve(128 + NUMBERS[signal]);
        socket.terminate();
      } else tell({ kind: 'signal', signal });
      last = signal;
    };
    undo.push(terminal.onSignal(onSignal));
  });

  try {
    tell({ kind: 'start', ...start, ...(isTty ? sizeOf(terminal) : {}) });
    if (isTty) {
      const onResize = () => {
        const size = sizeOf(terminal);
        if (size !== undefined) tell({ kind: 'resize', ...size });
      };
      output.on('resize', onResize);
      undo.push(() => output.off('resize', onResize));
    }
    if (isRaw) {
      input.setRawMode?.(true);
      undo.push(() => input.setRawMode?.(false));
    }
    if (start.stdin === true) undo.push(feed(terminal, socket));
    return await ended;
  } finally {
    for (const one of undo.reverse()) one();
    socket.terminate();
  }
};
