// What a process costs, as the kernel counts it (proc(5)).
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';

export interface ProcessMemory {
  readonly rssBytes: number;
  /** With each shared page divided among those who share it. */
  readonly pssBytes: number;
  /** What is of no file: heaps, stacks. */
  readonly anonymousBytes: number;
}

/** The kernel counts in hundredths of a second towards programs, whatever its own clock. */
const TICKS_PER_SECOND = 100;

export const parseCpuSeconds = (stat: string): number => {
  // The command's name is in brackets and may hold anything; the fields after the last one are regular.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const seconds = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  if (Number.isNaN(seconds)) throw new Error('the stat of a process is not understood');
  return seconds;
};

export const parseMemory = (smapsRollup: string): ProcessMemory => {
  const bytes = (name: string): number => {
    const kilobytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(smapsRollup)?.[1];
    if (kilobytes === undefined) throw new Error(`the memory of a process has no ${name}`);
    return Number(kilobytes) * 1024;
  };
  return { rssBytes: bytes('Rss'), pssBytes: bytes('Pss'), anonymousBytes: bytes('Anonymous') };
};

/**
 * What several processes have in memory together, each page counted once: their own memory, and of each piece of a
 * file the most that one of them has of it. Unlike the sum of their PSS, it does not shrink when programs that are
 * not theirs map the same files.
 *
 * @param smaps of each process
 */
export const memoryTogether = (smaps: readonly string[]): number => {
  let ownBytes = 0;
  const files = new Map<string, number>();
  for (const text of smaps) {
    let piece = '';
    let residentBytes = 0;
    for (const line of text.split('\n')) {
      const head = /^[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+ [0-9a-f]+:[0-9a-f]+ \d+)/.exec(line);
      if (head !== null) piece = head[1] ?? '';
      const [, name, kilobytes] = /^(Rss|Anonymous):\s+(\d+) kB$/.exec(line) ?? [];
      if (name === 'Rss') residentBytes = Number(kilobytes) * 1024;
      if (name !== 'Anonymous') continue;
      const anonymousBytes = Number(kilobytes) * 1024;
      ownBytes += anonymousBytes;
      files.set(piece, Math.max(files.get(piece) ?? 0, residentBytes - anonymousBytes));
    }
  }
  return [...files.values()].reduce((sum, bytes) => sum + bytes, ownBytes);
};

export const readMemoryTogether = (pids: readonly number[]): number =>
  memoryTogether(pids.map((pid) => readFileSync(`/proc/${pid}/smaps`, 'utf8')));

export const readCpuSeconds = (pid: number): number =>
  parseCpuSeconds(readFileSync(`/proc/${pid}/stat`, 'utf8'));

export const readMemory = (pid: number): ProcessMemory =>
  parseMemory(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));

/** How many processes besides ours run a program of that name, and so share its pages with ours. */
export const countOthers = (program: string, ours: readonly number[]): number =>
  readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && !ours.includes(Number(entry)))
    .filter((entry) => {
      try {
        return basename(readlinkSync(`/proc/${entry}/exe`)) === program;
      } catch {
        return false;
      }
    }).length;
