// The kernel's words about a process, also about one with an awkward name.
import {
  memoryTogether,
  parseCpuSeconds,
  parseMemory,
  readCpuSeconds,
  readMemory,
} from '../../../bench/processes';

test('CPU time is user and system time, whatever the name of the program holds', () => {
  const stat = '42 (a) 1 (b) S 1 42 42 0 -1 4194304 9 0 0 0 250 50 7 7 20 0 1 0 100 1 1';
  expect(parseCpuSeconds(stat)).toBe(3);
  expect(() => parseCpuSeconds('nothing')).toThrow('not understood');
});

test('memory is read in bytes', () => {
  const rollup = [
    '00400000-7ffd [rollup]',
    'Rss:                 100 kB',
    'Pss:                  80 kB',
    'Pss_Dirty:            10 kB',
    'Anonymous:            40 kB',
  ].join('\n');
  expect(parseMemory(rollup)).toEqual({ rssBytes: 102_400, pssBytes: 81_920, anonymousBytes: 40_960 });
  expect(() => parseMemory('Rss: 1 kB')).toThrow('has no');
});

test('this process has both', () => {
  expect(readCpuSeconds(process.pid)).toBeGreaterThan(0);
  const { rssBytes, pssBytes } = readMemory(process.pid);
  expect(rssBytes).toBeGreaterThanOrEqual(pssBytes);
});

test('what processes have together counts pages of files once, and their own memory in full', () => {
  const mapping = (place: string, rss: number, anonymous: number) =>
    [
      `55d0-55d9 r-xp ${place} /usr/bin/node`,
      `Rss: ${rss} kB`,
      'Pss: 1 kB',
      `Anonymous: ${anonymous} kB`,
    ].join('\n');
  const text = '00001000 08:01 77';
  const otherText = '00002000 08:01 77';
  const heap = '00000000 00:00 0';
  const first = [mapping(text, 50, 0), mapping(heap, 10, 10)].join('\n');
  const second = [mapping(text, 60, 5), mapping(otherText, 7, 0), mapping(heap, 20, 20)].join('\n');
  expect(memoryTogether([first, second])).toBe((10 + 20 + 5 + 55 + 7) * 1024);
});
