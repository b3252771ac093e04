/**
 * How busy the machine is: processors, memory, disk. Reads a few lines of /proc; without it (not Linux) what Node
 * knows.
 */

import { readFile, statfs } from 'node:fs/promises';
import { cpus, freemem } from 'node:os';

export interface HostStats {
  /** Busy share of all processors since the last call, 0 to 100; 0 at the first. */
  readonly cpuPercent: number;
  readonly memoryAvailableBytes: number;
  readonly diskBytes: number;
  readonly diskFreeBytes: number;
}

export interface HostStatsReader {
  read(): Promise<HostStats>;
}

interface CpuTimes {
  readonly busy: number;
  readonly total: number;
}

/** @param diskPaths where the disk is measured: the first that exists */
export const createHostStatsReader = (diskPaths: () => readonly string[]): HostStatsReader => {
  let last: CpuTimes | undefined;
  return {
    read: async () => {
      const [times, memoryAvailableBytes, disk] = await Promise.all([
        readCpu(),
        readAvailableMemory(),
        readDisk(diskPaths()),
      ]);
      const cpuPercent = last === undefined ? 0 : busyPercent(last, times);
      last = times;
      return { cpuPercent, memoryAvailableBytes, ...disk };
    },
  };
};

export const busyPercent = (before: CpuTimes, after: CpuTimes): number => {
  const total = after.total - before.total;
  if (total <= 0) return 0;
  return Math.min(100, Math.max(0, Math.round(((after.busy - before.busy) / total) * 100)));
};

/** The first line of /proc/stat: `cpu  user nice system idle iowait irq softirq steal …`. */
export const parseCpuTimes = (stat: string): CpuTimes => {
  const line = stat.slice(0, stat.indexOf('\n'));
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  const total = ticks.reduce((sum, value) => sum + value, 0);
  const idle = (ticks[3] ?? 0) + (ticks[4] ?? 0);
  return { busy: total - idle, total };
};

export const parseAvailableMemory = (meminfo: string): number =>
  Number(/^MemAvailable:\s+(\d+) kB/m.exec(meminfo)?.[1] ?? 0) * 1024;

const readCpu = async (): Promise<CpuTimes> => {
  try {
    return parseCpuTimes(await readFile('/proc/stat', 'utf8'));
  } catch {
    const times = cpus().map((cpu) => cpu.times);
    const total = times.reduce((sum, t) => sum + t.user + t.nice + t.sys + t.idle + t.irq, 0);
    return { busy: total - times.reduce((sum, t) => sum + t.idle, 0), total };
  }
};

const readAvailableMemory = async (): Promise<number> => {
  try {
    return parseAvailableMemory(await readFile('/proc/meminfo', 'utf8'));
  } catch {
    return freemem();
  }
};

const readDisk = async (
  paths: readonly string[],
): Promise<{ readonly diskBytes: number; readonly diskFreeBytes: number }> => {
  for (const path of paths) {
    try {
      const { bsize, blocks, bavail } = await statfs(path);
      return { diskBytes: bsize * blocks, diskFreeBytes: bsize * bavail };
    } catch {
      continue; // the engine may be in a machine of its own, with other paths
    }
  }
  return { diskBytes: 0, diskFreeBytes: 0 };
};
