// Finds the engines that ContainerOS runs (Temporal, Consul and Caddy), or installs them into the cache.
// Order: the path in the engine's variable; a fitting version on the PATH; the cache; the pinned official release; a
// build from the pinned Go modules.
// Invariants: an engine's folder in the cache appears by one rename, after the binary in it has been synced to disk
// and has told its version, so whatever is there is whole. Work under way is in a folder that bears the identity of
// its process; the folders of dead processes are removed by the next set-up.
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { extractFile } from './archive.mjs';
import { download, publishedChecksum } from './download.mjs';
import { ENGINES, releaseArchitecture, versionFits } from './engine-releases.mjs';
import { describeSystemError, SetUpError } from './failure.mjs';
import { removeFolder } from './folders.mjs';
import { withLock } from './lock.mjs';
import { cachePath } from './paths.mjs';
import { findOnPath, isExecutableFile, isStopping, onStop, processIdentity, run } from './processes.mjs';
import { formatSeconds, say } from './steps.mjs';

const VERSION_LIMIT_MS = 20_000;
const BUILD_LIMIT_MS = 60 * 60_000;
const OLDEST_GO = { major: 1, minor: 23 };

/**
 * @returns {Promise<Record<string, { path: string, from: string }>>} by engine name
 */
export async function ensureEngines({
  names = Object.keys(ENGINES),
  engines = ENGINES,
  env = process.env,
} = {}) {
  const found = await locateEngines({ names, engines, env });
  const missing = names.filter((name) => found[name].path === undefined);
  // Downloads run side by side, of Go modules too; builds take every core, so they queue, the first to be ready first.
  let builds = Promise.resolve();
  const inTurn = (work) => {
    const result = builds.then(work);
    builds = result.catch(() => {});
    return result;
  };
  const outcomes = await Promise.allSettled(
    missing.map(async (name) => {
      found[name] = await install(engines[name], found[name].attempts, env, inTurn);
    }),
  );
  const failures = outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason);
  const bug = failures.find((reason) => !(reason instanceof SetUpError));
  if (bug !== undefined) throw bug;
  if (failures.length > 0) throw new SetUpError(failures.map(({ message }) => message).join('\n\n'));
  return Object.fromEntries(names.map((name) => [name, { path: found[name].path, from: found[name].from }]));
}

/** What is there already, without installing anything; `attempts` says why a way was not taken. */
export async function locateEngines({
  names = Object.keys(ENGINES),
  engines = ENGINES,
  env = process.env,
} = {}) {
  const located = await Promise.all(names.map((name) => locate(engines[name], env)));
  return Object.fromEntries(names.map((name, index) => [name, located[index]]));
}

async function locate(engine, env) {
  const chosen = env[engine.binVariable];
  if (chosen) {
    if (isExecutableFile(chosen)) return { path: chosen, from: engine.binVariable };
    throw new SetUpError(
      `${engine.binVariable} is ${chosen}, which is not an executable file.`,
      [],
      [
        `Point ${engine.binVariable} at the ${engine.name} program.`,
        `Unset it: set-up then finds one itself.`,
      ],
    );
  }
  const attempts = [];
  const onPath = findOnPath(engine.name, env);
  if (onPath === undefined) attempts.push(`PATH: there is no ${engine.name} on it`);
  else {
    const version = await readVersion(engine, onPath, env);
    if (version.found !== undefined && versionFits(engine, version.found))
      return { path: onPath, from: 'PATH' };
    attempts.push(`PATH: ${onPath} ${version.said}; ${wanted(engine)} is needed`);
  }
  const cached = installedPath(engine, env);
  return cached === undefined ? { attempts } : { path: cached, from: 'cache' };
}

const wanted = ({ fits }) => `${fits.name} ${fits.version} or a later patch of it`;

async function readVersion(engine, path, env) {
  try {
    const { output, code, timedOut } = await run(path, ['--version'], { env, timeoutMs: VERSION_LIMIT_MS });
    const found = code === 0 ? engine.parseVersion(output) : undefined;
    if (found !== undefined) return { found, said: `is ${engine.fits.name} ${found}` };
    if (timedOut) return { said: `did not tell its version within ${VERSION_LIMIT_MS / 1000} s` };
    return {
      said: `did not tell its version (status ${code}): ${output.slice(-300) || 'it printed nothing'}`,
    };
  } catch (error) {
    return { said: `could not be run: ${describeSystemError(error)}` };
  }
}

// ---- the cache ----

const enginesPath = (env) => join(cachePath(env), 'engines');
const folderName = (engine) =>
  `${engine.name}-${engine.version}-linux-${releaseArchitecture() ?? process.arch}`;

function installedPath(engine, env) {
  const folder = join(enginesPath(env), folderName(engine));
  try {
    const { sizeBytes } = JSON.parse(readFileSync(join(folder, 'installed.json'), 'utf8'));
    const path = join(folder, engine.name);
    return statSync(path).size === sizeBytes && isExecutableFile(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** One engine, under its lock: each way in turn, until one gives a whole binary. */
async function install(engine, attempts, env, inTurn) {
  const folder = enginesPath(env);
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw unobtainable(engine, [...attempts, `cache ${folder}: ${describeSystemError(error)}`]);
  }
  return withLock(join(folder, '.locks', folderName(engine)), `installing ${engine.title}`, async () => {
    const meanwhile = installedPath(engine, env);
    if (meanwhile !== undefined) return { path: meanwhile, from: 'cache' };
    removeDeadWork(folder);
    const ways = [
      { from: 'release', take: (work) => takeRelease(engine, work, env) },
      { from: 'Go', take: (work) => buildFromModules(engine, work, env, inTurn) },
    ];
    for (const { from, take } of ways) {
      const work = join(folder, `.work-${processIdentity(process.pid)}-${engine.name}`);
      const remove = () => removeFolder(work);
      const forget = onStop(remove);
      try {
        remove();
        mkdirSync(join(work, 'whole'), { recursive: true });
        await take(work);
        return { path: await commit(engine, work, from, env), from };
      } catch (error) {
        // The clean-ups are under way, and end the process: the next way would only make the work folder again.
        if (isStopping()) await new Promise(() => undefined);
        if (error instanceof SetUpError) throw error;
        attempts.push(`${from === 'Go' ? 'Go modules' : 'release'}: ${describeSystemError(error)}`);
      } finally {
        remove();
        forget();
      }
    }
    throw unobtainable(engine, attempts);
  });
}

function removeDeadWork(folder) {
  for (const entry of readdirSync(folder)) {
    const match = /^\.work-((\d+)-\d+)-/.exec(entry);
    if (match !== null && processIdentity(Number(match[2])) !== match[1]) {
      rmSync(join(folder, entry), { recursive: true, force: true });
    }
  }
}

/** Makes the binary in the work folder the installed one, if it is whole. */
async function commit(engine, work, from, env) {
  const binary = join(work, 'whole', engine.name);
  const version = await readVersion(engine, binary, env);
  if (version.found === undefined || !versionFits(engine, version.found)) {
    throw new Error(`the ${engine.name} that came of it ${version.said}; ${wanted(engine)} is needed`);
  }
  const file = await open(binary, 'r');
  await file.sync();
  await file.close();
  const installed = { engine: engine.title, version: engine.version, from, sizeBytes: statSync(binary).size };
  writeFileSync(join(work, 'whole', 'installed.json'), `${JSON.stringify(installed, null, 2)}\n`, {
    flush: true,
  });
  const target = join(enginesPath(env), folderName(engine));
  // Whatever is at the target is not whole, or it would have been used.
  rmSync(target, { recursive: true, force: true });
  renameSync(join(work, 'whole'), target);
  return join(target, engine.name);
}

function requireRoom(folder, needsBytes) {
  const { bavail, bsize } = statfsSync(folder);
  const freeMb = Math.floor((bavail * bsize) / 1_000_000);
  if (freeMb * 1_000_000 >= needsBytes) return;
  throw new Error(
    `no space: ${folder} has ${freeMb} MB free, and ${Math.ceil(needsBytes / 1_000_000)} MB are needed`,
  );
}

// ---- the ways ----

async function takeRelease(engine, work, env) {
  const release = engine.releases[releaseArchitecture()];
  if (release === undefined)
    throw new Error(`there is no pinned release for the architecture ${process.arch}`);
  requireRoom(work, engine.needsBytes);
  const base = env.CONTAINEROS_DOWNLOAD_BASE?.replace(/\/+$/, '');
  const fileName = basename(new URL(release.url).pathname);
  const urlOf = (published) => (base ? `${base}/${basename(new URL(published).pathname)}` : published);
  const url = urlOf(release.url);
  say(`${engine.title} ${engine.version}: downloading it from ${new URL(url).host}`);
  const archive = join(work, fileName);
  const checksum =
    release.sha256 === undefined
      ? await publishedChecksum(urlOf(engine.checksumList), fileName)
      : { algorithm: 'sha256', digest: release.sha256, source: 'the pinned' };
  await download(url, archive, checksum);
  await extractFile(archive, engine.name, join(work, 'whole', engine.name));
}

async function buildFromModules(engine, work, env, inTurn) {
  const go = findOnPath('go', env);
  if (go === undefined) throw new Error('there is no go on the PATH to build it with');
  const told = await run(go, ['env', 'GOVERSION'], { env, timeoutMs: VERSION_LIMIT_MS });
  const [, major, minor] = /go(\d+)\.(\d+)/.exec(told.output) ?? [];
  if (Number(major) !== OLDEST_GO.major || Number(minor) < OLDEST_GO.minor) {
    throw new Error(
      `${go} is ${told.output || 'not working'}; Go ${OLDEST_GO.major}.${OLDEST_GO.minor} or later is needed`,
    );
  }
  requireRoom(work, engine.go.needsBytes);
  const module = join(work, 'module');
  mkdirSync(module);
  mkdirSync(join(work, 'tmp'));
  writeFileSync(
    join(module, 'go.mod'),
    ['module engines.local/build', 'go 1.23', ...engine.go.modFile, ''].join('\n'),
  );
  const buildEnv = { ...env, CGO_ENABLED: '0', GOOS: 'linux', GOWORK: 'off', GOTMPDIR: join(work, 'tmp') };
  delete buildEnv.GOARCH;
  const runGo = async (what, args) => {
    const { code, timedOut, output } = await run(go, args, {
      cwd: module,
      env: buildEnv,
      timeoutMs: BUILD_LIMIT_MS,
    });
    if (timedOut) throw new Error(`${what} took longer than ${BUILD_LIMIT_MS / 60_000} minutes`);
    if (code !== 0) throw new Error(`${what} failed:\n${output.split('\n').slice(-6).join('\n')}`);
  };
  const { packagePath, flags } = engine.go;
  say(`${engine.title} ${engine.version}: downloading its Go modules`);
  // Finding out what the program is made of downloads just the modules that it needs.
  await runGo('the download of its modules', ['list', '-deps', ...flags, packagePath]);
  await inTurn(async () => {
    say(`${engine.title} ${engine.version}: building it from its Go modules, which takes minutes`);
    const begin = performance.now();
    await runGo('the build', ['build', '-o', join(work, 'whole', engine.name), ...flags, packagePath]);
    say(`${engine.title} ${engine.version}: built in ${formatSeconds(performance.now() - begin)}`);
  });
}

function unobtainable(engine, attempts) {
  const urls = [...Object.values(engine.releases).map(({ url }) => url), engine.checksumList ?? []].flat();
  const files = new Set(urls.map((url) => basename(new URL(url).pathname)));
  return new SetUpError(`${engine.title} ${engine.version} could not be had.`, attempts, [
    `Install ${wanted(engine)} so that \`${engine.name}\` is on the PATH.`,
    `Set ${engine.binVariable} to the path of the ${engine.name} program.`,
    `Give this machine access to the internet, or set CONTAINEROS_DOWNLOAD_BASE to a mirror that serves ${[...files].join(' and ')}.`,
    `Install Go ${OLDEST_GO.major}.${OLDEST_GO.minor} or later and let it reach a Go module proxy.`,
    'With a full disk: make room, or set CONTAINEROS_CACHE_DIR to a folder on another disk.',
  ]);
}
