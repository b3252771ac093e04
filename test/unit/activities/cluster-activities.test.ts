/** The watch over the cluster, over a store in memory: whom it tells what, and what it has removed. */

import { MockActivityEnvironment } from '@temporalio/testing';

import { createClusterActivities } from '../../../activities/cluster-activities';
import type { ClusterChange } from '../../../contracts/cluster';
import {
  eventKvKey,
  KEPT_EVENTS,
  KEPT_REMOVED,
  KV_PREFIX,
  microserviceKvKey,
  nodeKvKey,
  nodeSettingsKvKey,
  nodeStabilityKvKey,
  operationKvKey,
  removedKvKey,
} from '../../../contracts/kv';
import type { ObservedChangedSignal } from '../../../contracts/workflows';
import { FIRST_PERIOD_MS, firstSeen, type NodeStability } from '../../../domain/flapping';
import type {
  ClusterEvent,
  Microservice,
  MicroserviceKey,
  NodeAvailability,
  NodeSettings,
  ObservedReplica,
  Operation,
} from '../../../domain/model';
import { buildNode, buildRelease, buildReplica } from '../../support/builders';
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

const createWatch = (store = createMemoryStore(), pulling: Promise<void> = Promise.resolve()) => {
  let suffix = 0;
  const nodes = new Map<string, boolean>();
  const availability = new Map<string, NodeAvailability>();
  const engineLost = new Set<string>();
  /** When each node has last said how it is. */
  const reported = new Map<string, number>();
  const replicas: ObservedReplica[] = [];
  const told: (ObservedChangedSignal & { readonly name: string })[] = [];
  const recovered: Microservice[] = [];
  const warnings: string[] = [];
  const entities = new Set<string>();
  /** Microservices whose operations have work for a node, by its id. */
  const operations = new Map<string, readonly MicroserviceKey[]>();
  let listener: (change: ClusterChange) => void = () => undefined;
  let isReady: () => void = () => undefined;
  const activities = createClusterActivities({
    store,
    view: {
      ready: new Promise<void>((resolve) => {
        isReady = resolve;
      }),
      nodes: () =>
        [...nodes].map(([id, up]) => ({
          id,
          up,
          availability: availability.get(id) ?? 'active',
          ...(engineLost.has(id) ? { engineLostAtMs: 1 } : {}),
          updatedAtMs: reported.get(id) ?? 1,
        })),
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
      operatingOn: async (nodeId) => operations.get(nodeId) ?? [],
      running: async () => entities,
      recover: async (microservice) => {
        recovered.push(microservice);
        entities.add(microservice.name);
      },
    },
    // What becomes of them is told by leases.test.ts.
    leases: { free: () => Promise.resolve([]), forget: () => Promise.reject(new Error('not faked: forget')) },
    // What it does is told by images-ahead.test.ts.
    imagesAhead: { note: () => undefined, keep: () => pulling },
    warn: (message) => warnings.push(message),
    randomSuffix: () => String((suffix += 1)).padStart(12, '0'),
  });
  const environment = new MockActivityEnvironment();
  let heartbeats = 0;
  environment.on('heartbeat', () => (heartbeats += 1));
  const ended = environment
    .run(() => activities.watchCluster())
    .then(
      () => 'returned',
      (error: unknown) => (error instanceof Error ? error.name : 'thrown'),
    );
  return {
    reported,
    store,
    nodes,
    engineLost,
    replicas,
    entities,
    operations,
    told,
    recovered,
    warnings,
    heartbeats: () => heartbeats,
    put: (key: string, value: unknown) => store.transact([{ kind: 'set', key, value }]),
    /** A node that is there from the beginning. */
    addNode: async (nodeId: string, up = true) => {
      nodes.set(nodeId, up);
      await store.transact([{ kind: 'set', key: nodeKvKey(nodeId), value: buildNode(nodeId) }]);
    },
    /** Events of nodes, as `type: message`, in their order. */
    nodeEvents: () =>
      store
        .peek<ClusterEvent>(KV_PREFIX.events)
        .filter(({ value }) => value.node !== undefined)
        .map(({ value }) => `${value.type}: ${value.message}`),
    stabilityOf: (nodeId: string) => store.peek<NodeStability>(nodeStabilityKvKey(nodeId))[0]?.value,
    change: (change: ClusterChange) => listener(change),
    begin: () => isReady(),
    /** Tells of a node's membership, as the view does. */
    setUp: (nodeId: string, up: boolean) => {
      nodes.set(nodeId, up);
      listener({ kind: 'membership', nodeId, up });
    },
    /** A node says it of its engine, and the view tells of it. */
    setEngine: (nodeId: string, engine: 'lost' | 'back') => {
      if (engine === 'lost') engineLost.add(nodeId);
      else engineLost.delete(nodeId);
      listener({ kind: 'node', nodeId, isNew: false, engine });
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
  await eventually(() =>
    expect(watch.told.map(({ name }) => name).sort()).toEqual(['gone', 'unknown', 'web']),
  );
  expect(watch.recovered).toEqual([]);

  watch.setUp('a', true);
  await eventually(() =>
    expect(watch.recovered.map(({ name, state }) => [name, state])).toEqual([['gone', 'removing']]),
  );
  expect(watch.warnings).toEqual([]);
});

test('a watch that is cancelled tells that it lives while it waits for what goes on beside it', async () => {
  let end: () => void = () => undefined;
  const waiting = createWatch(
    createMemoryStore(),
    new Promise((resolve) => {
      end = resolve;
    }),
  );
  waiting.begin();
  // It has begun all that goes on beside it.
  await eventually(() => expect(waiting.heartbeats()).toBeGreaterThan(0));
  let isOver = false;
  const stopped = waiting.stop().finally(() => {
    isOver = true;
  });
  const before = waiting.heartbeats();
  await eventually(() => expect(waiting.heartbeats()).toBeGreaterThan(before + 1), { timeoutMs: 15_000 });
  expect(isOver).toBe(false);
  end();
  expect(await stopped).toBe('CancelledFailure');
});

test('replicas of a removed microservice that were there before the watch began are found too', async () => {
  watch.nodes.set('a', true);
  await watch.put(removedKvKey(keyOf('gone')), documentOf('gone', { state: 'removing' }));
  watch.replicas.push(buildReplica('gone-1', 'a', { name: 'gone' }));
  watch.begin();
  await eventually(() => expect(watch.recovered.map(({ name }) => name)).toEqual(['gone']));
});

test('the loss of a node is told to what has replicas or work there, also when it happened while nobody watched', async () => {
  for (const name of ['web', 'api', 'late', 'other']) watch.entities.add(name);
  watch.nodes.set('a', true).set('b', false);
  watch.replicas.push(
    buildReplica('web-1', 'a', { name: 'web' }),
    buildReplica('api-1', 'b', { name: 'api' }),
    buildReplica('other-1', 'c', { name: 'other' }),
  );
  watch.begin();
  await eventually(() =>
    expect(watch.told).toEqual([{ name: 'api', reason: 'node b is lost', hasRoom: false, lostNodes: ['b'] }]),
  );
  watch.operations.set('a', [keyOf('api')]);
  watch.setUp('a', false);
  await eventually(() =>
    expect(watch.told.slice(1).map(({ name, lostNodes }) => [name, lostNodes])).toEqual([
      ['web', ['a']],
      ['api', ['a']],
    ]),
  );
  // What has been given work for it a moment ago is found a moment later.
  watch.operations.set('a', [keyOf('late')]);
  await eventually(() => expect(watch.told.at(-1)).toMatchObject({ name: 'late', lostNodes: ['a'] }));
  expect(watch.told.map(({ name }) => name)).toEqual(['api', 'web', 'api', 'late']);
});

test('what was to leave a node, and what there is too much of, is told by a watch that begins', async () => {
  for (const name of ['web', 'api', 'busy', 'logs', 'fine']) watch.entities.add(name);
  await watch.addNode('a');
  await watch.addNode('b');
  await watch.setAvailability('b', 'draining');
  watch.replicas.push(
    buildReplica('web-1', 'b', { name: 'web' }),
    buildReplica('api-1', 'a', { name: 'api' }),
    buildReplica('api-2', 'a', { name: 'api' }),
    buildReplica('busy-1', 'a', { name: 'busy' }),
    buildReplica('busy-2', 'a', { name: 'busy' }),
    buildReplica('logs-1', 'a', { name: 'logs', daemon: true }),
    buildReplica('logs-2', 'a', { name: 'logs', daemon: true }),
    buildReplica('fine-1', 'a', { name: 'fine' }),
    buildReplica('fine-2', 'a', { name: 'fine', state: 'stopping' }),
  );
  await watch.put(microserviceKvKey(keyOf('api')), documentOf('api'));
  await watch.put(microserviceKvKey(keyOf('busy')), documentOf('busy', { state: 'changing' }));
  await watch.put(
    microserviceKvKey(keyOf('logs')),
    documentOf('logs', { release: buildRelease(1, { daemon: true }) }),
  );
  await watch.put(microserviceKvKey(keyOf('fine')), documentOf('fine'));
  watch.told.length = 0;
  watch.begin();
  await eventually(() =>
    expect(watch.told.map(({ name, reason }) => [name, reason]).sort()).toEqual([
      ['api', '2 of its replicas run, and 1 are desired'],
      ['web', 'node b is draining'],
    ]),
  );
});

test('an engine that does not answer is told like the loss of its node, and so is what fails there later', async () => {
  for (const name of ['web', 'api', 'late', 'other']) watch.entities.add(name);
  watch.nodes.set('a', true).set('b', true);
  watch.engineLost.add('b');
  watch.replicas.push(
    buildReplica('web-1', 'a', { name: 'web' }),
    buildReplica('api-1', 'b', { name: 'api' }),
  );
  watch.begin();
  const ofB = 'the Docker Engine of node b does not answer';
  await eventually(() =>
    expect(watch.told).toEqual([{ name: 'api', reason: ofB, hasRoom: false, lostNodes: ['b'] }]),
  );
  watch.operations.set('a', [keyOf('api')]);
  watch.setEngine('a', 'lost');
  await eventually(() =>
    expect(watch.told.slice(1).map(({ name, lostNodes }) => [name, lostNodes])).toEqual([
      ['web', ['a']],
      ['api', ['a']],
    ]),
  );
  watch.operations.set('a', [keyOf('late')]);
  await eventually(() => expect(watch.told.at(-1)).toMatchObject({ name: 'late', lostNodes: ['a'] }));

  const fails = (id: string, nodeId: string, name: string) =>
    watch.change({
      kind: 'replica',
      before: buildReplica(id, nodeId, { name }),
      after: buildReplica(id, nodeId, { name, state: 'unhealthy' }),
    });
  watch.nodes.set('c', true);
  fails('other-1', 'c', 'other');
  fails('web-1', 'a', 'web');
  await eventually(() =>
    expect(watch.told.at(-1)).toMatchObject({
      name: 'web',
      reason: 'replica web-1 is unhealthy, and the Docker Engine there does not answer',
    }),
  );
  watch.setEngine('b', 'back');
  await eventually(() =>
    expect(watch.told.at(-1)).toEqual({
      name: 'api',
      reason: 'the Docker Engine of node b answers again',
      hasRoom: false,
    }),
  );
  expect(watch.told.map(({ name }) => name)).not.toContain('other');
});

test('what was removed while an engine did not answer is removed when it does', async () => {
  watch.nodes.set('a', true);
  watch.engineLost.add('a');
  watch.replicas.push(buildReplica('gone-1', 'a', { name: 'gone' }));
  watch.entities.add('gone');
  await watch.put(removedKvKey(keyOf('gone')), documentOf('gone', { state: 'removing' }));
  watch.begin();
  await eventually(() => expect(watch.told).toHaveLength(1));
  expect(watch.recovered).toEqual([]);
  watch.setEngine('a', 'back');
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
  ['has its engine again', () => watch.setEngine('b', 'back')],
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

describe('what becomes of nodes', () => {
  const WAIT = { intervalMs: 5 };
  const known = (nodeId: string) => eventually(() => expect(watch.stabilityOf(nodeId)?.up).toBe(true), WAIT);
  const types = () => watch.nodeEvents().map((event) => event.split(':')[0]);

  test('a loss says what follows, a return how long it lasted, each once, also by the next watch', async () => {
    await watch.addNode('a');
    watch.replicas.push(
      buildReplica('web-1', 'a', { name: 'web' }),
      buildReplica('web-2', 'a', { name: 'web' }),
      buildReplica('api-1', 'a', { name: 'api' }),
      buildReplica('logs-1', 'a', { name: 'logs', daemon: true }),
      buildReplica('job-1', 'a', { name: 'job', state: 'exited' }),
      buildReplica('web-3', 'b', { name: 'web' }),
    );
    watch.begin();
    await known('a');
    expect(watch.nodeEvents()).toEqual([]);
    watch.setUp('a', false);
    watch.setUp('a', false);
    await eventually(() => expect(watch.stabilityOf('a')?.up).toBe(false), WAIT);
    const lost =
      'node.lost: node a is lost: 3 replicas of 2 microservices that ran there have to start elsewhere';
    expect(watch.nodeEvents()).toEqual([lost]);

    const { store, replicas } = watch;
    await watch.stop();
    watch = createWatch(store);
    watch.replicas.push(...replicas);
    watch.nodes.set('a', false);
    watch.begin();
    watch.setUp('a', false);
    watch.setUp('a', true);
    await known('a');
    expect(watch.nodeEvents()).toEqual([
      lost,
      expect.stringMatching(/^node.returned: node a is back after \d s$/),
    ]);
    expect(watch.stabilityOf('a')).toMatchObject({ losses: 1 });
    expect(watch.stabilityOf('a')).not.toHaveProperty('unstableUntilMs');
  });

  test('a loss that happened while nobody watched is told when somebody does', async () => {
    await watch.addNode('a', false);
    await watch.put(nodeStabilityKvKey('a'), firstSeen('a', Date.now() - DAY_MS));
    watch.begin();
    await eventually(
      () =>
        expect(watch.nodeEvents()).toEqual([
          'node.lost: node a is lost: nothing that ran there has to start elsewhere',
        ]),
      WAIT,
    );
  });

  test('a node that comes and goes is told to, and so is that it stays; then it gets what could be spread', async () => {
    await watch.addNode('a');
    await watch.addNode('b');
    watch.entities.add('web');
    await watch.put(microserviceKvKey(keyOf('web')), documentOf('web', { scale: 2 }));
    watch.begin();
    await known('a');
    for (const up of [false, true, false, true]) watch.setUp('a', up);
    await eventually(() => expect(watch.stabilityOf('a')?.losses).toBe(2), WAIT);
    await known('a');
    const stability = watch.stabilityOf('a');
    expect(stability?.unstableUntilMs).toBe((stability?.changedAtMs ?? 0) + FIRST_PERIOD_MS);
    expect(types()).toEqual(['node.lost', 'node.returned', 'node.lost', 'node.returned', 'node.unstable']);
    expect(watch.nodeEvents().at(-1)).toMatch(
      /^node.unstable: node a was lost 2 times in \d s: until \S+Z nodes that stay come first$/,
    );

    // The next watch finds its period over.
    const { store } = watch;
    await watch.stop();
    const atMs = Date.now() - FIRST_PERIOD_MS;
    await watch.put(nodeStabilityKvKey('a'), {
      ...stability,
      changedAtMs: atMs,
      unstableUntilMs: atMs + FIRST_PERIOD_MS,
    });
    watch = createWatch(store);
    watch.nodes.set('a', true).set('b', true);
    watch.entities.add('web');
    watch.begin();
    await eventually(() => expect(types().at(-1)).toBe('node.stable'), WAIT);
    expect(watch.nodeEvents().at(-1)).toBe(
      'node.stable: node a has stayed for 5 min: it is used like other nodes again',
    );
    expect(watch.stabilityOf('a')).toEqual({
      id: 'a',
      up: true,
      changedAtMs: atMs,
      losses: 2,
      firstLossAtMs: stability?.firstLossAtMs,
    });
    await eventually(
      () => expect(watch.told).toEqual([{ name: 'web', reason: 'node a can take replicas', hasRoom: true }]),
      WAIT,
    );
  });

  test('all nodes but one that are lost at once are back without a loss, and it is said why', async () => {
    for (const id of ['head', 'a', 'b']) await watch.addNode(id);
    watch.begin();
    for (const id of ['head', 'a', 'b']) await known(id);
    watch.setUp('a', false);
    watch.setUp('b', false);
    await eventually(() => expect(watch.stabilityOf('b')?.up).toBe(false), WAIT);
    // The next watch goes on with what this one has written.
    const { store } = watch;
    await watch.stop();
    watch = createWatch(store);
    watch.nodes.set('head', true).set('a', false).set('b', false);
    watch.begin();
    watch.setUp('b', true);
    watch.setUp('a', true);
    await known('a');
    await known('b');
    expect(types()).toEqual(['node.lost', 'node.lost', 'node.returned', 'node.returned']);
    expect(watch.nodeEvents().at(-1)).toMatch(
      /^node.returned: node a is back after \d s: it was lost together with all others but one/,
    );
    const [a, b] = [watch.stabilityOf('a'), watch.stabilityOf('b')];
    expect([a?.losses, b?.losses]).toEqual([0, 0]);
    expect(a?.lostWithAll).toEqual(b?.lostWithAll);
    expect(b?.lostWithAll).toMatchObject({ untilMs: b?.changedAtMs, reportedAtMs: 1 });
  });

  test('who is back from a loss of all at once is told again when it has said how it is', async () => {
    for (const id of ['head', 'a', 'b']) await watch.addNode(id);
    watch.entities.add('web');
    watch.replicas.push(buildReplica('web-1', 'a', { name: 'web' }));
    watch.begin();
    for (const id of ['head', 'a', 'b']) await known(id);
    for (const id of ['a', 'b']) watch.setUp(id, false);
    await eventually(() => expect(watch.stabilityOf('b')?.up).toBe(false), WAIT);
    for (const id of ['a', 'b']) watch.setUp(id, true);
    const reasons = () => watch.told.map(({ reason }) => reason);
    await eventually(() => expect(reasons()).toEqual(['node a is lost', 'node a is back']), WAIT);
    watch.reported.set('a', 2);
    // It is looked at whenever anything is known anew.
    watch.setUp('head', true);
    watch.change({ kind: 'replica', after: buildReplica('web-2', 'head', { name: 'web', state: 'broken' }) });
    await eventually(() => expect(reasons().filter((one) => one === 'node a is back')).toHaveLength(2), WAIT);
  });

  test('who is told of a return is told when its stability is written', async () => {
    await watch.addNode('a');
    watch.entities.add('web');
    watch.replicas.push(buildReplica('web-1', 'a', { name: 'web' }));
    watch.begin();
    await known('a');
    watch.setUp('a', false);
    await eventually(() => expect(watch.told.map(({ reason }) => reason)).toEqual(['node a is lost']), WAIT);
    const hold = watch.store.holdWrites(([first]) => first?.kind === 'replace');
    watch.setUp('a', true);
    await eventually(() => expect(hold.waiting).toBe(1), WAIT);
    expect(watch.told).toHaveLength(1);
    hold.release();
    await eventually(
      () => expect(watch.told.map(({ reason }) => reason)).toEqual(['node a is lost', 'node a is back']),
      WAIT,
    );
  });

  test('two watches at once tell of a loss once', async () => {
    await watch.addNode('a');
    watch.begin();
    await known('a');
    const other = createWatch(watch.store);
    other.nodes.set('a', true);
    other.begin();
    const hold = watch.store.holdWrites(([first]) => first?.kind === 'replace');
    watch.setUp('a', false);
    other.setUp('a', false);
    await eventually(() => expect(hold.waiting).toBe(2), WAIT);
    hold.release();
    await eventually(() => expect(watch.stabilityOf('a')?.up).toBe(false), WAIT);
    other.setUp('a', true);
    await known('a');
    expect(types()).toEqual(['node.lost', 'node.returned']);
    await other.stop();
  });

  test('of what is no node, of one that has not been there yet and of one that was removed nothing is said', async () => {
    watch.begin();
    watch.setUp('consul-2', true);
    watch.setUp('consul-2', false);
    await watch.addNode('new', false);
    watch.change({ kind: 'node', nodeId: 'new', isNew: true });
    watch.setUp('new', false);
    await watch.addNode('gone');
    watch.setUp('gone', true);
    await known('gone');
    await watch.store.transact([{ kind: 'delete', key: nodeKvKey('gone') }]);
    watch.setUp('gone', false);
    await watch.addNode('last');
    watch.setUp('last', true);
    await known('last');
    expect(watch.nodeEvents()).toEqual([]);
    expect(watch.stabilityOf('consul-2')).toBeUndefined();
    expect(watch.stabilityOf('new')).toBeUndefined();
    expect(watch.stabilityOf('gone')?.up).toBe(true);
  });

  test('a node that joins under the name of one that was removed has no past', async () => {
    await watch.addNode('a');
    watch.begin();
    await known('a');
    await watch.store.transact([
      { kind: 'delete', key: nodeKvKey('a') },
      { kind: 'delete', key: nodeStabilityKvKey('a') },
    ]);
    await watch.addNode('a');
    watch.change({ kind: 'node', nodeId: 'a', isNew: true });
    await known('a');
  });

  test('what cannot be written is written later, and entities hear of the return all the same', async () => {
    await watch.addNode('a');
    watch.entities.add('web');
    watch.replicas.push(buildReplica('web-1', 'a', { name: 'web' }));
    watch.begin();
    await known('a');
    watch.setUp('a', false);
    await eventually(() => expect(watch.stabilityOf('a')?.up).toBe(false), WAIT);
    watch.store.away = true;
    watch.setUp('a', true);
    await eventually(() => expect(watch.told.at(-1)?.reason).toBe('node a is back'), WAIT);
    expect(watch.warnings).toContain('could not record what has become of nodes');
    watch.store.away = false;
    watch.change({ kind: 'replica', after: buildReplica('web-1', 'a', { name: 'web', state: 'broken' }) });
    await known('a');
    expect(types()).toEqual(['node.lost', 'node.returned']);
  });

  test.each(['{}', 7, { id: 'b', up: true, changedAtMs: 1, losses: 0 }])(
    'what is remembered and cannot be read (%j) is replaced',
    async (value) => {
      await watch.addNode('a');
      await watch.put(nodeStabilityKvKey('a'), value);
      watch.begin();
      await eventually(() => expect(watch.stabilityOf('a')).toMatchObject({ id: 'a', losses: 0 }), WAIT);
    },
  );
});
