/**
 * Marks: files by which Caddy knows with each request what holds for a time, without a new configuration.
 *
 * Looking for a file that is not there is a twentieth of what a small answer costs. So requests look for one only while
 * there is any; and that they know by the name of Caddy's working directory, which costs a third of that and can be
 * changed by others while Caddy runs.
 *
 * Invariant: while there is a mark, that directory does not have the name for none, once the mark has been made whole.
 * Where its name cannot be told (or the path to it goes over a symbolic link), requests look.
 */

import { existsSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Names of that directory. */
const NONE = 'no-marks';
const SOME = 'some-marks';

/** Requests are led by lanes. */
export const LANES_IN_USE = 'lanes-in-use';
/** Some slots lead elsewhere than the configuration says. */
export const MOVED = 'moved';
/** Each connection to servers of this turn ends with its next answer (handover.ts). */
export const ENDING = ['ending-0', 'ending-1'] as const;

export type Mark = typeof LANES_IN_USE | typeof MOVED | (typeof ENDING)[number];

const MARKS: readonly Mark[] = [LANES_IN_USE, MOVED, ...ENDING];

/** For a matcher of Caddy: whether there is such a mark. */
export const isMarked = (directory: string, marks: readonly Mark[]): object => ({
  file: { root: directory, try_files: marks },
});

/** For a matcher of Caddy: whether there may be any mark. */
export const mayBeMarked = (directory: string): object => ({
  not: [{ vars: { '{system.wd}': [join(directory, NONE)] } }],
});

/** Whether there was anything to rename. */
const rename = (directory: string, from: string, to: string): boolean => {
  try {
    renameSync(join(directory, from), join(directory, to));
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
};

const makeSome = (directory: string): void => {
  mkdirSync(join(directory, SOME), { recursive: true, mode: 0o700 });
};

/**
 * Where Caddy has to be started, whatever the name of that directory is by then.
 *
 * @returns a path for children of this process, good for as long as it lives
 * @throws the file system's errors, here and in what follows
 */
export const openMarkedDirectory = (directory: string): string => {
  for (;;) {
    // Its name may change between two looks.
    for (const name of [NONE, SOME]) {
      if (existsSync(join(directory, name))) return `/proc/self/fd/${openSync(join(directory, name), 'r')}`;
    }
    makeSome(directory);
  }
};

export const putMark = (directory: string, mark: Mark): void => {
  writeFileSync(join(directory, mark), '', { mode: 0o600 });
  if (!rename(directory, NONE, SOME)) makeSome(directory);
};

export const hasMark = (directory: string, mark: Mark): boolean => existsSync(join(directory, mark));

export const removeMark = (directory: string, mark: Mark): void => {
  rmSync(join(directory, mark), { force: true });
  if (MARKS.some((one) => hasMark(directory, one))) return;
  rename(directory, SOME, NONE);
};
