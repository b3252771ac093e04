/** Changes: what is asked of the entity, when the answer comes, and what it says. */

import { microserviceKvKey } from '../../../contracts/kv';
import type { ApplyRequest, ChangeAccepted, ScaleRequest } from '../../../contracts/workflows';
import { ContainerOsError } from '../../../domain/errors';
import type { Operation } from '../../../domain/model';
import { NOW_MS } from '../../support/builders';
import { eventually } from '../../support/wait';

import {
  buildMicroservice,
  buildOperation,
  eventDocument,
  microserviceDocuments,
  operationDocument,
  startApi,
  type ApiUnderTest,
} from './api-under-test';

const ID = 'deploy.default.web.0123456789ab';
/** Who everybody is who has the password. */
const by = { by: { kind: 'password' } };
const good = { name: 'web', containers: { app: { image: 'nginx:1.27' } } };

const withApi = async (
  options: Parameters<typeof startApi>[0],
  body: (api: ApiUnderTest) => Promise<void>,
): Promise<void> => {
  const api = await startApi(options);
  try {
    await body(api);
  } finally {
    await api.close();
  }
};

const accepted = (overrides: Partial<ChangeAccepted> = {}): ChangeAccepted => ({
  operation: buildOperation(ID),
  generation: 1,
  created: true,
  index: 0,
  ...overrides,
});

describe('a change', () => {
  test('is answered with 202, its operation, its place and the generation', () =>
    withApi({ changes: { apply: async () => accepted({ generation: 7 }) } }, async (api) => {
      const answer = await api.call('POST', '/v1/microservices', { body: good });
      expect(answer.status).toBe(202);
      expect(answer.headers).toMatchObject({ location: `/v1/operations/${ID}`, etag: '"7"' });
      expect(answer.body).toMatchObject({
        id: ID,
        state: 'queued',
        final: false,
        generation: 7,
        created: true,
        createdAt: '2026-01-01T00:00:00.000Z',
        links: {
          self: `/v1/operations/${ID}`,
          webUi: `http://127.0.0.1:8233/namespaces/default/workflows/${ID}`,
        },
      });
    }));

  test('is seen by a GET right after it', () =>
    withApi(
      {
        changes: (kv) => ({
          apply: async ({ name }) => {
            const index = kv.put(microserviceDocuments(buildMicroservice(name)));
            return accepted({ index });
          },
        }),
      },
      async (api) => {
        await api.call('POST', '/v1/microservices', { body: good });
        expect((await api.call('GET', '/v1/microservices/web')).status).toBe(200);
        // Also when news travel slowly.
        api.kv.holdWatches(true);
        await api.call('POST', '/v1/microservices', { body: { ...good, name: 'slow' } });
        expect((await api.call('GET', '/v1/microservices/slow')).status).toBe(200);
      },
    ));

  test('is not held up by Consul being away', () =>
    withApi({ changes: { apply: async () => accepted({ index: 99 }) } }, async (api) => {
      api.kv.away(true);
      expect((await api.call('POST', '/v1/microservices', { body: good })).status).toBe(202);
    }));

  test('that is refused says why', () =>
    withApi(
      {
        changes: {
          scale: async () => {
            throw new ContainerOsError('not_found', 'There is no microservice web.');
          },
        },
      },
      async (api) => {
        const index = api.kv.put(microserviceDocuments(buildMicroservice('webb')));
        await api.readModel.waitForIndex(index, 1_000);
        const answer = await api.call('PATCH', '/v1/microservices/web', { body: { scale: 1 } });
        expect(answer.status).toBe(404);
        expect(answer.body).toMatchObject({ detail: 'There is no microservice web. Did you mean webb?' });
      },
    ));
});

describe('what is asked of the entity', () => {
  const asked = async (
    method: string,
    path: string,
    options: Parameters<ApiUnderTest['call']>[2] = {},
    existing = buildMicroservice('web', { generation: 3 }),
  ) => {
    const calls: { readonly update: string; readonly key: unknown; readonly request: unknown }[] = [];
    const record = (update: string) => async (key: unknown, request: unknown) => {
      calls.push({ update, key, request });
      return accepted();
    };
    const api = await startApi({
      changes: {
        apply: record('apply'),
        scale: record('scale'),
        restart: record('restart'),
        rollback: record('rollback'),
        redeploy: record('redeploy'),
        steer: record('steer'),
        remove: record('remove'),
      },
    });
    try {
      const index = api.kv.put(microserviceDocuments(existing));
      await api.readModel.waitForIndex(index, 1_000);
      const answer = await api.call(method, path, options);
      return { calls, answer };
    } finally {
      await api.close();
    }
  };
  const key = { project: 'default', name: 'web' };

  test('POST: a scale that is left out is left to the entity', async () => {
    const without = await asked('POST', '/v1/microservice', { body: good });
    expect(without.calls).toMatchObject([{ update: 'apply', key, request: { name: 'web' } }]);
    expect(without.calls[0]?.request).not.toHaveProperty('scale');
    const given = await asked('POST', '/v1/microservices', { body: { ...good, scale: 0 } });
    expect(given.calls[0]?.request).toMatchObject({ scale: 0 });
  });

  test('PUT: a scale that is left out is the default; the name may be left to the path', async () => {
    const { calls } = await asked('PUT', '/v1/microservices/web', { body: { containers: good.containers } });
    expect(calls).toMatchObject([{ update: 'apply', key, request: { name: 'web', scale: 1 } }]);
  });

  test('PATCH scale only scales', async () => {
    const { calls } = await asked('PATCH', '/v1/microservices/web', { body: { scale: 5 } });
    expect(calls).toEqual([{ update: 'scale', key, request: { ...by, scale: 5 } }]);
  });

  test('PATCH of more is merged into what is there, for the generation that was read', async () => {
    const { calls } = await asked('PATCH', '/v1/microservices/web', {
      body: { containers: { app: { image: 'nginx:1.28', ports: null } } },
    });
    expect(calls).toMatchObject([
      {
        update: 'apply',
        request: {
          ifGeneration: 3,
          scale: 2,
          release: { containers: [{ name: 'app', image: 'nginx:1.28', ports: [] }] },
        },
      },
    ]);
  });

  test('PATCH must leave a valid specification', async () => {
    const { calls, answer } = await asked('PATCH', '/v1/microservices/web', {
      body: { containers: { app: null } },
    });
    expect(answer.status).toBe(400);
    expect(calls).toEqual([]);
  });

  test('PATCH of what is not there', async () => {
    const { answer } = await asked('PATCH', '/v1/microservices/none', { body: { restart: null } });
    expect(answer.status).toBe(404);
  });

  test('DELETE, restart and rollback', async () => {
    expect((await asked('DELETE', '/v1/microservices/web')).calls).toEqual([
      { update: 'remove', key, request: by },
    ]);
    expect((await asked('POST', '/v1/microservices/web/restart')).calls).toEqual([
      { update: 'restart', key, request: by },
    ]);
    expect((await asked('POST', '/v1/microservices/web/rollback')).calls).toEqual([
      { update: 'rollback', key, request: by },
    ]);
    expect((await asked('POST', '/v1/microservices/web/rollback', { body: { toRelease: 4 } })).calls).toEqual(
      [{ update: 'rollback', key, request: { ...by, toRelease: 4 } }],
    );
  });

  test('redeploy, and what is asked of a release that is under way', async () => {
    expect((await asked('POST', '/v1/microservices/web/redeploy')).calls).toEqual([
      { update: 'redeploy', key, request: by },
    ]);
    for (const command of ['promote', 'abort', 'pause', 'resume']) {
      expect((await asked('POST', `/v1/microservices/web/${command}`)).calls).toEqual([
        { update: 'steer', key, request: { ...by, command, wantedBy: 'an operator' } },
      ]);
    }
    const body = { reason: 'it looks wrong' };
    expect((await asked('POST', '/v1/microservices/web/abort', { body })).calls).toEqual([
      { update: 'steer', key, request: { ...by, command: 'abort', wantedBy: 'an operator: it looks wrong' } },
    ]);
    const { answer, calls } = await asked('POST', '/v1/microservices/web/abort', { body: { why: 'x' } });
    expect([answer.status, calls]).toEqual([400, []]);
  });

  test.each([
    [{ 'if-match': '"3"' }, { ifGeneration: 3 }],
    [{ 'if-match': 'W/"3"' }, { ifGeneration: 3 }],
    [{ 'if-match': '*' }, {}],
    [{ 'if-none-match': '*' }, { ifGeneration: 0 }],
  ])('%p asks for %p', async (headers, conditions) => {
    const { calls } = await asked('DELETE', '/v1/microservices/web', { headers });
    expect(calls[0]?.request).toEqual({ ...by, ...conditions });
  });

  test('If-Match: * asks for one that is there', async () => {
    const { answer, calls } = await asked('PUT', '/v1/microservices/other', {
      body: { containers: good.containers },
      headers: { 'if-match': '*' },
    });
    expect(answer.status).toBe(412);
    expect(calls).toEqual([]);
  });

  test('an idempotency key comes with a hash of what was asked, whatever its spelling', async () => {
    const hashOf = async (body: string, path = '/v1/microservices') => {
      const { calls } = await asked('POST', path, { body, headers: { 'idempotency-key': 'k1' } });
      const request = calls[0]?.request as ApplyRequest;
      expect(request.idempotencyKey).toBe('k1');
      return request.requestHash;
    };
    const hash = await hashOf('{"name": "web", "containers": {"app": {"image": "a"}}}');
    expect(hash).toMatch(/^[0-9a-f]{64}$/);
    expect(await hashOf('{"containers": {"app": {"image": "a"}},\n "name": "web"}')).toBe(hash);
    expect(await hashOf('{"containers": {"app": {"image": "b"}}, "name": "web"}')).not.toBe(hash);
  });
});

test('PATCH is made anew when somebody else was faster', async () => {
  const tried: number[] = [];
  await withApi(
    {
      changes: (kv) => ({
        apply: async (_key, request) => {
          tried.push(request.ifGeneration ?? -1);
          if (request.ifGeneration === 3) {
            kv.put({
              [microserviceKvKey({ project: 'default', name: 'web' })]: buildMicroservice('web', {
                generation: 4,
              }),
            });
            throw new ContainerOsError('precondition_failed', 'It is at 4.');
          }
          return accepted();
        },
      }),
    },
    async (api) => {
      const index = api.kv.put(microserviceDocuments(buildMicroservice('web', { generation: 3 })));
      await api.readModel.waitForIndex(index, 1_000);
      const body = { hostNetwork: false };
      expect((await api.call('PATCH', '/v1/microservices/web', { body })).status).toBe(202);
      expect(tried).toEqual([3, 4]);
      // With a condition of the client's own it is the client who decides.
      const own = await api.call('PATCH', '/v1/microservices/web', { body, headers: { 'if-match': '"3"' } });
      expect(own.status).toBe(412);
    },
  );
});

describe('?wait=', () => {
  const running = buildOperation(ID, { state: 'running', plan: ['start web-1 on a'] });
  const waitFor = (end: Partial<Operation> | undefined, wait = '10s') => {
    const api = startApi({
      changes: (kv) => ({
        scale: async (_key: unknown, _request: ScaleRequest) => {
          const index = kv.put(operationDocument(running));
          if (end) setTimeout(() => kv.put(operationDocument({ ...running, ...end })), 20);
          return accepted({ operation: running, index });
        },
      }),
    });
    return api.then(async (started) => {
      try {
        return await started.call('PATCH', `/v1/microservices/web?wait=${wait}`, { body: { scale: 1 } });
      } finally {
        await started.close();
      }
    });
  };

  test('200 when it has succeeded', async () => {
    const answer = await waitFor({ state: 'succeeded', message: 'done' });
    expect(answer.status).toBe(200);
    expect(answer.body).toMatchObject({
      id: ID,
      state: 'succeeded',
      final: true,
      message: 'done',
      generation: 1,
    });
  });

  test.each([
    ['failed', 'no_capacity', 507],
    ['failed', 'image_not_found', 422],
    ['failed', 'pull_failed', 502],
    ['rolled_back', 'unhealthy', 422],
    ['failed', 'unavailable', 503],
    ['failed', 'internal', 500],
  ] as const)('%s with %s: %d', async (state, code, status) => {
    const error = { code, message: 'because', logTail: ['last words'] };
    const answer = await waitFor({ state, message: 'it ended', error });
    expect(answer.status).toBe(status);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.body).toMatchObject({ code, detail: 'it ended', operation: { id: ID, state, error } });
  });

  test('409 when a newer change took over', async () => {
    const answer = await waitFor({ state: 'superseded', message: 'superseded by another' });
    expect(answer.status).toBe(409);
    expect(answer.body).toMatchObject({ code: 'conflict', operation: { state: 'superseded' } });
  });

  test('202 when it takes longer', async () => {
    const answer = await waitFor(undefined, '50ms');
    expect(answer.status).toBe(202);
    expect(answer.body).toMatchObject({ state: 'running', plan: ['start web-1 on a'] });
  });

  test('ends with 202 when the server closes', async () => {
    const api = await startApi({
      changes: (kv) => ({
        remove: async () => accepted({ operation: running, index: kv.put(operationDocument(running)) }),
      }),
    });
    const answering = api.call('DELETE', '/v1/microservices/web?wait=10m');
    await eventually(() => expect(api.kv.blocked).toBe(1), { intervalMs: 5 });
    await api.close();
    expect((await answering).status).toBe(202);
  });

  test('many who wait for one operation ask Consul once, and many operations not too often', async () => {
    const ids = Array.from(
      { length: 100 },
      (_, number) => `scale.default.web.${String(number).padStart(8, '0')}`,
    );
    const api = await startApi();
    try {
      for (const id of ids) api.kv.put(operationDocument(buildOperation(id, { state: 'running' })));
      const [first = ''] = ids;
      const same = Array.from({ length: 10 }, () => api.call('GET', `/v1/operations/${first}?wait=20s`));
      await eventually(() => expect(api.kv.blocked).toBe(1), { intervalMs: 5 });
      const others = ids.slice(1).map((id) => api.call('GET', `/v1/operations/${id}?wait=20s`));
      await eventually(() => expect(api.kv.blocked).toBe(64), { intervalMs: 5 });
      // The microservice is published together with its operations: that wakes those without a blocking read.
      for (const id of ids) api.kv.put(operationDocument(buildOperation(id, { state: 'succeeded' })));
      api.kv.put(microserviceDocuments(buildMicroservice('web')));
      const answers = await Promise.all([...same, ...others]);
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
      expect(api.kv.blocked).toBe(0);
    } finally {
      await api.close();
    }
  });
});

describe('operations', () => {
  test('are read, listed and filtered', () =>
    withApi({}, async (api) => {
      api.kv.put({
        ...operationDocument(
          buildOperation('deploy.default.web.aaaaaaaa', { state: 'failed', createdAtMs: 1 }),
        ),
        ...operationDocument(
          buildOperation('scale.default.web.bbbbbbbb', { state: 'running', createdAtMs: 2 }),
        ),
        ...operationDocument(buildOperation('deploy.default.other.cccccccc', { createdAtMs: 3 })),
      });
      const idsOf = async (query: string) =>
        ((await api.call('GET', `/v1/operations${query}`)).body as { items: { id: string }[] }).items.map(
          ({ id }) => id,
        );
      expect(await idsOf('')).toEqual([
        'deploy.default.other.cccccccc',
        'scale.default.web.bbbbbbbb',
        'deploy.default.web.aaaaaaaa',
      ]);
      expect(await idsOf('?microservice=WEB')).toHaveLength(2);
      expect(await idsOf('?state=failed')).toEqual(['deploy.default.web.aaaaaaaa']);
      expect(await idsOf('?kind=deploy&limit=1')).toEqual(['deploy.default.other.cccccccc']);
      // Looking at a failed operation is no failure.
      const failed = await api.call('GET', '/v1/operations/deploy.default.web.aaaaaaaa');
      expect(failed.status).toBe(200);
      expect((await api.call('GET', '/v1/operations/deploy.default.web.aaaaaaaa?wait=1')).status).toBe(500);
    }));

  test('say what stands in their way while they run, and nothing of it afterwards', () =>
    withApi({}, async (api) => {
      const message = 'The image shop:1 could not be pulled.';
      const messageNow = async (path = `/v1/operations/${ID}`) =>
        ((await api.call('GET', path)).body as { message: string }).message;
      api.kv.put(operationDocument(buildOperation(ID, { state: 'running', message: '' })));
      const following = api.call('GET', `/v1/operations/${ID}/follow`);
      await eventually(() => expect(api.kv.blocked).toBe(1), { intervalMs: 5 });
      expect(await messageNow()).toBe('');
      api.kv.put(eventDocument(NOW_MS, 'started', { operation: ID, message: 'deploy of web' }));
      api.kv.put(eventDocument(NOW_MS + 1, 'other', { operation: 'x', level: 'warning', message: 'other' }));
      api.kv.put(
        microserviceDocuments({ ...buildMicroservice('web'), state: 'changing', message: '', operation: ID }),
      );
      const web = { project: 'default', microservice: 'web', operation: ID };
      await eventually(async () => expect(await messageNow('/v1/microservices/web')).toBe(''));
      api.kv.put(eventDocument(NOW_MS + 2, 'failed', { ...web, level: 'warning', message }));
      await eventually(async () => expect(await messageNow()).toBe(message), { intervalMs: 5 });
      expect(await messageNow('/v1/microservices/web')).toBe(message);
      api.kv.put(
        eventDocument(NOW_MS + 3, 'pulled00', {
          project: 'default',
          microservice: 'web',
          operation: ID,
          message: 'has it',
        }),
      );
      await eventually(async () => expect(await messageNow()).toBe(''), { intervalMs: 5 });
      expect(await messageNow('/v1/microservices/web')).toBe('');
      api.kv.put(operationDocument(buildOperation(ID, { state: 'succeeded', message: '' })));
      const told = [...(await following).text.matchAll(/"state":"(\w+)".*"message":"([^"]*)"/g)];
      expect(told.map(([, state, said]) => [state, said])).toEqual([
        ['running', ''],
        ['running', message],
        ['running', ''],
        ['succeeded', ''],
      ]);
    }));

  test.each(['application/x-ndjson', 'text/event-stream'])('are followed to their end as %s', (type) =>
    withApi({}, async (api) => {
      api.kv.put(operationDocument(buildOperation(ID)));
      const following = api.call('GET', `/v1/operations/${ID}/follow`, { headers: { accept: type } });
      await eventually(() => expect(api.kv.blocked).toBe(1), { intervalMs: 5 });
      api.kv.put(operationDocument(buildOperation(ID, { state: 'running', plan: ['a'] })));
      await eventually(() => expect(api.kv.blocked).toBe(1), { intervalMs: 5 });
      api.kv.away(true);
      api.kv.away(false);
      api.kv.put(operationDocument(buildOperation(ID, { state: 'succeeded', plan: ['a'] })));
      const answer = await following;
      expect(answer.headers['content-type']).toBe(type);
      const states = [...answer.text.matchAll(/"state":"(\w+)"/g)].map(([, state]) => state);
      expect(states[0]).toBe('queued');
      expect(states.at(-1)).toBe('succeeded');
    }),
  );
});
