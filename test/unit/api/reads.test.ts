/** Reads: what is shown, waiting for what is newer, and what is shown while Consul is away. */

import { createMicroserviceJson } from '../../../api/microservice-json';
import type { Certificate } from '../../../contracts/certificates';
import {
  certificateKvKey,
  microserviceKvKey,
  nodeKvKey,
  releaseKvKey,
  trafficKvKey,
} from '../../../contracts/kv';
import type { ObservedNode } from '../../../domain/model';
import type { TrafficSplit } from '../../../domain/traffic';
import type {
  MicroserviceView,
  NodeView,
  OperationView,
  PlacementView,
  ReleaseView,
  ReplicaView,
} from '../../../openapi/schemas';
import {
  microserviceSchema,
  nodeSchema,
  placementSchema,
  releaseSchema,
  replicaSchema,
} from '../../../openapi/schemas';
import { NOW_MS, buildRelease, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';

import {
  buildMicroservice,
  buildOperation,
  eventDocument,
  microserviceDocuments,
  nodeDocument,
  operationDocument,
  replicaDocument,
  startApi,
  useApi,
} from './api-under-test';
import { createFakeKv } from './fake-kv';

const KEY = { project: 'default', name: 'web' };

const replica = (id: string, overrides: Parameters<typeof buildReplica>[2] = {}) =>
  buildReplica(id, 'node-1', {
    ports: [
      {
        container: 'app',
        port: 80,
        protocol: 'tcp',
        address: '127.0.0.1',
        hostPort: 20_001,
        serviceId: `${id}-80`,
        hostnames: ['hello.localhost'],
      },
    ],
    ...overrides,
  });

const world = useApi();
const put = async (...documents: Record<string, unknown>[]) => {
  const index = world.api.kv.put(Object.assign({}, ...documents) as Record<string, unknown>);
  await eventually(
    () => {
      for (const seen of Object.values(world.api.readModel.status().indexes))
        expect(seen).toBeGreaterThanOrEqual(index);
    },
    { intervalMs: 2 },
  );
};
const get = async <T>(path: string): Promise<T> => {
  const answer = await world.api.call('GET', path);
  expect({ path, status: answer.status, text: answer.text }).toMatchObject({ path, status: 200 });
  return answer.body as T;
};
interface Paged extends List<object> {
  readonly next?: string;
}
interface List<T> {
  readonly index: number;
  readonly items: readonly T[];
}

describe('a microservice', () => {
  test('shows its specification, its state and its replicas', async () => {
    const release = buildRelease(3, {
      containers: { app: { image: 'nginx:1.27', httpPorts: { '80': 'hello.localhost' } } },
    });
    await put(
      microserviceDocuments(
        buildMicroservice('web', {
          release,
          generation: 9,
          scale: 4,
          settledRelease: 2,
          releaseNumbers: [2, 3],
        }),
      ),
      replicaDocument(replica('web-1', { release: 3 })),
      replicaDocument(replica('web-2', { release: 2, state: 'unhealthy', reason: 'its check fails' })),
      replicaDocument(replica('web-3', { release: 3, state: 'crash_looping' })),
      replicaDocument(replica('web-4', { release: 3, state: 'starting' })),
      replicaDocument(replica('web-5', { release: 3, state: 'exited' })),
    );
    const answer = await world.api.call('GET', '/v1/microservices/WEB');
    expect(answer.headers['etag']).toBe('"9"');
    const view = answer.body as MicroserviceView;
    expect(microserviceSchema.safeParse(view).error).toBeUndefined();
    expect(view).toMatchObject({
      name: 'web',
      specification: { name: 'web', scale: 4, containers: { app: { image: 'nginx:1.27' } } },
      scale: 4,
      release: 3,
      settledRelease: 2,
      generation: 9,
      replicas: { desired: 4, running: 1, starting: 1, unhealthy: 1, restarting: 1, other: 1, outdated: 1 },
      endpoints: [{ container: 'app', port: 80, address: '127.0.0.1:20001', replica: 'web-1' }],
      urls: ['http://hello.localhost'],
      createdAt: '2026-01-01T00:00:00.000Z',
      links: {
        webUi: 'http://127.0.0.1:8233/namespaces/default/workflows/microservice%3Adefault%2Fweb',
      },
    });
  });

  test('shows how its requests are split while a release takes over, and each release its part', async () => {
    const split: TrafficSplit = {
      ...KEY,
      operation: 'deploy.default.web.1',
      release: 3,
      stage: 2,
      isJudged: true,
      shares: [
        { release: 3, weight: 10 },
        { release: 2, weight: 90 },
      ],
      writtenAtMs: NOW_MS,
    };
    const [second, third] = [buildRelease(2), buildRelease(3)];
    const web = buildMicroservice('web', { release: third, settledRelease: 2, releaseNumbers: [2, 3] });
    await put(microserviceDocuments(web), { [releaseKvKey(KEY, 2)]: second });
    const seen = async () => {
      const view = await get<MicroserviceView>('/v1/microservices/web');
      expect(microserviceSchema.safeParse(view).error).toBeUndefined();
      const { items } = await get<List<ReleaseView>>('/v1/microservices/web/releases');
      for (const item of items) expect(releaseSchema.safeParse(item).error).toBeUndefined();
      return [view.split, ...items.map(({ number, weight }) => [number, weight])];
    };
    expect(await seen()).toEqual([undefined, [3, undefined], [2, undefined]]);
    await put({ [trafficKvKey(KEY)]: split });
    expect(await seen()).toEqual([
      {
        operation: 'deploy.default.web.1',
        release: 3,
        judged: true,
        shares: [
          { release: 2, weight: 90 },
          { release: 3, weight: 10 },
        ],
      },
      [3, 10],
      [2, 90],
    ]);
    world.api.kv.delete(trafficKvKey(KEY));
    await eventually(async () => expect(await seen()).toEqual([undefined, [3, undefined], [2, undefined]]));
  });

  test('has addresses that one can open: https where there is a certificate, or will be', async () => {
    const api = await startApi({ config: { httpPort: 8080, httpsPort: 8443 } });
    try {
      const hostnames = ['a.example.com', 'b.c.example.com', 'own.localhost'];
      const path = { hostnames: 'a.example.com', path: '/api', sticky: true };
      const release = buildRelease(1, {
        containers: { app: { image: 'nginx:1', httpPorts: { '80': [...hostnames, path] } } },
      });
      api.kv.put(microserviceDocuments(buildMicroservice('web', { release })));
      const urls = async () => {
        const { body } = await api.call('GET', '/v1/microservices/web');
        return (body as MicroserviceView).urls;
      };
      await eventually(async () =>
        expect(await urls()).toEqual([
          'http://a.example.com:8080',
          'http://a.example.com:8080/api',
          'http://b.c.example.com:8080',
          'https://own.localhost:8443',
        ]),
      );
      const certificate: Certificate = {
        hostname: 'a.example.com',
        hostnames: ['*.c.example.com', 'a.example.com'],
        source: 'uploaded',
        issuer: 'somebody',
        notBeforeMs: 0,
        notAfterMs: NOW_MS,
        fingerprint: 'f',
        sealed: 's',
        updatedAtMs: 0,
      };
      api.kv.put({ [certificateKvKey('a.example.com')]: certificate });
      await eventually(async () =>
        expect(await urls()).toEqual([
          'https://a.example.com:8443',
          'https://a.example.com:8443/api',
          'https://b.c.example.com:8443',
          'https://own.localhost:8443',
        ]),
      );
      api.kv.delete(certificateKvKey('a.example.com'));
      await eventually(async () => expect(await urls()).toContain('http://a.example.com:8080'));
    } finally {
      await api.close();
    }
  });

  test('is listed in the order of names, and filtered', async () => {
    await put(
      microserviceDocuments(buildMicroservice('web')),
      microserviceDocuments(buildMicroservice('api', { state: 'failed' })),
      replicaDocument(replica('web-1')),
    );
    const names = async (query: string) =>
      (await get<List<MicroserviceView>>(`/v1/microservices${query}`)).items.map(({ name }) => name);
    expect(await names('')).toEqual(['api', 'web']);
    expect(await names('?state=failed')).toEqual(['api']);
    expect(await names('?node=node-1')).toEqual(['web']);
    expect(await names('?node=node-2')).toEqual([]);
  });

  test('shows its releases with what each changed', async () => {
    const first = buildRelease(1);
    const second = buildRelease(2, { containers: { app: { image: 'nginx:1.28', ports: [80] } } });
    await put(microserviceDocuments(buildMicroservice('web', { release: first })));
    await put(
      microserviceDocuments(
        buildMicroservice('web', { release: second, settledRelease: 1, releaseNumbers: [1, 2] }),
      ),
    );
    const { items } = await get<List<ReleaseView>>('/v1/microservices/web/releases');
    for (const item of items) expect(releaseSchema.safeParse(item).error).toBeUndefined();
    expect(items).toMatchObject([
      {
        number: 2,
        current: true,
        settled: false,
        diff: [expect.stringContaining('nginx:1.27 → nginx:1.28')],
      },
      { number: 1, current: false, settled: true, diff: [] },
    ]);
    expect(await get('/v1/microservices/web/releases/1')).toEqual(items[1]);
    expect(await get('/v1/microservices/web/releases/v1')).toEqual(items[1]);
  });
});

test('replicas and nodes', async () => {
  await put(
    nodeDocument('node-1'),
    replicaDocument(replica('web-1', { restartCount: 3, cpusReserved: 0.5, memoryReservedBytes: 7 })),
    replicaDocument(
      buildReplica('web-2', 'node-2', { name: 'other', state: 'broken', reason: 'a container is gone' }),
    ),
  );
  const ids = async (query: string) =>
    (await get<List<ReplicaView>>(`/v1/replicas${query}`)).items.map(({ id }) => id);
  expect(await ids('')).toEqual(['web-1', 'web-2']);
  expect(await ids('?microservice=web')).toEqual(['web-1']);
  expect(await ids('?node=node-2')).toEqual(['web-2']);
  expect(await ids('?state=broken')).toEqual(['web-2']);
  const view = await get<ReplicaView>('/v1/replicas/web-1');
  expect(replicaSchema.safeParse(view).error).toBeUndefined();
  expect(view).toMatchObject({ healthy: true, restartCount: 3, ports: [{ address: '127.0.0.1:20001' }] });
  expect(await get<ReplicaView>('/v1/replicas/web-2')).toMatchObject({
    healthy: false,
    reason: 'a container is gone',
  });
  const node = await get<NodeView>('/v1/nodes/node-1');
  expect(nodeSchema.safeParse(node).error).toBeUndefined();
  expect(node).toMatchObject({ replicas: 1, cpusReserved: 0.5, memoryReservedBytes: 7, connected: false });
  expect((await get<List<NodeView>>('/v1/nodes')).items).toEqual([node]);
});

test('where one more replica could go, and why not elsewhere', async () => {
  const node = (id: string, overrides: Partial<ObservedNode>) => ({
    [nodeKvKey(id)]: { ...(nodeDocument(id)[nodeKvKey(id)] as ObservedNode), ...overrides },
  });
  const release = buildRelease(1, {
    constraints: { disk: 'ssd' },
    containers: { app: { image: 'nginx:1.27', cpus: 3, reserve: { cpus: 3 } } },
  });
  await put(
    microserviceDocuments(buildMicroservice('web', { release })),
    node('node-1', { labels: { disk: 'ssd' }, health: 'degraded' }),
    node('node-2', { labels: { disk: 'ssd' } }),
    node('node-3', { labels: { disk: 'tape' } }),
    node('node-4', { labels: { disk: 'ssd' } }),
    replicaDocument(buildReplica('other-1', 'node-2', { name: 'other', cpusReserved: 1 })),
  );
  const view = await get<PlacementView>('/v1/microservices/web/placement');
  expect(placementSchema.safeParse(view).error).toBeUndefined();
  expect(view).toMatchObject({
    microservice: 'web',
    fitting: 1,
    nodes: [
      {
        node: 'node-1',
        fits: true,
        reason: 'has room for one more replica, but is degraded: healthy nodes come first',
      },
      { node: 'node-2', fits: false, reason: 'needs 3 CPUs, 2.8 are free' },
      { node: 'node-3', fits: false, reason: 'needs the label disk=ssd, which is tape' },
      { node: 'node-4', fits: false, reason: 'is not reachable' },
    ],
  });
});

test('what runs on a node that does not answer is lost, and those who watch are told', async () => {
  await put(
    microserviceDocuments(buildMicroservice('web')),
    nodeDocument('node-1'),
    nodeDocument('node-2'),
    replicaDocument(replica('web-1')),
    replicaDocument(buildReplica('web-2', 'node-2', { state: 'unhealthy', reason: 'its check fails' })),
  );
  const paths = ['microservices', 'microservices/web', 'replicas', 'replicas/web-1', 'nodes', 'nodes/node-1'];
  const indexes = await Promise.all(
    paths.map(async (path) => (await world.api.call('GET', `/v1/${path}`)).headers['x-containeros-index']),
  );
  const watching = paths.map((path, at) => world.api.call('GET', `/v1/${path}?watch=${String(indexes[at])}`));
  world.api.members.lose('node-1');
  for (const { headers } of await Promise.all(watching))
    expect(indexes).not.toContain(headers['x-containeros-index']);

  const view = await get<MicroserviceView>('/v1/microservices/web');
  expect(microserviceSchema.safeParse(view).error).toBeUndefined();
  expect(view).toMatchObject({ replicas: { running: 0, unhealthy: 1, lost: 1 }, endpoints: [] });
  const { items } = await get<List<ReplicaView>>('/v1/replicas?state=lost');
  expect(items).toMatchObject([
    { id: 'web-1', healthy: false, state: 'lost', reason: 'node node-1 does not answer' },
  ]);
  expect(replicaSchema.safeParse(items[0]).error).toBeUndefined();
  const node = await get<NodeView>('/v1/nodes/node-1');
  expect(nodeSchema.safeParse(node).error).toBeUndefined();
  expect(node).toMatchObject({ health: 'lost', reasons: ['it does not answer'] });
  expect(await get<NodeView>('/v1/nodes/node-2')).toMatchObject({ health: 'healthy' });
  const { text } = await world.api.call('GET', '/metrics');
  expect(text).toContain('containeros_replicas{state="lost"} 1');
  expect(text).toContain('containeros_node_healthy{node="node-1"} 0');
});

describe('pages', () => {
  const names = ['a-one', 'B-two', 'c-three', 'd-four', 'e-five'];
  const release = (number: number) => ({ [releaseKvKey(KEY, number)]: buildRelease(number) });
  const operation = (name: string, createdAtMs: number) =>
    operationDocument(
      buildOperation(`deploy.default.web.${name.slice(0, 1).toLowerCase()}1`, { createdAtMs }),
    );
  const documents = () => [
    ...names.map((name) => microserviceDocuments(buildMicroservice(name))),
    microserviceDocuments(buildMicroservice('web', { release: buildRelease(5) })),
    ...names.flatMap((name, at) => [
      release(at + 1),
      replicaDocument(replica(`web-${name}`)),
      nodeDocument(`node-${at + 1}`),
      // Two at the same time.
      operation(name, Math.floor(at / 2)),
      eventDocument(NOW_MS + at, `event00${at}`),
    ]),
  ];
  const idOf = (item: object): string => {
    const { id, name, number } = item as { id?: string; name?: string; number?: number };
    return id ?? name ?? String(number);
  };

  test.each([
    ['microservices?', 'after'],
    ['microservices?state=steady&', 'after'],
    ['microservices/web/releases?', 'after'],
    ['microservices/web/replicas?', 'after'],
    ['microservices/web/operations?', 'after'],
    ['replicas?state=running&', 'after'],
    ['nodes?', 'after'],
    ['operations?kind=deploy&', 'after'],
    ['events?', 'since'],
  ])('of %s, one after the other, are the whole list', async (path, cursor) => {
    await put(...documents());
    const first = cursor === 'since' ? 'since=1970-01-01&' : '';
    const whole = await get<Paged>(`/v1/${path}${first}`);
    expect(whole.items.length).toBeGreaterThan(2);
    expect(whole.next).toBeUndefined();
    const seen: string[] = [];
    let from: string | undefined = first;
    while (from !== undefined) {
      const page: Paged = await get<Paged>(`/v1/${path}${from}limit=2`);
      seen.push(...page.items.map(idOf));
      expect(page.items.length).toBe(page.next === undefined ? whole.items.length % 2 || 2 : 2);
      from = page.next === undefined ? undefined : `${cursor}=${page.next}&`;
    }
    expect(seen).toEqual(whole.items.map(idOf));
  });

  test('go on where they were when the last item has gone meanwhile, or say that they cannot', async () => {
    await put(...documents());
    const { next } = await get<Paged>('/v1/microservices?limit=2');
    expect(next).toBe('B-two');
    world.api.kv.delete(microserviceKvKey({ project: 'default', name: 'B-two' }));
    const { items } = await get<Paged>('/v1/microservices?limit=1&after=b-TWO');
    expect(items.map(idOf)).toEqual(['c-three']);
    const lost = await world.api.call('GET', '/v1/operations?after=deploy.default.web.gone');
    expect(lost.status).toBe(404);
    expect(lost.text).toContain('Begin again without after.');
    expect((await world.api.call('GET', '/v1/microservices/web/releases?after=x')).status).toBe(400);
  });
});

describe('?watch=', () => {
  test.each([
    'microservices',
    'microservices/web/releases',
    'microservices/web/replicas',
    'microservices/web/operations',
    'replicas',
    'nodes',
    'operations',
    'events',
  ])('is taken by the list of %s, which says its index', async (path) => {
    await put(microserviceDocuments(buildMicroservice('web')));
    const answer = await world.api.call('GET', `/v1/${path}`);
    const { index } = answer.body as List<unknown>;
    expect(answer.headers['x-containeros-index']).toBe(String(index));
    expect(await get<List<unknown>>(`/v1/${path}?watch=${index}&timeout=1ms`)).toMatchObject({ index });
  });

  test('of operations answers when one of them has ended', async () => {
    const id = 'deploy.default.web.aaaaaaaa';
    const published = (state: OperationView['state'], generation: number) =>
      put(
        microserviceDocuments(buildMicroservice('web', { generation })),
        operationDocument(buildOperation(id, { state })),
      );
    await published('running', 1);
    for (const path of ['/v1/operations', '/v1/microservices/web/operations']) {
      const { index } = await get<List<OperationView>>(path);
      const watching = get<List<OperationView>>(`${path}?watch=${index}`);
      await published('succeeded', 2);
      expect((await watching).items).toMatchObject([{ id, state: 'succeeded' }]);
    }
  });

  const listIndex = async () => (await get<List<unknown>>('/v1/microservices')).index;

  test('answers at once when there is something newer, and waits otherwise', async () => {
    await put(microserviceDocuments(buildMicroservice('web')));
    const index = await listIndex();
    expect((await get<List<unknown>>(`/v1/microservices?watch=${index - 1}`)).index).toBe(index);
    const watching = get<List<MicroserviceView>>(`/v1/microservices?watch=${index}`);
    await put(microserviceDocuments(buildMicroservice('api')));
    const { items, index: newer } = await watching;
    expect(items.map(({ name }) => name)).toEqual(['api', 'web']);
    expect(newer).toBeGreaterThan(index);
  });

  test('answers with what it has when the time is over', async () => {
    await put(microserviceDocuments(buildMicroservice('web')));
    const index = await listIndex();
    expect((await get<List<unknown>>(`/v1/microservices?watch=${index}&timeout=20ms`)).index).toBe(index);
  });

  test('of one is not woken by another', async () => {
    await put(
      microserviceDocuments(buildMicroservice('web')),
      microserviceDocuments(buildMicroservice('api')),
    );
    const before = await world.api.call('GET', '/v1/microservices/web');
    const index = Number(before.headers['x-containeros-index']);
    let isAnswered = false;
    const watching = world.api.call('GET', `/v1/microservices/web?watch=${index}`).then((answer) => {
      isAnswered = true;
      return answer;
    });
    await put(microserviceDocuments(buildMicroservice('api', { generation: 2 })));
    expect(isAnswered).toBe(false);
    await put(replicaDocument(replica('web-1')));
    expect((await watching).body).toMatchObject({ replicas: { running: 1 } });
  });

  test('of one that is removed meanwhile is 404', async () => {
    await put(microserviceDocuments(buildMicroservice('web')));
    const { headers } = await world.api.call('GET', '/v1/microservices/web');
    const watching = world.api.call(
      'GET',
      `/v1/microservices/web?watch=${String(headers['x-containeros-index'])}`,
    );
    await new Promise((resolve) => setTimeout(resolve, 20));
    world.api.kv.delete(microserviceKvKey(KEY));
    expect((await watching).status).toBe(404);
  });

  test('with a number of an earlier, or of another process, answers at once', async () => {
    expect(await get<List<unknown>>('/v1/nodes?watch=1')).toMatchObject({ items: [] });
    expect(await get<List<unknown>>('/v1/nodes?watch=999999999999999')).toMatchObject({ items: [] });
  });
});

describe('Consul', () => {
  test('away: what was known is shown, and since when', async () => {
    await put(microserviceDocuments(buildMicroservice('web')));
    world.api.kv.away(true);
    await eventually(() => expect(world.api.readModel.status().staleSinceMs).toBeDefined(), {
      intervalMs: 2,
    });
    const stale = await world.api.call('GET', '/v1/microservices/web');
    expect(stale.status).toBe(200);
    expect(Date.parse(String(stale.headers['x-containeros-stale-since']))).toBeGreaterThan(NOW_MS - 1e12);
    const ready = await world.api.call('GET', '/readyz');
    expect(ready.status).toBe(503);
    expect(ready.text).toContain('Consul is away');
    expect((await world.api.call('GET', '/healthz')).status).toBe(200);
    world.api.kv.away(false);
    await eventually(() => expect(world.api.readModel.status().staleSinceMs).toBeUndefined(), {
      intervalMs: 2,
    });
    expect((await world.api.call('GET', '/v1/microservices/web')).headers).not.toHaveProperty(
      'x-containeros-stale-since',
    );
    expect((await world.api.call('GET', '/readyz')).status).toBe(200);
  });

  test('that lost its data takes it out of the answers too', async () => {
    await put(microserviceDocuments(buildMicroservice('web')), replicaDocument(replica('web-1')));
    world.api.kv.wipe();
    await eventually(
      async () => expect((await world.api.call('GET', '/v1/microservices/web')).status).toBe(404),
      {
        intervalMs: 2,
      },
    );
    await put(microserviceDocuments(buildMicroservice('web', { generation: 5 })));
    expect(await get('/v1/microservices/web')).toMatchObject({ generation: 5, replicas: { running: 0 } });
  });

  test('not yet read: 503, not an empty list', async () => {
    const kv = createFakeKv();
    kv.away(true);
    const api = await startApi({ kv });
    try {
      for (const path of ['/v1/microservices', '/v1/microservices/web', '/v1/nodes', '/v1/events']) {
        const answer = await api.call('GET', path);
        expect(answer.status).toBe(503);
        expect(answer.body).toMatchObject({ code: 'unavailable', retryable: true });
        expect(answer.headers['retry-after']).toBe('1');
      }
    } finally {
      await api.close();
    }
  }, 10_000);
});

test('/readyz says what is missing, also when a part hangs', async () => {
  const api = await startApi({ notReady: async () => ['Temporal does not answer', 'no worker polls'] });
  try {
    const answer = await api.call('GET', '/readyz', { password: null });
    expect(answer.status).toBe(503);
    expect(answer.body).toMatchObject({
      detail: 'ContainerOS is not ready: Temporal does not answer; no worker polls.',
      problems: [{ message: 'Temporal does not answer' }, { message: 'no worker polls' }],
    });
  } finally {
    await api.close();
  }
});

test('metrics count by pattern, never by what a client wrote', async () => {
  await put(
    microserviceDocuments(buildMicroservice('web')),
    nodeDocument('node-1'),
    replicaDocument(replica('web-1')),
  );
  await world.api.call('GET', '/v1/microservices/web');
  await world.api.call('GET', '/v1/microservices/secret-name');
  const { text } = await world.api.call('GET', '/metrics');
  expect(text).toContain('route="/v1/microservices/{name}",method="GET",status="404"');
  expect(text).toContain('containeros_microservices{state="steady"} 1');
  expect(text).toContain('containeros_replicas{state="running"} 1');
  expect(text).toContain('containeros_node_healthy{node="node-1"} 1');
  expect(text).toContain('containeros_read_model_stale_seconds 0');
  expect(text).not.toContain('secret-name');
});

test('the JSON of a microservice is made once for each of its versions', async () => {
  let links = 0;
  const json = createMicroserviceJson(
    world.api.readModel,
    () => {
      links += 1;
      return undefined;
    },
    { hasCertificate: () => false },
  );
  const show = () => {
    const found = world.api.readModel.microservice(KEY);
    return found && json.of(found);
  };
  await put(microserviceDocuments(buildMicroservice('web')), microserviceDocuments(buildMicroservice('api')));
  const first = show();
  expect(show()).toBe(first);
  expect(links).toBe(1);
  await put(microserviceDocuments(buildMicroservice('api', { generation: 2 })));
  expect(show()).toBe(first);
  expect(links).toBe(1);
  await put(replicaDocument(replica('web-1')));
  expect(show()).not.toBe(first);
  expect(show()).toContain('web-1');
  expect(links).toBe(2);
});
