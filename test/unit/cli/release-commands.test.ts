/** Commands about a release that is under way. */

import { ContainerOsError } from '../../../domain/errors';
import type { Changes } from '../../../api/changes';
import type { Operation } from '../../../domain/model';
import { buildMicroservice, microserviceDocuments, startApi } from '../api/api-under-test';

import { at, startCli } from './cli-under-test';

const OPERATION: Operation = {
  project: 'default',
  name: 'shop',
  id: 'deploy.default.shop.0123456789ab',
  kind: 'deploy',
  state: 'paused',
  release: 7,
  scale: 2,
  message: '',
  plan: [],
  createdAtMs: 0,
};

const run = async (changes: Partial<Changes>, ...argv: readonly string[]) => {
  const api = await startApi({ changes });
  try {
    const index = api.kv.put(microserviceDocuments(buildMicroservice('shop')));
    await api.readModel.waitForIndex(index, 1_000);
    return await startCli(argv, at(api.url)).ended;
  } finally {
    await api.close();
  }
};

test.each([
  [
    ['promote'],
    { command: 'promote', by: { kind: 'password' }, wantedBy: 'an operator' },
    'v7 of shop gets all requests',
  ],
  [
    ['abort'],
    { command: 'abort', by: { kind: 'password' }, wantedBy: 'an operator' },
    'v7 of shop is rolled back',
  ],
  [
    ['abort', '--reason', 'it is slow'],
    { command: 'abort', by: { kind: 'password' }, wantedBy: 'an operator: it is slow' },
    'v7 of shop is rolled back',
  ],
  [
    ['pause'],
    { command: 'pause', by: { kind: 'password' }, wantedBy: 'an operator' },
    'v7 of shop is paused',
  ],
  [
    ['resume'],
    { command: 'resume', by: { kind: 'password' }, wantedBy: 'an operator' },
    'v7 of shop goes on',
  ],
])('%j', async ([name = '', ...flags], asked, words) => {
  const asks: unknown[] = [];
  const steer: Changes['steer'] = async (_key, request) => {
    asks.push(request);
    return { operation: OPERATION, generation: 3, created: false, index: 1 };
  };
  const ended = await run({ steer }, name, 'shop', ...flags);
  expect(ended).toMatchObject({ err: '', end: 0 });
  expect(ended.out).toContain(`${words} (${OPERATION.id}).`);
  expect(asks).toEqual([asked]);
});

test('a redeploy says which release it makes', async () => {
  const redeploy: Changes['redeploy'] = async () => ({
    operation: { ...OPERATION, release: 8 },
    generation: 4,
    created: false,
    index: 1,
  });
  const { out } = await run({ redeploy }, 'redeploy', 'shop');
  expect(out).toBe(`shop is deployed anew as v8 (${OPERATION.id}).\n`);
});

test('what is refused is told as it is', async () => {
  const steer: Changes['steer'] = async () => {
    throw new ContainerOsError('conflict', 'No release of shop is under way.');
  };
  expect(await run({ steer }, 'promote', 'shop')).toEqual({
    out: '',
    err: 'containeros: No release of shop is under way.\n',
    end: 'conflict',
  });
});
