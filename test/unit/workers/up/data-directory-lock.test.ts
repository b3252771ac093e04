// One supervisor for a data directory, whatever an earlier one has left.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { lockDataDirectory, supervisorOf } from '../../../../workers/up/data-directory-lock';
import { processStart } from '../../../../workers/up/supervised-process';

let dataDir: string;
const lockFile = () => join(dataDir, 'run', 'supervisor.pid');
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), 'containeros-lock-'));
  mkdirSync(join(dataDir, 'run'));
});
afterEach(() => rmSync(dataDir, { recursive: true }));

test('a free directory is taken and given back', () => {
  const unlock = lockDataDirectory({ dataDir });
  expect(supervisorOf({ dataDir })).toBe(process.pid);
  unlock();
  expect(readdirSync(join(dataDir, 'run'))).toEqual([]);
});

test('one that a process has which runs is refused, and stays its own', () => {
  const holder = `${process.ppid} ${processStart(process.ppid) ?? ''}`;
  writeFileSync(lockFile(), holder);
  expect(() => lockDataDirectory({ dataDir })).toThrow(/runs already with the data directory/);
  expect(readFileSync(lockFile(), 'utf8')).toBe(holder);
  expect(readdirSync(join(dataDir, 'run'))).toEqual(['supervisor.pid']);
});

test.each(['1 0', '999999999 12345', '', 'nonsense'])(
  'what is left of one that ended (%j) is taken over',
  (left) => {
    writeFileSync(lockFile(), left);
    const unlock = lockDataDirectory({ dataDir });
    expect(supervisorOf({ dataDir })).toBe(process.pid);
    unlock();
    expect(existsSync(lockFile())).toBe(false);
  },
);

test('what somebody else has taken meanwhile is not given back', () => {
  const unlock = lockDataDirectory({ dataDir });
  const other = `${process.ppid} ${processStart(process.ppid) ?? ''}`;
  writeFileSync(lockFile(), other);
  unlock();
  expect(readFileSync(lockFile(), 'utf8')).toBe(other);
});
