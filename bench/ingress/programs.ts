// Programs that the ingress is measured with: started in folders of their own, and ended with the benchmark.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { runCommand } from '../../test/support/process';
import { readCpuSeconds, readMemory } from '../processes';
import { parseWrk, wrkArguments, type WrkReport, type WrkTarget } from './wrk';

export interface Running {
  /** Of the process, and of those that it has started. */
  cpuSeconds(): number;
  rssBytes(): number;
  stop(): Promise<void>;
}

/** Where set-up has unpacked them, with the libraries that they need. */
const folder = (): string => {
  const given = process.env['CONTAINEROS_BENCH_PROGRAMS'];
  if (given === undefined) throw new Error('the programs are not there; run `npm run bench`');
  return given;
};

const environment = (): NodeJS.ProcessEnv => ({ ...process.env, LD_LIBRARY_PATH: folder() });

export const unpacked = (name: string): string => join(folder(), name);

const withChildren = (pid: number): readonly number[] => [
  pid,
  ...readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8')
    .split(' ')
    .filter((text) => text !== '')
    .map(Number),
];

/** @param child is ended when this process is */
export const watchProcess = (child: ChildProcess): Running => {
  const end = () => child.kill();
  process.once('exit', end);
  const pids = (): readonly number[] => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null)
      throw new Error(`${basename(child.spawnfile)} has ended`);
    return withChildren(child.pid);
  };
  const sum = (of: (pid: number) => number) => pids().reduce((all, pid) => all + of(pid), 0);
  return {
    cpuSeconds: () => sum(readCpuSeconds),
    rssBytes: () => sum((pid) => readMemory(pid).rssBytes),
    stop: async () => {
      process.off('exit', end);
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill();
      await gone;
    },
  };
};

/** Starts a program of those that were unpacked, or one by its path. */
export const startProgram = (
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Running => watchProcess(spawn(command, args, { stdio: 'ignore', env: { ...environment(), ...env } }));

/** @throws Error when a request failed */
export const runWrk = async (target: WrkTarget): Promise<WrkReport> => {
  const { stdout } = await runCommand(unpacked('wrk'), [...wrkArguments(target)], {
    env: environment(),
    timeoutMs: (target.seconds + 60) * 1_000,
  });
  return parseWrk(stdout);
};

export interface BackgroundLoad {
  /** @returns what it met, all in all */
  stop(): Promise<WrkReport>;
}

/** Until it is stopped. */
export const startWrk = (target: Omit<WrkTarget, 'seconds'>): BackgroundLoad => {
  const child = spawn(unpacked('wrk'), [...wrkArguments({ ...target, seconds: 600 })], {
    env: environment(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const end = () => child.kill();
  process.once('exit', end);
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  return {
    stop: async () => {
      process.off('exit', end);
      const gone = once(child, 'close');
      // It tells what it has measured until then.
      child.kill('SIGINT');
      await gone;
      return parseWrk(output);
    },
  };
};

/** What a program calls its version, in its own words. */
export const versionOf = async (
  command: string,
  args: readonly string[],
  pattern: RegExp,
): Promise<string> => {
  const { stdout, stderr } = await runCommand(command, [...args], { env: environment(), mayFail: true });
  const found = pattern.exec(`${stdout}\n${stderr}`)?.[1];
  if (found === undefined) throw new Error(`${basename(command)} does not tell its version`);
  return found;
};
