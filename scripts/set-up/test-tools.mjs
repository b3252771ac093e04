// What the tests need beside the product: programs of the system, Debian packages that are only unpacked, and a
// Python environment with Schemathesis. Nothing here is started: the tests run engines and registries of their own.
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, delimiter, join } from 'node:path';
import {
  installCommand,
  installPackages,
  isDebianFamily,
  isRoot,
  missingPackages,
  updateLists,
} from './debian-packages.mjs';
import { SetUpError } from './failure.mjs';
import { withLock } from './lock.mjs';
import { cachePath, checkoutPath } from './paths.mjs';
import { findOnPath, onStop, run } from './processes.mjs';
import { say } from './steps.mjs';

/** Programs that the tests run as root, and the Debian package that has each. */
const PROGRAMS = {
  dockerd: 'docker.io',
  ip: 'iproute2',
  iptables: 'iptables',
  ebtables: 'iptables',
  nsenter: 'util-linux',
  docker: 'docker.io',
  'docker-compose': 'docker-compose',
  ldd: 'libc-bin',
};

/**
 * Unpacked into the cache rather than installed: the package docker-registry would start a service on port 5000, and
 * nobody asked for a busybox on their system. A file that is not in the same place everywhere has several places.
 * `oldest` is the version of the package that the tests need at least, for a program that cannot tell its own.
 */
const UNPACKED = {
  'docker-registry': { files: [['usr/bin/docker-registry']] },
  'busybox-static': { files: [['bin/busybox', 'usr/bin/busybox']] },
  libfaketime: {
    files: [
      [
        'usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1',
        'usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1',
      ],
    ],
  },
  /** An authority that issues certificates by ACME, and a DNS server that answers it as a test wants. */
  pebble: { oldest: '2.4.0', files: [['usr/bin/pebble'], ['usr/bin/pebble-challtestsrv']] },
};

const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
const DOWNLOAD_LIMIT_MS = 5 * 60_000;
const PIP_LIMIT_MS = 10 * 60_000;

/** @returns {Promise<string>} what was done, in a few words */
export async function ensurePrograms() {
  const packages = Object.entries(PROGRAMS)
    .filter(([program]) => findOnPath(program, process.env, SBIN) === undefined)
    .map(([, name]) => name);
  if (!existsSync(pythonPath()) || missingVenv()) packages.push('python3-venv');
  if (packages.length === 0) return 'up to date';
  if (!isRoot() || !isDebianFamily()) {
    throw new SetUpError(
      `The tests need programs that are not on this machine: ${packages.join(', ')}.`,
      [],
      [
        `On Debian or Ubuntu, as root: ${installCommand(packages)}`,
        'Elsewhere: install the same programs by the names that your distribution gives them.',
      ],
    );
  }
  await installPackages(packages);
  return `installed ${packages.join(', ')}`;
}

// On Debian the system's Python is the one that python3-venv belongs to, whatever comes first on the PATH.
const pythonPath = () =>
  existsSync('/usr/bin/python3') ? '/usr/bin/python3' : (findOnPath('python3') ?? '');
const missingVenv = () => isDebianFamily() && missingPackages(['python3-venv']).length > 0;

/** @returns {Promise<{ path: string, found: string }>} the folder of the unpacked programs */
export async function ensureUnpackedPackages(env = process.env) {
  const key = createHash('sha256').update(JSON.stringify(UNPACKED)).digest('hex').slice(0, 12);
  const target = join(cachePath(env), 'test-programs', key);
  if (existsSync(target)) return { path: target, found: 'up to date' };
  if (!isDebianFamily())
    return { path: target, found: `left out (not Debian): ${Object.keys(UNPACKED).join(', ')}` };
  return withLock(join(cachePath(env), 'locks', 'test-programs'), 'unpacking test programs', async () => {
    if (existsSync(target)) return { path: target, found: 'up to date' };
    const work = mkdtempSync(join(tmpdir(), 'containeros-debs-'));
    const remove = () => rmSync(work, { recursive: true, force: true });
    const forget = onStop(remove);
    try {
      const result = await fetchDebs(work);
      if (result !== undefined) {
        throw new SetUpError(
          `apt-get could not download ${Object.keys(UNPACKED).join(' and ')}.`,
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
      for (const [name, { files }] of Object.entries(UNPACKED)) {
        for (const places of files) {
          const place = places.map((path) => join(work, 'out', path)).find((path) => existsSync(path));
          if (place === undefined)
            throw new SetUpError(`The package ${name} has none of ${places.join(', ')}.`);
          cpSync(place, join(fresh, basename(place)));
        }
      }
      renameSync(fresh, target);
      return { path: target, found: `unpacked ${Object.keys(UNPACKED).join(', ')}` };
    } finally {
      remove();
      forget();
    }
  });
}

async function fetchDebs(work) {
  say(`test programs: downloading ${Object.keys(UNPACKED).join(', ')}`);
  const options = { cwd: work, timeoutMs: DOWNLOAD_LIMIT_MS, env: { ...process.env, LC_ALL: 'C' } };
  const get = () => run('apt-get', ['download', ...Object.keys(UNPACKED)], options);
  let result = await get();
  if (result.code !== 0 && isRoot()) {
    await updateLists();
    result = await get();
  }
  if (result.code !== 0) return result.output.slice(-1_000);
  for (const file of readdirSync(work).filter((name) => name.endsWith('.deb'))) {
    await requireVersion(file, options);
    const unpacked = await run('dpkg-deb', ['-x', file, 'out'], options);
    if (unpacked.code !== 0) return unpacked.output.slice(-1_000);
  }
  return undefined;
}

/** @throws {SetUpError} when the package is older than what the tests need */
async function requireVersion(file, options) {
  const told = async (field) => (await run('dpkg-deb', ['--field', file, field], options)).output.trim();
  const [name, version] = [await told('Package'), await told('Version')];
  const oldest = UNPACKED[name]?.oldest;
  if (oldest === undefined) return;
  const { code } = await run('dpkg', ['--compare-versions', version, 'ge', oldest], options);
  if (code === 0) return;
  throw new SetUpError(
    `The package ${name} of this distribution is ${version || 'of no version'}; the tests need ${oldest} or later.`,
    [],
    ['Run the tests on Debian 12 or a later one, or on an Ubuntu with as late a package.'],
  );
}

/**
 * A virtual environment cannot be moved, so it is made in its place; the stamp in it comes last.
 * @returns {Promise<{ path: string, found: string }>} the `st` program
 */
export async function ensureSchemathesis(env = process.env) {
  const requirements = join(checkoutPath, 'scripts', 'schemathesis-requirements.txt');
  const python = pythonPath();
  const key = createHash('sha256')
    .update(readFileSync(requirements))
    .update(python)
    .digest('hex')
    .slice(0, 12);
  const folder = join(cachePath(env), 'python', `schemathesis-${key}`);
  const stamp = join(folder, 'installed');
  const path = join(folder, 'bin', 'st');
  if (existsSync(stamp)) return { path, found: 'up to date' };
  return withLock(join(cachePath(env), 'locks', 'schemathesis'), 'installing Schemathesis', async () => {
    if (existsSync(stamp)) return { path, found: 'up to date' };
    say('Schemathesis: installing it');
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(join(cachePath(env), 'python'), { recursive: true });
    const made = await run(python, ['-m', 'venv', folder], { timeoutMs: PIP_LIMIT_MS });
    if (made.code !== 0) throw noSchemathesis('the Python environment could not be made', made.output);
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements];
    const installed = await run(join(folder, 'bin', 'python'), pip, { timeoutMs: PIP_LIMIT_MS });
    if (installed.code !== 0) throw noSchemathesis('pip could not install it', installed.output);
    writeFileSync(stamp, '');
    return { path, found: 'installed' };
  });
}

function noSchemathesis(why, output) {
  return new SetUpError(
    `Schemathesis could not be had: ${why}.`,
    [output.slice(-1_500)],
    [
      'With no network: connect this machine to a Python package index, then run the same command again.',
      'Without python3-venv, as root on Debian or Ubuntu: ' + installCommand(['python3-venv']),
    ],
  );
}

/** The PATH with the unpacked programs first and the folders of system programs last. */
export const pathWith = (folder, env = process.env) => [folder, env.PATH ?? '', ...SBIN].join(delimiter);
