// Runs programs for set-up and the tests. Invariants: every child has its own process group, which is ended as a
// whole when its time is up or when we are told to stop; nothing is ever ended by name.
import { spawn } from 'node:child_process';
import { accessSync, constants as fileConstants, createWriteStream, readFileSync, statSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, join } from 'node:path';

const TAIL_BYTES = 8_000;
const GRACE_MS = 5_000;

/** Process ids of the leaders of the groups that we started and that have not ended. */
const liveGroups = new Set();
/** Undone when we are told to stop, last one first. */
const cleanUps = new Set();
let stopping = false;

/** Whether we were told to stop: what fails now fails because of that, and nothing new is begun. */
export const isStopping = () => stopping;

/** Registers work to do if a signal ends us; returns the function that takes it back. */
export function onStop(cleanUp) {
  cleanUps.add(cleanUp);
  return () => cleanUps.delete(cleanUp);
}

/**
 * Does not begin, nor end, once we were told to stop: what went before has ended because of that, and we are about to.
 * @returns {{ code: number | null, signal: string | null, timedOut: boolean, output: string, stdout: string }}
 */
export function run(command, args, options = {}) {
  if (stopping) return new Promise(() => {});
  const { cwd, env = process.env, timeoutMs = 60_000, inherit = false, logPath, input } = options;
  const { tailBytes = TAIL_BYTES } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      env,
      detached: true,
      stdio: inherit
        ? ['ignore', 'inherit', 'inherit']
        : [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    let output = '';
    let stdout = '';
    let timedOut = false;
    const log = logPath === undefined ? undefined : createWriteStream(logPath, { flags: 'a' });
    log?.on('error', () => {});
    const keep = (chunk) => {
      output = (output + chunk).slice(-tailBytes);
      log?.write(chunk);
    };
    child.stdout?.setEncoding('utf8').on('data', (chunk) => {
      keep(chunk);
      if (stdout.length < 1_000_000) stdout += chunk;
    });
    child.stderr?.setEncoding('utf8').on('data', keep);
    if (input !== undefined) {
      child.stdin.on('error', () => {});
      child.stdin.end(input);
    }
    if (child.pid !== undefined) liveGroups.add(child.pid);
    const timer = setTimeout(() => {
      timedOut = true;
      void endGroup(child.pid);
    }, timeoutMs);
    child.once('error', (error) => {
      clearTimeout(timer);
      log?.end();
      reject(error);
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      liveGroups.delete(child.pid);
      log?.end();
      resolve({ code, signal, timedOut, output: output.trim(), stdout });
    });
  });
}

/** Ends a process group that we started: politely, then by force. */
export async function endGroup(pid, signal = 'SIGTERM') {
  if (pid === undefined || !signalGroup(pid, signal)) return;
  const deadlineMs = performance.now() + GRACE_MS;
  while (performance.now() < deadlineMs) {
    if (!signalGroup(pid, 0)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  signalGroup(pid, 'SIGKILL');
}

function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
    return true;
  } catch {
    return false;
  }
}

/**
 * Makes SIGINT, SIGTERM and SIGHUP end our children and undo our work before we end with the usual status.
 * A terminal and npm may both deliver the same Ctrl-C: only the first counts.
 * @returns {() => void} takes this back
 */
export function stopOnSignals() {
  const stop = async (signal) => {
    if (stopping) return;
    stopping = true;
    await Promise.all([...liveGroups].map((pid) => endGroup(pid, signal === 'SIGHUP' ? 'SIGTERM' : signal)));
    for (const cleanUp of [...cleanUps].reverse()) {
      try {
        await cleanUp();
      } catch {
        // The next set-up removes what a dead one left behind.
      }
    }
    process.exit(128 + constants.signals[signal]);
  };
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
  const handler = (signal) => void stop(signal);
  for (const signal of signals) process.on(signal, handler);
  return () => {
    for (const signal of signals) process.off(signal, handler);
  };
}

/** The first executable file of that name on the PATH; `extra` folders are looked at last. */
export function findOnPath(name, env = process.env, extra = []) {
  const folders = [...(env.PATH ?? '').split(delimiter).filter((folder) => folder !== ''), ...extra];
  return folders.map((folder) => join(folder, name)).find(isExecutableFile);
}

export function isExecutableFile(path) {
  try {
    accessSync(path, fileConstants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** Identifies a process beyond the reuse of its pid; undefined when it is gone or a zombie. */
export function processIdentity(pid) {
  try {
    // The command's name is in brackets and may hold anything; the fields after the last bracket are regular.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : `${pid}-${fields[19]}`;
  } catch {
    return undefined;
  }
}
