// A supervised set of ContainerOS's processes on a test machine: a whole installation, or a node that has joined one.
// Invariants: it runs as a user's shell would run it, without what the test runner put into the environment; whatever
// it wrote to its output can be read afterwards.
import { type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from './machine';
import { freezeProcess, projectRoot, runCommand } from './process';
import { engineVariables } from './programs';
import { eventually, Hopeless } from './wait';

/** What always runs. */
export const ROLES = ['temporal', 'consul', 'caddy', 'control-plane', 'node', 'api'] as const;
/** The forwarder runs only while there are public ports. */
export const ALL_ROLES = ['supervisor', ...ROLES, 'forwarder'] as const;
export type Role = (typeof ALL_ROLES)[number];

export interface ProductProcess {
  readonly dataDir: string;
  /** How long the last start took until it was ready. */
  readonly startedInMs: number;
  /** The pid out here; throws when the role does not run. */
  pid(role: Role): number;
  kill(role: Role, signal?: NodeJS.Signals): void;
  /** kill -9 of all processes of the product at once; they are gone when it returns. */
  killAll(): Promise<void>;
  isRunning(): boolean;
  freeze(role: Role): Promise<void>;
  thaw(role: Role): void;
  /** Ctrl-C, and waits for the end. */
  stop(): Promise<void>;
  start(): Promise<void>;
  log(): string;
  /** Stops it and removes its data. Containers stay; the engine's end is theirs. */
  dispose(): Promise<void>;
}

export interface ProductProcessOptions {
  readonly machine: Machine;
  readonly dataDir: string;
  /** What follows `containeros` on the command line of the next start. */
  readonly command: () => readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Throws, telling why, until it is. */
  readonly assertReady: () => Promise<void>;
}

const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;

let built: Promise<unknown> | undefined;
const buildOnce = (): Promise<unknown> =>
  (built ??= runCommand(process.execPath, [join(projectRoot(), 'scripts', 'build.mjs')], {
    timeoutMs: 120_000,
  }));

/** The command line of the product in this checkout. */
export const productCommand = (...args: readonly string[]): readonly string[] => [
  process.execPath,
  join(projectRoot(), 'dist', 'workers', 'containeros.js'),
  ...args,
];

/** What a user's shell would give, without what the test runner added. */
export function productEnvironment(more: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const { PATH, HOME, LANG } = process.env;
  return { PATH, HOME, LANG, ...engineVariables(), ...more };
}

/** Does not start it yet. */
export async function prepareProductProcess(options: ProductProcessOptions): Promise<ProductProcess> {
  await buildOnce();
  const { machine, dataDir } = options;
  mkdirSync(dataDir, { recursive: true });
  const logPath = `${dataDir}.log`;
  const env = productEnvironment(options.env);
  let wrapper: ChildProcess | undefined;
  let startedInMs = 0;

  const start = async (): Promise<void> => {
    if (isRunning()) return;
    const startedAt = performance.now();
    const log = openSync(logPath, 'a');
    const child = machine.spawn(productCommand(...options.command()), {
      cwd: '/',
      env,
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    child.unref();
    wrapper = child;
    await eventually(
      async () => {
        if (hasEnded(child)) throw new Hopeless(`it ended with ${child.exitCode}:\n${tail(logPath)}`);
        try {
          await options.assertReady();
        } catch (error) {
          throw new Error(`${(error as Error).message}\n${tail(logPath)}`, { cause: error });
        }
      },
      { timeoutMs: READY_TIMEOUT_MS, intervalMs: 25, describe: 'ContainerOS is ready' },
    );
    startedInMs = Math.round(performance.now() - startedAt);
  };

  const pid = (role: Role): number => {
    const path = join(dataDir, 'run', `${role}.pid`);
    const inside = existsSync(path) ? Number(readFileSync(path, 'utf8').split(' ')[0]) : NaN;
    const outside = Number.isNaN(inside) ? undefined : machine.hostPid(inside);
    // After a power cut the number may be another process's; every role has the data directory on its command line.
    if (outside === undefined || !commandLineOf(outside).includes(dataDir))
      throw new Error(`${role} does not run`);
    return outside;
  };

  const isRunning = (): boolean => {
    try {
      return pid('supervisor') > 0;
    } catch {
      return false;
    }
  };

  const stop = async (): Promise<void> => {
    const child = wrapper;
    if (child === undefined || hasEnded(child)) return;
    process.kill(childOf(child) ?? pid('supervisor'), 'SIGINT');
    await eventually(
      () => {
        child.kill('SIGCONT'); // nsenter stops itself when its child is frozen
        if (!hasEnded(child)) throw new Error(tail(logPath));
      },
      { timeoutMs: STOP_TIMEOUT_MS, intervalMs: 10, describe: 'ContainerOS ends after Ctrl-C' },
    );
  };

  const pidsOf = (): readonly number[] =>
    ALL_ROLES.flatMap((role) => {
      try {
        return [pid(role)];
      } catch {
        return [];
      }
    });

  const killAll = async (): Promise<void> => {
    // The supervisor first, which would start the others again.
    for (const each of pidsOf()) killIfThere(each);
    await eventually(
      () => {
        const left = pidsOf();
        for (const each of left) killIfThere(each); // started just now
        if (left.length > 0) throw new Error(`these live: ${left.join(' ')}`);
      },
      { intervalMs: 5, describe: 'everything is killed' },
    );
  };

  return {
    dataDir,
    get startedInMs() {
      return startedInMs;
    },
    pid,
    kill: (role, signal = 'SIGKILL') => {
      process.kill(pid(role), signal);
    },
    killAll,
    isRunning,
    freeze: (role) => freezeProcess(pid(role), role === 'supervisor' ? wrapper?.pid : undefined),
    thaw: (role) => {
      process.kill(pid(role), 'SIGCONT');
      wrapper?.kill('SIGCONT');
    },
    stop,
    start,
    log: () => readFileSync(logPath, 'utf8'),
    dispose: async () => {
      try {
        await stop();
      } catch (error) {
        await killAll();
        throw error;
      } finally {
        rmSync(dataDir, { recursive: true, force: true });
      }
    },
  };
}

const hasEnded = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null;

/** Empty for a process that is gone. */
function commandLineOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return '';
    throw error;
  }
}

/** A role may end by itself at that moment, because its supervisor is gone. */
function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** The only child of nsenter: the supervisor. */
function childOf(wrapper: ChildProcess): number | undefined {
  const children = readFileSync(`/proc/${wrapper.pid}/task/${wrapper.pid}/children`, 'utf8').trim();
  return children === '' ? undefined : Number(children);
}

function tail(path: string): string {
  return readFileSync(path, 'utf8').split('\n').slice(-25).join('\n');
}
