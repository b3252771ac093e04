// Installs packages of Debian or Ubuntu through apt-get. Only root may; others get the command to run.
// Waits, with a limit, for another package manager that is at work (unattended upgrades are, on many machines).
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { SetUpError } from './failure.mjs';
import { withLock } from './lock.mjs';
import { cachePath } from './paths.mjs';
import { findOnPath, run } from './processes.mjs';
import { say } from './steps.mjs';

const LOCK_LIMIT_S = 300;
const COMMAND_LIMIT_MS = 20 * 60_000;
const LISTS_AGE_LIMIT_MS = 24 * 3_600_000;

export const isRoot = () => process.getuid?.() === 0;

/** Whether this is Debian or a distribution made from it that we know: then apt-get is the way to install. */
export function isDebianFamily() {
  try {
    const release = readFileSync('/etc/os-release', 'utf8');
    const ids = [...release.matchAll(/^(?:ID|ID_LIKE)="?([^"\n]*)"?$/gm)].flatMap(([, value]) =>
      value.split(' '),
    );
    return (
      ids.some((id) => ['debian', 'ubuntu', 'raspbian'].includes(id)) && findOnPath('apt-get') !== undefined
    );
  } catch {
    return false;
  }
}

export const installCommand = (packages) => `apt-get install --no-install-recommends ${packages.join(' ')}`;

/** Names of the given packages that are not installed, read from dpkg's own record (one file, no process). */
export function missingPackages(packages) {
  let status = '';
  try {
    status = readFileSync('/var/lib/dpkg/status', 'utf8');
  } catch {
    return [...packages];
  }
  return packages.filter((name) => {
    const entry = new RegExp(`^Package: ${name.replace(/[.+]/g, '\\$&')}\\nStatus: (.*)$`, 'm').exec(status);
    return entry === null || !entry[1].endsWith(' installed');
  });
}

export async function installPackages(packages) {
  say(`Debian packages: installing ${packages.join(', ')}`);
  await withLock(join(cachePath(), 'locks', 'apt'), 'installing Debian packages', async () => {
    if (listsAreOld()) await updateLists();
    let result = await install(packages);
    if (!result.isDone && /dpkg was interrupted/.test(result.output)) {
      await apt('dpkg', ['--configure', '-a']);
      result = await install(packages);
    }
    // Lists of packages that a mirror has replaced meanwhile name files that are gone.
    if (!result.isDone && !/lock/.test(result.output)) {
      await updateLists();
      result = await install(packages);
    }
    if (!result.isDone) {
      throw new SetUpError(
        `apt-get could not install ${packages.join(', ')}: ${result.why}.`,
        [result.output.slice(-2_000)],
        [`Mend what it says, then try by hand: ${installCommand(packages)}`],
      );
    }
  });
}

async function install(packages) {
  const args = ['install', '--yes', '--no-install-recommends', ...packages];
  return apt('apt-get', ['-o', `DPkg::Lock::Timeout=${LOCK_LIMIT_S}`, ...args]);
}

export async function updateLists() {
  const deadlineMs = performance.now() + LOCK_LIMIT_S * 1000;
  for (;;) {
    // A source that does not answer is no reason to stop: whether the packages can be had, the install tells.
    const { output } = await apt('apt-get', ['update']);
    if (!/Could not get lock/.test(output) || performance.now() > deadlineMs) return;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  }
}

async function apt(command, args) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' };
  const { code, timedOut, output } = await run(command, args, { env, timeoutMs: COMMAND_LIMIT_MS });
  const why = timedOut
    ? `it took longer than ${COMMAND_LIMIT_MS / 60_000} minutes`
    : `it ended with status ${code}`;
  return { isDone: code === 0 && !timedOut, why, output };
}

function listsAreOld() {
  try {
    const folder = '/var/lib/apt/lists';
    const lists = readdirSync(folder).filter((name) => name.includes('_Packages'));
    if (lists.length === 0) return true;
    return Date.now() - statSync(join(folder, 'partial')).mtimeMs > LISTS_AGE_LIMIT_MS;
  } catch {
    return true;
  }
}
