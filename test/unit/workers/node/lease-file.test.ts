// What a guard and the next worker read of the leases of a node.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { machineClockMs, readDeadlines, writeDeadlines } from '../../../../workers/node/lease-file';

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-leases-'));
  file = join(folder, 'run', 'leases.json');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('what is written is read, also when there was more before', () => {
  expect(readDeadlines(file)).toEqual({});
  const length = writeDeadlines(file, { 'clock-1': 1_000.5, 'clock-2': 2_000 });
  expect(readDeadlines(file)).toEqual({ 'clock-1': 1_000.5, 'clock-2': 2_000 });
  const { ino } = statSync(file);
  writeDeadlines(file, { 'clock-2': 3_000 }, length);
  expect(readDeadlines(file)).toEqual({ 'clock-2': 3_000 });
  expect(statSync(file).ino).toBe(ino);
});

test('what was written before the machine was started counts for nothing', () => {
  writeDeadlines(file, { 'clock-1': 1_000 });
  const { bootId, deadlines } = JSON.parse(readFileSync(file, 'utf8')) as {
    readonly bootId: string;
    readonly deadlines: object;
  };
  writeFileSync(file, JSON.stringify({ bootId: `${bootId}-before`, deadlines }));
  expect(readDeadlines(file)).toEqual({});
});

test.each(['', '{"bootId"', 'null', '[]'])('what cannot be read is not known: %s', (text) => {
  writeDeadlines(file, {});
  writeFileSync(file, text);
  expect(Object.keys(readDeadlines(file) ?? {})).toEqual([]);
});

test('the clock of the machine does not go back', () => {
  const before = machineClockMs();
  expect(before).toBeGreaterThan(0);
  expect(machineClockMs()).toBeGreaterThanOrEqual(before);
});
