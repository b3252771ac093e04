/** What stands on the disk of places, whatever happened to it. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { openPlaceFiles } from '../../../adapters/ingress/place-files';

let directory: string;
beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'containeros-places-'))));
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('a layout is read as it was written, with the hostnames that spare places have', () => {
  const files = openPlaceFiles(directory);
  const fixed = { number: 0, slots: 12, isFixed: true, hostname: 'web.localhost' };
  const spare = { number: 1, slots: 12, isFixed: false };
  files.writeLayout([fixed, spare]);
  expect(openPlaceFiles(directory).readLayout()).toEqual([fixed, spare]);
  files.writeHostname(1, 'new.localhost');
  expect(openPlaceFiles(directory).readLayout()).toEqual([fixed, { ...spare, hostname: 'new.localhost' }]);
  files.writeHostname(1, undefined);
  expect(openPlaceFiles(directory).readLayout()).toEqual([fixed, spare]);
});

test('options of a place are read as they were written, and a part is written once', () => {
  const files = openPlaceFiles(directory);
  const place = {
    number: 0,
    slots: 12,
    isFixed: true,
    hostname: 'a.b',
    options: { path: '/x', sticky: true as const },
  };
  files.writeLayout([place]);
  expect(openPlaceFiles(directory).readLayout()).toEqual([place]);
  const file = join(directory, 'places', '0', 'error-page');
  files.writePart(0, 'error-page', 'one');
  expect(readFileSync(file, 'utf8')).toBe('one');
  files.keepOnly([]);
  files.writePart(0, 'error-page', 'one');
  expect(readFileSync(file, 'utf8')).toBe('one');
});

test.each(['', '[{"number":0', '[{"number":0}]', 'null'])('a layout that is %j is none', (text) => {
  writeFileSync(join(directory, 'layout.json'), text);
  expect(openPlaceFiles(directory).readLayout()).toEqual([]);
});
