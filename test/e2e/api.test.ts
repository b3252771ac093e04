// What the API offers beside changes: releases and rollback, operations, waiting for news, events, logs, nodes.
import { createInterface } from 'node:readline';
import type { NodeView, OperationView, ReleaseView } from '../../openapi/schemas';
import { assertConverged } from '../support/checker';
import { httpRequest, openRequest } from '../support/http';
import {
  apply,
  applyAsync,
  change,
  containersOf,
  ended,
  endpoints,
  events,
  microservice,
  page,
  read,
  replicas,
  scenario,
  serving,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'shop';
const PATH = `/v1/microservices/${SERVICE}`;

let bed: TestBed;
let image = '';

beforeAll(async () => {
  bed = await startTestBed({ instance: { flags: ['--node-label', 'disk=ssd'] } });
  image = await bed.web('v1');
  await apply(bed.instance, webSpec(SERVICE, image));
}, 120_000);

afterAll(() => bed?.dispose(), 60_000);

/** Reads lines of an answer that does not end, until one satisfies the condition. */
async function lineOf(
  path: string,
  condition: (line: string) => boolean,
  options: { readonly headers?: Record<string, string>; readonly meanwhile?: () => Promise<unknown> } = {},
): Promise<readonly string[]> {
  const { instance, engine } = bed;
  const response = await openRequest(`http://${engine.loopbackAddress}:${instance.apiPort}${path}`, {
    headers: { host: `127.0.0.1:${instance.apiPort}`, authorization: 'Bearer dev', ...options.headers },
    timeoutMs: 30_000,
  });
  expect(response.statusCode).toBe(200);
  const seen: string[] = [];
  const doing = options.meanwhile?.();
  try {
    for await (const line of createInterface({ input: response })) {
      seen.push(line);
      if (condition(line)) return seen;
    }
    throw new Error('it ended');
  } catch (error) {
    throw new Error(`${String(error)} after:\n${seen.join('\n')}`, { cause: error });
  } finally {
    response.destroy();
    await doing;
  }
}

scenario(
  'releases are numbered, say what changed, and one word goes back',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    await apply(instance, webSpec(SERVICE, await web('v2'), { scale: 2 }));
    const { items } = await read<{ items: ReleaseView[] }>(instance, `${PATH}/releases`);
    expect(items.map(({ number, current }) => [number, current])).toEqual([
      [2, true],
      [1, false],
    ]);
    expect(items[0]?.diff.join('\n')).toContain('web:v2');
    await change(instance, 'POST', `${PATH}/rollback`, {});
    await serving(instance, SERVICE, 2, 'web v1');
    const after = await microservice(instance, SERVICE);
    expect([after.release, after.scale]).toEqual([3, 2]);
    const [newest] = (await read<{ items: ReleaseView[] }>(instance, `${PATH}/releases`)).items;
    expect(newest).toMatchObject({ number: 3, rollbackOf: 1, current: true });
    await change(instance, 'POST', `${PATH}/rollback`, { toRelease: 2 });
    await serving(instance, SERVICE, 2, 'web v2');
    await assertConverged(running);
  },
);

scenario(
  'the same specification again changes nothing and replaces nothing',
  () => bed,
  async (running) => {
    const { instance, web } = running;
    const before = (await containersOf(running, SERVICE)).map(({ Id }) => Id).sort();
    const { release } = await microservice(instance, SERVICE);
    await apply(instance, webSpec(SERVICE, await web('v2'), { scale: 2 }));
    expect((await containersOf(running, SERVICE)).map(({ Id }) => Id).sort()).toEqual(before);
    expect((await microservice(instance, SERVICE)).release).toBe(release);
  },
);

scenario(
  'a restart replaces every container without a gap',
  () => bed,
  async (running) => {
    const { instance } = running;
    const before = (await containersOf(running, SERVICE)).map(({ Id }) => Id);
    await change(instance, 'POST', `${PATH}/restart`, {});
    const after = await containersOf(running, SERVICE);
    expect(after).toHaveLength(before.length);
    for (const { Id } of after) expect(before).not.toContain(Id);
    await assertConverged(running);
  },
);

scenario(
  'a specification that was read can be sent back',
  () => bed,
  async (running) => {
    const { instance } = running;
    const { specification, release } = await microservice(instance, SERVICE);
    await change(instance, 'PUT', PATH, specification);
    expect((await microservice(instance, SERVICE)).release).toBe(release);
  },
);

scenario(
  'an operation tells its plan and can be followed to its end',
  () => bed,
  async (running) => {
    const { instance } = running;
    const answer = await instance.api('PATCH', PATH, { body: { scale: 3 } });
    const { id } = answer.body as OperationView;
    const lines = await lineOf(`/v1/operations/${id}/follow`, (line) => line.includes('"final":true'));
    const last = JSON.parse(lines.at(-1) ?? '') as OperationView;
    expect(last).toMatchObject({ id, kind: 'scale', state: 'succeeded', scale: 3 });
    expect(last.plan.join('\n')).toMatch(/start shop-/);
    expect(last.links.webUi).toContain(encodeURIComponent(id));
    const { items } = await read<{ items: OperationView[] }>(instance, `${PATH}/operations`);
    expect(items[0]?.id).toBe(id);
  },
);

scenario(
  'watching waits for news rather than asking again and again',
  () => bed,
  async (running) => {
    const { instance } = running;
    const { index } = await read<{ index: number }>(instance, `${PATH}/replicas`);
    const startedAt = performance.now();
    const nothing = await instance.api('GET', `${PATH}/replicas?watch=${index}&timeout=700ms`);
    expect(performance.now() - startedAt).toBeGreaterThan(600);
    expect([200, 304]).toContain(nothing.status);
    const waiting = instance.api('GET', `${PATH}/replicas?watch=${index}&timeout=30s`, { timeoutMs: 35_000 });
    await change(instance, 'PATCH', PATH, { scale: 2 });
    const news = await waiting;
    expect(news.status).toBe(200);
    expect((news.body as { index: number }).index).toBeGreaterThan(index);
  },
);

scenario(
  'events come as a stream that can be taken up where it broke off',
  () => bed,
  async (running) => {
    const { instance } = running;
    const stream = { accept: 'text/event-stream' };
    const isEnd = (line: string): boolean => line.startsWith('event: operation.succeeded');
    const first = await lineOf(`/v1/events?microservice=${SERVICE}`, isEnd, {
      headers: stream,
      meanwhile: () => change(instance, 'PATCH', PATH, { scale: 1 }),
    });
    const lastId =
      first
        .filter((line) => line.startsWith('id: '))
        .at(-1)
        ?.slice(4) ?? '';
    expect(lastId).not.toBe('');
    await change(instance, 'PATCH', PATH, { scale: 2 });
    // The stream broke off, things happened, and nothing is missing and nothing twice.
    const second = await lineOf(`/v1/events?microservice=${SERVICE}`, isEnd, {
      headers: { ...stream, 'last-event-id': lastId },
    });
    expect(second.join('\n')).not.toContain(lastId);
    expect(second.join('\n')).toContain('at scale 2');
    expect((await events(instance, `microservice=${SERVICE}&type=operation.`)).length).toBeGreaterThan(4);
  },
);

scenario(
  'logs: the tail, those of all replicas, and new lines as they are written',
  () => bed,
  async (running) => {
    const { instance } = running;
    const [one] = await replicas(instance, SERVICE);
    const tail = await instance.api('GET', `/v1/replicas/${one?.id}/logs?tail=1`);
    expect([tail.status, tail.text]).toEqual([200, 'serving web v2 on port 80\n']);
    const all = await instance.api('GET', `${PATH}/logs`);
    for (const { id } of await replicas(instance, SERVICE))
      expect(all.text).toContain(`${id}/main | serving`);
    // A replica that comes while one looks is shown too.
    const known = new Set((await replicas(instance, SERVICE)).map(({ id }) => id));
    const isNew = (line: string): boolean =>
      line.includes('serving') && !known.has(line.slice(0, line.indexOf('/')));
    await lineOf(`${PATH}/logs?follow=true`, isNew, {
      meanwhile: () => change(instance, 'PATCH', PATH, { scale: 3 }),
    });
  },
);

scenario(
  'a container that writes without end does not disturb the others',
  () => bed,
  async (running) => {
    const { instance } = running;
    await apply(instance, webSpec('noisy', image, { env: ['LOG_SPAM=1'], container: { cpus: 0.3 } }));
    const tail = await instance.api('GET', '/v1/microservices/noisy/logs?tail=100');
    expect(tail.text.trim().split('\n')).toHaveLength(100);
    const [endpoint = ''] = await endpoints(instance, SERVICE);
    expect(await page(instance, endpoint)).toMatch(/^200/);
    await change(instance, 'DELETE', '/v1/microservices/noisy');
  },
);

scenario(
  'a container that ignores SIGTERM is ended after its grace',
  () => bed,
  async (running) => {
    const { instance } = running;
    const env = ['IGNORE_TERM=1'];
    await apply(instance, webSpec('stubborn', image, { env, container: { stopGraceSeconds: 1 } }));
    const startedAt = performance.now();
    await change(instance, 'DELETE', '/v1/microservices/stubborn');
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    await assertConverged(running);
  },
);

scenario(
  'nodes tell their capacity and health',
  () => bed,
  async (running) => {
    const { items } = await read<{ items: NodeView[] }>(running.instance, '/v1/nodes');
    expect(items).toHaveLength(1);
    const [node] = items;
    expect(node).toMatchObject({
      id: running.engine.hostname,
      health: 'healthy',
      connected: true,
      labels: { disk: 'ssd' },
    });
    expect(node?.memoryBytes).toBeGreaterThan(1e8);
    expect(node?.diskFreeBytes).toBeGreaterThan(1e8);
    expect(node?.replicas).toBe((await replicas(running.instance)).length);
  },
);

scenario(
  'the machine of the control plane cannot be removed, a node that is gone for good can',
  () => bed,
  async ({ instance, engine }) => {
    const refused = await instance.api('DELETE', `/v1/nodes/${engine.hostname}?force=true`);
    expect(refused).toMatchObject({ status: 409, body: { code: 'conflict' } });

    const [own] = (await read<{ items: NodeView[] }>(instance, '/v1/nodes')).items;
    const gone = {
      ...{ id: 'gone', address: '192.0.2.1', architecture: 'amd64', dockerVersion: '27.0.0' },
      capacity: { cpus: 1, memoryBytes: 1e9, diskBytes: 1e10 },
      ...{ cpuPercent: 0, memoryAvailableBytes: 1e9, diskFreeBytes: 1e10, health: 'healthy' },
      ...{ reasons: [], images: [], labels: {}, updatedAtMs: 1 },
    };
    await httpRequest(
      `http://${engine.loopbackAddress}:${instance.consulPort}/v1/kv/containeros/nodes/gone`,
      {
        method: 'PUT',
        body: JSON.stringify(gone),
      },
    );
    await eventually(async () =>
      expect(await read<NodeView>(instance, '/v1/nodes/gone')).toMatchObject({ health: 'lost' }),
    );
    expect(await instance.api('DELETE', '/v1/nodes/gone')).toMatchObject({
      status: 200,
      body: { id: 'gone', message: 'Node gone is removed.' },
    });
    expect((await instance.api('GET', '/v1/nodes/gone')).status).toBe(404);
    expect((await events(instance, '?type=node.removed')).map(({ node }) => node)).toEqual(['gone']);
    expect(await read<NodeView>(instance, `/v1/nodes/${engine.hostname}`)).toMatchObject({ id: own?.id });
  },
);

scenario(
  'what machines ask: health, readiness, metrics, the OpenAPI document',
  () => bed,
  async ({ instance }) => {
    expect((await instance.api('GET', '/healthz', { password: null })).body).toEqual({ status: 'ok' });
    expect((await instance.api('GET', '/readyz', { password: null })).status).toBe(200);
    expect((await instance.api('GET', '/metrics')).text).toMatch(/^# HELP /m);
    const document = (await instance.api('GET', '/openapi.json', { password: null })).body;
    expect(document).toMatchObject({ openapi: expect.stringMatching(/^3\.1/) as string });
  },
);

scenario(
  'a change waits for its end when asked, and says how it ended',
  () => bed,
  async (running) => {
    const { instance } = running;
    const slow = webSpec('slow', image, { env: ['START_DELAY_SECONDS=2'] });
    const early = await instance.api('POST', '/v1/microservices?wait=200ms', { body: slow });
    expect(early.status).toBe(202);
    const { id } = early.body as OperationView;
    const done = await instance.api('GET', `/v1/operations/${id}?wait=30s`, { timeoutMs: 35_000 });
    expect([done.status, (done.body as OperationView).state]).toEqual([200, 'succeeded']);
    await change(instance, 'DELETE', '/v1/microservices/slow');
  },
);

scenario(
  'constraints go by the labels of nodes',
  () => bed,
  async (running) => {
    const { instance } = running;
    const picky = (disk: string): object => webSpec('picky', image, { constraints: { disk } });
    await apply(instance, picky('ssd'));
    await serving(instance, 'picky', 1, 'web v1');
    const answer = await instance.api('POST', '/v1/microservices?wait=60s', {
      body: picky('tape'),
      timeoutMs: 65_000,
    });
    expect(answer.status).toBe(507);
    expect(answer.body).toMatchObject({
      code: 'no_capacity',
      detail: expect.stringContaining('needs the label disk=tape, which is ssd') as string,
    });
    await change(instance, 'DELETE', '/v1/microservices/picky');
    await eventually(() => assertConverged(running));
  },
);

scenario(
  'what does not fit says why, and runs when there is room',
  () => bed,
  async (running) => {
    const { instance } = running;
    const [node] = (await read<{ items: NodeView[] }>(instance, '/v1/nodes')).items;
    const cpus = (node?.cpus ?? 2) - 0.5;
    const spec = (name: string): object => webSpec(name, image, { container: { cpus, reserve: { cpus } } });
    await apply(instance, spec('big-one'));
    const { id } = await applyAsync(instance, spec('big-two'));
    const failed = await ended(instance, id);
    expect([failed.state, failed.error?.code]).toEqual(['failed', 'no_capacity']);
    expect(failed.error?.message).toMatch(/CPU/);
    await change(instance, 'DELETE', '/v1/microservices/big-one');
    await apply(instance, spec('big-two'));
    await change(instance, 'DELETE', '/v1/microservices/big-two');
    await eventually(() => assertConverged(running));
  },
);

scenario(
  'a job runs once, and what fails of it is tried again',
  () => bed,
  async (running) => {
    const { instance } = running;
    const job = (name: string, policy: string, env: readonly string[]): Record<string, unknown> =>
      webSpec(name, image, { env, container: { ports: [] }, restart: { policy, backoffSeconds: 0.2 } });
    await apply(instance, job('migrate', 'on-failure', ['EXIT_AT_ONCE=1']));
    const done = await eventually(async () => {
      const found = await microservice(instance, 'migrate');
      expect(found).toMatchObject({ state: 'steady', health: 'completed' });
      return found;
    });
    const [before] = await containersOf(running, 'migrate');

    const failing = await instance.api('POST', '/v1/microservices?wait=60s', {
      body: job('import', 'never', ['CRASH_AT_START=no database']),
      timeoutMs: 65_000,
    });
    expect([failing.status, failing.body]).toMatchObject([422, { code: 'unhealthy' }]);
    expect(JSON.stringify(failing.body)).toContain('no database');

    // Scaled and looked at again since: the job that is done was not run again.
    expect(await microservice(instance, 'migrate')).toEqual(done);
    const [after] = await containersOf(running, 'migrate');
    expect(after?.Id).toBe(before?.Id);
    for (const name of ['migrate', 'import']) await change(instance, 'DELETE', `/v1/microservices/${name}`);
    await assertConverged(running);
  },
);
