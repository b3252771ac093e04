/** What stands on the disk of places, whatever happened to it. */

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

test('slots lead elsewhere together: where one of them cannot be written, none does', () => {
  const files = openPlaceFiles(directory);
  const [old, other] = [
    ['10.0.0.1:80', '10.0.0.2:80', '10.0.0.1:80'],
    ['10.0.0.3:80', '10.0.0.4:80', '10.0.0.3:80'],
  ];
  files.writeSlots(0, old);
  const inTheWay = join(directory, 'places', '0', '2.draft');
  mkdirSync(inTheWay);
  expect(() => files.writeSlots(0, other)).toThrow('EISDIR');
  expect([files.slots(0), openPlaceFiles(directory).slots(0)]).toEqual([old, old]);
  rmSync(inTheWay, { recursive: true });
  expect(files.writeSlots(0, other)).toBe(true);
  expect(openPlaceFiles(directory).slots(0)).toEqual(other);
});

describe('the mark that slots lead elsewhere than the configuration in force says', () => {
  const hasMoved = () => existsSync(join(directory, 'moved'));
  const place = { number: 0, slots: 2, isFixed: true, hostname: 'web.localhost' };
  const settled = { ...place, settled: ['10.0.0.1:80', '10.0.0.2:80'] };
  const openSettled = () => {
    const files = openPlaceFiles(directory);
    files.writeSlots(0, settled.settled);
    files.writeLayout([settled]);
    files.removeMarkIfRight();
    return files;
  };

  test('is there as long as nobody knows what Caddy has been told', () => {
    const files = openPlaceFiles(directory);
    expect(hasMoved()).toBe(true);
    files.writeSlots(0, settled.settled);
    expect(files.isSettled(place)).toBe(false);
    files.writeLayout([settled]);
    expect([hasMoved(), files.isSettled(settled)]).toEqual([true, true]);
    files.removeMarkIfRight();
    expect(hasMoved()).toBe(false);
    expect(openPlaceFiles(directory).readLayout()).toEqual([settled]);
    expect(hasMoved()).toBe(false);
    rmSync(join(directory, 'layout.json'));
    openPlaceFiles(directory);
    expect(hasMoved()).toBe(true);
  });

  test('is there before a slot is, goes only when all lead there again, and outlives a restart', () => {
    openSettled();
    const files = openPlaceFiles(directory);
    expect(files.writeSlots(0, settled.settled)).toBe(false);
    expect(hasMoved()).toBe(false);
    // Nothing of a slot that cannot be written is there, but the mark is.
    rmSync(join(directory, 'places'), { recursive: true });
    expect(() => files.writeSlots(0, ['10.0.0.1:80', '10.0.0.3:80'])).toThrow('ENOENT');
    expect(hasMoved()).toBe(true);
    files.removeMarkIfRight();
    expect(hasMoved()).toBe(false);
  });

  test('is there also when the layout was made of the slots that were given out', () => {
    const files = openPlaceFiles(directory);
    files.writeSlots(0, settled.settled);
    files.writeLayout([{ ...place, settled: files.slots(0) }]);
    files.removeMarkIfRight();
    files.writeSlots(0, ['10.0.0.1:80', '10.0.0.3:80']);
    files.removeMarkIfRight();
    expect(hasMoved()).toBe(true);
  });

  test('stays while any place leads elsewhere, and goes when it leads back', () => {
    openSettled();
    const files = openPlaceFiles(directory);
    expect(files.writeSlots(0, ['10.0.0.1:80', '10.0.0.3:80'])).toBe(true);
    files.removeMarkIfRight();
    expect([hasMoved(), files.isSettled(settled)]).toEqual([true, false]);
    const again = openPlaceFiles(directory);
    again.removeMarkIfRight();
    expect(hasMoved()).toBe(true);
    expect(again.writeSlots(0, settled.settled)).toBe(true);
    again.removeMarkIfRight();
    expect([hasMoved(), again.isSettled(settled)]).toEqual([false, true]);
  });

  test('nothing is read for a spare place without a hostname', () => {
    const files = openPlaceFiles(directory);
    const spare = { number: 1, slots: 2, isFixed: false };
    expect([files.isSettled(spare), files.isSettled({ ...spare, hostname: 'a.b' })]).toEqual([true, false]);
  });
});
