// Runs commands of the machine for the tests, and finds the project's own files.
// Invariant: a failed command's error holds its output, so that a test's failure explains itself.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { eventually } from './wait';

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

export interface CommandOptions {
  readonly timeoutMs?: number;
  readonly input?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Return the result of a command that failed instead of throwing. */
  readonly mayFail?: boolean;
}

const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** Runs a command to its end. */
export function runCommand(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      [...args],
      {
        timeout: options.timeoutMs ?? 60_000,
        maxBuffer: MAX_OUTPUT_BYTES,
        killSignal: 'SIGKILL',
        ...(options.env === undefined ? {} : { env: options.env }),
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
        if (error !== null && options.mayFail !== true) {
          reject(
            new Error(`${command} ${args.join(' ')} failed (${code}): ${stderr || stdout || error.message}`),
          );
          return;
        }
        resolve({ stdout, stderr, code });
      },
    );
    child.stdin?.on('error', () => undefined); // the command may end without reading its input
    child.stdin?.end(options.input);
  });
}

/**
 * Stops a process where it stands. The signal is only the wish: on a busy machine its threads run on for a while.
 *
 * @param wrapper the nsenter that started it, if that is its parent: it stops itself after its child, and when it is
 * continued it continues the child, however late. Only when both stand still does none of that lie ahead.
 */
export async function freezeProcess(pid: number, wrapper?: number): Promise<void> {
  await eventually(
    () => {
      process.kill(pid, 'SIGSTOP');
      for (const each of wrapper === undefined ? [pid] : [pid, wrapper]) assertStopped(each);
    },
    { intervalMs: 1, describe: `process ${pid} is frozen` },
  );
}

function assertStopped(pid: number): void {
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8');
    const state = stat.slice(stat.lastIndexOf(')') + 2)[0]; // proc(5)
    if (state !== 'T') throw new Error(`thread ${thread} is in state ${state}`);
  }
}

/** The checkout's folder: the nearest one above with a package.json, also for compiled copies in dist/. */
export function projectRoot(): string {
  let folder = __dirname;
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error(`no package.json above ${__dirname}`);
    folder = parent;
  }
  return folder;
}
