/**
 * Docker's multiplexed stream of a container's output: frames of an 8-byte header (stream, three zeros, length) and
 * the text. Pure parsing, and its uses.
 *
 * Invariants: frames and lines may be cut anywhere by the transport; what was cut is put together again; a line
 * without an end is delivered when the stream ends or when it is longer than MAX_LINE_BYTES.
 */

import { finished } from 'node:stream/promises';

export type OutputStream = 'stdout' | 'stderr';

const HEADER_BYTES = 8;
const STDERR = 2;
export const MAX_LINE_BYTES = 64 * 1024;

/** Calls `onData` with each piece of text, as soon as it is there. */
export const createDemultiplexer = (onData: (stream: OutputStream, data: Buffer) => void) => {
  let header = Buffer.alloc(0);
  let remaining = 0;
  let stream: OutputStream = 'stdout';
  return (chunk: Buffer): void => {
    let rest = chunk;
    while (rest.length > 0) {
      if (remaining > 0) {
        const part = rest.subarray(0, remaining);
        remaining -= part.length;
        rest = rest.subarray(part.length);
        onData(stream, part);
        continue;
      }
      const missing = HEADER_BYTES - header.length;
      header = Buffer.concat([header, rest.subarray(0, missing)]);
      rest = rest.subarray(Math.min(missing, rest.length));
      if (header.length < HEADER_BYTES) return;
      stream = header[0] === STDERR ? 'stderr' : 'stdout';
      remaining = header.readUInt32BE(4);
      header = Buffer.alloc(0);
    }
  };
};

export interface OutputLine {
  readonly stream: OutputStream;
  /** Docker's timestamp, exact to the nanosecond; empty when the output was asked for without timestamps. */
  readonly at: string;
  readonly line: string;
}

/** Cuts each of both streams into lines. `end` delivers what has no line end yet. */
export const createLineSplitter = (
  options: { readonly timestamps: boolean },
  onLine: (line: OutputLine) => void,
): { readonly push: (stream: OutputStream, data: Buffer) => void; readonly end: () => void } => {
  const partial: Record<OutputStream, Buffer[]> = { stdout: [], stderr: [] };
  const partialBytes: Record<OutputStream, number> = { stdout: 0, stderr: 0 };

  const deliver = (stream: OutputStream, last: Buffer): void => {
    const text = Buffer.concat([...partial[stream], last])
      .toString('utf8')
      .replace(/\r$/, '');
    partial[stream] = [];
    partialBytes[stream] = 0;
    onLine({ stream, ...(options.timestamps ? splitTimestamp(text) : { at: '', line: text }) });
  };

  return {
    push: (stream, data) => {
      let rest = data;
      for (;;) {
        const end = rest.indexOf(0x0a);
        if (end === -1) break;
        deliver(stream, rest.subarray(0, end));
        rest = rest.subarray(end + 1);
      }
      if (rest.length === 0) return;
      partial[stream].push(rest);
      partialBytes[stream] += rest.length;
      if (partialBytes[stream] > MAX_LINE_BYTES) deliver(stream, Buffer.alloc(0));
    },
    end: () => {
      for (const stream of ['stdout', 'stderr'] as const) {
        if (partialBytes[stream] > 0) deliver(stream, Buffer.alloc(0));
      }
    },
  };
};

/** Docker writes `2024-01-02T03:04:05.678901234Z text`. */
const splitTimestamp = (text: string): { at: string; line: string } => {
  const match = /^(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)) ?/.exec(text);
  if (match === null) return { at: '', line: text };
  return { at: match[1] as string, line: text.slice(match[0].length) };
};

/** Both streams as one text, cut off after `maxBytes`. Ends when the stream ends or the signal aborts. */
export const demultiplexToText = async (
  stream: NodeJS.ReadableStream,
  maxBytes: number,
  signal: AbortSignal,
): Promise<string> => {
  const parts: Buffer[] = [];
  let bytes = 0;
  const demultiplex = createDemultiplexer((_, data) => {
    if (bytes < maxBytes) parts.push(data.subarray(0, maxBytes - bytes));
    bytes += data.length;
  });
  stream.on('data', demultiplex);
  try {
    await finished(stream, { signal, writable: false });
  } catch (error) {
    (stream as Partial<{ destroy(): void }>).destroy?.();
    throw error;
  }
  return Buffer.concat(parts).toString('utf8');
};

/** The whole of a log that Docker answered in one piece, as lines. */
export const linesOf = (output: Buffer): string[] => {
  const lines: string[] = [];
  const splitter = createLineSplitter({ timestamps: false }, ({ line }) => lines.push(line));
  createDemultiplexer(splitter.push)(output);
  splitter.end();
  return lines;
};
