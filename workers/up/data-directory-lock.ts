/**
 * Keeps a data directory to one process: a file names who has it.
 *
 * Invariants: of several that take it at once, one gets it; a file that a process has left which runs no more holds
 * nobody up, also when another one has its number now.
 */

import { linkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { ContainerOsError } from '../../domain/errors';
import type { Config } from '../config';
import { readIfThere, runDirectory } from '../installation';

import { processStart } from './supervised-process';

/** The process that a lock names, while it runs. */
const supervisorIn = (file: string): number | undefined => {
  const [pid = '', start] = (readIfThere(file) ?? '').split(' ');
  return start !== undefined && processStart(Number(pid)) === start ? Number(pid) : undefined;
};

/** The process that supervises the data directory; undefined when none does. */
export const supervisorOf = (config: Pick<Config, 'dataDir'>): number | undefined =>
  supervisorIn(join(runDirectory(config), 'supervisor.pid'));

/**
 * Of two processes that take it at once, one does.
 *
 * @returns how to give it back
 * @throws ContainerOsError `conflict` when another process uses the data directory
 */
export const lockDataDirectory = (config: Pick<Config, 'dataDir'>): (() => void) => {
  const file = join(runDirectory(config), 'supervisor.pid');
  const draft = `${file}.${process.pid}`;
  const own = `${process.pid} ${processStart(process.pid) ?? ''}`;
  writeFileSync(draft, own);
  try {
    for (;;) {
      try {
        linkSync(draft, file);
        return () => {
          if (readIfThere(file) === own.trim()) rmSync(file, { force: true });
        };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const pid = supervisorOf(config);
      if (pid !== undefined && pid !== process.pid) {
        throw new ContainerOsError(
          'conflict',
          `ContainerOS runs already with the data directory ${config.dataDir} (process ${pid}). Stop it, or choose another with --data-dir.`,
        );
      }
      removeStaleLock(file);
    }
  } finally {
    rmSync(draft, { force: true });
  }
};

/** Of one that runs no more, unless somebody has taken it in this very moment: then it is put back. */
const removeStaleLock = (file: string): void => {
  const aside = `${file}.${process.pid}.stale`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return; // somebody else was quicker
    throw error;
  }
  const pid = supervisorIn(aside);
  if (pid !== undefined && pid !== process.pid) linkSync(aside, file);
  rmSync(aside, { force: true });
};
