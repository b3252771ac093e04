/** Documents in Consul that nobody can read: each is left out and told of once, and the others are shown. */

import {
  eventKvKey,
  microserviceKvKey,
  nodeKvKey,
  operationKvKey,
  releaseKvKey,
  replicaKvKey,
} from '../../../contracts/kv';
import { NOW_MS, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';

import {
  buildMicroservice,
  buildOperation,
  eventDocument,
  microserviceDocuments,
  nodeDocument,
  operationDocument,
  replicaDocument,
  useApi,
} from './api-under-test';

const WEB = { project: 'default', name: 'web' };
const OPERATION = buildOperation('deploy.default.web.aaaaaaaa', {
  error: { code: 'unhealthy', message: '', logTail: [] },
});
const REPLICA = buildReplica('web-1', 'node-1', {
  reason: 'slow',
  containers: [
    {
      name: 'app',
      containerId: 'c',
      image: 'i',
      imageId: 'i',
      running: true,
      restartCount: 0,
      startedAtMs: NOW_MS,
    },
  ],
  ports: [
    {
      container: 'app',
      port: 80,
      protocol: 'tcp',
      address: '127.0.0.1',
      hostPort: 1,
      serviceId: 's',
      hostnames: [],
    },
  ],
});
const GOOD: Readonly<Record<string, unknown>> = {
  ...microserviceDocuments(buildMicroservice('web')),
  ...operationDocument(OPERATION),
  ...replicaDocument(REPLICA),
  ...nodeDocument('node-1'),
  ...eventDocument(NOW_MS, 'good0000'),
};

/** The key of the good document of each kind, and one for a bad document. */
const KINDS: readonly { readonly kind: string; readonly goodKey: string; readonly badKey: string }[] = [
  {
    kind: 'microservice',
    goodKey: microserviceKvKey(WEB),
    badKey: microserviceKvKey({ ...WEB, name: 'bad' }),
  },
  { kind: 'release', goodKey: releaseKvKey(WEB, 1), badKey: releaseKvKey(WEB, 2) },
  {
    kind: 'operation',
    goodKey: operationKvKey(WEB, OPERATION.id),
    badKey: operationKvKey(WEB, 'deploy.default.web.bbbbbbbb'),
  },
  { kind: 'replica', goodKey: replicaKvKey(WEB, 'web-1'), badKey: replicaKvKey(WEB, 'web-2') },
  { kind: 'node', goodKey: nodeKvKey('node-1'), badKey: nodeKvKey('node-2') },
  { kind: 'event', goodKey: eventKvKey(NOW_MS, 'good0000'), badKey: eventKvKey(NOW_MS, 'bad00000') },
];

const LISTS = [
  '/v1/microservices',
  '/v1/microservices/web/releases',
  '/v1/microservices/web/replicas',
  '/v1/microservices/web/operations',
  '/v1/replicas',
  '/v1/nodes',
  '/v1/operations',
  '/v1/events',
];

type Json = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The document with every field, at whatever depth, once left out and once of another type. */
const brokenCopies = (document: Json): readonly Json[] =>
  Object.entries(document).flatMap(([field, value]) => {
    const { [field]: _left, ...rest } = document;
    const item: unknown = Array.isArray(value) ? value[0] : undefined;
    return [
      rest,
      { ...document, [field]: typeof value === 'object' ? 17 : [] },
      { ...document, [field]: null },
      ...(typeof value === 'number' ? [{ ...document, [field]: 1e300 }] : []),
      ...(isObject(value) ? brokenCopies(value).map((copy) => ({ ...document, [field]: copy })) : []),
      ...(isObject(item) ? brokenCopies(item).map((copy) => ({ ...document, [field]: [copy] })) : []),
    ];
  });

const world = useApi();
const seen = (index: number) =>
  eventually(
    () => {
      for (const one of Object.values(world.api.readModel.status().indexes))
        expect(one).toBeGreaterThanOrEqual(index);
    },
    { intervalMs: 2 },
  );
const lists = async () =>
  Object.fromEntries(
    await Promise.all(
      LISTS.map(async (path) => {
        const { status, body } = await world.api.call('GET', path);
        return [path, { status, items: (body as { items?: unknown[] }).items?.length }] as const;
      }),
    ),
  );
const told = (key: string) =>
  world.api.logged.filter((line) => line.includes(`${key} in Consul cannot be read and is left out: `));

const SHOWN = Object.fromEntries(LISTS.map((path) => [path, { status: 200, items: 1 }]));

describe.each(KINDS)('a bad $kind', ({ kind, goodKey, badKey }) => {
  const expectLeftOut = async (text: string) => {
    world.api.kv.put(GOOD);
    await seen(world.api.kv.putText(badKey, text));
    expect(await lists()).toEqual(SHOWN);
    expect(await lists()).toEqual(SHOWN);
    expect(told(badKey)).toHaveLength(1);
  };

  test.each(['', '{', '[]', 'null', '"x"', '17', 'true', '{}', '[null]'])(
    'that is %s is left out of the lists, and told of once',
    expectLeftOut,
  );

  // An event does not name its key.
  if (kind !== 'event') {
    test('that is another document is left out of the lists, and told of once', () =>
      expectLeftOut(JSON.stringify(GOOD[goodKey])));
  }

  test('takes the place of the good one that it replaces', async () => {
    world.api.kv.put(GOOD);
    await seen(world.api.kv.putText(goodKey, 'null'));
    const { [goodKey]: _replaced, ...others } = GOOD;
    const withBad = await lists();
    world.api.kv.delete(goodKey);
    await seen(world.api.kv.put(others));
    expect(withBad).toEqual(await lists());
    expect(told(goodKey)).toHaveLength(1);
  });

  test('that lacks any field, or has one of another type, never breaks a list', async () => {
    world.api.kv.put(GOOD);
    for (const copy of brokenCopies(GOOD[goodKey] as Json)) {
      await seen(world.api.kv.put({ [badKey]: copy }));
      for (const [path, { status }] of Object.entries(await lists()))
        expect({ path, status, copy }).toMatchObject({ path, status: 200 });
    }
  }, 120_000);
});
