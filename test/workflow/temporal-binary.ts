/** Where the Temporal CLI is that tests start their servers with: what set-up says, else what it has cached. */

import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const cacheFolder = (): string =>
  process.env.CONTAINEROS_CACHE_DIR ??
  join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'containeros');

/** @throws Error that says how to get it */
export const temporalBinary = (): string => {
  const chosen = process.env.CONTAINEROS_TEMPORAL_BIN;
  if (chosen !== undefined && chosen !== '') return chosen;
  const engines = join(cacheFolder(), 'engines');
  const folders = existsSync(engines) ? readdirSync(engines).sort() : [];
  const found = folders
    .filter((folder) => folder.startsWith('temporal-'))
    .map((folder) => join(engines, folder, 'temporal'))
    .filter((path) => existsSync(path))
    .at(-1);
  if (found === undefined) {
    throw new Error(`There is no Temporal CLI in ${engines}. Run npm test -- workflow, which installs it.`);
  }
  return found;
};
