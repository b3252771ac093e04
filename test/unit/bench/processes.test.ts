// The kernel's words about a process, also about one with an awkward name.
import { parseCpuSeconds, parseMemory, readCpuSeconds, readMemory } from '../../../bench/processes';

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
