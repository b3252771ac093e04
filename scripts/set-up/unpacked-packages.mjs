// Programs from packages of Debian or Ubuntu that are unpacked into the cache rather than installed: some packages would
// start services, and nobody asked for them on their system.
// Invariant: what stands in the cache is whole; another list of packages has another folder.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { isDebianFamily, isRoot, updateLists } from './debian-packages.mjs';
import { SetUpError } from './failure.mjs';
import { withLock } from './lock.mjs';
import { cachePath } from './paths.mjs';
import { onStop, run } from './processes.mjs';
import { say } from './steps.mjs';

const DOWNLOAD_LIMIT_MS = 5 * 60_000;

/**
 * @param name of the folder in the cache
 * @param title what they are, for people
 * @param neededBy whose they are, likewise
 * @param packages by name: `files`, each of which has several places where it is not in the same one everywhere;
 *   `oldest`, the version that is needed at least, for a program that cannot tell its own; and `withLibraries`: the
 *   shared libraries of the packages that it needs, and that are not on this machine, come with it
 * @returns {Promise<{ path: string, found: string }>} the folder that has the files side by side
 * @throws {SetUpError} when a package cannot be had, lacks a file or is too old
 */
export async function ensureUnpacked({ name, title, neededBy, packages }, env = process.env) {
  const names = Object.keys(packages);
  const key = createHash('sha256').update(JSON.stringify(packages)).digest('hex').slice(0, 12);
  const target = join(cachePath(env), name, key);
  if (existsSync(target)) return { path: target, found: 'up to date' };
  if (!isDebianFamily()) return { path: target, found: `left out (not Debian): ${names.join(', ')}` };
  return withLock(join(cachePath(env), 'locks', name), `unpacking ${title}`, async () => {
    if (existsSync(target)) return { path: target, found: 'up to date' };
    const work = mkdtempSync(join(tmpdir(), 'containeros-debs-'));
    const remove = () => rmSync(work, { recursive: true, force: true });
    const forget = onStop(remove);
    try {
      say(`${title}: downloading ${names.join(', ')}`);
      const result = await fetchDebs(work, packages, neededBy);
      if (result !== undefined) {
        throw new SetUpError(
          `apt-get could not download ${names.join(' and ')}.`,
          [result],
          [
            'Mend what it says (`apt-get update` as root renews the lists of packages), and run the same command again.',
          ],
        );
      }
      // Beside the target, so that it appears there by a rename.
      const fresh = `${target}.${process.pid}.new`;
      rmSync(fresh, { recursive: true, force: true });
      mkdirSync(fresh, { recursive: true });
      for (const [name, { files }] of Object.entries(packages)) {
        for (const places of files) {
          const place = places.map((path) => join(work, 'out', path)).find((path) => existsSync(path));
          if (place === undefined)
            throw new SetUpError(`The package ${name} has none of ${places.join(', ')}.`);
          // A library goes by the name of a link to it.
          cpSync(place, join(fresh, basename(place)), { dereference: true });
        }
      }
      if (Object.values(packages).some(({ withLibraries }) => withLibraries === true)) {
        for (const place of librariesIn(join(work, 'out'))) {
          cpSync(place, join(fresh, basename(place)), { dereference: true });
        }
      }
      renameSync(fresh, target);
      return { path: target, found: `unpacked ${names.join(', ')}` };
    } finally {
      remove();
      forget();
    }
  });
}

/** Shared libraries where the dynamic linker looks for them by itself, not those that a program loads from elsewhere. */
function librariesIn(root) {
  return [join(root, 'usr', 'lib'), join(root, 'lib')]
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((triplet) => join(folder, triplet)))
    .filter((folder) => folder.endsWith('-linux-gnu'))
    .flatMap((folder) => readdirSync(folder).map((file) => join(folder, file)))
    .filter((path) => /\.so(\.\d+)*$/.test(path));
}

/** @returns {Promise<string[]>} what is to be downloaded: also what these need, where that is asked for */
async function namesOf(packages, options) {
  const needing = Object.keys(packages).filter((name) => packages[name].withLibraries === true);
  if (needing.length === 0) return Object.keys(packages);
  const simulated = ['install', '--simulate', '--no-install-recommends', ...needing];
  const { output } = await run('apt-get', simulated, options);
  const added = [...output.matchAll(/^Inst ([^\s:]+)/gm)].map(([, name]) => name);
  return [...new Set([...Object.keys(packages), ...added])];
}

async function fetchDebs(work, packages, neededBy) {
  const options = { cwd: work, timeoutMs: DOWNLOAD_LIMIT_MS, env: { ...process.env, LC_ALL: 'C' } };
  const get = async () => run('apt-get', ['download', ...(await namesOf(packages, options))], options);
  let result = await get();
  if (result.code !== 0 && isRoot()) {
    await updateLists();
    result = await get();
  }
  if (result.code !== 0) return result.output.slice(-1_000);
  for (const file of readdirSync(work).filter((name) => name.endsWith('.deb'))) {
    await requireVersion(file, packages, neededBy, options);
    const unpacked = await run('dpkg-deb', ['-x', file, 'out'], options);
    if (unpacked.code !== 0) return unpacked.output.slice(-1_000);
  }
  return undefined;
}

/** @throws {SetUpError} when the package is older than what is needed */
async function requireVersion(file, packages, neededBy, options) {
  const told = async (field) => (await run('dpkg-deb', ['--field', file, field], options)).output.trim();
  const [name, version] = [await told('Package'), await told('Version')];
  const oldest = packages[name]?.oldest;
  if (oldest === undefined) return;
  const { code } = await run('dpkg', ['--compare-versions', version, 'ge', oldest], options);
  if (code === 0) return;
  throw new SetUpError(
    `The package ${name} of this distribution is ${version || 'of no version'}; ${neededBy} need ${oldest} or later.`,
    [],
    ['Use Debian 12 or a later one, or an Ubuntu with as late a package.'],
  );
}
