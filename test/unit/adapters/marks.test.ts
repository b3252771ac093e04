/** Marks: as long as there is any, the one that all requests look for is there. */

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ENDING, LANES_IN_USE, putMark, removeMark } from '../../../adapters/ingress/marks';

const directory = mkdtempSync(join(tmpdir(), 'containeros-marks-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const files = (): readonly string[] => readdirSync(directory).sort();

test('the one that all requests look for goes with the last mark, in whatever order they go', () => {
  for (const [first, last] of [
    [LANES_IN_USE, ENDING[1]],
    [ENDING[1], LANES_IN_USE],
    [ENDING[0], ENDING[1]],
  ] as const) {
    putMark(directory, first);
    putMark(directory, first);
    putMark(directory, last);
    expect(files()).toEqual(['marks', first, last].sort());
    removeMark(directory, first);
    expect(files()).toEqual(['marks', last].sort());
    removeMark(directory, first);
    removeMark(directory, last);
    expect(files()).toEqual([]);
  }
});
