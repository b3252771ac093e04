// The npm dependencies of the checkout, exactly as package-lock.json has them.
// A stamp inside node_modules holds the lock file's hash; `npm ci` empties that folder first, so an interrupted
// install has no stamp and is done again. What somebody installed by hand is taken if npm's own record of it equals
// the lock file.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetUpError } from './failure.mjs';
import { withLock } from './lock.mjs';
import { cachePath, checkoutPath } from './paths.mjs';
import { findOnPath, run } from './processes.mjs';
import { say } from './steps.mjs';

const INSTALL_LIMIT_MS = 15 * 60_000;

/** @returns {Promise<string>} what was done, in a few words */
export async function ensureNpmPackages(root = checkoutPath) {
  const lockText = readFileSync(join(root, 'package-lock.json'), 'utf8');
  const stamp = `${createHash('sha256').update(lockText).digest('hex')} ${process.platform}-${process.arch}\n`;
  const stampPath = join(root, 'node_modules', '.containeros-stamp');
  if (readIfThere(stampPath) === stamp) return 'up to date';
  const key = createHash('sha256').update(root).digest('hex').slice(0, 16);
  return withLock(join(cachePath(), 'locks', `npm-${key}`), 'installing the npm dependencies', async () => {
    if (readIfThere(stampPath) === stamp) return 'up to date';
    const isThere = recordMatches(lockText, readIfThere(join(root, 'node_modules', '.package-lock.json')));
    if (!isThere) await install(root);
    writeFileSync(stampPath, stamp);
    return isThere ? 'up to date' : 'installed';
  });
}

async function install(root) {
  const npm = findOnPath('npm');
  if (npm === undefined) {
    throw new SetUpError(
      'The npm dependencies are not installed, and there is no npm on the PATH.',
      [],
      ['Install npm (on Debian it is the package npm, or it comes with Node.js from nodejs.org).'],
    );
  }
  say('npm dependencies: installing them');
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'];
  const { code, timedOut, output } = await run(npm, args, { cwd: root, timeoutMs: INSTALL_LIMIT_MS });
  if (code === 0 && !timedOut) return;
  const why = timedOut
    ? `it took longer than ${INSTALL_LIMIT_MS / 60_000} minutes`
    : `npm ended with status ${code}`;
  throw new SetUpError(
    `The npm dependencies could not be installed: ${why}.`,
    [output.slice(-2_000)],
    [
      'With no network: connect this machine to an npm registry (`npm ping` tells), then run the same command again.',
      'With a full disk: make room, then run the same command again.',
    ],
  );
}

/** Whether npm's record of what is in node_modules has all that the lock file asks for, and nothing else. */
function recordMatches(lockText, recordText) {
  if (recordText === undefined) return false;
  try {
    const wanted = JSON.parse(lockText).packages;
    const found = JSON.parse(recordText).packages;
    const isWhole = Object.entries(wanted).every(([path, entry]) => {
      if (path === '') return true;
      // Packages for other platforms are in the lock file only.
      if (found[path] === undefined) return entry.optional === true;
      return found[path].version === entry.version && found[path].integrity === entry.integrity;
    });
    return isWhole && Object.keys(found).every((path) => wanted[path] !== undefined);
  } catch {
    return false;
  }
}

function readIfThere(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
}
