// The tests' own world: real engines, a real registry, images made here, and nothing left behind.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type Docker from 'dockerode';
import { startDockerEngine, type DockerEngine } from '../support/engine';
import {
  bigImage,
  loadInto,
  missingProgramImage,
  pullImage,
  webImage,
  wrongArchitectureImage,
} from '../support/images';
import { projectRoot, runCommand } from '../support/process';
import { startRegistry, type Registry } from '../support/registry';
import { eventually } from '../support/wait';

jest.setTimeout(60_000);

let engine: DockerEngine;
let other: DockerEngine;
let registry: Registry;

beforeAll(async () => {
  [engine, other, registry] = await Promise.all([startDockerEngine(), startDockerEngine(), startRegistry()]);
});

afterAll(async () => {
  await Promise.all([engine.dispose(), other.dispose(), registry.dispose()]);
});

/** Runs an image with its port 80 published, and returns the container and the address that serves it. */
async function run(
  on: DockerEngine,
  image: string,
  env: readonly string[] = [],
): Promise<{ container: Docker.Container; url: string }> {
  const container = await on.docker.createContainer({
    Image: image,
    Env: [...env],
    HostConfig: { PortBindings: { '80/tcp': [{ HostPort: '' }] }, RestartPolicy: { Name: 'always' } },
  });
  await container.start();
  return { container, url: await urlOf(on, container) };
}

async function urlOf(on: DockerEngine, container: Docker.Container): Promise<string> {
  const port = (await container.inspect()).NetworkSettings.Ports['80/tcp']?.[0]?.HostPort;
  return `http://${on.address}:${port}`;
}

let onTestEnd = (): unknown => undefined;
afterEach(() => {
  onTestEnd();
  onTestEnd = () => undefined;
});

async function removeContainers(on: DockerEngine): Promise<void> {
  const all = await on.docker.listContainers({ all: true });
  await Promise.all(all.map((each) => on.docker.getContainer(each.Id).remove({ force: true })));
}

async function textAt(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  return `${response.status} ${(await response.text()).trim()}`;
}

test('two engines at once pull from the registry, each once, and serve', async () => {
  const reference = await registry.push(await webImage('v1'));
  registry.resetRequests();
  await Promise.all([pullImage(engine.docker, reference), pullImage(other.docker, reference)]);
  expect(registry.requestCount(/^GET \/v2\/web\/blobs\//)).toBe(2 * 3);

  const [mine, theirs] = await Promise.all([run(engine, reference), run(other, reference)]);
  expect(await eventually(() => textAt(mine.url))).toBe(`200 web v1 ${mine.container.id.slice(0, 12)}`);
  expect(await eventually(() => textAt(theirs.url))).toMatch(/^200 web v1 /);
  expect((await engine.docker.listContainers()).map((each) => each.Id)).toEqual([mine.container.id]);
  await theirs.container.remove({ force: true });
});

test('an engine that is stopped, killed, frozen or cut from power comes back with its containers', async () => {
  await removeContainers(engine);
  await run(engine, await loadInto(engine, await webImage('v1')));
  const ours = async (): Promise<string> => {
    const [first] = await engine.docker.listContainers();
    if (first === undefined) throw new Error('no container runs');
    return textAt(await urlOf(engine, engine.docker.getContainer(first.Id)));
  };
  await engine.stop();
  await expect(engine.docker.ping()).rejects.toThrow();
  await engine.start();
  expect(await eventually(ours)).toMatch(/^200 web v1/);

  await engine.kill();
  await engine.start();
  expect(await eventually(ours)).toMatch(/^200 web v1/);

  await engine.powerOff();
  await engine.powerOn();
  expect(await eventually(ours)).toMatch(/^200 web v1/);

  await engine.freeze();
  await expect(
    Promise.race([
      engine.docker.ping(),
      new Promise((_, reject) => setTimeout(reject, 300, new Error('hangs'))),
    ]),
  ).rejects.toThrow('hangs');
  engine.thaw();
  expect(await eventually(() => engine.docker.ping().then(String))).toBe('OK');
});

test('an engine that hangs keeps its machine from neither a power cut nor its end', async () => {
  const hanging = await startDockerEngine();
  await hanging.freeze();
  await hanging.powerOff();
  await hanging.powerOn();
  expect(String(await hanging.docker.ping())).toBe('OK');

  await hanging.freeze();
  hanging.thaw();
  await hanging.freeze();
  const startedAt = performance.now();
  await hanging.dispose();
  expect(performance.now() - startedAt).toBeLessThan(8_000); // the janitor gives up after ten seconds
});

test('a machine whose cable is pulled is not reached, and its loopback is reached by the tests alone', async () => {
  const serve = (host: string): string =>
    `require('http').createServer((_, res) => res.end('inside')).listen(8500, '${host}')`;
  const server = other.spawn([process.execPath, '-e', `${serve('127.0.0.1')};${serve(other.address)}`]);
  onTestEnd = () => server.kill();
  const throughLoopback = `http://${other.loopbackAddress}:8500`;
  expect(await eventually(() => textAt(throughLoopback))).toBe('200 inside');

  await other.unplug();
  await expect(textAt(throughLoopback)).rejects.toThrow();
  await other.plug();
  expect(await eventually(() => textAt(throughLoopback))).toBe('200 inside');
});

test('images behave as they are told', async () => {
  const web = await loadInto(other, await webImage('v2'));
  const [failing, missing, crashing, quick] = await Promise.all([
    run(other, web, ['HEALTH=failing']),
    run(other, web, ['HEALTH=missing', 'GREETING=hello there']),
    run(other, web, ['CRASH_AT_START=no database']),
    run(other, web),
  ]);
  await eventually(async () => expect(await textAt(`${failing.url}/cgi-bin/health`)).toBe('500 failing'));
  await eventually(async () => expect(await textAt(`${missing.url}/health`)).toMatch(/^404/));
  expect(await textAt(`${missing.url}/cgi-bin/env`)).toContain('GREETING=hello there');
  await eventually(async () => expect((await crashing.container.inspect()).RestartCount).toBeGreaterThan(0));
  expect((await crashing.container.logs({ stderr: true })).toString()).toContain('no database');
  await eventually(async () => expect(await textAt(quick.url)).toMatch(/^200 web v2/));
  const stoppedAt = performance.now();
  await quick.container.stop();
  expect(performance.now() - stoppedAt).toBeLessThan(5_000);

  const [wrong, absent] = await Promise.all([
    loadInto(other, await wrongArchitectureImage()),
    loadInto(other, await missingProgramImage()),
  ]);
  await expect(run(other, absent)).rejects.toThrow(/no such file/);
  const strange = await other.docker.createContainer({ Image: wrong });
  await expect(
    strange.start().then(async () => {
      await strange.wait();
      throw new Error((await strange.logs({ stderr: true, stdout: true })).toString());
    }),
  ).rejects.toThrow(/exec format error/);
});

test('the registry can be slow, hold, fail and be down', async () => {
  const reference = await registry.push(await bigImage(2_000_000));
  registry.setFault({ kind: 'status', status: 503 });
  await expect(pullImage(engine.docker, reference)).rejects.toThrow();
  await registry.stop();
  await expect(pullImage(engine.docker, reference)).rejects.toThrow(/refused/);
  await registry.start();
  registry.setFault({ kind: 'hold' });
  let pulled = false;
  registry.resetRequests();
  const pulling = pullImage(engine.docker, reference).then(() => (pulled = true));
  await eventually(() => expect(registry.requestCount(/blobs/)).toBeGreaterThan(0));
  expect(pulled).toBe(false);
  registry.setFault({ kind: 'throttle', bytesPerSecond: 2_000_000 });
  const startedAt = performance.now();
  await pulling;
  expect(performance.now() - startedAt).toBeGreaterThan(500);
  registry.setFault(undefined);
});

test('a small disk is full during a pull', async () => {
  const reference = await registry.push(await bigImage(20_000_000));
  const small = await startDockerEngine({ dataRootTmpfsBytes: 16_000_000 });
  await expect(pullImage(small.docker, reference)).rejects.toThrow(/no space left/);
  await small.dispose();
});

test('what a killed owner made is removed', async () => {
  const root = projectRoot();
  const owner = spawn(
    process.execPath,
    ['-e', OWNER, join(root, 'test', 'support', 'engine.ts'), join(root, 'test', 'support', 'images.ts')],
    { cwd: root, stdio: ['pipe', 'pipe', 'inherit'] },
  );
  onTestEnd = () => owner.kill('SIGKILL');
  const [line] = (await once(owner.stdout, 'data')) as [Buffer];
  const made = JSON.parse(line.toString()) as { folder: string; name: string; hostPids: number[] };
  expect(made.hostPids.length).toBeGreaterThan(4); // first process, dockerd, containerd, shim, container
  owner.kill('SIGKILL');
  await once(owner, 'exit');
  await eventually(async () => {
    expect(made.hostPids.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]);
    expect(existsSync(made.folder)).toBe(false);
    expect((await runCommand('ip', ['netns', 'list'])).stdout).not.toContain(made.name);
    expect((await runCommand('ip', ['link'])).stdout).not.toContain(`cos${made.folder.split('/').at(-1)}:`);
    expect(readdirSync('/sys/fs/cgroup').filter((each) => each.startsWith(made.name))).toEqual([]);
    expect((await runCommand('mount', [])).stdout).not.toContain(made.folder);
  });
});

/** Makes an engine with a running container, says so, and waits to be killed. */
const OWNER = `
  const { transformSync } = require('@swc/core');
  require.extensions['.ts'] = (module, file) => {
    const options = { jsc: { parser: { syntax: 'typescript' }, target: 'es2022' }, module: { type: 'commonjs' } };
    module._compile(transformSync(require('fs').readFileSync(file, 'utf8'), options).code, file);
  };
  const { startDockerEngine } = require(process.argv[1]);
  const { loadInto, webImage } = require(process.argv[2]);
  (async () => {
    const engine = await startDockerEngine();
    const container = await engine.docker.createContainer({ Image: await loadInto(engine, await webImage()) });
    await container.start();
    const { folder, name } = engine.world;
    console.log(JSON.stringify({ folder, name, hostPids: engine.hostPids() }));
    process.stdin.resume().on('end', () => process.exit()); // not to outlive the test
  })();
`;
