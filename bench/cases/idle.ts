// What ContainerOS costs when nobody asks for anything, process by process.
// Invariant: CPU is what the kernel has accounted over a whole minute at least; memory is read at its end.
import { setTimeout as delay } from 'node:timers/promises';
import { ROLES, type Role } from '../../test/support/instance';
import type { Bed } from '../bed';
import { idleMetric, type Measurements } from '../measurements';
import type { Peer } from '../peer';
import {
  countOthers,
  readCpuSeconds,
  readMemory,
  readMemoryTogether,
  type ProcessMemory,
} from '../processes';

const SETTLE_MS = 20_000;
const MEASURE_MS = 60_000;
const FEW = 3;
const REPLICAS = 2;
const ALL: readonly Role[] = ['supervisor', ...ROLES];

export interface IdleProcess extends ProcessMemory {
  readonly role: Role;
  readonly cpuPercent: number;
}

export interface IdleReport {
  readonly state: string;
  readonly seconds: number;
  readonly processes: readonly IdleProcess[];
  /** All of them, each page once. */
  readonly togetherBytes: number;
  /** Other processes on this computer that share pages with ours, which makes our PSS smaller. */
  readonly sharers: number;
}

export const idleCase = async (options: {
  readonly bed: Bed;
  readonly peer: Peer;
  readonly measurements: Measurements;
  readonly say: (line: string) => void;
}): Promise<readonly IdleReport[]> => {
  const { bed, peer, measurements, say } = options;
  const reports: IdleReport[] = [];
  const look = async (state: string): Promise<void> => {
    say(`${state}: settling for ${SETTLE_MS / 1000} s, measuring for ${MEASURE_MS / 1000} s`);
    await delay(SETTLE_MS);
    const report = await observe(bed, state);
    reports.push(report);
    const sum = (pick: (each: IdleProcess) => number) =>
      report.processes.reduce((total, each) => total + pick(each), 0);
    measurements.add(idleMetric('memory', state), peer.id, report.togetherBytes / 1e6);
    measurements.add(
      idleMetric('cpu', state),
      peer.id,
      sum(({ cpuPercent }) => cpuPercent),
    );
    for (const { role, cpuPercent, pssBytes, anonymousBytes } of report.processes) {
      const memory = `${(pssBytes / 1e6).toFixed(0)} MB (${(anonymousBytes / 1e6).toFixed(0)} MB anonymous)`;
      say(`  ${role.padEnd(14)} ${cpuPercent.toFixed(2)}%  ${memory}`);
    }
  };
  await look('no microservice');
  try {
    await peer.deployMany(
      Array.from({ length: FEW }, (_, index) => `few-${index}`),
      FEW,
    );
    await Promise.all(
      Array.from({ length: FEW }, (_, index) =>
        bed.instance.api('PATCH', `/v1/microservices/few-${index}`, { body: { scale: REPLICAS } }),
      ),
    );
    await look(`${FEW} microservices of ${REPLICAS} replicas`);
  } finally {
    await peer.clear();
  }
  return reports;
};

const observe = async ({ instance }: Bed, state: string): Promise<IdleReport> => {
  const pids = ALL.map((role) => ({ role, pid: instance.pid(role) }));
  const startedAt = performance.now();
  const before = pids.map(({ pid }) => readCpuSeconds(pid));
  await delay(MEASURE_MS);
  const seconds = (performance.now() - startedAt) / 1000;
  const processes = pids.map(({ role, pid }, index) => ({
    role,
    cpuPercent: ((readCpuSeconds(pid) - (before[index] ?? 0)) / seconds) * 100,
    ...readMemory(pid),
  }));
  const ours = [process.pid, ...pids.map(({ pid }) => pid)];
  const sharers = ['node', 'temporal', 'consul'].reduce((sum, name) => sum + countOthers(name, ours), 0);
  const togetherBytes = readMemoryTogether(pids.map(({ pid }) => pid));
  return { state, seconds, processes, togetherBytes, sharers };
};
