/** What Caddy logs of requests under judgement, read as it comes, over files that it puts aside. */

import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { openJudgedLog, type JudgedLog } from '../../../adapters/ingress/judged-log';
import { judgedLog } from '../../../adapters/ingress/lane-config';

let directory: string;
let log: JudgedLog;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'containeros-judged-'));
  mkdirSync(dirname(judgedLog(directory)));
  log = openJudgedLog(directory);
});
afterEach(() => {
  log.close();
  rmSync(directory, { recursive: true });
});

const line = (upstream: string, status: number, took?: number): string =>
  `${JSON.stringify({ level: 'info', status, upstream, ...(took === undefined ? {} : { took }) })}\n`;

const write = (text: string): void => appendFileSync(judgedLog(directory), text);
const putAside = (): void => renameSync(judgedLog(directory), `${judgedLog(directory)}.1`);

const addresses = () => log.read().map(({ address }) => address);

test('what was there before is not read, and what comes is read once', () => {
  write(line('a:1', 200));
  expect(log.read()).toEqual([]);
  write(line('b:1', 200, 1.5) + line('c:1', 503) + line('d:1', 0) + line('e:1', 404, 2));
  expect(log.read()).toEqual([
    { address: 'b:1', isError: false, latencyMs: 1.5 },
    { address: 'c:1', isError: true },
    { address: 'd:1', isError: true },
    { address: 'e:1', isError: false, latencyMs: 2 },
  ]);
  expect(log.read()).toEqual([]);
});

test('a file that is not there yet is read from its beginning when it comes', () => {
  expect(log.read()).toEqual([]);
  write(line('a:1', 200));
  expect(addresses()).toEqual(['a:1']);
});

test('a line that is not whole is read when it is, also within a letter', () => {
  expect(log.read()).toEqual([]);
  const bytes = Buffer.from(line('ä:1', 200));
  const half = bytes.indexOf(Buffer.from('ä')) + 1;
  appendFileSync(judgedLog(directory), bytes.subarray(0, half));
  expect(addresses()).toEqual([]);
  appendFileSync(judgedLog(directory), bytes.subarray(half));
  expect(addresses()).toEqual(['ä:1']);
});

test('a file that was put aside is read to its end, and then the next one', () => {
  expect(log.read()).toEqual([]);
  write(line('a:1', 200));
  expect(addresses()).toEqual(['a:1']);
  write(line('b:1', 200));
  putAside();
  expect(addresses()).toEqual(['b:1']);
  write(line('c:1', 200));
  expect(addresses()).toEqual(['c:1']);
  putAside();
  write(line('d:1', 200));
  expect(addresses()).toEqual(['d:1']);
});

test('what is no request is left out', () => {
  expect(log.read()).toEqual([]);
  write(`{"status":200}\nnull\n{"upst\n[]\n${line('', 200)}${line('a:1', 200)}`);
  expect(addresses()).toEqual(['a:1']);
});
