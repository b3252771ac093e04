// Folders that others may still be writing into.
import { rmSync } from 'node:fs';

const LIMIT = 10;

/**
 * Removes a folder, if it is there, whatever is in it. A write under way may make one more file after the folder was
 * listed: it is then listed again, which the retries of rmSync do not do.
 * @throws what the file system says, when others go on making files
 */
export function removeFolder(path) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      rmSync(path, { recursive: true, force: true });
      return;
    } catch (error) {
      if (error.code !== 'ENOTEMPTY' || attempt === LIMIT) throw error;
    }
  }
}
