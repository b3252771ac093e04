/** `?dryRun=true`: what a change would do, in the words of the planner, without being done. */

import { hostnameKvKey } from '../../../contracts/kv';
import type { Preview, PreviewRequest } from '../../../contracts/workflows';
import { withDigests } from '../../../domain/release-images';
import { buildRelease } from '../../support/builders';

import {
  buildMicroservice,
  microserviceDocuments,
  nodeDocument,
  startApi,
  type ApiUnderTest,
} from './api-under-test';

const before = buildRelease(1, { containers: { app: { image: 'nginx:1.27', env: ['TOKEN=one'] } } });
const after = buildRelease(2, {
  containers: {
    app: {
      image: 'nginx:1.28',
      env: ['TOKEN=two'],
      httpPorts: { 80: ['new.example.com', 'theirs.example.com'] },
    },
  },
});

const possible = (overrides: Partial<Extract<Preview, { kind: 'possible' }>> = {}): Preview => ({
  kind: 'possible',
  operation: 'deploy',
  desired: { project: 'default', name: 'web', release: after, scale: 2 },
  before,
  created: false,
  ...overrides,
});

const asked: PreviewRequest[] = [];
let answer: Preview;
let api: ApiUnderTest;

beforeEach(async () => {
  asked.length = 0;
  answer = possible();
  // Every change itself is not faked: it would throw.
  api = await startApi({
    changes: {
      preview: async (_key, request) => {
        asked.push(request);
        return answer;
      },
    },
  });
  const index = api.kv.put({
    ...microserviceDocuments(buildMicroservice('web', { release: before })),
    ...nodeDocument('node-1'),
    ...nodeDocument('node-2'),
  });
  await api.readModel.waitForIndex(index, 1_000);
});
afterEach(() => api.close());

const own = { 'if-match': '"1"', 'idempotency-key': 'k1' };

test('is answered with steps, pulls, differences without values, and hostnames', async () => {
  const { status, body } = await api.call('PATCH', '/v1/microservices/web?dryRun=true', {
    body: { containers: { app: { image: 'nginx:1.28' } } },
  });
  expect(status).toBe(200);
  expect(body).toMatchObject({
    dryRun: true,
    kind: 'deploy',
    microservice: 'web',
    created: false,
    release: 2,
    scale: 2,
    changesNothing: false,
    unplaced: 0,
    pulls: expect.arrayContaining([{ node: 'node-1', images: ['nginx:1.28'] }]) as unknown,
    hostnames: [
      { hostname: 'new.example.com', change: 'added' },
      { hostname: 'theirs.example.com', change: 'added' },
    ],
  });
  const { plan, diff } = body as { plan: string[]; diff: string[] };
  expect(plan).toContain('node node-1: pull nginx:1.28');
  expect(plan).toEqual(
    expect.arrayContaining(['node node-1: start 1 replica (v2)', 'node node-2: start 1 replica (v2)']),
  );
  expect(diff).toContain('containers.app.image: nginx:1.27 → nginx:1.28');
  expect(JSON.stringify(body)).not.toMatch(/TOKEN=|"one"|"two"/);
});

test.each([
  ['POST', '/v1/microservices', { name: 'web', containers: { app: { image: 'a' } } }, 'apply'],
  ['PUT', '/v1/microservices/web', { containers: { app: { image: 'a' } } }, 'apply'],
  ['PATCH', '/v1/microservices/web', { restart: { policy: 'never' } }, 'apply'],
  ['PATCH', '/v1/microservices/web', { scale: 3 }, 'scale'],
  ['POST', '/v1/microservices/web/rollback', { toRelease: 1 }, 'rollback'],
  ['POST', '/v1/microservices/web/restart', undefined, 'restart'],
  ['POST', '/v1/microservices/web/redeploy', undefined, 'redeploy'],
  ['DELETE', '/v1/microservices/web', undefined, 'remove'],
] as const)('%s %s %j asks what it would do, under its conditions', async (method, path, body, kind) => {
  const { status } = await api.call(method, `${path}?dryRun`, {
    ...(body === undefined ? {} : { body }),
    headers: own,
  });
  expect(status).toBe(200);
  expect(asked).toMatchObject([{ kind, change: { ifGeneration: 1 } }]);
  // Whether the key was used before is none of its business.
  expect(asked[0]?.change).not.toHaveProperty('idempotencyKey');
});

test('says how many replicas find no node, and why', async () => {
  const release = buildRelease(2, { containers: { app: { image: 'a' } }, constraints: { disk: 'ssd' } });
  answer = possible({ desired: { project: 'default', name: 'web', release, scale: 3 } });
  const { body } = await api.call('PATCH', '/v1/microservices/web?dryRun=true', { body: { scale: 3 } });
  const reason = expect.stringMatching(/label disk=ssd/) as string;
  expect(body).toMatchObject({
    unplaced: 3,
    rejections: [
      { node: 'node-1', reason },
      { node: 'node-2', reason },
    ],
  });
  expect((body as { plan: string[] }).plan).toContain('3 replicas find no node');
});

test('names the stages of a release, and what has to run beside the old one', async () => {
  const old = buildRelease(1, {
    containers: { app: { image: 'nginx:1.27', httpPorts: { 80: 'a.example.com' } } },
  });
  const release = buildRelease(2, {
    containers: { app: { image: 'nginx:1.28', httpPorts: { 80: 'a.example.com' } } },
    update: { strategy: 'canary', promote: 'manual', steps: [{ weight: 25, seconds: 60 }] },
  });
  const key = { project: 'default', name: 'web' };
  answer = possible({
    desired: { ...key, release, scale: 2 },
    takesOverFrom: { ...key, release: old, scale: 2 },
  });
  const { body } = await api.call('PATCH', '/v1/microservices/web?dryRun=true', {
    body: { containers: { app: { image: 'nginx:1.28' } } },
  });
  const { stages, plan } = body as { stages: string[]; plan: string[] };
  expect(stages).toEqual([
    'give v2 25% of the requests until it is promoted',
    'switch all requests to v2',
    'until then roll v2 back as soon as it errs in more than 1% of 5 requests or more, and more than v1, or is slower than v1 by a factor of 2',
    'stop v1',
  ]);
  // None of the old one runs here, so it is brought back first.
  const starts = plan.filter((line) => line.includes(': start '));
  expect(starts.map((line) => line.slice(-4))).toEqual(['(v1)', '(v1)', '(v2)', '(v2)']);
});

test('what a rollback changes is told as it was written', async () => {
  const digest = `sha256:${'0'.repeat(64)}`;
  const images = { 'nginx:1.26': digest };
  const written = buildRelease(2, { containers: { app: { image: 'nginx:1.26', env: ['TOKEN=one'] } } });
  answer = possible({
    operation: 'rollback',
    desired: { project: 'default', name: 'web', release: withDigests({ ...written, images }), scale: 1 },
  });
  const { body } = await api.call('POST', '/v1/microservices/web/rollback?dryRun=true');
  expect((body as { diff: string[] }).diff).toEqual(['containers.app.image: nginx:1.27 → nginx:1.26']);
});

test('a hostname of another one is a conflict, unless it is to be moved', async () => {
  const other = { project: 'default', name: 'other' };
  const theirs = 'theirs.example.com';
  api.kv.put({ [hostnameKvKey(theirs)]: other, [hostnameKvKey('new.example.com')]: other });
  const body = { name: 'web', containers: { app: { image: 'a' } } };
  const all = await api.call('POST', '/v1/microservices?dryRun=true', { body });
  expect(all.body).toMatchObject({
    detail: expect.stringMatching(
      /new.* belongs to the microservice other, and hostname theirs.* to other\./,
    ) as string,
  });
  api.kv.delete(hostnameKvKey('new.example.com'));
  const refused = await api.call('POST', '/v1/microservices?dryRun=true', { body });
  expect(refused.status).toBe(409);
  expect(refused.body).toMatchObject({
    detail: expect.stringContaining('theirs.example.com belongs to the microservice other') as string,
  });
  const moved = await api.call('POST', '/v1/microservices?dryRun=true&moveHostnames=true', { body });
  expect(moved.body).toMatchObject({
    hostnames: [
      { hostname: 'new.example.com', change: 'added' },
      { hostname: 'theirs.example.com', change: 'moved', from: 'other' },
    ],
  });
});

test('a path of a hostname is told, moved and refused like a hostname', async () => {
  const routed = buildRelease(2, {
    containers: {
      app: {
        image: 'nginx:1.28',
        httpPorts: {
          80: { hostnames: 'example.com', path: '/api' },
          81: { hostnames: 'example.org', redirectFrom: ['www.example.org'] },
        },
      },
    },
  });
  answer = possible({ desired: { project: 'default', name: 'web', release: routed, scale: 1 } });
  const body = { name: 'web', containers: { app: { image: 'a' } } };
  const added = ['example.com/api', 'example.org', 'www.example.org'].map((hostname) => ({
    hostname,
    change: 'added',
  }));
  const free = await api.call('POST', '/v1/microservices?dryRun=true', { body });
  expect((free.body as { hostnames: unknown }).hostnames).toEqual(added);
  api.kv.put({ [hostnameKvKey('example.com/api')]: { project: 'default', name: 'other' } });
  const refused = await api.call('POST', '/v1/microservices?dryRun=true', { body });
  expect(refused.status).toBe(409);
  expect(refused.body).toMatchObject({
    detail: expect.stringContaining('example.com/api belongs to the microservice other') as string,
  });
});

test('what the change would be refused with, it is refused with', async () => {
  answer = {
    kind: 'refused',
    code: 'precondition_failed',
    message: 'web is at generation 2, not 1.',
    problems: [],
  };
  const { status, body } = await api.call('DELETE', '/v1/microservices/web?dryRun=true', { headers: own });
  expect(status).toBe(412);
  expect(body).toMatchObject({ detail: 'web is at generation 2, not 1.' });
  expect((await api.call('POST', '/v1/microservices?dryRun=true', { body: { name: 'x' } })).status).toBe(400);
  expect((await api.call('DELETE', '/v1/microservices/web?dryRun=true', { password: null })).status).toBe(
    401,
  );
});
