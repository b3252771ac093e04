/**
 * Marks: files by which Caddy knows with each request what holds for a time, without a new configuration.
 *
 * Looking for a file that is not there is a thirtieth of what a small answer costs, so all requests look for one, which is
 * there while there is any mark at all.
 *
 * Invariant: while there is a mark, that one is there, once it has been made whole.
 */

import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ANY = 'marks';

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

/** For a matcher of Caddy: whether there is any mark. */
export const isMarkedAtAll = (directory: string): object => ({
  file: { root: directory, try_files: [ANY] },
});

/** @throws the file system's errors, here and in what follows */
export const putMark = (directory: string, mark: Mark): void => {
  for (const name of [mark, ANY]) writeFileSync(join(directory, name), '', { mode: 0o600 });
};

export const hasMark = (directory: string, mark: Mark): boolean => existsSync(join(directory, mark));

export const removeMark = (directory: string, mark: Mark): void => {
  rmSync(join(directory, mark), { force: true });
  if (MARKS.some((one) => hasMark(directory, one))) return;
  rmSync(join(directory, ANY), { force: true });
};
