// What the tests need beside the product: programs of the system, Debian packages that are only unpacked, and a
// Python environment. Nothing here is started: the tests run engines and registries of their own.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import {
  installCommand,
  installPackages,
  isDebianFamily,
  isRoot,
  missingPackages,
} from './debian-packages.mjs';
import { SetUpError } from './failure.mjs';
import { withLock } from './lock.mjs';
import { cachePath, checkoutPath } from './paths.mjs';
import { findOnPath, run } from './processes.mjs';
import { say } from './steps.mjs';
import { ensureUnpacked } from './unpacked-packages.mjs';

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
 * Only unpacked: the package docker-registry would start a service on port 5000, and nobody asked for a busybox on their
 * system.
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
  /** A name server that takes dynamic updates; its package would start it on port 53. */
  bind9: { files: [['usr/sbin/named']], withLibraries: true },
};

const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
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
export const ensureUnpackedPackages = (env = process.env) =>
  ensureUnpacked(
    { name: 'test-programs', title: 'test programs', neededBy: 'the tests', packages: UNPACKED },
    env,
  );

/**
 * A virtual environment cannot be moved, so it is made in its place; the stamp in it comes last.
 * @returns {Promise<{ path: string, found: string }>} its folder
 */
export async function ensurePythonTools(env = process.env) {
  const requirements = join(checkoutPath, 'scripts', 'python-requirements.txt');
  const python = pythonPath();
  const key = createHash('sha256')
    .update(readFileSync(requirements))
    .update(python)
    .digest('hex')
    .slice(0, 12);
  const path = join(cachePath(env), 'python', `tools-${key}`);
  const stamp = join(path, 'installed');
  if (existsSync(stamp)) return { path, found: 'up to date' };
  return withLock(join(cachePath(env), 'locks', 'python-tools'), 'installing Python tools', async () => {
    if (existsSync(stamp)) return { path, found: 'up to date' };
    say('Python tools: installing them');
    rmSync(path, { recursive: true, force: true });
    mkdirSync(join(cachePath(env), 'python'), { recursive: true });
    const made = await run(python, ['-m', 'venv', path], { timeoutMs: PIP_LIMIT_MS });
    if (made.code !== 0) throw noPythonTools('the Python environment could not be made', made.output);
    const pip = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', requirements];
    const installed = await run(join(path, 'bin', 'python'), pip, { timeoutMs: PIP_LIMIT_MS });
    if (installed.code !== 0) throw noPythonTools('pip could not install them', installed.output);
    writeFileSync(stamp, '');
    return { path, found: 'installed' };
  });
}

function noPythonTools(why, output) {
  return new SetUpError(
    `The Python tools of the tests could not be had: ${why}.`,
    [output.slice(-1_500)],
    [
      'With no network: connect this machine to a Python package index, then run the same command again.',
      'Without python3-venv, as root on Debian or Ubuntu: ' + installCommand(['python3-venv']),
    ],
  );
}

/** The PATH with the unpacked programs first and the folders of system programs last. */
export const pathWith = (folder, env = process.env) => [folder, env.PATH ?? '', ...SBIN].join(delimiter);
