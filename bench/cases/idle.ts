// What ContainerOS costs when nobody asks for anything, process by process.
// Invariant: CPU is what the kernel has accounted over a whole minute at least; memory is read at its end.
import { setTimeout as delay } from 'node:timers/promises';
import type { Role } from '../../test/support/product-process';
import type { Bed, Installation } from '../bed';
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
    await settle(state, say);
    for (const report of await observe(bed.installations, () => state)) {
      reports.push(report);
      measurements.add(idleMetric('memory', state), peer.id, report.togetherBytes / 1e6);
      measurements.add(idleMetric('cpu', state), peer.id, cpuOf(report.processes));
      sayProcesses(report, say);
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

/** Looks at several machines over the same minute. */
export const observe = async (
  installations: readonly Installation[],
  stateOf: (installation: Installation) => string,
): Promise<readonly IdleReport[]> => {
  const watched = installations.map((installation) => ({
    state: stateOf(installation),
    pids: installation.roles.map((role) => ({ role, pid: installation.product.pid(role) })),
  }));
  const startedAt = performance.now();
  const before = watched.map(({ pids }) => pids.map(({ pid }) => readCpuSeconds(pid)));
  await delay(MEASURE_MS);
  const seconds = (performance.now() - startedAt) / 1000;
  const ours = [process.pid, ...watched.flatMap(({ pids }) => pids.map(({ pid }) => pid))];
  return watched.map(({ state, pids }, machine) => ({
    state,
    seconds,
    processes: pids.map(({ role, pid }, index) => ({
      role,
      cpuPercent: ((readCpuSeconds(pid) - (before[machine]?.[index] ?? 0)) / seconds) * 100,
      ...readMemory(pid),
    })),
    sharers: ['node', 'temporal', 'consul'].reduce((sum, name) => sum + countOthers(name, ours), 0),
    togetherBytes: readMemoryTogether(pids.map(({ pid }) => pid)),
  }));
};

export const settle = async (what: string, say: (line: string) => void): Promise<void> => {
  say(`${what}: settling for ${SETTLE_MS / 1000} s, measuring for ${MEASURE_MS / 1000} s`);
  await delay(SETTLE_MS);
};

export const sayProcesses = ({ processes }: IdleReport, say: (line: string) => void): void => {
  for (const { role, cpuPercent, pssBytes, anonymousBytes } of processes) {
    const memory = `${(pssBytes / 1e6).toFixed(0)} MB (${(anonymousBytes / 1e6).toFixed(0)} MB anonymous)`;
    say(`  ${role.padEnd(14)} ${cpuPercent.toFixed(2)}%  ${memory}`);
  }
};

export const cpuOf = (processes: readonly IdleProcess[]): number =>
  processes.reduce((total, { cpuPercent }) => total + cpuPercent, 0);
