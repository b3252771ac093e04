/** Requests under judgement: what Caddy says of them, written and read as it comes, over files that are put aside. */

import { appendFileSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import {
  judgedLog,
  openJudgedLog,
  openJudgedLogWriter,
  type JudgedLog,
  type JudgedLogWriter,
} from '../../../adapters/ingress/judged-log';
import { MAY_PASS } from '../../../adapters/ingress/rate-limit';

const LIMIT_BYTES = 4_000;

let directory: string;
let log: JudgedLog;
let writer: JudgedLogWriter;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'containeros-judged-'));
  log = openJudgedLog(directory);
  writer = openJudgedLogWriter(directory, LIMIT_BYTES);
});
afterEach(() => {
  log.close();
  writer.close();
  rmSync(directory, { recursive: true });
});

/** As Caddy 2.11 writes it; a request that was not answered has empty texts. */
const span = (upstream: string, status: number | '', took: number | '' = '', more: object = {}): string => {
  const attributes = { 'url.path': '/', 'containeros.status': `${status}`, 'containeros.took': `${took}` };
  return JSON.stringify({
    Name: 'containeros.judged',
    StartTime: '2026-11-30T14:57:25.401520815Z',
    EndTime: '2026-11-30T14:57:25.407443263Z',
    Attributes: Object.entries({ ...attributes, 'containeros.upstream': upstream }).map(([key, value]) => ({
      Key: key,
      Value: { Type: 'STRING', Value: value },
    })),
    ...more,
  });
};
const ENDED_AT_MS = Date.UTC(2026, 10, 30, 14, 57, 25, 407);

const write = (upstream: string, status: number | '' = 200): void => writer.write(span(upstream, status));
const append = (bytes: string | Buffer): void => appendFileSync(judgedLog(directory), bytes);

const addresses = () => log.read().map(({ address }) => address);

test('what was there before is not read, and what comes is read once', () => {
  write('a:1');
  expect(log.read()).toEqual([]);
  writer.write(span('b:1', 200, 1.5));
  writer.write(span('c:1', 503));
  writer.write(span('d:1', ''));
  writer.write(span('e:1', 404, 2));
  // Counted before it was led to a replica, which did not answer.
  writer.write(span('f:1', MAY_PASS, 0.5));
  expect(log.read()).toEqual([
    { address: 'b:1', isError: false, latencyMs: 1.5, endedAtMs: ENDED_AT_MS },
    { address: 'c:1', isError: true, endedAtMs: ENDED_AT_MS },
    { address: 'd:1', isError: true, endedAtMs: ENDED_AT_MS },
    { address: 'e:1', isError: false, latencyMs: 2, endedAtMs: ENDED_AT_MS },
    { address: 'f:1', isError: true, endedAtMs: ENDED_AT_MS },
  ]);
  expect(log.read()).toEqual([]);
});

test('a file that is not there yet is read from its beginning when it comes', () => {
  expect(log.read()).toEqual([]);
  write('a:1');
  expect(addresses()).toEqual(['a:1']);
});

test('a line that is not whole is read when it is, also within a letter; one that was cut short is left out', () => {
  write('first:1');
  expect(log.read()).toEqual([]);
  const bytes = Buffer.from('{"address":"ä:1"}\n');
  const half = bytes.indexOf(Buffer.from('ä')) + 1;
  append(bytes.subarray(0, half));
  expect(addresses()).toEqual([]);
  append(bytes.subarray(half));
  expect(addresses()).toEqual(['ä:1']);
  append('{"address":"cut\n{"address":"b:1"}\n');
  expect(addresses()).toEqual(['b:1']);
});

test('a full file is put aside and read to its end, then the next one; two files are all that it takes', () => {
  expect(log.read()).toEqual([]);
  const folder = dirname(judgedLog(directory));
  let written = 0;
  for (let round = 0; round < 5; round += 1) {
    const before = written;
    while (written < before + 60) {
      write(`r${written}:1`);
      written += 1;
    }
    expect(addresses()).toEqual(Array.from({ length: 60 }, (_, index) => `r${before + index}:1`));
  }
  expect(readdirSync(folder).sort()).toEqual(['requests.log', 'requests.log.1']);
  for (const name of readdirSync(folder)) {
    expect(statSync(join(folder, name)).size).toBeLessThan(LIMIT_BYTES + 100);
    expect(statSync(join(folder, name)).mode & 0o777).toBe(0o600);
  }
});

test('a new writer goes on in the file that is there', () => {
  write('a:1');
  writer.close();
  expect(log.read()).toEqual([]);
  const next = openJudgedLogWriter(directory);
  next.write(span('b:1', 200));
  next.close();
  expect(addresses()).toEqual(['b:1']);
});

test('what is no request, or was led to nobody, is left out', () => {
  write('first:1');
  expect(log.read()).toEqual([]);
  const lines = [
    '',
    'null',
    '[]',
    '"text"',
    '{"Name":"conta',
    '{"Name":"containeros.judged","Attributes":[null,1]}',
  ];
  for (const line of lines) writer.write(line);
  writer.write(span('', ''));
  writer.write(span('a:1', 200, 1, { Name: 'other' }));
  writer.write(span('a:1', 200, 1, { EndTime: 'never' }));
  expect(addresses()).toEqual([]);
});
