// The image: built from the Dockerfile, started by `docker run` and by Compose, each the same system as `npm start`.
// Without the internet the base image is made here, under the name that the Dockerfile uses, from this machine's own
// Node, npm and a few system programs, with the npm packages in npm's cache and the engines on the PATH. What that
// leaves unproven: the download of the real base image, and of the engines' releases during the build.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { startDockerEngine, type DockerEngine } from '../support/engine';
import { httpRequest, type HttpAnswer } from '../support/http';
import { loadInto, webImage } from '../support/images';
import { projectRoot, runCommand } from '../support/process';
import { engineVariables, findProgram } from '../support/programs';
import { eventually } from '../support/wait';

const root = projectRoot();
const BUILD_TIMEOUT_MS = 400_000;
let engine: DockerEngine;
let work: string;

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'containeros-image-'));
  engine = await startDockerEngine();
  await importBaseImage();
}, BUILD_TIMEOUT_MS);

afterAll(async () => {
  rmSync(work, { recursive: true, force: true });
  // Gigabytes, which a busy disk takes longer to remove than the machine's end is given.
  if (engine !== undefined) await docker('system', 'prune', '--all', '--force', '--volumes');
  await engine?.dispose();
}, BUILD_TIMEOUT_MS);

// ---- the base image ----

const ENGINES = ['temporal', 'consul', 'caddy'];
const engineVariable = (name: string): string => `CONTAINEROS_${name.toUpperCase()}_BIN`;
const PROGRAMS = ['sh', 'env', 'cat', 'chown', 'id', 'ln', 'ls', 'mkdir', 'rm', 'setpriv', 'stat', 'uname'];

async function importBaseImage(): Promise<void> {
  const rootfs = join(work, 'rootfs');
  for (const folder of [
    'usr/bin',
    'usr/lib',
    'usr/lib64',
    'etc',
    'tmp',
    'home/node',
    'root',
    'var/run',
    'var/lib',
  ]) {
    mkdirSync(join(rootfs, folder), { recursive: true });
  }
  for (const name of ['bin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(rootfs, name));
  writeFileSync(
    join(rootfs, 'etc/passwd'),
    'root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n',
  );
  writeFileSync(join(rootfs, 'etc/group'), 'root:x:0:\nnode:x:1000:\n');
  const engines = engineVariables();
  const programs = [...PROGRAMS.map((name) => findProgram(name)), process.execPath];
  for (const program of programs) cpSync(realpathSync(program), join(rootfs, 'usr/bin', basename(program)));
  for (const library of librariesOf([...programs, ...nativeModules()])) copyLibrary(library, rootfs);
  for (const name of ENGINES) {
    cpSync(engines[engineVariable(name)] ?? '', join(rootfs, 'usr/bin', name));
  }

  const npmCli = realpathSync(findProgram('npm'));
  cpSync(dirname(dirname(npmCli)), join(rootfs, 'usr/lib/node_modules/npm'), { recursive: true });
  symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(rootfs, 'usr/bin/npm'));
  await fillNpmCache(join(rootfs, 'root/.npm'));

  const tar = join(work, 'base.tar');
  execFileSync('tar', ['-C', rootfs, '-cf', tar, '.']);
  rmSync(rootfs, { recursive: true });
  await docker(
    'import',
    '-c',
    'ENV PATH=/usr/local/bin:/usr/bin npm_config_offline=true',
    tar,
    baseImageName(),
  );
}

/** As the Dockerfile has it. */
function baseImageName(): string {
  const name = /^ARG NODE_IMAGE=(\S+)$/m.exec(readFileSync(join(root, 'Dockerfile'), 'utf8'))?.[1];
  if (name === undefined) throw new Error('the Dockerfile names no base image');
  return name;
}

/** The packages of the lock file, in a cache that npm can install from without a network. */
async function fillNpmCache(cache: string): Promise<void> {
  const copy = join(work, 'npm');
  mkdirSync(copy);
  for (const name of ['package.json', 'package-lock.json', '.npmrc'])
    cpSync(join(root, name), join(copy, name));
  const { stdout } = await runCommand('npm', ['config', 'get', 'cache']);
  const known = join(stdout.trim(), '_cacache');
  if (existsSync(known)) cpSync(known, join(cache, '_cacache'), { recursive: true });
  const args = [
    'ci',
    '--omit=dev',
    '--ignore-scripts',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    '--cache',
    cache,
  ];
  await runCommand('npm', args, { cwd: copy, timeoutMs: 120_000 });
  rmSync(copy, { recursive: true });
}

/** What a slim image has for them, because every program there needs it, too. */
function nativeModules(): string[] {
  const cpu = process.arch === 'x64' ? 'x86_64' : 'aarch64';
  return [
    join(root, 'node_modules/@swc', `core-linux-${process.arch}-gnu`, `swc.linux-${process.arch}-gnu.node`),
    join(root, 'node_modules/@temporalio/core-bridge/releases', `${cpu}-unknown-linux-gnu`, 'index.node'),
  ];
}

function librariesOf(programs: readonly string[]): string[] {
  const told = execFileSync('ldd', programs, { encoding: 'utf8' });
  return [...new Set([...told.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].map(([, path]) => path ?? ''))];
}

function copyLibrary(path: string, rootfs: string): void {
  const target = join(rootfs, path.startsWith('/usr/') ? path : `/usr${path}`);
  mkdirSync(dirname(target), { recursive: true });
  cpSync(realpathSync(path), target);
}

// ---- in the machine ----

async function docker(...args: string[]): Promise<string> {
  return (await engine.exec(['docker', ...args], { env: clientEnv(), timeoutMs: BUILD_TIMEOUT_MS })).stdout;
}

async function compose(...args: string[]): Promise<string> {
  const file = join(root, 'docker-compose.yml');
  const env = { ...clientEnv(), CONTAINEROS_DEV: '1' };
  const command = ['docker-compose', '--project-name', 'test', '--file', file, ...args];
  const { stdout, stderr, code } = await engine.exec(command, {
    env,
    timeoutMs: BUILD_TIMEOUT_MS,
    mayFail: true,
  });
  if (code !== 0)
    throw new Error(`docker-compose ${args.join(' ')}: ${code}\n${stdout.slice(-3_000)}${stderr}`);
  return stdout + stderr;
}

/** The builder of every Docker since 20.10: the newer one is a plugin that may not be there. */
const clientEnv = (): NodeJS.ProcessEnv => ({
  PATH: process.env['PATH'],
  HOME: work,
  DOCKER_BUILDKIT: '0',
  COMPOSE_DOCKER_CLI_BUILD: '0',
});

const request = (method: string, path: string, body?: object): Promise<HttpAnswer> =>
  httpRequest(`http://${engine.loopbackAddress}:8000${path}`, {
    method,
    timeoutMs: 60_000,
    headers: {
      host: '127.0.0.1:8000',
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });

async function ready(name: string): Promise<void> {
  await eventually(
    async () => {
      const answer = await request('GET', '/readyz');
      if (answer.status !== 200)
        throw new Error(`${answer.text}\n${await docker('logs', '--tail', '20', name)}`);
    },
    { timeoutMs: 60_000, intervalMs: 100, describe: 'ContainerOS is ready' },
  );
}

const replicaIds = async (): Promise<string[]> =>
  (await engine.docker.listContainers({ filters: { name: ['hello'] } })).map(({ Id }) => Id).sort();

it(
  'is the same system by docker run and by Compose, and stops without touching the containers',
  async () => {
    expect(await compose('build')).toMatch(/Successfully tagged containeros:latest/);

    const mounts = [
      '-v',
      '/var/run/docker.sock:/var/run/docker.sock',
      '-v',
      'containeros:/var/lib/containeros',
    ];
    await docker(
      'run',
      '-d',
      '--name',
      'containeros',
      '--net=host',
      '-e',
      'CONTAINEROS_DEV=1',
      ...mounts,
      'containeros',
    );
    await ready('containeros');
    const version = (name: string): Promise<string> =>
      docker('exec', 'containeros', 'sh', '-c', `"$${engineVariable(name)}" --version`);
    expect(await version('temporal')).toContain('Server 1.29.');
    expect(await version('consul')).toMatch(/^Consul v1\.20\./);
    expect(await version('caddy')).toMatch(/^v2\.11\./);
    const image = await loadInto(engine, await webImage('v1'));
    const answer = await request('POST', '/v1/microservice?password=dev&wait=60s', {
      name: 'hello',
      scale: 2,
      containers: { web: { image, httpPorts: { '80': 'hello.localhost' } } },
    });
    expect([answer.status, answer.text]).toEqual([200, expect.stringContaining('hello')]);
    const replicas = await replicaIds();
    expect(replicas).toHaveLength(2);

    await eventually(
      async () =>
        expect(await docker('inspect', '-f', '{{.State.Health.Status}}', 'containeros')).toBe('healthy\n'),
      { timeoutMs: 30_000, describe: 'the image says that it is healthy' },
    );
    const users = (await docker('top', 'containeros', '-eo', 'pid,uid,args')).trim().split('\n').slice(1);
    expect(users.length).toBeGreaterThan(5);
    for (const line of users) expect(line).toMatch(/^\s*\d+ +1000 /);

    await docker('stop', '--time', '30', 'containeros');
    expect(await docker('inspect', '-f', '{{.State.ExitCode}}', 'containeros')).toBe('0\n');
    await docker('rm', 'containeros');
    expect(await replicaIds()).toEqual(replicas);

    await compose('up', '--detach', '--no-build');
    await ready('test_containeros_1');
    expect(await replicaIds()).toEqual(replicas);
    expect((await request('DELETE', '/v1/microservices/hello?password=dev&wait=60s')).status).toBe(200);
    expect(await replicaIds()).toEqual([]);
    await compose('down', '--volumes');
    expect(await docker('ps', '--all', '--quiet')).toBe('');
  },
  BUILD_TIMEOUT_MS,
);

it('says what is missing when it is started without the socket', async () => {
  const started = await engine.exec(['docker', 'run', '--rm', 'containeros'], {
    env: clientEnv(),
    mayFail: true,
  });
  expect(started.code).toBe(1);
  expect(started.stderr).toMatch(/there is no Docker socket at \/var\/run\/docker\.sock/);
}, 30_000);
