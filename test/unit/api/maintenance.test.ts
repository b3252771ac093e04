/** Maintenance over the API and on the command line. */

import { maintenanceKvKey, microserviceKvKey } from '../../../contracts/kv';
import { eventually } from '../../support/wait';
import { at, startCli } from '../cli/cli-under-test';

import { buildMicroservice, microserviceDocuments, startApi, useApi } from './api-under-test';

const KEY = { project: 'default', name: 'web' };
const PATH = '/v1/microservices/web/maintenance';

const use = useApi();
const run = (...argv: string[]) => startCli(['maintenance', ...argv], at(use.api.url)).ended;

const kept = async (): Promise<unknown> => {
  const { document } = await use.api.kv.get(maintenanceKvKey(KEY));
  return document === undefined ? undefined : (JSON.parse(document.text) as unknown);
};

beforeEach(async () => {
  use.api.kv.put(microserviceDocuments(buildMicroservice('web')));
  await eventually(() => expect(use.api.readModel.microservices()).toHaveLength(1));
});

test('it begins with defaults, is shown, changes, and ends', async () => {
  expect((await use.api.call('GET', PATH)).body).toEqual({ microservice: 'web', on: false });
  const begun = await use.api.call('PUT', PATH);
  expect(begun.status).toBe(200);
  expect(begun.body).toEqual({
    microservice: 'web',
    on: true,
    text: 'Under maintenance. Please come back later.\n',
    retryAfterSeconds: 60,
    allow: [],
  });
  const body = { text: 'Back at noon.', retryAfterSeconds: 5, allow: ['10.0.0.0/8'] };
  expect((await use.api.call('PUT', PATH, { body })).status).toBe(200);
  expect((await use.api.call('GET', PATH)).body).toEqual({ microservice: 'web', on: true, ...body });
  expect(await kept()).toMatchObject({ ...KEY, ...body });
  expect((await use.api.call('DELETE', PATH)).body).toEqual({ microservice: 'web', on: false });
  expect(await kept()).toBeUndefined();
});

test('what is wrong is refused with its place, and what is not there is not found', async () => {
  const answer = await use.api.call('PUT', PATH, { body: { allow: ['everybody'], text: '' } });
  expect(answer.status).toBe(400);
  expect(answer.text).toContain('/allow/0');
  expect(answer.text).toContain('/text');
  expect((await use.api.call('PUT', '/v1/microservices/wob/maintenance')).status).toBe(404);
  // Removed, and nobody has heard of it yet.
  use.api.kv.holdWatches(true);
  use.api.kv.delete(microserviceKvKey(KEY));
  expect((await use.api.call('PUT', PATH)).status).toBe(404);
  expect(await kept()).toBeUndefined();
});

test('the command begins and ends it', async () => {
  const on = await run(
    'on',
    'web',
    '--text',
    'Back at noon.',
    '--retry-after',
    '300',
    '--allow',
    '10.0.0.1, ::1',
  );
  expect([on.err, on.end, on.out]).toEqual([
    '',
    0,
    'web is under maintenance: its hostnames answer 503. containeros maintenance off web ends that.\n',
  ]);
  expect(await kept()).toMatchObject({
    text: 'Back at noon.',
    retryAfterSeconds: 300,
    allow: ['10.0.0.1', '::1'],
  });
  const off = await run('off', 'web');
  expect([off.end, off.out]).toEqual([0, 'web is open: its hostnames lead to its replicas again.\n']);
  expect(await kept()).toBeUndefined();
  expect((await run('on', 'web', '--retry-after', 'soon')).end).toBe('invalid');
});

test('who begins or ends it hears when every ingress goes by it, and which ones do not', async () => {
  const waited: number[] = [];
  let confirm: (behind: readonly string[]) => void = () => undefined;
  const api = await startApi({
    confirmed: (index) => {
      waited.push(index);
      return new Promise((resolve) => (confirm = resolve));
    },
  });
  try {
    const written = api.kv.put(microserviceDocuments(buildMicroservice('web')));
    await eventually(() => expect(api.readModel.microservices()).toHaveLength(1));
    let isAnswered = false;
    const begun = api.call('PUT', PATH).finally(() => (isAnswered = true));
    await eventually(() => expect(waited).toHaveLength(1));
    expect(waited[0]).toBeGreaterThan(written);
    expect(isAnswered).toBe(false);
    confirm(['node-2', 'node-3']);
    expect((await begun).body).toMatchObject({ on: true, behind: ['node-2', 'node-3'] });
    // What holds already was waited for by who began it.
    expect((await api.call('PUT', PATH)).body).not.toHaveProperty('behind');
    const off = startCli(['maintenance', 'off', 'web'], at(api.url)).ended;
    await eventually(() => expect(waited).toHaveLength(2));
    confirm(['node-2']);
    expect((await off).out).toBe(
      'web is open: its hostnames lead to its replicas again.\nNot confirmed yet by the ingress of node-2: it may take longer there. Look at containeros nodes.\n',
    );
  } finally {
    await api.close();
  }
});
