/** Which nodes would take over when one is lost, and what they lack for it. */

import fc from 'fast-check';

import type { ObservedReplica, SnapshotNode } from '../../../domain/model';
import { computePlan } from '../../../domain/plan';
import { MAX_SPARES, findSpares, type Spare } from '../../../domain/placement/spares';
import type { RawMicroserviceSpec } from '../../../domain/spec/schema';
import {
  MB,
  NOW_MS,
  buildNode,
  buildRelease,
  buildReplica,
  buildRequest,
  buildSnapshot,
} from '../../support/builders';

const IMAGE = 'nginx:1.27';

const bare = (id: string, overrides: Partial<SnapshotNode> = {}) =>
  buildNode(id, { images: [], ...overrides });

const find = (
  nodes: readonly SnapshotNode[],
  replicas: readonly ObservedReplica[],
  raw: Partial<RawMicroserviceSpec> = {},
  scale = replicas.length,
): readonly Spare[] =>
  findSpares(
    { project: 'default', name: 'web', release: buildRelease(1, raw), scale },
    buildSnapshot(nodes, replicas),
    'seed',
    NOW_MS,
  );

const lacking = (nodeId: string): Spare => ({ nodeId, images: [IMAGE] });

test('the node that runs none of it takes over from each of the others, and gets the image', () => {
  const replicas = [buildReplica('web-1', 'a'), buildReplica('web-2', 'b')];
  expect(find([buildNode('a'), buildNode('b'), bare('c')], replicas)).toEqual([lacking('c')]);
});

test('of nodes that would do, the one that has the image takes over: no second one gets it', () => {
  const nodes = [buildNode('a'), bare('b'), buildNode('c'), bare('d')];
  expect(find(nodes, [buildReplica('web-1', 'a')])).toEqual([{ nodeId: 'c', images: [] }]);
});

test('what a node loses at once may go to several, but no more than some get the images', () => {
  const nodes = [buildNode('a'), ...['b', 'c', 'd', 'e'].map((id) => bare(id))];
  const replicas = [1, 2, 3, 4].map((number) => buildReplica(`web-${number}`, 'a'));
  expect(find(nodes, replicas)).toHaveLength(MAX_SPARES);
});

const ONE = [buildReplica('web-1', 'a')];

test.each<
  [string, readonly SnapshotNode[], readonly ObservedReplica[], Partial<RawMicroserviceSpec>, number?]
>([
  ['of a cluster of one node', [buildNode('a')], ONE, {}],
  ['of the only node that is up', [buildNode('a'), bare('b', { up: false })], ONE, {}],
  ['when nothing is to run', [buildNode('a'), bare('b')], ONE, {}, 0],
  ['when nothing runs yet', [buildNode('a'), bare('b')], [], {}, 1],
  [
    'when what runs is of another release',
    [buildNode('a'), bare('b')],
    [buildReplica('web-1', 'a', { release: 2 })],
    {},
  ],
  ['of what has ended', [buildNode('a'), bare('b')], [buildReplica('web-1', 'a', { state: 'exited' })], {}],
  ['of a daemon', [buildNode('a'), bare('b')], ONE, { daemon: true }],
  ['of what belongs to its node', [buildNode('a'), bare('b')], ONE, { constraints: { 'node.id': 'a' } }],
  ['on a node short of disk', [buildNode('a'), bare('b', { diskFreeBytes: 500 * MB })], ONE, {}],
  [
    'on a degraded node',
    [buildNode('a'), bare('b', { health: 'degraded', reasons: ['little disk is free'] })],
    ONE,
    {},
  ],
  ['on a node that comes and goes', [buildNode('a'), bare('b', { unstableUntilMs: NOW_MS + 1 })], ONE, {}],
  ['on a cordoned node', [buildNode('a'), bare('b', { availability: 'cordoned' })], ONE, {}],
  [
    'where there is no room',
    [buildNode('a'), bare('b', { memoryAvailableBytes: 900 * MB })],
    ONE,
    { containers: { app: { image: IMAGE, reserve: { memory: 900 * MB } } } },
  ],
])('there is no spare %s', (_what, nodes, replicas, ...asked) => {
  expect(find(nodes, replicas, ...asked)).toEqual([]);
});

test('images that are never pulled are not pulled ahead either', () => {
  const containers = { app: { image: IMAGE, pull: 'never' as const }, log: { image: 'log:1' } };
  expect(find([buildNode('a'), bare('b')], ONE, { containers })).toEqual([
    { nodeId: 'b', images: ['log:1'] },
  ]);
});

test('a spare that has its images gets the replacements of a lost node, whatever the operation', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 6 }),
      fc.array(fc.integer({ min: 0, max: 5 }), { minLength: 1, maxLength: 5 }),
      fc.nat(),
      fc.string(),
      (count, places, lostIndex, seed) => {
        const ids = Array.from({ length: count }, (_, index) => `n${index}`);
        const replicas = places.map((place, index) =>
          buildReplica(`web-${index}`, ids[place % count] ?? '', { cpusReserved: 0 }),
        );
        const hosts = new Set(replicas.map(({ nodeId }) => nodeId));
        const nodes = ids.map((id) => (hosts.has(id) ? buildNode(id) : bare(id)));
        const spares = find(nodes, replicas);
        expect(find(nodes.toReversed(), replicas.toReversed())).toEqual(spares);
        expect(spares.length).toBeLessThanOrEqual(MAX_SPARES);

        // Who has the images is preferred, so that another one may come next; it ends, as each look is for new nodes.
        let ready = nodes;
        for (let look = 0; look < count; look += 1) {
          const found = find(ready, replicas);
          ready = ready.map((node) => {
            const images = found.find(({ nodeId }) => nodeId === node.id)?.images ?? [];
            return { ...node, images: [...node.images, ...images] };
          });
        }
        expect(find(ready, replicas).flatMap(({ images }) => images)).toEqual([]);
        const lost = [...hosts][lostIndex % hosts.size];
        const missing = replicas.filter(({ nodeId }) => nodeId === lost).length;
        if (missing > 1) return;
        const plan = computePlan(
          buildRequest({ kind: 'reschedule', scale: replicas.length, seed, operation: seed }),
          buildSnapshot(
            ready.map((node) => ({ ...node, up: node.id !== lost })),
            replicas,
          ),
        );
        expect(plan.phases.map(({ kind }) => kind)).not.toContain('pull');
      },
    ),
  );
});
