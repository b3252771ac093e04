// Where the CPU goes while a peer works: how much each process that outlives the work has used. Unlike times, this
// hardly depends on what else the machine does, so it tells where to look when a target is missed.
import { readFileSync } from 'node:fs';
import type { Bed } from './bed';
import { readCpuSeconds } from './processes';

const ENGINE_PROGRAMS = ['dockerd', 'containerd'];
const LEAST_SHOWN_SECONDS = 0.05;

/** @returns a function that begins to watch, and returns one that tells what was used since */
export const watchCpu =
  ({ installations }: Pick<Bed, 'installations'>): (() => () => string) =>
  () => {
    const pids = new Map<string, number>();
    for (const { engine, product, roles } of installations) {
      const nameHere = (name: string) => (installations.length === 1 ? name : `${engine.hostname} ${name}`);
      for (const pid of engine.hostPids()) {
        const name = nameOf(pid);
        if (name !== undefined && ENGINE_PROGRAMS.includes(name)) pids.set(nameHere(name), pid);
      }
      for (const role of roles) pids.set(nameHere(role), product.pid(role));
    }
    const before = new Map([...pids].map(([name, pid]) => [name, readCpuSeconds(pid)]));
    const own = process.cpuUsage();
    return () => {
      const { user, system } = process.cpuUsage(own);
      const used = [...pids].map(([name, pid]) => ({
        name,
        seconds: readCpuSeconds(pid) - (before.get(name) ?? 0),
      }));
      return [...used, { name: 'benchmark', seconds: (user + system) / 1e6 }]
        .filter(({ seconds }) => seconds >= LEAST_SHOWN_SECONDS)
        .map(({ name, seconds }) => `${name} ${seconds.toFixed(2)}`)
        .join(', ');
    };
  };

/** Undefined: it has just ended. */
const nameOf = (pid: number): string | undefined => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return undefined;
  }
};
