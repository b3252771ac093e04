/** Passwords of routes: what is asked of the entity, and so kept, has hashes only. */

import { compareSync } from 'bcryptjs';

import type { ApplyRequest, ChangeAccepted } from '../../../contracts/workflows';

import {
  buildMicroservice,
  buildOperation,
  microserviceDocuments,
  startApi,
  type ApiUnderTest,
} from './api-under-test';

const accepted: ChangeAccepted = {
  operation: buildOperation('deploy.default.web.0123456789ab'),
  generation: 1,
  created: true,
  index: 0,
};

const withUsers = (basicAuth: Readonly<Record<string, string>>) => ({
  name: 'web',
  containers: { app: { image: 'nginx:1', httpPorts: { 80: { hostnames: 'a.b', basicAuth } } } },
});

let api: ApiUnderTest;
let asked: ApplyRequest[];
beforeEach(async () => {
  asked = [];
  api = await startApi({
    changes: {
      apply: (_key: unknown, request: ApplyRequest) => {
        asked.push(request);
        return Promise.resolve(accepted);
      },
    },
  });
});
afterEach(() => api.close());

const hashesOf = (request: ApplyRequest | undefined) =>
  request?.release.containers[0]?.ports[0]?.routes?.[0]?.basicAuth ?? {};

const post = (basicAuth: Readonly<Record<string, string>>, headers: Record<string, string> = {}) =>
  api.call('POST', '/v1/microservices', { body: withUsers(basicAuth), headers });

test('a password is hashed before anybody keeps it, and one that is given again keeps its hash', async () => {
  expect((await post({ alice: 'correct horse' })).status).toBe(202);
  const [first] = asked;
  const { alice = '' } = hashesOf(first);
  expect(compareSync('correct horse', alice)).toBe(true);
  expect(JSON.stringify(first)).not.toContain('correct horse');
  const release = { number: 1, createdAtMs: 0, spec: first?.release ?? fail() };
  const index = api.kv.put(microserviceDocuments(buildMicroservice('web', { release })));
  await api.readModel.waitForIndex(index, 1_000);
  await post({ alice: 'correct horse', bob: 'correct horse' });
  const again = hashesOf(asked[1]);
  expect(again['alice']).toBe(alice);
  expect(again['bob']).not.toBe(alice);
  await post({ alice: 'another' });
  expect(compareSync('another', hashesOf(asked[2])['alice'] ?? '')).toBe(true);
  const read = await api.call('GET', '/v1/microservices/web');
  expect(JSON.stringify(read.body)).toContain(alice);
  await api.call('PATCH', '/v1/microservices/web', {
    body: { containers: { app: { image: 'nginx:2' } } },
  });
  expect(hashesOf(asked[3])).toEqual({ alice });
});

test('a hash is kept as it is', async () => {
  const hash = `$2y$12$${'b'.repeat(53)}`;
  await post({ alice: hash });
  expect(hashesOf(asked[0])).toEqual({ alice: hash });
});

test('what an idempotency key is remembered with does not tell a password', async () => {
  const headers = { 'idempotency-key': 'one' };
  await post({ alice: 'one' }, headers);
  await post({ alice: 'two' }, headers);
  await post({ bob: 'two' }, headers);
  const [one, two, other] = asked.map(({ requestHash }) => requestHash);
  expect(one).toMatch(/^[0-9a-f]{64}$/);
  expect(two).toBe(one);
  expect(other).not.toBe(one);
});

const fail = (): never => {
  throw new Error('nothing was asked');
};
