// The README's first command, as a user gives it: `npm start`, the first deployment, Ctrl-C, `npm start` again.
import { type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { startDockerEngine, type DockerEngine } from '../support/engine';
import { httpRequest, type HttpAnswer } from '../support/http';
import { loadInto, webImage } from '../support/images';
import { projectRoot } from '../support/process';
import { engineVariables } from '../support/programs';
import { eventually, Hopeless } from '../support/wait';

let engine: DockerEngine;

beforeAll(async () => {
  engine = await startDockerEngine();
}, 60_000);

afterAll(() => engine?.dispose(), 60_000);

interface Started {
  readonly npm: ChildProcess;
  output(): string;
  /** Ctrl-C at a terminal: the signal goes to every process of the foreground group. */
  interrupt(): Promise<void>;
}

async function npmStart(...flags: string[]): Promise<Started> {
  const { PATH, HOME } = process.env;
  const command = ['npm', 'start', '--', '--data-dir', join(engine.folder, 'state'), ...flags];
  // Entering a machine leads to its root folder.
  const npm = engine.spawn(['sh', '-c', 'cd "$1" && shift && exec "$@"', 'sh', projectRoot(), ...command], {
    env: { PATH, HOME, ...engineVariables() },
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  npm.stdout?.on('data', (data: Buffer) => (output += data.toString()));
  npm.stderr?.on('data', (data: Buffer) => (output += data.toString()));
  const ended = once(npm, 'close').then(() => undefined);
  await eventually(
    () => {
      if (output.includes('ContainerOS is ready')) return;
      throw npm.exitCode === null ? new Error(output) : new Hopeless(output);
    },
    { timeoutMs: 60_000, describe: 'it says that it is ready' },
  );
  return {
    npm,
    output: () => output,
    interrupt: () => {
      for (const pid of engine.hostPids()) {
        if (processGroupOf(pid) === npm.pid) process.kill(pid, 'SIGINT');
      }
      return ended;
    },
  };
}

/** The door into the machine, which is no part of what a user has, leads the group from outside and is spared. */
const processGroupOf = (pid: number): number =>
  Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ')[2]);

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

const runningIds = async (): Promise<string[]> =>
  (await engine.docker.listContainers()).map(({ Id }) => Id).sort();

it('starts, deploys, stops without touching the containers, and takes them over', async () => {
  const first = await npmStart('--dev');
  for (const step of ['npm dependencies', 'Docker Engine', 'engines', 'build']) {
    expect(first.output()).toMatch(new RegExp(`^ok +${step} +\\d+\\.\\d+ s`, 'm'));
  }
  expect(first.output()).toMatch(/API +http:\/\/127\.0\.0\.1:8000/);
  expect(first.output()).toMatch(/Temporal Web UI +http:\/\/127\.0\.0\.1:8233/);

  const image = await loadInto(engine, await webImage('v1'));
  const answer = await request('POST', '/v1/microservice?password=dev&wait=60s', {
    name: 'hello',
    scale: 2,
    containers: { web: { image, httpPorts: { '80': 'hello.localhost' } } },
  });
  expect([answer.status, answer.text]).toEqual([200, expect.stringContaining('hello')]);
  const containers = await runningIds();
  expect(containers).toHaveLength(2);

  await first.interrupt();
  expect(first.output()).toMatch(/your containers keep running/);
  expect(await runningIds()).toEqual(containers);
  // Nothing but the containers is left of it.
  await expect(request('GET', '/')).rejects.toThrow(/ECONNREFUSED/);

  const second = await npmStart('--dev');
  expect(await runningIds()).toEqual(containers);
  expect((await request('DELETE', '/v1/microservices/hello?password=dev&wait=60s')).status).toBe(200);
  expect(await runningIds()).toEqual([]);
  await second.interrupt();
}, 180_000);

it('costs under a second of set-up when everything is there', async () => {
  const module = JSON.stringify(join(projectRoot(), 'scripts', 'set-up', 'set-up.mjs'));
  const script = `import { setUpToStart } from ${module};
    await setUpToStart({ asksOnly: false, engineNames: ['temporal', 'consul', 'caddy'], env: process.env });`;
  const timesMs: number[] = [];
  // The best of several: this machine has other work, too.
  for (let attempt = 0; attempt < 5; attempt += 1) {
    const begin = performance.now();
    const { PATH, HOME } = process.env;
    const env = { PATH, HOME, ...engineVariables() };
    await engine.exec([process.execPath, '--input-type=module', '--eval', script], { env });
    timesMs.push(performance.now() - begin);
  }
  expect(Math.min(...timesMs)).toBeLessThan(1_000);
}, 120_000);
