/** Commands that change microservices, and those about releases and webhooks. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ChangeAccepted } from '../../../contracts/workflows';
import { releaseKvKey, trafficKvKey } from '../../../contracts/kv';
import { NOW_MS, buildRelease, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';
import {
  buildMicroservice,
  buildOperation,
  microserviceDocuments,
  nodeDocument,
  operationDocument,
  replicaDocument,
  startApi,
  type ApiUnderTest,
} from '../api/api-under-test';

import { at, startCli } from './cli-under-test';

const ID = 'deploy.default.web.0123456789ab';
let api: ApiUnderTest;
let folder: string;
let asked: unknown[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'containeros-cli-'));
  asked = [];
  const accept =
    (what: string) =>
    async (_key: unknown, change: object): Promise<ChangeAccepted> => {
      asked.push({ what, ...change });
      return { operation: buildOperation(ID), generation: 2, created: false, index: 0 };
    };
  api = await startApi({
    nowMs: () => NOW_MS,
    changes: {
      apply: accept('apply'),
      scale: accept('scale'),
      rollback: accept('rollback'),
      preview: async () => ({
        kind: 'possible',
        operation: 'deploy',
        desired: { project: 'default', name: 'web', release: buildRelease(3), scale: 1 },
        before: buildRelease(2),
        created: false,
      }),
    },
  });
  const second = {
    ...buildRelease(2, { containers: { app: { image: 'nginx:1.28' } } }),
    createdAtMs: NOW_MS - 60_000,
    by: { kind: 'webhook' as const, name: 'ci' },
  };
  const first = {
    ...buildRelease(1, { containers: { app: { image: 'nginx:1.27' } } }),
    createdAtMs: NOW_MS - 7_200_000,
  };
  const web = buildMicroservice('web', { release: second, releaseNumbers: [1, 2], settledRelease: 2 });
  const index = api.kv.put({
    ...microserviceDocuments(web),
    [releaseKvKey(web, 1)]: first,
    ...nodeDocument('node-1'),
  });
  await api.readModel.waitForIndex(index, 1_000);
});
afterEach(async () => {
  await api.close();
  rmSync(folder, { recursive: true });
});

const run = (...argv: string[]) => startCli(argv, at(api.url)).ended;
const file = (text: string): string => {
  const path = join(folder, 'web.json');
  writeFileSync(path, text);
  return path;
};
const SPEC = '{"name": "web", "containers": {"app": {"image": "nginx:1.29"}}}';

test('deploy sends a file, and does not call done what was only accepted', async () => {
  const { out, end } = await run('deploy', file(SPEC), '--move-hostnames');
  expect(end).toBe(0);
  expect(out).toBe(`Accepted: deploy of web v1, as ${ID}. It goes on by itself; --wait waits for its end.\n`);
  expect(asked).toMatchObject([{ what: 'apply', movesHostnames: true, by: { kind: 'password' } }]);
});

test('deploy says what is wrong with a file, and with a specification', async () => {
  expect(await run('deploy', join(folder, 'none.json'))).toMatchObject({ end: 'not_found' });
  expect(await run('deploy', file('{'))).toMatchObject({
    end: 'invalid',
    err: expect.stringMatching(/is not JSON/) as string,
  });
  expect(await run('deploy', file('[]'))).toMatchObject({ end: 'invalid' });
  expect(await run('deploy', file('{"name": "web"}'))).toMatchObject({
    end: 'invalid',
    err: expect.stringMatching(/containers/) as string,
  });
  expect(asked).toEqual([]);
});

test('with --wait a release that was rolled back is a failure, with its last words', async () => {
  api.kv.put(
    operationDocument(
      buildOperation(ID, {
        state: 'rolled_back',
        message: 'v3 was rolled back to v2: app ended with status 3',
        error: { code: 'unhealthy', message: 'app ended with status 3', logTail: ['no database'] },
      }),
    ),
  );
  const { out, err, end } = await run('deploy', file(SPEC), '--wait');
  expect({ out, end }).toEqual({ out: '', end: 'unhealthy' });
  expect(err).toMatch(
    /v3 was rolled back to v2: app ended with status 3[^]*Its last lines:\n {2}no database/,
  );
});

test('with --wait a deploy that succeeds is done', async () => {
  api.kv.put(operationDocument(buildOperation(ID, { state: 'succeeded', message: 'v3 runs at scale 1' })));
  expect(await run('deploy', file(SPEC), '--wait')).toMatchObject({
    out: 'Done: v3 runs at scale 1.\n',
    end: 0,
  });
});

test('with --wait it is told on standard error how it goes, as it changes', async () => {
  const release = buildRelease(1);
  const running = { state: 'running' as const };
  const put = (documents: Record<string, unknown>) => api.kv.put(documents);
  const replicaIs = (id: string, number: number, state: 'starting' | 'running' | 'crash_looping') =>
    replicaDocument(buildReplica(id, 'node-1', { name: 'web', release: number, state }));
  put({
    ...microserviceDocuments(buildMicroservice('web', { release, scale: 2 })),
    ...operationDocument(buildOperation(ID, { ...running, plan: ['node node-1: pull nginx:1.29'] })),
    ...replicaIs('web-1', 7, 'running'),
  });
  const command = startCli(['scale', 'web', '2', '--wait'], at(api.url));
  const told = (text: string) => eventually(() => expect(command.err()).toContain(`${text}\n`));
  await told('  node node-1: pull nginx:1.29');
  await told('v1: 0 of 2 replicas healthy, 1 of other releases');
  put({ ...replicaIs('web-2', 1, 'running'), ...replicaIs('web-3', 1, 'crash_looping') });
  await told('v1: 1 of 2 replicas healthy, 1 crash-looping, 1 of other releases');
  const message = 'stage 1 of 2: have v2 ready beside v1 until it is promoted';
  put(operationDocument(buildOperation(ID, { ...running, state: 'paused', message })));
  await told(`${message} (containeros promote, resume or abort web)`);
  put(operationDocument(buildOperation(ID, { state: 'succeeded', message: 'v1 runs at scale 2' })));
  const { out, err, end } = await command.ended;
  expect({ out, end }).toEqual({ out: 'Done: v1 runs at scale 2.\n', end: 0 });
  // Each is told once, and the end by the command itself.
  expect(err.match(/pull nginx/g)).toHaveLength(1);
  expect(err).not.toContain('v1 runs at scale 2');
  // A script gets its answer, and nothing else.
  const json = await run('scale', 'web', '2', '--wait', '--json');
  expect(json).toMatchObject({ err: '', end: 0 });
  expect(JSON.parse(json.out)).toMatchObject({ id: ID, state: 'succeeded', generation: 2 });
});

test('with --wait an API that is restarted meanwhile is waited for, and nothing is told twice', async () => {
  const running = { state: 'running' as const, plan: ['node node-1: pull nginx:1.29'] };
  api.kv.put(operationDocument(buildOperation(ID, running)));
  const command = startCli(['scale', 'web', '2', '--wait'], at(api.url));
  await eventually(() => expect(command.err()).toContain('pull nginx'));
  const { kv, port } = api;
  await api.close();
  await eventually(() => expect(command.err()).toContain('goes on meanwhile; trying again.'));
  api = await startApi({ kv, port, nowMs: () => NOW_MS });
  kv.put(operationDocument(buildOperation(ID, { state: 'succeeded', message: 'v1 runs at scale 2' })));
  const { out, err, end } = await command.ended;
  expect({ out, end }).toEqual({ out: 'Done: v1 runs at scale 2.\n', end: 0 });
  expect(err.match(/pull nginx/g)).toHaveLength(1);
  expect(err).toMatch(/cannot be reached: .* The (deploy|scale) of web goes on meanwhile; trying again\.$/m);
});

test('--dry-run shows changes, steps and what finds no node, and changes nothing', async () => {
  for (const argv of [
    ['deploy', file(SPEC)],
    ['scale', 'web', '4'],
    ['rollback', 'web'],
  ]) {
    const { out, end } = await run(...argv, '--dry-run');
    expect(end).toBe(0);
    expect(out).toMatch(/^deploy of web would bring v3 at scale 1\. Nothing was changed\.$/m);
    expect(out).toMatch(/^Steps:\n {2}node node-1: /m);
  }
  expect(asked).toEqual([]);
});

test('scale and rollback', async () => {
  await run('scale', 'web', '4');
  await run('rollback', 'web');
  await run('rollback', 'web', 'v1');
  expect(asked).toMatchObject([
    { what: 'scale', scale: 4 },
    { what: 'rollback' },
    { what: 'rollback', toRelease: 1 },
  ]);
  expect(asked[1]).not.toHaveProperty('toRelease');
  expect(await run('scale', 'web', 'many')).toMatchObject({ end: 'invalid' });
  expect(await run('rollback', 'web', 'latest')).toMatchObject({ end: 'invalid' });
  expect(await run('rollback', 'web', 'v1', 'v2')).toMatchObject({ end: 'invalid' });
  expect(await run('rollback')).toMatchObject({ end: 'invalid' });
});

test('releases tells when, by whom, and what each changed', async () => {
  const { out, end } = await run('releases', 'web');
  expect(end).toBe(0);
  expect(out).toBe(
    [
      'RELEASE  STATE    MADE          BY          CHANGES',
      'v2       current  1 minute ago  webhook ci  containers.app.image: nginx:1.27 → nginx:1.28',
      'v1                2 hours ago   -',
      '',
    ].join('\n'),
  );
});

test('releases tells which part of the requests each gets while one takes over', async () => {
  const shares = [
    { release: 1, weight: 95 },
    { release: 2, weight: 5 },
  ];
  const key = { project: 'default', name: 'web' };
  const split = { ...key, operation: ID, release: 2, stage: 1, isJudged: true, shares, writtenAtMs: 0 };
  const second = buildRelease(2, { containers: { app: { image: 'nginx:1.28' } } });
  const web = buildMicroservice('web', { release: second, releaseNumbers: [1, 2], settledRelease: 1 });
  api.kv.put({ ...microserviceDocuments(web), [trafficKvKey(key)]: split });
  await eventually(async () => {
    const { out } = await run('releases', 'web');
    expect(out).toMatch(/^v2 +current, 5 % of requests /m);
    expect(out).toMatch(/^v1 +95 % of requests /m);
  });
});

test('releases tells what a release waits for, and who can have it go on', async () => {
  const key = { project: 'default', name: 'web' };
  const shares = [
    { release: 1, weight: 100 },
    { release: 2, weight: 0 },
  ];
  const split = { ...key, operation: ID, release: 2, stage: 1, isJudged: false, shares, writtenAtMs: 0 };
  const web = buildMicroservice('web', {
    release: buildRelease(2),
    releaseNumbers: [1, 2],
    settledRelease: 1,
    operation: ID,
  });
  const message = 'stage 1 of 2: have v2 ready beside v1 until it is promoted';
  const is = (state: 'paused' | 'running' | 'failed') =>
    operationDocument(buildOperation(ID, { release: 2, state, message }));
  api.kv.put({ ...microserviceDocuments(web), [trafficKvKey(key)]: split, ...is('paused') });
  await eventually(async () => {
    const { out } = await run('releases', 'web');
    expect(out).toMatch(/^v2 +current, waiting /m);
    expect(out).toMatch(/^v1 +100 % of requests /m);
    expect(out).toMatch(
      /^\nv2: stage 1 of 2: have v2 ready .* until it is promoted\. containeros promote web has it take over now, /m,
    );
  });
  api.kv.put(is('running'));
  const { out } = await run('releases', 'web');
  expect(out).toMatch(/^v2 +current, under way /m);
  expect(out).not.toMatch(/containeros promote/);
  api.kv.put(is('failed'));
  expect((await run('releases', 'web')).out).toMatch(/^v2 +current, failed /m);
});

test('webhooks are made with their secret, listed without it, rotated and revoked', async () => {
  expect((await run('webhooks', 'list', 'web')).out).toMatch(/has no webhooks/);
  const made = await run('webhooks', 'create', 'web', 'ci');
  const [, id, secret = '-'] = /\/v1\/hooks\/(\w+)\/([\w-]+)/.exec(made.out) ?? [];
  expect(id).toMatch(/^\w{18}$/);
  const listed = await run('webhooks', 'list', 'web');
  expect(listed.out).toMatch(/^ci +never/m);
  expect(listed.out).not.toContain(secret);
  const rotated = await run('webhooks', 'rotate', 'web', 'ci');
  expect(rotated.out).toContain(`/v1/hooks/${id}/`);
  expect(rotated.out).not.toContain(secret);
  expect((await run('webhooks', 'revoke', 'web', 'ci')).out).toBe('The webhook ci of web is revoked.\n');
  expect(await run('webhooks', 'revoke', 'web', 'ci')).toMatchObject({ end: 'not_found' });
});
