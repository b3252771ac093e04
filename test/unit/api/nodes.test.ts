/** What operators say of nodes, and what becomes of daemons by it. */

import type { Changes } from '../../../api/changes';
import { KV_PREFIX, nodeKvKey, nodeSettingsKvKey, nodeStabilityKvKey } from '../../../contracts/kv';
import { firstSeen, type NodeStability } from '../../../domain/flapping';
import type { ClusterEvent } from '../../../domain/model';
import {
  nodeSchema,
  type MicroserviceView,
  type NodeView,
  type PlacementView,
} from '../../../openapi/schemas';
import { buildRelease, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';

import {
  buildMicroservice,
  buildOperation,
  microserviceDocuments,
  nodeDocument,
  replicaDocument,
  useApi,
  VERSION,
} from './api-under-test';

const applied: Parameters<Changes['apply']>[1][] = [];
const use = useApi({
  changes: (kv) => ({
    apply: async ({ name }, request) => {
      applied.push(request);
      const operation = buildOperation(`deploy.default.${name}.aaaaaaaa`);
      const document = buildMicroservice(name, { scale: request.scale ?? 1 });
      return { operation, generation: 1, created: true, index: kv.put(microserviceDocuments(document)) };
    },
  }),
});
beforeEach(() => applied.splice(0));

const post = (path: string) => use.api.call('POST', path);
const eventTypes = async () => {
  const { documents } = await use.api.kv.list(KV_PREFIX.events);
  return documents.map(({ text }) => (JSON.parse(text) as ClusterEvent).type);
};
const nodeIsThere = async (...ids: string[]) => {
  use.api.kv.put(Object.assign({}, ...ids.map(nodeDocument)) as Record<string, unknown>);
  await eventually(() => expect(use.api.readModel.nodes()).toHaveLength(ids.length));
};

test.each([
  ['cordon', 'cordoned', 'node.cordoned'],
  ['drain', 'draining', 'node.draining'],
])(
  '%s is shown at once, told as an event, and taken back by uncordon',
  async (action, availability, type) => {
    await nodeIsThere('node-1');
    const answer = await post(`/v1/nodes/node-1/${action}`);
    expect(answer.status).toBe(200);
    const view = answer.body as NodeView;
    expect(nodeSchema.safeParse(view).error).toBeUndefined();
    expect(view.availability).toBe(availability);
    expect((await post(`/v1/nodes/node-1/${action}`)).body).toMatchObject({ availability });
    expect(await eventTypes()).toEqual([type]);

    expect((await post('/v1/nodes/node-1/uncordon')).body).toMatchObject({ availability: 'active' });
    expect((await use.api.call('GET', '/v1/nodes/node-1')).body).toMatchObject({ availability: 'active' });
    expect(await eventTypes()).toEqual([type, 'node.uncordoned']);
  },
);

test('what a node runs is shown, and that it is another version than here', async () => {
  const versions = { 'node-1': VERSION, 'node-2': '1.2.2', 'node-3': undefined };
  for (const [id, containerosVersion] of Object.entries(versions)) {
    const document = { ...(nodeDocument(id)[nodeKvKey(id)] as object), containerosVersion };
    use.api.kv.put({ [nodeKvKey(id)]: document });
  }
  await eventually(() => expect(use.api.readModel.nodes()).toHaveLength(3));
  const { items } = (await use.api.call('GET', '/v1/nodes')).body as { readonly items: readonly NodeView[] };
  expect(items.map(({ containerosVersion, reasons }) => [containerosVersion, reasons])).toEqual([
    [VERSION, []],
    ['1.2.2', ['it runs ContainerOS 1.2.2, and the control plane 1.2.3: install the same version on both']],
    [undefined, []],
  ]);
});

test('a node that is not there cannot be cordoned, and nothing is written', async () => {
  await nodeIsThere('node-1');
  expect((await post('/v1/nodes/node-9/cordon')).status).toBe(404);
  expect((await use.api.kv.get(nodeSettingsKvKey('node-9'))).document).toBeUndefined();
});

test('the scale of a daemon is the number of nodes that are to have it', async () => {
  await nodeIsThere('node-1', 'node-2', 'node-3');
  const daemon = buildMicroservice('logs', { scale: 1, release: buildRelease(1, { daemon: true }) });
  use.api.kv.put({
    ...microserviceDocuments(daemon),
    ...replicaDocument(buildReplica('logs-1', 'node-1', { name: 'logs', daemon: true })),
  });
  await eventually(() => expect(use.api.readModel.replicas()).toHaveLength(1));
  const read = async () => (await use.api.call('GET', '/v1/microservices/logs')).body as MicroserviceView;
  expect(await read()).toMatchObject({ scale: 3, replicas: { desired: 3, running: 1 }, health: 'degraded' });
  expect((await read()).specification).not.toHaveProperty('scale');

  await post('/v1/nodes/node-3/cordon');
  use.api.members.lose('node-2');
  await eventually(async () =>
    expect(await read()).toMatchObject({ scale: 1, replicas: { desired: 1 }, health: 'healthy' }),
  );
});

test('a daemon takes no scale, and says why', async () => {
  await nodeIsThere('node-1');
  const daemon = buildMicroservice('logs', { scale: 1, release: buildRelease(1, { daemon: true }) });
  use.api.kv.put(microserviceDocuments(daemon));
  await eventually(() => expect(use.api.readModel.microservices()).toHaveLength(1));
  const scaled = await use.api.call('PATCH', '/v1/microservices/logs', { body: { scale: 3 } });
  expect(scaled.status).toBe(400);
  expect(scaled.text).toContain('one replica on every node that matches');
  const made = await use.api.call('POST', '/v1/microservices', {
    body: { name: 'other', daemon: true, scale: 2, containers: { app: { image: 'nginx:1.27' } } },
  });
  expect(made.status).toBe(400);
  expect(made.text).toContain('/scale must not be given with');
});

test.each([
  [4, undefined],
  [0, 1],
])('what becomes a daemon keeps the scale %s for later, unless that is none', async (scale, sent) => {
  use.api.kv.put(microserviceDocuments(buildMicroservice('web', { scale })));
  await eventually(() => expect(use.api.readModel.microservices()).toHaveLength(1));
  const answer = await use.api.call('PATCH', '/v1/microservices/web', { body: { daemon: true } });
  expect(answer.status).toBe(202);
  expect(applied).toMatchObject([{ release: { daemon: true } }]);
  expect(applied[0]?.scale).toBe(sent);
});

test('a node that comes and goes says so, and until when, and is no first choice', async () => {
  await nodeIsThere('node-1', 'node-2');
  use.api.kv.put(microserviceDocuments(buildMicroservice('web')));
  await eventually(() => expect(use.api.readModel.microservices()).toHaveLength(1));
  const read = async () => (await use.api.call('GET', '/v1/nodes/node-1')).body as NodeView;
  const before = await read();
  expect(before).not.toHaveProperty('unstableUntil');

  const index = (await use.api.call('GET', '/v1/nodes/node-1')).headers['x-containeros-index'];
  const waiting = use.api.call('GET', `/v1/nodes/node-1?watch=${String(index)}&timeout=20s`);
  const nowMs = Date.now();
  const stability = (unstableUntilMs: number): NodeStability => ({
    ...firstSeen('node-1', nowMs),
    losses: 3,
    firstLossAtMs: nowMs - 1_500_000,
    unstableUntilMs,
  });
  const untilMs = nowMs + 600_000;
  use.api.kv.put({ [nodeStabilityKvKey('node-1')]: stability(untilMs) });
  const unstable = (await waiting).body as NodeView;
  expect(nodeSchema.safeParse(unstable).error).toBeUndefined();
  const until = new Date(untilMs).toISOString();
  expect(unstable).toMatchObject({
    unstableUntil: until,
    health: 'healthy',
    reasons: [
      ...before.reasons,
      `it was lost 3 times in 25 min: until ${until.slice(0, 19)}Z nodes that stay come first`,
    ],
  });
  const placement = async () =>
    ((await use.api.call('GET', '/v1/microservices/web/placement')).body as PlacementView).nodes;
  expect(await placement()).toMatchObject([
    { node: 'node-1', fits: true, reason: expect.stringContaining('but comes and goes') as string },
    { node: 'node-2', fits: true, reason: expect.stringContaining('is the first choice') as string },
  ]);

  use.api.kv.put({ [nodeStabilityKvKey('node-1')]: stability(nowMs - 1) });
  await eventually(async () => expect(await read()).toEqual(before));
  use.api.kv.put({ [nodeStabilityKvKey('node-1')]: stability(untilMs) });
  await eventually(async () => expect(await read()).toHaveProperty('unstableUntil'));
  use.api.members.lose('node-1');
  await eventually(async () =>
    expect(await read()).toMatchObject({ health: 'lost', reasons: ['it does not answer'] }),
  );
  expect(await read()).not.toHaveProperty('unstableUntil');
});

test('what becomes exclusive has one replica of the scale that it keeps for later', async () => {
  use.api.kv.put(microserviceDocuments(buildMicroservice('web', { scale: 3 })));
  await eventually(() => expect(use.api.readModel.microservices()).toHaveLength(1));
  const answer = await use.api.call('PATCH', '/v1/microservices/web', { body: { exclusive: true } });
  expect(answer.status).toBe(202);
  expect(applied).toMatchObject([{ release: { exclusive: true } }]);
  expect(applied[0]?.scale).toBeUndefined();
  const refused = await use.api.call('PATCH', '/v1/microservices/web', {
    body: { exclusive: true, scale: 3 },
  });
  expect(refused.status).toBe(400);
  expect(refused.text).toContain('/scale must be 0 or 1 with');

  const release = buildRelease(2, { exclusive: true });
  use.api.kv.put(microserviceDocuments(buildMicroservice('web', { scale: 3, generation: 2, release })));
  const read = async () => (await use.api.call('GET', '/v1/microservices/web')).body as MicroserviceView;
  await eventually(async () => expect(await read()).toMatchObject({ scale: 1, replicas: { desired: 1 } }));
  expect((await read()).specification).toMatchObject({ exclusive: true, scale: 1 });
});

test('what is exclusive is not scaled beyond one, and says why', async () => {
  const release = buildRelease(1, { exclusive: true });
  use.api.kv.put(microserviceDocuments(buildMicroservice('web', { scale: 1, release })));
  await eventually(() => expect(use.api.readModel.microservices()).toHaveLength(1));
  const scaled = await use.api.call('PATCH', '/v1/microservices/web', { body: { scale: 2 } });
  expect(scaled.status).toBe(400);
  expect(scaled.text).toContain('web is exclusive: it never runs twice. Scale it to 0 or 1');
});
