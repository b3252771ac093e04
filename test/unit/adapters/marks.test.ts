/** Marks: as long as there is any, Caddy's working directory says so, whoever started when. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import {
  ENDING,
  LANES_IN_USE,
  MOVED,
  mayBeMarked,
  openMarkedDirectory,
  putMark,
  removeMark,
} from '../../../adapters/ingress/marks';

const made: string[] = [];
const makeDirectory = (): string => {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'containeros-marks-')));
  made.push(directory);
  return directory;
};
afterAll(() => made.forEach((directory) => rmSync(directory, { recursive: true, force: true })));

const files = (directory: string): readonly string[] => readdirSync(directory).sort();
/** What a child that was started there is told. */
const workingDirectory = (cwd: string): string =>
  spawnSync('/bin/pwd', ['-P'], { cwd, encoding: 'utf8' }).stdout.trim();

test('it has the name for none only once the last mark has gone, in whatever order they go', () => {
  const directory = makeDirectory();
  const cwd = openMarkedDirectory(directory);
  expect(files(directory)).toEqual(['some-marks']);
  for (const [first, last] of [
    [LANES_IN_USE, ENDING[1]],
    [ENDING[1], LANES_IN_USE],
    [ENDING[0], MOVED],
  ] as const) {
    putMark(directory, first);
    putMark(directory, first);
    putMark(directory, last);
    expect(files(directory)).toEqual([first, last, 'some-marks'].sort());
    removeMark(directory, first);
    expect(files(directory)).toEqual([last, 'some-marks'].sort());
    removeMark(directory, first);
    removeMark(directory, last);
    expect(files(directory)).toEqual(['no-marks']);
    expect(basename(workingDirectory(cwd))).toBe('no-marks');
    expect(JSON.stringify(mayBeMarked(directory))).toContain(JSON.stringify(workingDirectory(cwd)));
  }
});

test('a mark that is put before Caddy is started, or while it is, counts', () => {
  const directory = makeDirectory();
  putMark(directory, MOVED);
  const cwd = openMarkedDirectory(directory);
  expect(basename(workingDirectory(cwd))).toBe('some-marks');
  removeMark(directory, MOVED);
  const again = openMarkedDirectory(directory);
  putMark(directory, MOVED);
  for (const one of [cwd, again]) expect(basename(workingDirectory(one))).toBe('some-marks');
});
