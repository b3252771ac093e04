/**
 * Reads what Caddy logs of requests to releases under judgement (lane-config.ts), as it comes.
 *
 * Invariants: a line is read once; what was written before the reading began is not read; a file that Caddy has put
 * aside is read to its end before the next one.
 */

import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';

import { judgedLog } from './lane-config';

export interface JudgedRequest {
  /** Where it was led to, like 10.0.0.1:20000. */
  readonly address: string;
  /** From 500 on, or no answer at all. */
  readonly isError: boolean;
  /** Until the replica began to answer; left out when it did not. */
  readonly latencyMs?: number;
}

export interface JudgedLog {
  /** What has come since the last call; of the first call: nothing. */
  read(): readonly JudgedRequest[];
  close(): void;
}

const CHUNK_BYTES = 256 * 1024;

const requestIn = (line: string): JudgedRequest | undefined => {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined; // a disk that is full cuts lines short
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const { upstream, status, took } = value as Readonly<Record<string, unknown>>;
  if (typeof upstream !== 'string' || upstream === '' || typeof status !== 'number') return undefined;
  return {
    address: upstream,
    isError: status === 0 || status >= 500,
    ...(typeof took === 'number' ? { latencyMs: took } : {}),
  };
};

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
