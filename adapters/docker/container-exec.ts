/**
 * A command in a running container.
 *
 * Invariants: what cannot be run is an error and not output, although Docker sends both the same way; everything that a
 * command starts carries its mark in its environment, so that signals reach all of it and nothing else.
 *
 * Docker has no call that signals such a command, and the worker may see other processes than the engine does. So
 * signals are sent from within: by a shell in the container, as the same user.
 */

import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

import type Docker from 'dockerode';

import type { ExecSignal, TerminalSize } from '../../contracts/exec';
import { ContainerOsError } from '../../domain/errors';
import { asUnavailable, dockerMessage, dockerStatus, isNotFound } from './docker-error';
import { quickLimit } from './limits';

export interface ContainerCommand {
  readonly command: readonly string[];
  /** `KEY=value` */
  readonly env: readonly string[];
  readonly user?: string;
  readonly workingDirectory?: string;
  readonly stdin: boolean;
  readonly tty: boolean;
  readonly size?: TerminalSize;
  /** Letters, digits and hyphens, of this command alone. */
  readonly mark: string;
}

export interface ContainerExec {
  /** Takes the input; gives the output: raw with a terminal, otherwise in Docker's frames. */
  readonly stream: Duplex;
  /** @throws {ContainerOsError} when it never ran; to be asked before the first output counts as its own */
  assertStarted(output: Buffer): Promise<void>;
  resize(size: TerminalSize): Promise<void>;
  /** @returns the exit code, when the output has ended */
  exitCode(): Promise<number>;
}

/** In the environment of the command and of what it starts. */
const MARK_VARIABLE = 'CONTAINEROS_EXEC';
const ANSWER_MS = 10_000;
/** A size that comes before the terminal is there is refused. */
const RESIZE_ATTEMPTS = 10;
const RESIZE_RETRY_MS = 20;
const EXIT_POLL_MS = 20;
const EXIT_PATIENCE_MS = 10_000;

const problem = (code: ConstructorParameters<typeof ContainerOsError>[0], message: string, cause?: unknown) =>
  new ContainerOsError(code, message, [], { cause });

/** What Docker says when a command cannot be run, in our words. */
export const whyNotRun = ({ command, user, workingDirectory }: ContainerCommand, words: string) => {
  const [program = ''] = command;
  if (/unable to find user|no matching entries in passwd/i.test(words)) {
    return problem(
      'invalid',
      `There is no user ${user ?? ''} in the container. Name one that its image has, or a number.`,
    );
  }
  if (/chdir to cwd|mkdir .*: not a directory/i.test(words)) {
    return problem(
      'invalid',
      `The directory ${workingDirectory ?? ''} cannot be entered in the container. Name one that is there and that the user may enter.`,
    );
  }
  if (/executable file not found|no such file or directory/i.test(words)) {
    return problem(
      'command_not_found',
      `There is no command ${program} in the container. Give the path of a program that its image has; an image without a shell cannot run one.`,
    );
  }
  const why = /permission denied|is a directory/i.test(words)
    ? `${program} is not executable for this user`
    : words
        .replace(/^.*OCI runtime exec failed: (exec failed: )?/s, '')
        .slice(0, 300)
        .trim();
  return problem(
    'command_not_executable',
    `The command cannot be run in the container: ${why || 'the engine does not say why'}. Name a program that may be run there.`,
  );
};

const notRunning = (error: unknown): unknown => {
  if (dockerStatus(error) === 409 || isNotFound(error)) {
    return problem(
      'conflict',
      `The container does not run: ${dockerMessage(error).replace(/\.$/, '')}. Look at the replica's state, and try again when it runs.`,
      error,
    );
  }
  return asUnavailable(error);
};

/**
 * @throws {ContainerOsError} `conflict` when the container does not run, `unavailable` when the engine does not answer
 */
export const startExec = async (
  docker: Docker,
  containerId: string,
  wanted: ContainerCommand,
): Promise<ContainerExec> => {
  const { command, env, user, workingDirectory, stdin, tty, size, mark } = wanted;
  let exec: Docker.Exec;
  let stream: Duplex;
  try {
    exec = await docker.getContainer(containerId).exec({
      Cmd: [...command],
      Env: [...env, `${MARK_VARIABLE}=${mark}`],
      AttachStdin: stdin,
      AttachStdout: true,
      AttachStderr: true,
      Tty: tty,
      ...(user === undefined ? {} : { User: user }),
      ...(workingDirectory === undefined ? {} : { WorkingDir: workingDirectory }),
      ...quickLimit(),
    });
    // A limit of its own: one that runs on would cut the stream.
    const patience = new AbortController();
    const timer = setTimeout(() => patience.abort(), ANSWER_MS);
    try {
      stream = await exec.start({ hijack: true, stdin, Tty: tty, abortSignal: patience.signal });
    } finally {
      clearTimeout(timer);
    }
  } catch (error) {
    throw notRunning(error);
  }

  const inspect = async () => {
    try {
      return await exec.inspect(quickLimit());
    } catch (error) {
      if (!isNotFound(error)) throw asUnavailable(error);
      throw problem('conflict', 'The container was removed while the command ran in it.', error);
    }
  };
  const resize = async ({ columns, rows }: TerminalSize): Promise<void> => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await exec.resize({ w: columns, h: rows, ...quickLimit() });
        return;
      } catch (error) {
        // One that has ended has no terminal any more.
        const { Running: isRunning } = await inspect();
        if (!isRunning) return;
        if (attempt === RESIZE_ATTEMPTS) throw error;
        await delay(RESIZE_RETRY_MS);
      }
    }
  };
  if (tty && size !== undefined) await resize(size);

  return {
    stream,
    assertStarted: async (output) => {
      const { Running: isRunning, Pid: pid } = await inspect();
      if (!isRunning && pid === 0) throw whyNotRun(wanted, output.toString('utf8'));
    },
    resize,
    exitCode: async () => {
      const untilMs = performance.now() + EXIT_PATIENCE_MS;
      for (;;) {
        const { Running: isRunning, ExitCode: exitCode, Pid: pid } = await inspect();
        if (!isRunning && exitCode !== null) {
          if (pid === 0) throw whyNotRun(wanted, '');
          return exitCode;
        }
        if (performance.now() > untilMs) {
          throw problem(
            'unavailable',
            'The Docker Engine let go of the command while it ran. It may run on.',
          );
        }
        await delay(EXIT_POLL_MS);
      }
    },
  };
};

/** Reads the environments of all processes, with what every shell has built in. */
const SIGNAL_SCRIPT = `
for p in /proc/[0-9]*; do
  while IFS= read -r line || [ -n "$line" ]; do
    case $line in *"$1"*) kill -s "$2" "\${p#/proc/}"; break ;; esac
  done < "$p/environ"
done 2>/dev/null
exit 0
`;

/**
 * Signals all that a command has started.
 *
 * @returns false when the container has no shell to do it
 * @throws {ContainerOsError} as `startExec`
 */
export const signalExec = async (
  docker: Docker,
  containerId: string,
  { mark, user }: Pick<ContainerCommand, 'mark' | 'user'>,
  signal: ExecSignal,
): Promise<boolean> => {
  const wanted: ContainerCommand = {
    command: ['/bin/sh', '-c', SIGNAL_SCRIPT, 'sh', `${MARK_VARIABLE}=${mark}`, signal.replace(/^SIG/, '')],
    env: [],
    stdin: false,
    tty: false,
    // Not the mark that it looks for.
    mark: `signal-of-${mark.length}`,
    ...(user === undefined ? {} : { user }),
  };
  const exec = await startExec(docker, containerId, wanted);
  exec.stream.resume();
  await new Promise<void>((resolve) => {
    exec.stream
      .once('close', resolve)
      .once('end', resolve)
      .once('error', () => resolve());
    setTimeout(resolve, ANSWER_MS).unref();
  });
  exec.stream.destroy();
  try {
    return (await exec.exitCode()) === 0;
  } catch (error) {
    if (error instanceof ContainerOsError && error.code.startsWith('command_')) return false;
    throw error;
  }
};
