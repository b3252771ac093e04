/**
 * Keeps one process running: starts it, starts it again when it ends or hangs, and stops it when asked.
 *
 * Invariants: at most one process of a role runs per data directory, also after the supervisor itself was killed (the
 * pid file leads to the orphan); restarts back off; one that has said that it lives and then says nothing hangs, unless
 * this process was held up itself; one that is asked to end is killed when it does not.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

import type { Logger } from 'pino';

import { ALIVE_EVERY_MS, type RoleAlive } from '../role';

const RESTART_FIRST_MS = 100;
const RESTART_MAX_MS = 5_000;
/** A process that lived this long begins its back-off anew. */
const STABLE_MS = 30_000;
const STOP_GRACE_MS = 10_000;
const LAST_WORDS = 5;

export interface ProcessSpec {
  readonly role: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where it is started; where this process was, by default. */
  readonly cwd?: string;
  /** Where pid files are. */
  readonly runDirectory: string;
  /** With a channel for messages: for our own roles. */
  readonly ipc: boolean;
  /** File descriptors of this process that it gets as its own, from 3 on; not with `ipc`. */
  readonly sockets?: readonly number[];
  /** Gets each line that an engine writes; without it the output goes where the supervisor's goes. */
  readonly onLine?: (line: string) => void;
  /** Gets instead what it writes to its standard output, of an engine whose output is no log. */
  readonly onOutput?: (line: string) => void;
  readonly onMessage?: (message: unknown) => void;
  readonly onExit?: (how: string) => void;
  /** How long a process of ours may be silent before it counts as hanging, in milliseconds. */
  readonly silenceMs?: number;
  /** How long a process may take to end when it is asked to, in milliseconds. */
  readonly graceMs?: number;
}

/** Far beyond what a busy machine keeps a process waiting, and what a collection of garbage takes. */
const SILENCE_MS = 20_000;
/** Of a look, beyond which the whole machine may have stood still. */
const LATE_MS = 3_000;

const isAliveMessage = (message: unknown): message is RoleAlive =>
  typeof message === 'object' && message !== null && 'kind' in message && message.kind === 'alive';

/**
 * Ends a child that goes silent after its first sign of life.
 *
 * @returns what to call with each sign of life
 */
const watchLife = (child: ChildProcess, silenceMs: number, onSilent: () => void): (() => void) => {
  let heardAtMs: number | undefined;
  let lookedAtMs = performance.now();
  const timer = setInterval(
    () => {
      const now = performance.now();
      const isLate = now - lookedAtMs > ALIVE_EVERY_MS + LATE_MS;
      lookedAtMs = now;
      if (heardAtMs === undefined) return;
      if (isLate) heardAtMs = now;
      else if (now - heardAtMs > silenceMs) {
        clearInterval(timer);
        onSilent();
        // Nothing else reaches a process that was stopped.
        child.kill('SIGKILL');
      }
    },
    Math.min(ALIVE_EVERY_MS, silenceMs / 4),
  );
  timer.unref();
  child.once('exit', () => clearInterval(timer));
  return () => (heardAtMs = performance.now());
};

export interface SupervisedProcess {
  readonly role: string;
  pid(): number | undefined;
  send(message: object): void;
  /** Ends it, in order if it does so in time, and starts it again. */
  restart(): void;
  stop(): Promise<void>;
}

/** Asks a child to end, and kills it when it does not: one that is frozen never hears the question. */
const endInOrder = (child: ChildProcess, graceMs: number, onLate: () => void): void => {
  const kill = setTimeout(() => {
    onLate();
    child.kill('SIGKILL');
  }, graceMs);
  child.once('exit', () => clearTimeout(kill));
  child.kill('SIGTERM');
};

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

const commandLine = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
};

/** When a process was started; undefined when it is gone. Two of one number are told apart by it. */
export const processStart = (pid: number): string | undefined => {
  try {
    // The 22nd field, counted after the name in parentheses (proc(5)): start time in clock ticks since boot.
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19];
  } catch {
    return undefined;
  }
};

const untilGone = async (pid: number, limitMs: number): Promise<boolean> => {
  const endMs = performance.now() + limitMs;
  while (isAlive(pid)) {
    if (performance.now() > endMs) return false;
    await delay(20);
  }
  return true;
};

/**
 * Ends what an earlier supervisor, which was killed, left running under a role.
 *
 * @param mark part of the command line that tells this installation's process from any other with that pid
 */
export const endOrphan = async (
  spec: Pick<ProcessSpec, 'role' | 'runDirectory'> & { readonly mark: string },
  logger: Logger,
): Promise<void> => {
  let known: string;
  try {
    known = readFileSync(join(spec.runDirectory, `${spec.role}.pid`), 'utf8').trim();
  } catch {
    return;
  }
  const [number = '', start] = known.split(' ');
  const pid = Number(number);
  if (!Number.isInteger(pid) || pid <= 1 || !isAlive(pid) || !commandLine(pid).includes(spec.mark)) return;
  // After a power cut the number is another process's, maybe this one's; earlier versions wrote no time beside it.
  if (pid === process.pid || (start !== undefined && processStart(pid) !== start)) return;
  logger.info(`ending the ${spec.role} process ${pid} that an earlier start left running`);
  process.kill(pid, 'SIGTERM');
  if (!(await untilGone(pid, STOP_GRACE_MS))) {
    process.kill(pid, 'SIGKILL');
    await untilGone(pid, STOP_GRACE_MS);
  }
};

/** @param stream nothing when the process was not started, or writes where this one does */
export const forwardLines = (stream: Readable | null, onLine: (line: string) => void): void => {
  let rest = '';
  stream?.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
};

export const superviseProcess = (spec: ProcessSpec, logger: Logger): SupervisedProcess => {
  const pidFile = join(spec.runDirectory, `${spec.role}.pid`);
  let child: ChildProcess | undefined;
  let isStopping = false;
  const abort = new AbortController();

  /** On a disk that is full, whatever runs goes on; only an orphan of it would not be found. */
  const notePid = (pid: number | undefined): void => {
    try {
      if (pid === undefined) rmSync(pidFile, { force: true });
      else writeFileSync(pidFile, `${pid} ${processStart(pid) ?? ''}`.trimEnd());
    } catch (error) {
      logger.warn({ err: error }, `${pidFile} could not be changed`);
    }
  };

  /** What it said last: the reason of its end is among it. */
  let lastWords: string[] = [];

  const runOnce = () =>
    new Promise<string>((resolve) => {
      lastWords = [];
      const output = spec.onLine ? 'pipe' : 'inherit';
      // A process group of its own: Ctrl-C reaches the supervisor only, which stops its processes in order.
      const started = spawn(spec.command, spec.args, {
        detached: true,
        stdio: spec.ipc
          ? ['ignore', output, output, 'ipc']
          : ['ignore', output, output, ...(spec.sockets ?? [])],
        env: spec.env,
        ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
      });
      child = started;
      notePid(started.pid);
      const { onLine } = spec;
      if (onLine) {
        const log = (line: string) => {
          lastWords = [...lastWords, line].slice(-LAST_WORDS);
          onLine(line);
        };
        forwardLines(started.stderr, log);
        forwardLines(started.stdout, spec.onOutput ?? log);
      }
      const heard = watchLife(started, spec.silenceMs ?? SILENCE_MS, () =>
        logger.error(`${spec.role} (process ${started.pid ?? ''}) hangs; ending it`),
      );
      started.on('message', (message) => (isAliveMessage(message) ? heard() : spec.onMessage?.(message)));
      started.on('error', (error: NodeJS.ErrnoException) => {
        if (started.pid === undefined) {
          resolve(error.code === 'ENOENT' ? `there is no program ${spec.command}` : error.message);
        } else logger.warn({ err: error }, `a message to ${spec.role} was not delivered`);
      });
      started.on('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });

  const loop = async (): Promise<void> => {
    let restartMs = RESTART_FIRST_MS;
    while (!isStopping) {
      const startedAtMs = performance.now();
      const how = await runOnce();
      child = undefined;
      notePid(undefined);
      spec.onExit?.(how);
      if (isStopping) return;
      if (performance.now() - startedAtMs > STABLE_MS) restartMs = RESTART_FIRST_MS;
      logger.warn(
        { ...(lastWords.length > 0 ? { lastWords } : {}) },
        `${spec.role} ended (${how}); starting it again in ${restartMs} ms`,
      );
      await delay(restartMs, undefined, { signal: abort.signal }).catch(() => undefined);
      restartMs = Math.min(restartMs * 2, RESTART_MAX_MS);
    }
  };
  const finished = loop();
  /** What is asked to end already; asked again, it gets no more time. */
  let ending: ChildProcess | undefined;
  const endChild = (): void => {
    if (child?.pid === undefined || child === ending) return;
    const { pid } = child;
    ending = child;
    endInOrder(child, spec.graceMs ?? STOP_GRACE_MS, () =>
      logger.error(`${spec.role} (process ${pid}) does not end when it is asked to; killing it`),
    );
  };

  return {
    role: spec.role,
    pid: () => child?.pid,
    send: (message) => {
      if (child?.connected === true) child.send(message, () => undefined);
    },
    restart: endChild,
    stop: async () => {
      isStopping = true;
      abort.abort();
      endChild();
      await finished;
    },
  };
};
