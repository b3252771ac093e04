/** Deploy webhooks: who may use one, what it may change, and what is kept of its secret. */

import { KV_PREFIX } from '../../../contracts/kv';
import type { ApplyRequest, ChangeAccepted, RedeployRequest } from '../../../contracts/workflows';
import { ContainerOsError } from '../../../domain/errors';
import type { MicroserviceKey } from '../../../domain/model';
import type { MadeWebhookView } from '../../../openapi/webhook-schemas';
import { NOW_MS, buildRelease } from '../../support/builders';
import { httpRequest } from '../../support/http';

import {
  buildMicroservice,
  buildOperation,
  microserviceDocuments,
  operationDocument,
  startApi,
  type ApiUnderTest,
} from './api-under-test';

const ID = 'deploy.default.web.0123456789ab';
const DIGEST = `sha256:${'ab'.repeat(32)}`;
const HOOKS = '/v1/microservices/web/webhooks';

let api: ApiUnderTest;
let nowMs: number;
let applied: ApplyRequest[];
let redeployed: RedeployRequest[];
let refusal: ContainerOsError | undefined;

const accepted = (): ChangeAccepted => ({
  operation: buildOperation(ID),
  generation: 2,
  created: false,
  index: 0,
});

beforeEach(async () => {
  nowMs = NOW_MS;
  applied = [];
  redeployed = [];
  refusal = undefined;
  api = await startApi({
    nowMs: () => nowMs,
    changes: {
      apply: async (_key: MicroserviceKey, change: ApplyRequest) => {
        applied.push(change);
        if (refusal) throw refusal;
        return accepted();
      },
      redeploy: async (_key: MicroserviceKey, change: RedeployRequest) => {
        redeployed.push(change);
        return accepted();
      },
    },
  });
  const spec = {
    containers: { app: { image: 'ghcr.io/me/web:v1', env: ['A=1'] }, side: { image: 'ghcr.io/me/side:v1' } },
  };
  const index = api.kv.put(
    microserviceDocuments(buildMicroservice('web', { release: buildRelease(1, spec), scale: 3 })),
  );
  await api.readModel.waitForIndex(index, 1_000);
});
afterEach(() => api.close());

const make = async (body: object = { name: 'ci' }): Promise<MadeWebhookView> => {
  const { status, body: made } = await api.call('POST', HOOKS, { body });
  expect(status).toBe(201);
  return made as MadeWebhookView;
};

/** As a build does: without the password. */
const use = (
  { id, secret }: Pick<MadeWebhookView, 'id' | 'secret'>,
  body: unknown,
  headers = {},
  query = '',
) => api.call('POST', `/v1/hooks/${id}/${secret}${query}`, { body, password: null, headers });

const app = { container: 'app', tag: 'v2' };

test('a webhook deploys another tag of the same repository, in its own name, and changes nothing else', async () => {
  const made = await make();
  const { status, body, headers } = await use(made, app);
  expect(status).toBe(202);
  expect(headers).toMatchObject({ location: `/v1/operations/${ID}` });
  expect(body).toMatchObject({ id: ID, links: { self: `/v1/operations/${ID}` } });
  expect(applied).toMatchObject([{ by: { kind: 'webhook', name: 'ci' }, ifGeneration: 1, name: 'web' }]);
  expect(applied[0]).not.toHaveProperty('scale');
  const { containers } = buildRelease(1, {
    containers: { app: { image: 'ghcr.io/me/web:v2', env: ['A=1'] }, side: { image: 'ghcr.io/me/side:v1' } },
  }).spec;
  expect(applied[0]?.release.containers).toEqual(containers);
});

test.each([
  [app, 'ghcr.io/me/web:v2'],
  [{ image: 'ghcr.io/me/web:v3' }, 'ghcr.io/me/web:v3'],
  [{ container: 'app', digest: DIGEST }, `ghcr.io/me/web@${DIGEST}`],
  [{ container: 'app', tag: 'v2', digest: DIGEST }, `ghcr.io/me/web:v2@${DIGEST}`],
  [{ image: 'ghcr.io/me/web:v2', digest: DIGEST }, `ghcr.io/me/web:v2@${DIGEST}`],
])('%j brings %s', async (body, image) => {
  expect((await use(await make(), body)).status).toBe(202);
  expect(applied[0]?.release.containers[0]?.image).toBe(image);
});

test.each([
  [{}, 400, /"image", "tag" or "digest"|container/],
  [{ tag: 'v2' }, 400, /one of app, side/],
  [{ container: 'none', tag: 'v2' }, 400, /one of app, side/],
  [{ container: 'app', tag: '../x' }, 400, /must be a tag/],
  [{ container: 'app', digest: 'sha256:1' }, 400, /must be a digest/],
  [{ container: 'app', image: 'evil.example.com/web:v1' }, 403, /may only bring images of ghcr\.io\/me\/web/],
  [{ container: 'app', tag: 'v2', scale: 9 }, 400, /scale/],
  [{ redeploy: true, tag: 'v2' }, 400, /nothing else/],
])('%j is refused', async (body, status, detail) => {
  const made = await make();
  const answer = await use(made, body);
  expect(answer.status).toBe(status);
  expect((answer.body as { detail: string }).detail).toMatch(detail);
  expect(applied).toEqual([]);
});

test('another repository, where the webhook allows it', async () => {
  const made = await make({ name: 'ci', anyRepository: true });
  expect((await use(made, { container: 'app', image: 'other/web:v1' })).status).toBe(202);
});

test('the same image is nothing to do, and a repeated request is what the first one was', async () => {
  const made = await make();
  const same = await use(made, { container: 'app', tag: 'v1' });
  expect(same).toMatchObject({ status: 200, body: { changed: false, release: 1 } });
  expect(applied).toEqual([]);
  await use(made, { container: 'app', tag: 'v1' }, { 'idempotency-key': 'run-1' });
  await use(made, { tag: 'v1', container: 'app' }, { 'idempotency-key': 'run-1' });
  expect(applied.map(({ idempotencyKey }) => idempotencyKey)).toEqual(['run-1', 'run-1']);
  expect(applied[0]?.requestHash).toBe(applied[1]?.requestHash);
});

test('a form does too, and a redeploy looks the tags up anew', async () => {
  const made = await make();
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  expect((await use(made, 'container=app&tag=v7', form)).status).toBe(202);
  expect(applied[0]?.release.containers[0]?.image).toBe('ghcr.io/me/web:v7');
  expect((await use(made, '{"container":"app","tag":"v8"}', form)).status).toBe(202);
  expect((await use(made, 'redeploy=true', form)).status).toBe(202);
  expect(redeployed).toEqual([{ by: { kind: 'webhook', name: 'ci' } }]);
  expect((await use(made, 'tag=a&tag=b', form)).status).toBe(400);
});

test('with wait, a release that was rolled back is an error with its last words', async () => {
  const made = await make();
  api.kv.put(
    operationDocument(
      buildOperation(ID, {
        state: 'rolled_back',
        message: 'v2 was rolled back to v1: app ended with status 3',
        error: { code: 'unhealthy', message: 'app ended with status 3', logTail: ['boom'] },
      }),
    ),
  );
  const { status, body } = await use(made, app, {}, '?wait=5s');
  expect(status).toBe(422);
  expect(body).toMatchObject({
    detail: expect.stringContaining('rolled back to v1') as string,
    operation: { state: 'rolled_back', error: { logTail: ['boom'] } },
  });
});

test('the secret may come as a header, so that no URL has it', async () => {
  const { id, secret, secretlessUrl, url } = await make();
  expect(url).toBe(`${secretlessUrl}/${secret}`);
  const bearer = (value: string) =>
    httpRequest(`${api.url}/v1/hooks/${id}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${value}`, 'content-type': 'application/json' },
      body: JSON.stringify(app),
    });
  expect((await bearer(secret)).status).toBe(202);
  expect((await bearer(`${secret}x`)).status).toBe(401);
});

test('a wrong secret and a webhook that is not there are answered alike, and not for long', async () => {
  const { id, secret } = await make();
  const comparable = ({ status, body }: Awaited<ReturnType<typeof use>>) => {
    const { requestId: _own, ...rest } = body as Record<string, unknown>;
    return { status, rest };
  };
  const wrong = comparable(await use({ id, secret: 'x'.repeat(43) }, app));
  expect(wrong.status).toBe(401);
  for (const other of ['0'.repeat(18), 'none', '..%2f..', id.toUpperCase()]) {
    expect(comparable(await use({ id: other, secret }, app))).toEqual(wrong);
  }
  // The password of people is no secret of a webhook.
  expect((await api.call('POST', `/v1/hooks/${id}`, { body: app })).status).toBe(401);
  let answer = await use({ id, secret: 'wrong' }, app);
  for (let attempt = 0; attempt < 120 && answer.status === 401; attempt += 1) {
    answer = await use({ id, secret: 'wrong' }, app);
  }
  expect(answer).toMatchObject({ status: 429, headers: { 'retry-after': expect.any(String) as string } });
  // Not even the right one is compared then.
  expect((await use({ id, secret }, app)).status).toBe(429);
  expect(applied).toEqual([]);
});

test('one webhook deploys so often in a minute, whoever uses it', async () => {
  const made = await make();
  const statuses = [];
  for (let count = 0; count < 12; count += 1) statuses.push((await use(made, app)).status);
  expect(statuses.filter((status) => status === 202)).toHaveLength(10);
  expect(statuses.at(-1)).toBe(429);
  nowMs += 60_000;
  expect((await use(made, app)).status).toBe(202);
});

test('webhooks are listed with their last use, rotated and revoked', async () => {
  const made = await make();
  expect((await api.call('POST', HOOKS, { body: { name: 'ci' } })).status).toBe(409);
  await use(made, app);
  refusal = new ContainerOsError('conflict', 'no');
  expect((await use(made, app)).status).toBe(409);
  const listed = await api.call('GET', HOOKS);
  expect(listed.body).toMatchObject({
    items: [{ id: made.id, name: 'ci', lastUse: { result: 'conflict', image: 'ghcr.io/me/web:v2' } }],
  });
  expect(JSON.stringify(listed.body)).not.toContain('ecret');

  refusal = undefined;
  const rotated = (await api.call('POST', `${HOOKS}/ci/rotate`)).body as MadeWebhookView;
  expect((await use(made, app)).status).toBe(401);
  expect((await use(rotated, app)).status).toBe(202);
  expect((await api.call('DELETE', `${HOOKS}/ci`)).status).toBe(204);
  expect((await use(rotated, app)).status).toBe(401);
  expect((await api.call('DELETE', `${HOOKS}/ci`)).status).toBe(404);
  expect((await api.call('POST', HOOKS, { body: { name: 'x' }, password: null })).status).toBe(401);
});

test('the secret is in no log line, and only its hash is kept', async () => {
  const made = await make();
  await use(made, app);
  await use({ ...made, secret: `${made.secret}wrong` }, app);
  await use(made, 'not json');
  await api.call('GET', `/v1/hooks/${made.id}/${made.secret}`);
  await api.call('POST', `/v1/hooks/${made.id}/${made.secret}/more`, { body: app });
  expect(api.logged.length).toBeGreaterThan(0);
  expect(api.logged.join('\n')).not.toContain(made.secret);
  const { documents } = await api.kv.list(KV_PREFIX.webhooks);
  expect(documents).toHaveLength(1);
  expect(JSON.stringify(documents)).not.toContain(made.secret);
  expect(JSON.stringify(applied)).not.toContain(made.secret);
});
