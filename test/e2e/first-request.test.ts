// The first request that must work, and what the scripts of the first users count on (docs: the README's first page).
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import type { NodeView } from '../../openapi/schemas';
import { assertConverged } from '../support/checker';
import type { Instance } from '../support/instance';
import {
  apply,
  applyAsync,
  change,
  containersOf,
  endpoints,
  microservice,
  page,
  read,
  removeMicroservice,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { projectRoot, runCommand } from '../support/process';
import { eventually } from '../support/wait';

const COMMAND = join(projectRoot(), 'bin', 'containeros.js');

let bed: TestBed;

const onlyNode = async (instance: Instance): Promise<string> => {
  const { items } = await read<{ items: NodeView[] }>(instance, '/v1/nodes');
  return items[0]?.id ?? '';
};

beforeAll(async () => {
  bed = await startTestBed();
}, 120_000);

afterAll(() => bed?.dispose(), 60_000);

scenario(
  'the first request gives two containers on random host ports, in Consul, that serve',
  () => bed,
  async ({ instance, web }) => {
    const answer = await instance.api('POST', '/v1/microservice?password=dev', {
      password: null,
      body: {
        name: 'test-server',
        scale: 2,
        containers: { reg: { image: await web('v1'), httpPorts: { '80': 'hello.localhost' } } },
      },
    });
    expect([answer.status, answer.text]).toEqual([202, expect.stringContaining('test-server')]);
    expect(answer.headers['location']).toMatch(/^\/v1\/operations\//);
    await serving(instance, 'test-server', 2, 'web v1');

    const ports = (await endpoints(instance, 'test-server')).map((endpoint) =>
      Number(endpoint.split(':')[1]),
    );
    expect(new Set(ports).size).toBe(2);
    expect(ports).not.toContain(80);
    const containers = await containersOf(bed, 'test-server');
    expect(containers).toHaveLength(2);
    for (const { Names } of containers) expect(Names[0]).toMatch(/^\/test-server/);
    await assertConverged(bed);
  },
);

scenario(
  'the root of the API answers 200',
  () => bed,
  async ({ instance }) => {
    const answer = await instance.api('GET', '/', { password: null });
    expect(answer.status).toBe(200);
  },
);

/** As somebody on the machine would type it. */
const commandOf = (words: string): readonly string[] => [process.execPath, COMMAND, ...words.split(' ')];
const variablesFor = (port: number, password = 'dev'): NodeJS.ProcessEnv => {
  const { PATH, HOME } = process.env;
  return { PATH, HOME, CONTAINEROS_PASSWORD: password, CONTAINEROS_API_URL: `http://127.0.0.1:${port}` };
};

scenario(
  'the installed command shows the node, and ends with the exit code of what went wrong',
  () => bed,
  async ({ instance, engine }) => {
    const containeros = async (words: string, password = 'dev', port = instance.apiPort) => {
      const options = { env: variablesFor(port, password), mayFail: true };
      const { code, stdout, stderr } = await engine.exec(commandOf(words), options);
      return { code, stdout, stderr };
    };
    const id = await onlyNode(instance);
    expect(await containeros('nodes')).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        new RegExp(`^NAME .*\\n${id} +127\\.0\\.0\\.1 +up +active .*\\n$`),
      ) as string,
      stderr: '',
    });
    // Also the name of a role.
    expect((await containeros(`node ${id}`)).stdout).toMatch(new RegExp(`^Node ${id}\\n\\n {2}Address`));
    expect((await containeros('--help')).stdout).toMatch(/containeros up .*containeros drain NODE /s);
    expect((await containeros('up --help')).stdout).toContain('--advertise-address');
    const ends = async (words: string, ...rest: [password?: string, port?: number]) => {
      const { code, stdout, stderr } = await containeros(words, ...rest);
      expect([stdout, stderr]).toEqual(['', expect.stringMatching(/^containeros: .+\n$/)]);
      return code;
    };
    expect(await ends('nodez')).toBe(2);
    expect(await ends('nodes', 'wrong')).toBe(3);
    expect(await ends('node no-such-node')).toBe(5);
    expect(await ends('nodes', 'dev', 1)).toBe(8);
  },
);

scenario(
  'a drain that finds no other node says why while it is followed, and ends when it is taken back',
  () => bed,
  async (running) => {
    const { instance, engine } = running;
    const id = await onlyNode(instance);
    const child = engine.spawn(commandOf(`drain ${id} --wait`), {
      env: variablesFor(instance.apiPort),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = once(child, 'exit');
    let output = '';
    child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await eventually(() =>
      expect(output).toMatch(
        new RegExp(
          `2 replicas still have to leave ${id}: 2 of test-server\\.\\n {2}test-server: .*${id} is being drained`,
        ),
      ),
    );
    await instance.api('POST', `/v1/nodes/${id}/uncordon`);
    expect(await ended).toEqual([6, null]);
    await eventually(() =>
      expect(output).toMatch(/somebody ended the drain\. 2 replicas are still there\.\n$/),
    );
    await eventually(async () => expect((await microservice(instance, 'test-server')).state).toBe('steady'));
    await assertConverged(running);
  },
);

test('the installed command writes a long answer whole, into a pipe too', async () => {
  const text = JSON.stringify({ items: [], filler: 'x'.repeat(2_000_000) });
  const server = createServer((_, answer) => answer.end(text)).listen(0, '127.0.0.1');
  try {
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const [program = '', ...args] = commandOf('nodes --json');
    const { stdout } = await runCommand(program, args, { env: variablesFor(port) });
    expect(stdout.length).toBe(text.length + 1);
  } finally {
    server.close();
  }
});

scenario(
  'what is left out has its default',
  () => bed,
  async (running) => {
    const { instance, engine, web } = running;
    await apply(instance, {
      name: 'Defaults1',
      containers: { main: { image: await web('v1'), ports: [80] } },
    });
    const containers = await containersOf(running, 'Defaults1');
    expect(containers).toHaveLength(1);
    const { HostConfig } = await engine.docker.getContainer(containers[0]?.Id ?? '').inspect();
    expect(HostConfig.NanoCpus).toBe(1e9);
    expect(HostConfig.Memory).toBe(1_000_000_000);
    expect(HostConfig.Privileged).toBe(false);
    await removeMicroservice(instance, 'Defaults1');
  },
);

scenario(
  'environment comes as a list and as a map, resources as given',
  () => bed,
  async (running) => {
    const { instance, engine, web } = running;
    const container = { image: await web('v1'), ports: [80], cpus: 0.5, memLimit: 50_000_000 };
    await Promise.all([
      apply(instance, {
        name: 'env-list',
        containers: { main: { ...container, env: ['A=1', 'B=two words=2'] } },
      }),
      apply(instance, {
        name: 'env-map',
        containers: { main: { ...container, env: { A: 1, B: 'two words=2' } } },
      }),
    ]);
    for (const name of ['env-list', 'env-map']) {
      const [endpoint = ''] = await endpoints(instance, name);
      const env = (await page(instance, endpoint, '/cgi-bin/env')).split('\n');
      expect(env).toEqual(expect.arrayContaining(['A=1', 'B=two words=2']));
      const [found] = await containersOf(running, name);
      const { HostConfig } = await engine.docker.getContainer(found?.Id ?? '').inspect();
      expect([HostConfig.NanoCpus, HostConfig.Memory]).toEqual([5e8, 50_000_000]);
    }
    await Promise.all([removeMicroservice(instance, 'env-list'), removeMicroservice(instance, 'env-map')]);
  },
);

scenario(
  'requests in quick succession end in the state of the last one, within seconds',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const spec = webSpec('quick', await web('v1'));
    for (const scale of [5, 0, 5, 2]) await applyAsync(instance, { ...spec, scale });
    const startedAt = performance.now();
    await serving(instance, 'quick', 2, 'web v1', 20_000);
    await assertConverged(running, 20_000);
    expect(performance.now() - startedAt).toBeLessThan(20_000);
    expect((await microservice(instance, 'quick')).scale).toBe(2);
  },
);

scenario(
  'a scale of 0 stops all and keeps the microservice; removing it leaves nothing',
  () => bed,
  async (running) => {
    const { instance } = running;
    await change(instance, 'PATCH', '/v1/microservices/quick', { scale: 0 });
    expect(await containersOf(running, 'quick')).toEqual([]);
    expect(await endpoints(instance, 'quick')).toEqual([]);
    expect((await microservice(instance, 'quick')).replicas).toMatchObject({ desired: 0, running: 0 });
    await removeMicroservice(instance, 'quick');
    expect((await instance.api('GET', '/v1/microservices/quick')).status).toBe(404);
    await assertConverged(running);
  },
);

scenario(
  'a new version replaces the old one without a moment without service',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    // As a program should, it serves on for a moment after it is asked to stop; by then nobody is led to it.
    const spec = async (tag: string): Promise<object> =>
      webSpec('smooth', await web(tag), { scale: 2, env: ['STOP_DELAY_SECONDS=1'] });
    await apply(instance, await spec('v1'));
    const failures: string[] = [];
    let looks = 0;
    let isDone = false;
    const watching = (async () => {
      while (!isDone) {
        const found = await endpoints(instance, 'smooth');
        if (found.length === 0) failures.push('no endpoint');
        for (const endpoint of found) {
          // Whoever got an address from Consul a moment ago may still use it.
          const answer = await page(instance, endpoint).catch(String);
          looks += 1;
          if (!answer.startsWith('200')) failures.push(`${endpoint}: ${answer}`);
        }
      }
    })();
    await apply(instance, await spec('v2'));
    isDone = true;
    await watching;
    await serving(instance, 'smooth', 2, 'web v2');
    expect(looks).toBeGreaterThan(10);
    expect(failures).toEqual([]);
    await removeMicroservice(instance, 'smooth');
    await assertConverged(running);
  },
);

scenario(
  'Ctrl-C leaves the containers running, and the next start takes them over',
  () => bed,
  async (running) => {
    const { instance } = running;
    const before = (await containersOf(running, 'test-server')).map(({ Id }) => Id).sort();
    const addresses = await endpoints(instance, 'test-server');
    await instance.stop();
    for (const address of addresses) expect(await page(instance, address)).toMatch(/^200 web v1/);
    await instance.start();
    await eventually(async () => expect(await endpoints(instance, 'test-server')).toEqual(addresses));
    expect((await containersOf(running, 'test-server')).map(({ Id }) => Id).sort()).toEqual(before);
    await assertConverged(running);
  },
);
