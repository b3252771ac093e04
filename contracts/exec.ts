/**
 * A command that is run in a container of a replica: what is asked of the node, and what goes both ways meanwhile.
 *
 * The node answers a request of kind `exec` with the `POST` of contracts/node-stream.ts, and the API answers that with
 * 200 at once: the body of the request carries frames of the node, the body of the answer those of the API, until the
 * node ends its own. A frame is one byte for the channel, four for the length of what follows (big endian), and that.
 * The channel `control` carries JSON, the others bytes; an empty frame of `stdin` is the end of the input.
 *
 * Invariant: whoever has nothing to say sends `alive` every NODE_STREAM_KEEPALIVE_MS, so that a lost peer is noticed.
 */

import type { ErrorCode } from '../domain/errors';

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export interface ExecRequest {
  readonly requestId: string;
  readonly kind: 'exec';
  readonly replicaId: string;
  /** May be left out when the replica has one container. */
  readonly container?: string;
  readonly command: readonly string[];
  /** `KEY=value`, beside what the container has. */
  readonly env: readonly string[];
  readonly user?: string;
  readonly workingDirectory?: string;
  /** Whether input comes; without it the command reads an end at once. */
  readonly stdin: boolean;
  /** With a terminal, stdout and stderr are one. */
  readonly tty: boolean;
  readonly size?: TerminalSize;
}

export const EXEC_SIGNALS = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGTERM',
  'SIGKILL',
  'SIGUSR1',
  'SIGUSR2',
] as const;
export type ExecSignal = (typeof EXEC_SIGNALS)[number];

export type ControlToNode =
  | ({ readonly kind: 'resize' } & TerminalSize)
  /** For everything that the command has started. */
  | { readonly kind: 'signal'; readonly signal: ExecSignal }
  | { readonly kind: 'alive' };

export type ControlFromNode =
  | { readonly kind: 'started'; readonly container: string }
  | { readonly kind: 'exited'; readonly exitCode: number }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'alive' };

export const EXEC_CHANNELS = ['stdin', 'stdout', 'stderr', 'control'] as const;
export type ExecChannel = (typeof EXEC_CHANNELS)[number];

export interface ExecFrame {
  readonly channel: ExecChannel;
  readonly data: Buffer;
}

/** Longer data goes as several frames; nobody has to hold more than this. */
export const MAX_FRAME_BYTES = 65_536;
const HEAD_BYTES = 5;

/** One frame, or as many as the data needs. */
export const encodeFrames = (channel: ExecChannel, data: Buffer): Buffer => {
  const parts: Buffer[] = [];
  let at = 0;
  do {
    const part = data.subarray(at, at + MAX_FRAME_BYTES);
    const head = Buffer.alloc(HEAD_BYTES);
    head.writeUInt8(EXEC_CHANNELS.indexOf(channel), 0);
    head.writeUInt32BE(part.length, 1);
    parts.push(head, part);
    at += MAX_FRAME_BYTES;
  } while (at < data.length);
  return Buffer.concat(parts);
};

export const encodeControl = (control: ControlToNode | ControlFromNode): Buffer =>
  encodeFrames('control', Buffer.from(JSON.stringify(control)));

export interface FrameDecoder {
  /** @throws {Error} when it is no frame; the stream cannot be read on then */
  push(chunk: Buffer): ExecFrame[];
}

export const createFrameDecoder = (): FrameDecoder => {
  let rest: Buffer = Buffer.alloc(0);
  return {
    push: (chunk) => {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
      const frames: ExecFrame[] = [];
      while (rest.length >= HEAD_BYTES) {
        const channel = EXEC_CHANNELS[rest.readUInt8(0)];
        const length = rest.readUInt32BE(1);
        if (channel === undefined || length > MAX_FRAME_BYTES) throw new Error('this is no frame of exec');
        if (rest.length < HEAD_BYTES + length) break;
        frames.push({ channel, data: rest.subarray(HEAD_BYTES, HEAD_BYTES + length) });
        rest = rest.subarray(HEAD_BYTES + length);
      }
      return frames;
    },
  };
};
