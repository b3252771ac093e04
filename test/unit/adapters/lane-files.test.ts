/** Lanes on the disk: replaced as a whole, and again what they are after a restart. */

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { laneDirectory, laneLink } from '../../../adapters/ingress/lane-config';
import { LANES_IN_USE } from '../../../adapters/ingress/marks';
import { openLaneFiles } from '../../../adapters/ingress/lane-files';
import { FIRST_LANES } from '../../../domain/ingress/lanes';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'containeros-lanes-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const SIZES = { count: 2, slots: 3 };
const content = (address: string, isJudged = false) => ({
  hostnames: ['a.localhost'],
  isJudged,
  slots: [address, address, address],
});
const read = (lane: number, file: string) => readFileSync(join(laneLink(directory, lane), file), 'utf8');

test('a lane has its hostnames and slots, and the mark is there while one is in use', () => {
  const files = openLaneFiles(directory);
  files.writeLanes(SIZES, [content('x:1', true)]);
  expect([read(0, 'hostname0'), read(0, 'hostname1'), read(0, '2')]).toEqual(['a.localhost', '-', 'x:1']);
  expect(existsSync(join(laneLink(directory, 0), 'judged'))).toBe(true);
  expect(read(1, 'hostname0')).toBe('-');
  expect(existsSync(join(directory, LANES_IN_USE))).toBe(true);
  files.writeLanes(SIZES, []);
  expect(read(0, 'hostname0')).toBe('-');
  expect(existsSync(join(directory, LANES_IN_USE))).toBe(false);
});

test('what a lane was before is removed, and what stays the same is not written again', () => {
  const files = openLaneFiles(directory);
  files.writeLanes(SIZES, [content('x:1')]);
  const inUse = readdirSync(laneDirectory(directory, 0));
  files.writeLanes(SIZES, [content('x:1')]);
  expect(readdirSync(laneDirectory(directory, 0))).toEqual(inUse);
  files.writeLanes(SIZES, [content('y:1')]);
  expect(readdirSync(laneDirectory(directory, 0))).toHaveLength(2);
  expect(read(0, '0')).toBe('y:1');
});

test('another process goes on with what it finds', () => {
  openLaneFiles(directory).writeLanes(SIZES, [content('x:1')]);
  const next = openLaneFiles(directory);
  next.writeLanes(SIZES, [content('y:1')]);
  expect(read(0, '0')).toBe('y:1');
  expect(readdirSync(laneDirectory(directory, 0))).toHaveLength(2);
});

test('sizes are kept, and are the first ones where nothing can be read', () => {
  const files = openLaneFiles(directory);
  expect(files.readSizes()).toEqual(FIRST_LANES);
  files.writeSizes({ count: 16, slots: 1_200 });
  expect(openLaneFiles(directory).readSizes()).toEqual({ count: 16, slots: 1_200 });
  for (const text of ['', '{', '{"count":0,"slots":1}', 'null']) {
    writeFileSync(join(directory, 'lanes.json'), text);
    expect(openLaneFiles(directory).readSizes()).toEqual(FIRST_LANES);
  }
});
