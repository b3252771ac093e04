/**
 * Requests to releases under judgement on their way from the supervisor, which hears of them from Caddy, to the node
 * worker, which counts them.
 *
 * Invariants: the writer never waits for the reader, and two files are all that it takes; a line is read once; what was
 * written before the reading began is not read; a file that was put aside is read to its end before the next one.
 */

import {
  closeSync,
  fstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { StringDecoder } from 'node:string_decoder';

import { requestOfSpan, type JudgedRequest } from './request-spans';

/** Every second it is read, so in such a file there is room for 100,000 requests a second. */
const PUT_ASIDE_BYTES = 16 * 1024 * 1024;

export const judgedLog = (directory: string): string => join(directory, 'judged', 'requests.log');
/** The one before; its reader has it open. */
const putAside = (directory: string): string => `${judgedLog(directory)}.1`;

export interface JudgedLog {
  /** What has come since the last call; of the first call: nothing. */
  read(): readonly JudgedRequest[];
  close(): void;
}

export interface JudgedLogWriter {
  /** @param line of Caddy's output; what is no request under judgement is left out */
  write(line: string): void;
  close(): void;
}

/**
 * @param limitBytes with more than that a file is put aside, in place of the one before
 * @throws the file system's errors, in what it returns
 */
export const openJudgedLogWriter = (directory: string, limitBytes = PUT_ASIDE_BYTES): JudgedLogWriter => {
  const path = judgedLog(directory);
  let file: { readonly fd: number; size: number } | undefined;

  const open = () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const fd = openSync(path, 'a', 0o600);
    return { fd, size: fstatSync(fd).size };
  };
  const close = (): void => {
    if (file !== undefined) closeSync(file.fd);
    file = undefined;
  };

  return {
    write: (line) => {
      const request = requestOfSpan(line);
      if (request === undefined) return;
      file ??= open();
      file.size += writeSync(file.fd, `${JSON.stringify(request)}\n`);
      if (file.size < limitBytes) return;
      close();
      renameSync(path, putAside(directory));
    },
    close,
  };
};

const requestIn = (line: string): JudgedRequest | undefined => {
  try {
    return JSON.parse(line) as JudgedRequest;
  } catch {
    return undefined; // a disk that is full cuts lines short
  }
};

const CHUNK_BYTES = 256 * 1024;

const isGone = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

/** @throws the file system's errors, in what it returns; that there is no file yet is none */
export const openJudgedLog = (directory: string): JudgedLog => {
  const path = judgedLog(directory);
  const buffer = Buffer.alloc(CHUNK_BYTES);
  let file: { readonly fd: number; readonly inode: number; offset: number; rest: string } | undefined;
  let decoder = new StringDecoder('utf8');
  let isFirst = true;

  const open = (): void => {
    try {
      const fd = openSync(path, 'r');
      const { ino, size } = fstatSync(fd);
      file = { fd, inode: ino, offset: isFirst ? size : 0, rest: '' };
      decoder = new StringDecoder('utf8');
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  };

  const close = (): void => {
    if (file !== undefined) closeSync(file.fd);
    file = undefined;
  };

  const readOn = (): readonly JudgedRequest[] => {
    const found: JudgedRequest[] = [];
    while (file !== undefined) {
      const bytes = readSync(file.fd, buffer, 0, buffer.length, file.offset);
      if (bytes === 0) break;
      file.offset += bytes;
      const lines = (file.rest + decoder.write(buffer.subarray(0, bytes))).split('\n');
      file.rest = lines.pop() ?? '';
      for (const line of lines) {
        const request = requestIn(line);
        if (request !== undefined) found.push(request);
      }
    }
    return found;
  };

  const isPutAside = (): boolean => {
    try {
      return file !== undefined && statSync(path).ino !== file.inode;
    } catch (error) {
      if (isGone(error)) return false; // the next one comes with the next request
      throw error;
    }
  };

  return {
    read: () => {
      if (file === undefined) open();
      isFirst = false;
      const found = [...readOn()];
      if (isPutAside()) {
        found.push(...readOn());
        close();
        open();
        found.push(...readOn());
      }
      return found;
    },
    close,
  };
};
