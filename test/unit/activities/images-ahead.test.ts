/** What nodes are asked to pull ahead, and how often. */

import { createImagesAhead } from '../../../activities/images-ahead';
import { KV_PREFIX } from '../../../contracts/kv';
import { AHEAD } from '../../../contracts/timeouts';
import type { Microservice, ObservedReplica, SnapshotNode } from '../../../domain/model';
import { NOW_MS, buildNode, buildRelease, buildReplica } from '../../support/builders';

const IMAGE = 'nginx:1.27';

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
  createdAtMs: NOW_MS,
  updatedAtMs: NOW_MS,
  ...overrides,
});

const createSubject = (
  nodes: SnapshotNode[],
  documents: readonly Microservice[],
  replicas: readonly ObservedReplica[],
) => {
  const asked: string[] = [];
  const state = { nowMs: NOW_MS, reads: 0, busy: false };
  const ahead = createImagesAhead({
    store: {
      list: async <T>(prefix: string) => {
        expect(prefix).toBe(KV_PREFIX.microservices);
        state.reads += 1;
        return documents.map((value, index) => ({ key: `${index}`, value: value as T, index }));
      },
    },
    view: { nodes: () => nodes, replicas: () => replicas },
    pullAhead: async (nodeId, images) => {
      if (state.busy) return false;
      asked.push(`${nodeId}: ${images.join(', ')}`);
      return true;
    },
    nowMs: () => state.nowMs,
  });
  return {
    state,
    asked,
    ahead,
    lookAfter: async (ms: number) => {
      state.nowMs += ms;
      await ahead.keep();
    },
  };
};

const WEB = [buildReplica('web-1', 'a')];
const bare = (id: string) => buildNode(id, { images: [] });

test('in a cluster of one node nothing is read, and nobody asked', async () => {
  const nodes = [buildNode('a'), { ...bare('b'), up: false }];
  const { state, asked, ahead, lookAfter } = createSubject(nodes, [documentOf('web')], WEB);
  await lookAfter(AHEAD.settleMs);
  ahead.note({ kind: 'membership', nodeId: 'b', up: false });
  await lookAfter(AHEAD.everyMs);
  expect(state.reads).toBe(0);
  expect(asked).toEqual([]);
});

test('the spare of what has converged is asked; what changes, failed or is at scale 0 has none', async () => {
  const documents = [
    documentOf('web'),
    documentOf('new', { state: 'changing' }),
    documentOf('bad', { state: 'failed' }),
    documentOf('idle', { scale: 0 }),
  ];
  const replicas = documents.map(({ name }) => buildReplica(`${name}-1`, 'a', { name }));
  const { asked, lookAfter } = createSubject([buildNode('a'), bare('b')], documents.slice(0, 1), replicas);
  await lookAfter(AHEAD.settleMs - 1);
  expect(asked).toEqual([]);
  await lookAfter(1);
  expect(asked).toEqual([`b: ${IMAGE}`]);
  const others = createSubject([buildNode('a'), bare('b')], documents.slice(1), replicas);
  await others.lookAfter(AHEAD.settleMs);
  expect(others.state.reads).toBe(1);
  expect(others.asked).toEqual([]);
});

test('images of many microservices are asked for together, as many as may be', async () => {
  const names = Array.from(
    { length: AHEAD.maxImages + 15 },
    (_, index) => `web${String(index).padStart(2, '0')}`,
  );
  const documents = names.map((name) =>
    documentOf(name, { release: buildRelease(1, { containers: { app: { image: `${name}:1` } } }) }),
  );
  const replicas = names.map((name) => buildReplica(`${name}-1`, 'a', { name }));
  const nodes = [buildNode('a', { images: names.map((name) => `${name}:1`) }), bare('b')];
  const { asked, lookAfter } = createSubject(nodes, documents, replicas);
  await lookAfter(AHEAD.settleMs);
  const images = names.map((name) => `${name}:1`);
  expect(asked).toEqual([`b: ${images.slice(0, AHEAD.maxImages).join(', ')}`]);
});

test('what a node does not get is asked for less and less often, what it has not at all', async () => {
  const nodes = [buildNode('a'), bare('b')];
  const { state, asked, lookAfter } = createSubject(nodes, [documentOf('web')], WEB);
  await lookAfter(AHEAD.settleMs);
  const times: number[] = [];
  for (let look = 0; look < 60; look += 1) {
    const before = asked.length;
    await lookAfter(AHEAD.everyMs);
    if (asked.length > before) times.push((state.nowMs - NOW_MS) / 60_000);
  }
  const pauses = times.slice(1).map((minutes, index) => Math.round(minutes - (times[index] ?? 0)));
  expect(pauses).toEqual([5, 5, 10, 20, 35, 60, 60, 60]);

  nodes[1] = buildNode('b');
  const count = asked.length;
  for (let look = 0; look < 60; look += 1) await lookAfter(AHEAD.everyMs);
  expect(asked).toHaveLength(count);
});

test('a node that is still at what it was asked for is asked at the next look', async () => {
  const { state, asked, lookAfter } = createSubject([buildNode('a'), bare('b')], [documentOf('web')], WEB);
  state.busy = true;
  await lookAfter(AHEAD.settleMs);
  state.busy = false;
  await lookAfter(AHEAD.everyMs);
  expect(asked).toEqual([`b: ${IMAGE}`]);
});

test('changes are looked at soon, but not each on its own; what changes nothing is not', async () => {
  const { state, ahead, lookAfter } = createSubject([buildNode('a'), bare('b')], [documentOf('web')], WEB);
  await lookAfter(AHEAD.settleMs);
  expect(state.reads).toBe(1);
  const [after] = WEB;
  if (after) ahead.note({ kind: 'replica', before: after, after });
  ahead.note({ kind: 'node', nodeId: 'a', isNew: false, isRelabelled: false });
  await lookAfter(AHEAD.noSoonerMs);
  expect(state.reads).toBe(1);

  ahead.note({ kind: 'membership', nodeId: 'b', up: true });
  await lookAfter(AHEAD.settleMs - 1);
  ahead.note({ kind: 'availability', nodeId: 'b', availability: 'active' });
  await lookAfter(1);
  expect(state.reads).toBe(2);
  ahead.note({ kind: 'node', nodeId: 'c', isNew: true });
  await lookAfter(AHEAD.settleMs);
  expect(state.reads).toBe(2);
  await lookAfter(AHEAD.noSoonerMs - AHEAD.settleMs);
  expect(state.reads).toBe(3);
});
