// A Docker Engine that answers: the running one; one that is installed but not running, started; or, as root on Debian
// and its kin, the distribution's package. Invariant: an address that the user chose (DOCKER_HOST) is never replaced
// by another engine.
import { mkdirSync, openSync, readFileSync, closeSync, existsSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { installCommand, installPackages, isDebianFamily, isRoot } from './debian-packages.mjs';
import { describeSystemError, SetUpError } from './failure.mjs';
import { withLock } from './lock.mjs';
import { cachePath } from './paths.mjs';
import { findOnPath, run } from './processes.mjs';
import { say } from './steps.mjs';

/** API of Docker 20.10: the oldest that Debian 12's own package has. */
export const OLDEST_API = '1.41';
const PING_LIMIT_MS = 5_000;
const START_LIMIT_MS = 60_000;
const SYSTEM_SOCKET = '/var/run/docker.sock';
/** iptables is what the engine opens ports with; ca-certificates what it checks registries with. */
const PACKAGES = ['docker.io', 'iptables', 'ca-certificates'];
/** Where distributions put dockerd, for users whose PATH has no sbin. */
const SBIN = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/local/bin', '/usr/bin'];

/** @returns {Promise<{ host: string, found: string }>} its address as DOCKER_HOST has it, and what was done */
export async function ensureDockerEngine(env = process.env) {
  if (env.DOCKER_HOST) return useChosenEngine(env.DOCKER_HOST, env);
  const candidates = [`unix://${SYSTEM_SOCKET}`];
  if (env.XDG_RUNTIME_DIR) candidates.push(`unix://${env.XDG_RUNTIME_DIR}/docker.sock`);
  let refused;
  for (const host of candidates) {
    const answer = await ping(host, env);
    if (answer.isUp) return { host, found: describeEngine(host, answer) };
    if (answer.code === 'EACCES') refused = host;
  }
  const host = candidates[0];
  if (refused !== undefined) throw forbidden(refused);
  return withLock(join(cachePath(env), 'locks', 'docker'), 'starting the Docker Engine', () =>
    bringUp(host, env),
  );
}

async function useChosenEngine(host, env) {
  const answer = await ping(host, env);
  if (answer.isUp) return { host, found: describeEngine(host, answer) };
  if (answer.code === 'EACCES') throw forbidden(host);
  throw new SetUpError(
    `DOCKER_HOST is ${host}, but no Docker Engine answers there: ${answer.why}.`,
    [],
    [
      'Start that engine, or correct DOCKER_HOST.',
      'Unset DOCKER_HOST: the engine of this machine is then used, and started or installed if need be.',
    ],
  );
}

async function bringUp(host, env) {
  const before = await ping(host, env);
  if (before.isUp) return { host, found: describeEngine(host, before) };
  const attempts = [`${SYSTEM_SOCKET}: ${before.why}`];
  let dockerd = findOnPath('dockerd', env, SBIN);
  let installed = '';
  if (dockerd === undefined) {
    attempts.push('installed engine: there is no dockerd on this machine');
    if (!isRoot() || !isDebianFamily()) {
      attempts.push(
        isRoot() ? 'package: this is not Debian or Ubuntu' : 'package: only root may install one',
      );
      throw noEngine(attempts);
    }
    await installPackages(PACKAGES);
    dockerd = findOnPath('dockerd', env, SBIN);
    installed = 'installed and ';
    if (dockerd === undefined) throw noEngine([...attempts, `package: ${PACKAGES[0]} brought no dockerd`]);
  }
  if (!isRoot()) {
    attempts.push(`installed engine: ${dockerd} is not running, and only root may start it`);
    throw noEngine(attempts);
  }
  for (const way of startingWays(dockerd, env)) {
    // The package may have started it, and so may a way that was slow to be ready.
    const now = await ping(host, env);
    if (now.isUp) return { host, found: `${installed}started, ${describeEngine(host, now)}` };
    say(`Docker Engine: starting it (${way.name})`);
    const problem = await way.start();
    if (problem === undefined && (await waitUntilUp(host, env))) {
      const answer = await ping(host, env);
      return { host, found: `${installed}started, ${describeEngine(host, answer)}` };
    }
    attempts.push(`${way.name}: ${problem ?? `it did not answer within ${START_LIMIT_MS / 1000} s`}`);
  }
  throw noEngine(attempts);
}

function startingWays(dockerd, env) {
  const command = (name, program, args) => ({
    name,
    start: async () => {
      const { code, output } = await run(program, args, { env, timeoutMs: START_LIMIT_MS });
      return code === 0 ? undefined : `status ${code}: ${output.slice(-500)}`;
    },
  });
  // The folder is there exactly when systemd manages this machine.
  if (existsSync('/run/systemd/system'))
    return [command('systemctl start docker', 'systemctl', ['start', 'docker'])];
  const ways = [];
  const service = findOnPath('service', env, SBIN);
  if (service !== undefined && existsSync('/etc/init.d/docker')) {
    ways.push(command('service docker start', service, ['docker', 'start']));
  }
  ways.push({ name: dockerd, start: () => startDaemon(dockerd, env) });
  return ways;
}

/** For machines without a service manager. The daemon outlives set-up, as a service would. */
async function startDaemon(dockerd, env) {
  mkdirSync(cachePath(env), { recursive: true });
  const logPath = join(cachePath(env), 'dockerd.log');
  const log = openSync(logPath, 'a');
  const PATH = [env.PATH ?? '', ...SBIN].join(':');
  const child = spawn(dockerd, [], { detached: true, stdio: ['ignore', log, log], env: { ...env, PATH } });
  closeSync(log);
  const ended = new Promise((resolve) => {
    child.once('error', (error) => resolve(describeSystemError(error)));
    child.once('exit', (code) => resolve(`it ended with status ${code}: ${lastLines(logPath)}`));
  });
  const settled = new Promise((resolve) => setTimeout(resolve, 2_000));
  const problem = await Promise.race([ended, settled]);
  child.unref();
  return problem;
}

const lastLines = (path) => readFileSync(path, 'utf8').trim().split('\n').slice(-3).join('\n');

async function waitUntilUp(host, env) {
  const deadlineMs = performance.now() + START_LIMIT_MS;
  while (performance.now() < deadlineMs) {
    if ((await ping(host, env)).isUp) return true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return false;
}

// ---- asking it ----

const describeEngine = (host, answer) => `API ${checkVersion(host, answer)} at ${host}`;

/** @returns {Promise<{ isUp: true, apiVersion: string } | { isUp: false, why: string, code?: string }>} */
export async function ping(host, env = process.env) {
  let target;
  try {
    target = parseHost(host, env);
  } catch (error) {
    return { isUp: false, why: error.message };
  }
  return new Promise((resolve) => {
    const request = target.client.get(
      { ...target.options, path: '/_ping', timeout: PING_LIMIT_MS },
      (response) => {
        response.resume();
        const apiVersion = response.headers['api-version'];
        if (response.statusCode === 200 && apiVersion !== undefined)
          resolve({ isUp: true, apiVersion: String(apiVersion) });
        else
          resolve({
            isUp: false,
            why: `what answers there is no Docker Engine (status ${response.statusCode})`,
          });
      },
    );
    request.once('timeout', () =>
      request.destroy(new Error(`nothing came within ${PING_LIMIT_MS / 1000} s`)),
    );
    request.once('error', (error) => {
      const why = error.code === 'ENOENT' ? 'there is no such socket' : describeSystemError(error);
      resolve({ isUp: false, why, code: error.code });
    });
  });
}

function parseHost(host, env) {
  if (host.startsWith('unix://'))
    return { client: http, options: { socketPath: host.slice('unix://'.length) } };
  const url = new URL(host.replace(/^tcp:/, 'http:'));
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new Error(`${url.protocol}// addresses are not supported; use unix:// or tcp://`);
  }
  const address = { host: url.hostname, port: url.port || (env.DOCKER_TLS_VERIFY ? 2376 : 2375) };
  if (!env.DOCKER_TLS_VERIFY && url.protocol === 'http:') return { client: http, options: address };
  const folder = env.DOCKER_CERT_PATH ?? join(env.HOME ?? '/root', '.docker');
  const read = (name) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name)) : undefined);
  return {
    client: https,
    options: { ...address, ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') },
  };
}

function checkVersion(host, { apiVersion }) {
  const [major, minor] = apiVersion.split('.').map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_API.split('.').map(Number);
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return apiVersion;
  throw new SetUpError(
    `The Docker Engine at ${host} speaks API ${apiVersion}; ContainerOS needs ${OLDEST_API} (Docker 20.10) or later.`,
    [],
    ['Update that engine.', 'Set DOCKER_HOST to the address of a newer one.'],
  );
}

// ---- what to say ----

function forbidden(host) {
  return new SetUpError(
    `A Docker Engine is at ${host}, but this user may not use it: permission was denied.`,
    [],
    [
      'Add yourself to its group (`sudo usermod -aG docker "$USER"`), log in again, and run the same command.',
      'Run the same command as root.',
      'Set DOCKER_HOST to the address of an engine that you may use, for example a rootless one.',
    ],
  );
}

function noEngine(attempts) {
  return new SetUpError('There is no Docker Engine that can be used.', attempts, [
    `On Debian or Ubuntu, as root: ${installCommand(PACKAGES)}`,
    'Install it as docs.docker.com/engine/install says, and start it.',
    'Start the one that is installed, for example: systemctl start docker',
    'Set DOCKER_HOST to the address of a running engine.',
  ]);
}
