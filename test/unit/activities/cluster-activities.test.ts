/** The watch over the cluster, over a store in memory: whom it tells what, and what it has removed. */

import { MockActivityEnvironment } from '@temporalio/testing';

import { createClusterActivities } from '../../../activities/cluster-activities';
import type { ClusterChange } from '../../../contracts/cluster';
import {
  eventKvKey,
  KEPT_EVENTS,
  KEPT_REMOVED,
  microserviceKvKey,
  nodeSettingsKvKey,
  operationKvKey,
  removedKvKey,
} from '../../../contracts/kv';
import type { ObservedChangedSignal } from '../../../contracts/workflows';
import type {
  ClusterEvent,
  Microservice,
  MicroserviceKey,
  NodeAvailability,
  NodeSettings,
  ObservedReplica,
  Operation,
} from '../../../domain/model';
import { buildRelease, buildReplica } from '../../support/builders';
import { createMemoryStore } from '../../support/memory-store';
import { eventually } from '../../support/wait';

const DAY_MS = 24 * 3_600_000;

const documentOf = (name: string, overrides: Partial<Microservice> = {}): Microservice => ({
  project: 'default',
  name,
  generation: 1,
  scale: 1,
  release: buildRelease(),
  releaseNumbers: [1],
  state: 'steady',
  message: '',
  operation: `deploy.default.${name}.1`,
  createdAtMs: Date.now(),
  updatedAtMs: Date.now(),
  ...overrides,
});

const keyOf = (name: string): MicroserviceKey => ({ project: 'default', name });

const operationOf = (name: string, endedAtMs: number): Operation => ({
  ...keyOf(name),
  id: `deploy.default.${name}.1`,
  kind: 'deploy',
  state: 'succeeded',
  release: 1,
  scale: 1,
  message: '',
  plan: [],
  createdAtMs: endedAtMs,
  endedAtMs,
});

const createWatch = () => {
  const store = createMemoryStore();
  let suffix = 0;
  const nodes = new Map<string, boolean>();
  const availability = new Map<string, NodeAvailability>();
  const replicas: ObservedReplica[] = [];
  const told: (ObservedChangedSignal & { readonly name: string })[] = [];
  const recovered: Microservice[] = [];
  const warnings: string[] = [];
  const entities = new Set<string>();
  let listener: (change: ClusterChange) => void = () => undefined;
  let isReady: () => void = () => undefined;
  const activities = createClusterActivities({
    store,
    view: {
      ready: new Promise<void>((resolve) => {
        isReady = resolve;
      }),
      nodes: () => [...nodes].map(([id, up]) => ({ id, up, availability: availability.get(id) ?? 'active' })),
      replicas: () => replicas,
      subscribe: (subscriber) => {
        listener = subscriber;
        return () => undefined;
      },
    },
    entities: {
      signal: async ({ name }, signal) => {
        told.push({ name, ...signal });
        return entities.has(name);
      },
      running: async () => entities,
      recover: async (microservice) => {
        recovered.push(microservice);
        entities.add(microservice.name);
      },
    },
    warn: (message) => warnings.push(message),
    randomSuffix: () => String((suffix += 1)).padStart(12, '0'),
  });
  const environment = new MockActivityEnvironment();
  const ended = environment
    .run(() => activities.watchCluster())
    .then(
      () => 'returned',
      (error: unknown) => (error instanceof Error ? error.name : 'thrown'),
    );
  return {
    store,
    nodes,
    replicas,
    entities,
    told,
    recovered,
    warnings,
    put: (key: string, value: unknown) => store.transact([{ kind: 'set', key, value }]),
    change: (change: ClusterChange) => listener(change),
    begin: () => isReady(),
    /** Tells of a node's membership, as the view does. */
    setUp: (nodeId: string, up: boolean) => {
      nodes.set(nodeId, up);
      listener({ kind: 'membership', nodeId, up });
    },
    /** An operator says it of a node, and the view tells of it. */
    setAvailability: async (nodeId: string, now: NodeAvailability) => {
      availability.set(nodeId, now);
      const settings: NodeSettings = { id: nodeId, availability: now, setAtMs: Date.now() };
      await store.transact([{ kind: 'set', key: nodeSettingsKvKey(nodeId), value: settings }]);
      listener({ kind: 'availability', nodeId, availability: now });
    },
    /** A replica is gone, and the view tells of it. */
    lose: (id: string) => {
      const [before] = replicas.splice(
        replicas.findIndex((replica) => replica.id === id),
        1,
      );
      if (before) listener({ kind: 'replica', before });
    },
    stop: async () => {
      environment.cancel();
      return ended;
    },
  };
};

let watch: ReturnType<typeof createWatch>;
beforeEach(() => {
  watch = createWatch();
});
afterEach(async () => {
  expect(await watch.stop()).toBe('CancelledFailure');
});

test('replicas of a removed microservice are removed when their node is back, and others are left alone', async () => {
  watch.nodes.set('a', false);
  watch.replicas.push(
    buildReplica('gone-1', 'a', { name: 'gone' }),
    buildReplica('unknown-1', 'a', { name: 'unknown' }),
    buildReplica('web-1', 'a', { name: 'web' }),
  );
  watch.entities.add('web');
  await watch.put(removedKvKey(keyOf('gone')), documentOf('gone', { state: 'removing' }));
  await watch.put(microserviceKvKey(keyOf('web')), documentOf('web'));
  watch.begin();
  watch.change({ kind: 'replica', after: buildReplica('web-2', 'b', { name: 'web', state: 'broken' }) });
  await eventually(() => expect(watch.told).toHaveLength(1));
  expect(watch.recovered).toEqual([]);

  watch.setUp('a', true);
  await eventually(() =>
    expect(watch.recovered.map(({ name, state }) => [name, state])).toEqual([['gone', 'removing']]),
  );
  expect(watch.warnings).toEqual([]);
});

test('replicas of a removed microservice that were there before the watch began are found too', async () => {
  watch.nodes.set('a', true);
  await watch.put(removedKvKey(keyOf('gone')), documentOf('gone', { state: 'removing' }));
  watch.replicas.push(buildReplica('gone-1', 'a', { name: 'gone' }));
  watch.begin();
  await eventually(() => expect(watch.recovered.map(({ name }) => name)).toEqual(['gone']));
});

test('microservices that failed hear of room, and of nothing else than their own replicas otherwise', async () => {
  watch.begin();
  watch.entities.add('web').add('idle');
  await watch.put(microserviceKvKey(keyOf('web')), documentOf('web', { state: 'failed' }));
  await watch.put(microserviceKvKey(keyOf('idle')), documentOf('idle'));
  watch.setUp('b', true);
  await eventually(() =>
    expect(watch.told).toEqual([{ name: 'web', reason: 'node b can take replicas', hasRoom: true }]),
  );
  watch.change({ kind: 'replica', after: buildReplica('idle-1', 'b', { name: 'idle', state: 'broken' }) });
  await eventually(() =>
    expect(watch.told.slice(1)).toEqual([
      { name: 'idle', reason: 'replica idle-1 is broken', hasRoom: false },
    ]),
  );
});

test('old events and what is known of what was removed long ago are deleted', async () => {
  const now = Date.now();
  for (let index = 0; index < KEPT_EVENTS + 3; index += 1) {
    await watch.put(eventKvKey(now + index, 'suffix00'), { index });
  }
  await watch.put(operationKvKey(keyOf('gone'), 'old'), operationOf('gone', now - 2 * DAY_MS));
  await watch.put(operationKvKey(keyOf('gone'), 'new'), operationOf('gone', now));
  await watch.put(operationKvKey(keyOf('web'), 'old'), operationOf('web', now - 2 * DAY_MS));
  await watch.put(microserviceKvKey(keyOf('web')), documentOf('web'));
  await watch.put(removedKvKey(keyOf('gone')), documentOf('gone', { updatedAtMs: now - 2 * DAY_MS }));
  for (let index = 1; index < KEPT_REMOVED; index += 1) {
    const document = documentOf(`older${index}`, { updatedAtMs: now - 3 * DAY_MS });
    await watch.put(removedKvKey(document), document);
  }
  for (const name of ['oldest-seen', 'oldest']) {
    await watch.put(removedKvKey(keyOf(name)), documentOf(name, { updatedAtMs: 0 }));
  }
  watch.replicas.push(buildReplica('oldest-seen-1', 'away', { name: 'oldest-seen' }));
  watch.begin();
  await eventually(() =>
    expect(
      watch.store
        .peek('containeros/')
        .map(({ key }) => key)
        .filter((key) => !/\/(?:events|removed)\//.test(key)),
    ).toEqual([
      microserviceKvKey(keyOf('web')),
      operationKvKey(keyOf('gone'), 'new'),
      operationKvKey(keyOf('web'), 'old'),
    ]),
  );
  const removed = watch.store.peek('containeros/removed/').map(({ key }) => key);
  expect(removed).toHaveLength(KEPT_REMOVED + 1);
  expect(removed).toContain(removedKvKey(keyOf('gone')));
  expect(removed).toContain(removedKvKey(keyOf('oldest-seen')));
  expect(
    watch.store
      .peek<{ index: number }>('containeros/events/')
      .map(({ value }) => value.index)
      .slice(0, 1),
  ).toEqual([3]);
});

test('a drain is told to what is there, then to the daemons that go last, and its end once', async () => {
  const drained = () =>
    watch.store
      .peek<ClusterEvent>('containeros/events/')
      .filter(({ value }) => value.type === 'node.drained')
      .map(({ value }) => value.node);
  for (const name of ['web', 'logs', 'other']) watch.entities.add(name);
  watch.nodes.set('a', true);
  watch.replicas.push(
    buildReplica('web-1', 'a', { name: 'web' }),
    buildReplica('logs-1', 'a', { name: 'logs', daemon: true }),
    buildReplica('other-1', 'b', { name: 'other' }),
  );
  watch.begin();
  await watch.setAvailability('a', 'draining');
  await eventually(() => expect(watch.told.map(({ name }) => name).sort()).toEqual(['logs', 'web']));

  watch.replicas.splice(0, 1, buildReplica('web-1', 'a', { name: 'web', state: 'stopping' }));
  watch.lose('web-1');
  await eventually(() =>
    expect(watch.told.slice(2)).toEqual([
      { name: 'logs', reason: 'node a has no other replicas left', hasRoom: false },
    ]),
  );
  expect(drained()).toEqual([]);
  watch.lose('logs-1');
  await eventually(() => expect(drained()).toEqual(['a']));

  watch.replicas.push(buildReplica('web-2', 'a', { name: 'web', state: 'stopping' }));
  watch.lose('web-2');
  watch.change({ kind: 'replica', after: buildReplica('other-1', 'b', { name: 'other', state: 'broken' }) });
  await eventually(() => expect(watch.told.at(-1)?.name).toBe('other'));
  expect(drained()).toEqual(['a']);
});

test.each<[string, () => void | Promise<void>]>([
  ['has joined', () => watch.change({ kind: 'node', nodeId: 'b', isNew: true })],
  ['has other labels', () => watch.change({ kind: 'node', nodeId: 'b', isNew: false, isRelabelled: true })],
  ['is back', () => watch.setUp('b', true)],
  ['is uncordoned', () => watch.setAvailability('b', 'active')],
])('a node that %s is told to daemons and to what could be spread over it', async (_what, happen) => {
  const spec = buildRelease().spec;
  for (const name of ['logs', 'web', 'fixed', 'single']) watch.entities.add(name);
  const put = (document: Microservice) => watch.put(microserviceKvKey(document), document);
  await put(documentOf('logs', { release: buildRelease(1, { daemon: true }) }));
  await put(documentOf('web', { scale: 2 }));
  await put(
    documentOf('fixed', { scale: 2, release: { ...buildRelease(), spec: { ...spec, rebalance: false } } }),
  );
  await put(documentOf('single'));
  watch.begin();
  await happen();
  await eventually(() => expect(watch.told.map(({ name }) => name).sort()).toEqual(['logs', 'web']));
});

test('what comes to a node after its drain has begun is told that it has to leave', async () => {
  watch.begin();
  watch.entities.add('web');
  watch.nodes.set('a', true).set('b', true);
  await watch.setAvailability('a', 'draining');
  watch.change({ kind: 'replica', after: buildReplica('web-1', 'b', { state: 'starting' }) });
  watch.change({ kind: 'replica', after: buildReplica('web-2', 'a', { state: 'starting' }) });
  await eventually(() =>
    expect(watch.told.map(({ reason }) => reason)).toEqual([
      'replica web-2 has come to a node that is being drained',
    ]),
  );
});

test('a node that says the same again is told to nobody', async () => {
  watch.entities.add('logs').add('web');
  const daemon = documentOf('logs', { release: buildRelease(1, { daemon: true }) });
  await watch.put(microserviceKvKey(daemon), daemon);
  watch.begin();
  watch.change({ kind: 'node', nodeId: 'a', isNew: false, isRelabelled: false });
  watch.change({ kind: 'replica', after: buildReplica('web-1', 'a', { name: 'web', state: 'broken' }) });
  await eventually(() => expect(watch.told.map(({ name }) => name)).toEqual(['web']));
});
