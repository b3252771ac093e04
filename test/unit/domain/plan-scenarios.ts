/** Situations whose plans are kept as text in test/fixtures/plans, so that a change of the planner can be read. */

import type { PlanRequest, Snapshot } from '../../../domain/model';
import {
  GB,
  MB,
  NOW_MS,
  buildNode,
  buildRelease,
  buildReplica,
  buildRequest,
  buildSnapshot,
} from '../../support/builders';

export interface Scenario {
  readonly title: string;
  readonly request: PlanRequest;
  readonly snapshot: Snapshot;
}

const three = [buildNode('a'), buildNode('b'), buildNode('c')];
const withoutEngine = (id: string) => buildNode(id, { health: 'degraded', engineLostAtMs: NOW_MS - 60_000 });
const v2 = buildRelease(2, { containers: { app: { image: 'nginx:1.28', ports: [80] } } });
const onePerNode = ['a', 'b', 'c'].map((node) => buildReplica(`web-old${node}`, node));

/** Nodes b and c were held for lost by a, which has started two replicas in the place of theirs. */
const allReturned = (
  more: { readonly reportedAtMs?: number } = {},
  operation = 'reschedule.default.web.alone',
): Snapshot =>
  buildSnapshot(
    [
      buildNode('a'),
      ...['b', 'c'].map((id) =>
        buildNode(id, { lostWithAll: { fromMs: NOW_MS - 20_000, untilMs: NOW_MS - 1_000, ...more } }),
      ),
    ],
    [
      ...onePerNode,
      buildReplica('web-new1', 'a', { createdAtMs: NOW_MS - 20_000, operation }),
      buildReplica('web-new2', 'a', { createdAtMs: NOW_MS - 10_000, operation }),
    ],
  );

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'first-deploy': {
    title: 'A first deploy of two replicas on three nodes; one node has the image.',
    request: buildRequest({ scale: 2, release: buildRelease(1) }),
    snapshot: buildSnapshot([buildNode('a', { images: [] }), buildNode('b', { images: [] }), buildNode('c')]),
  },
  'first-deploy-latest': {
    title: 'An image without a tag is pulled also where it is; a replica has two containers.',
    request: buildRequest({
      scale: 1,
      release: buildRelease(1, {
        containers: { app: { image: 'nginx', ports: [80] }, log: { image: 'fluentd:1.17', pull: 'never' } },
      }),
    }),
    snapshot: buildSnapshot([buildNode('a', { images: ['nginx', 'fluentd:1.17'] })]),
  },
  'rolling-deploy': {
    title: 'A new release replaces three replicas, one more than the scale at a time.',
    request: buildRequest({ scale: 3, release: v2 }),
    snapshot: buildSnapshot(three, onePerNode),
  },
  'rolling-deploy-unavailable': {
    title: 'A new release replaces four replicas without surge, two at a time.',
    request: buildRequest({
      scale: 4,
      release: buildRelease(2, {
        containers: { app: { image: 'nginx:1.28' } },
        update: { maxSurge: 0, maxUnavailable: '50%' },
      }),
    }),
    snapshot: buildSnapshot(three, [...onePerNode, buildReplica('web-oldd', 'a')]),
  },
  'rolling-deploy-resumed': {
    title:
      'A deploy that was interrupted: one new replica is still starting, one old one has not been stopped.',
    request: buildRequest({ scale: 2, release: v2 }),
    snapshot: buildSnapshot(three, [
      buildReplica('web-olda', 'a'),
      buildReplica('web-newb', 'b', { release: 2 }),
      buildReplica('web-newc', 'c', { release: 2, state: 'starting' }),
    ]),
  },
  recreate: {
    title: 'A new release with the strategy recreate: all old replicas stop before new ones start.',
    request: buildRequest({
      scale: 2,
      release: buildRelease(2, {
        containers: { app: { image: 'postgres:17', volumes: [{ name: 'data', path: '/data' }] } },
        update: { strategy: 'recreate' },
      }),
    }),
    snapshot: buildSnapshot(three, onePerNode.slice(1)),
  },
  'scale-up': {
    title: 'Scale from 1 to 6 in one phase.',
    request: buildRequest({ kind: 'scale', scale: 6 }),
    snapshot: buildSnapshot(three, onePerNode.slice(0, 1)),
  },
  'scale-down': {
    title:
      'Scale from 6 to 2 in one phase: what does not run goes first, then the most crowded node, then the newest.',
    request: buildRequest({ kind: 'scale', scale: 2 }),
    snapshot: buildSnapshot(three, [
      buildReplica('web-1', 'a'),
      buildReplica('web-2', 'a', { createdAtMs: NOW_MS }),
      buildReplica('web-3', 'b'),
      buildReplica('web-4', 'b', { state: 'unhealthy' }),
      buildReplica('web-5', 'c', { state: 'crash_looping' }),
      buildReplica('web-6', 'c', { state: 'starting' }),
    ]),
  },
  'scale-to-zero': {
    title: 'Scale to 0 stops everything that can be reached.',
    request: buildRequest({ kind: 'scale', scale: 0 }),
    snapshot: buildSnapshot([buildNode('a'), buildNode('b', { up: false })], onePerNode.slice(0, 2)),
  },
  remove: {
    title: 'A removal stops everything, of every release.',
    request: buildRequest({ kind: 'remove', scale: 3 }),
    snapshot: buildSnapshot(three, [
      ...onePerNode.slice(1),
      buildReplica('web-newa', 'a', { release: 2, state: 'broken' }),
    ]),
  },
  'node-lost': {
    title: 'A node does not answer: its replica starts elsewhere, nothing is planned for the node.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(
      [buildNode('a'), buildNode('b', { up: false }), buildNode('c', { images: [] })],
      onePerNode,
    ),
  },
  'engine-lost': {
    title:
      'A node is without its engine: what does not serve there starts elsewhere, what goes on serving is left alone.',
    request: buildRequest({ kind: 'reschedule', scale: 4 }),
    snapshot: buildSnapshot(
      [buildNode('a'), withoutEngine('b'), buildNode('c')],
      [
        ...onePerNode.map((replica) =>
          replica.nodeId === 'b' ? { ...replica, state: 'unhealthy' as const } : replica,
        ),
        buildReplica('web-serves', 'b'),
      ],
    ),
  },
  'engine-lost-alone': {
    title: 'The only node is without its engine: nothing is planned, and it is said why.',
    request: buildRequest({ kind: 'reschedule', scale: 2 }),
    snapshot: buildSnapshot(
      [withoutEngine('a')],
      [buildReplica('web-1', 'a', { state: 'restarting' }), buildReplica('web-2', 'a')],
    ),
  },
  'engine-lost-deploy': {
    title:
      'A new release while a node is without its engine: it comes to the others, the old replica there is left.',
    request: buildRequest({ scale: 3, release: v2 }),
    snapshot: buildSnapshot([buildNode('a'), withoutEngine('b'), buildNode('c')], onePerNode),
  },
  'engine-lost-drain': {
    title: 'A drained node is without its engine: what it runs starts elsewhere, and cannot be stopped yet.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(
      [buildNode('a'), { ...withoutEngine('b'), availability: 'draining' }, buildNode('c')],
      onePerNode,
    ),
  },
  'engine-returned': {
    title: 'The engine of a node is back, and its replica does not serve yet: that one is surplus.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(three, [
      ...onePerNode.map((replica) =>
        replica.nodeId === 'b' ? { ...replica, state: 'restarting' as const } : replica,
      ),
      buildReplica('web-new', 'a', { createdAtMs: NOW_MS - 10_000 }),
    ]),
  },
  'node-returned': {
    title:
      'A lost node is back with its replica: that one is surplus, wherever the one in its place has started.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(
      [buildNode('a'), buildNode('b', { returnedAtMs: NOW_MS - 1_000 }), buildNode('c')],
      [...onePerNode, buildReplica('web-new', 'a', { createdAtMs: NOW_MS - 10_000 })],
    ),
  },
  'node-returned-clocks': {
    title:
      'A lost node is back whose clock is 3 h ahead, the clock of the others 3 h behind: its replica is surplus.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(
      [
        buildNode('a', { returnedAtMs: NOW_MS - 600_000 }),
        buildNode('b', { returnedAtMs: NOW_MS - 1_000 }),
        buildNode('c'),
      ],
      [
        ...onePerNode.map((replica) => ({
          ...replica,
          placedAtMs: NOW_MS - 500_000,
          createdAtMs: NOW_MS + (replica.nodeId === 'b' ? 10_800_000 : -10_800_000),
        })),
        buildReplica('web-new', 'a', { placedAtMs: NOW_MS - 10_000, createdAtMs: NOW_MS - 10_810_000 }),
      ],
    ),
  },
  'node-returned-early': {
    title: 'A lost node is back before the replica in place of its own serves: the one that serves stays.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(
      [buildNode('a'), buildNode('b', { returnedAtMs: NOW_MS - 1_000 }), buildNode('c')],
      [...onePerNode, buildReplica('web-new', 'a', { createdAtMs: NOW_MS - 10_000, state: 'starting' })],
    ),
  },
  'node-returned-late': {
    title:
      'A node was back long ago, and there is one too many: the oldest goes, not one on the fullest node.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(
      [buildNode('a'), buildNode('b', { returnedAtMs: NOW_MS - 3_600_000 }), buildNode('c')],
      [
        buildReplica('web-1', 'a', { createdAtMs: NOW_MS - 50_000 }),
        buildReplica('web-2', 'a', { createdAtMs: NOW_MS - 40_000 }),
        buildReplica('web-3', 'b', { createdAtMs: NOW_MS - 7_200_000 }),
        buildReplica('web-4', 'c', { createdAtMs: NOW_MS - 9_000_000 }),
      ],
    ),
  },
  'all-returned': {
    title:
      'All nodes but one were lost at once and are back: what that one started meanwhile goes, not what the others had.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: allReturned(),
  },
  'all-returned-unheard': {
    title:
      'They are back, and one has said nothing yet: what it had may have stopped with it, so nothing goes.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: allReturned({ reportedAtMs: NOW_MS }),
  },
  'all-returned-restarted': {
    title: 'They are back, and somebody has restarted all of it meanwhile: what was started then stays.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: allReturned({}, 'restart.default.web.now'),
  },
  broken: {
    title:
      'A container of a replica is gone: a new replica first, then the rest of the broken one is removed.',
    request: buildRequest({ kind: 'reschedule', scale: 2 }),
    snapshot: buildSnapshot(three, [
      buildReplica('web-1', 'a', { state: 'broken' }),
      buildReplica('web-2', 'b'),
    ]),
  },
  'broken-all': {
    title:
      'All replicas are broken: no more than the surge before they are gone, in case the new ones break too.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(
      three,
      onePerNode.map((replica) => ({ ...replica, state: 'broken' })),
    ),
  },
  'crash-loop-moved': {
    title:
      'Of two replicas that crash-loop on a node, one is tried on another, since the release runs elsewhere.',
    request: buildRequest({ kind: 'reschedule', scale: 3 }),
    snapshot: buildSnapshot(three, [
      buildReplica('web-1', 'a', { state: 'crash_looping', restartCount: 4, createdAtMs: NOW_MS - 600_000 }),
      buildReplica('web-2', 'a', { state: 'crash_looping', restartCount: 9, createdAtMs: NOW_MS - 600_000 }),
      buildReplica('web-3', 'b'),
    ]),
  },
  restart: {
    title: 'A restart replaces replicas that its own operation has not started.',
    request: buildRequest({ kind: 'restart', scale: 2, operation: 'restart.default.web.now' }),
    snapshot: buildSnapshot(three, [
      buildReplica('web-1', 'a', { operation: 'restart.default.web.now' }),
      buildReplica('web-2', 'b'),
    ]),
  },
  'no-capacity': {
    title: 'Not every replica finds a node; each node says why.',
    request: buildRequest({
      kind: 'scale',
      scale: 3,
      refusals: { d: 'no room: 0.1 CPUs are free' },
      release: buildRelease(1, {
        containers: { app: { image: 'nginx:1.27', cpus: 2, reserve: { cpus: 2, memory: GB } } },
        constraints: { disk: 'ssd' },
      }),
    }),
    snapshot: buildSnapshot(
      ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((id) =>
        buildNode(id, {
          labels: id === 'c' ? { disk: 'hdd' } : { disk: 'ssd' },
          up: id !== 'b',
          ...(id === 'e' ? { diskFreeBytes: 500 * MB } : {}),
          ...(id === 'f' ? { memoryAvailableBytes: GB } : {}),
          ...(id === 'g' ? { memoryReservedBytes: 7 * GB } : {}),
        }),
      ),
    ),
  },
  degraded: {
    title: 'A degraded node is used when no healthy one has room, and only then.',
    request: buildRequest({
      scale: 4,
      release: buildRelease(1, { containers: { app: { image: 'nginx:1.27', reserve: { cpus: 1 } } } }),
    }),
    snapshot: buildSnapshot([buildNode('a', { health: 'degraded', reasons: ['disk'] }), buildNode('b')]),
  },
  drain: {
    title: 'A node is drained: its replicas start elsewhere, within the surge, before they stop.',
    request: buildRequest({ kind: 'reschedule', scale: 4 }),
    snapshot: buildSnapshot(
      [buildNode('a', { availability: 'draining' }), buildNode('b'), buildNode('c')],
      [...onePerNode, buildReplica('web-oldd', 'a')],
    ),
  },
  'drain-without-surge': {
    title:
      'A drain of what is updated without surge: its replicas start elsewhere before they stop nevertheless.',
    request: buildRequest({
      kind: 'reschedule',
      scale: 3,
      release: buildRelease(1, { update: { maxSurge: 0, maxUnavailable: 2 } }),
    }),
    snapshot: buildSnapshot(
      [buildNode('a', { availability: 'draining' }), buildNode('b'), buildNode('c')],
      [...onePerNode, buildReplica('web-oldd', 'a')].filter(({ nodeId }) => nodeId !== 'c'),
    ),
  },
  'drain-recreate': {
    title: 'A drain of what must not run beside itself on the same data: it stops there before it starts.',
    request: buildRequest({
      kind: 'reschedule',
      scale: 2,
      release: buildRelease(1, { update: { strategy: 'recreate' } }),
    }),
    snapshot: buildSnapshot(
      [buildNode('a', { availability: 'draining' }), buildNode('b'), buildNode('c')],
      [buildReplica('web-1', 'a'), buildReplica('web-2', 'b')],
    ),
  },
  'drain-without-room': {
    title: 'A node is drained and no other one has room: its replica goes on.',
    request: buildRequest({
      kind: 'reschedule',
      scale: 2,
      release: buildRelease(1, { containers: { app: { image: 'nginx:1.27', reserve: { cpus: 1 } } } }),
    }),
    snapshot: buildSnapshot(
      [
        buildNode('a', { availability: 'draining' }),
        buildNode('b', { cpusReserved: 2 }),
        buildNode('c', { availability: 'cordoned' }),
      ],
      [buildReplica('web-1', 'a', { cpusReserved: 1 }), buildReplica('web-2', 'b', { cpusReserved: 1 })],
    ),
  },
  'exclusive-rollout': {
    title: 'A new release of what is exclusive: the old replica stops, then the new one starts.',
    request: buildRequest({ release: buildRelease(2, { exclusive: true }) }),
    snapshot: buildSnapshot(three, [buildReplica('web-1', 'b')]),
  },
  'exclusive-made': {
    title: 'What had three replicas becomes exclusive: all stop, and one starts.',
    request: buildRequest({ scale: 3, release: buildRelease(2, { exclusive: true }) }),
    snapshot: buildSnapshot(three, onePerNode),
  },
  'exclusive-lost': {
    title:
      'The node of an exclusive replica is lost: its replacement is planned at once, and waits for the lease.',
    request: buildRequest({ kind: 'reschedule', release: buildRelease(1, { exclusive: true }) }),
    snapshot: buildSnapshot(
      [buildNode('a', { up: false }), buildNode('b'), buildNode('c')],
      [buildReplica('web-1', 'a')],
    ),
  },
  'exclusive-engine-lost': {
    title:
      'The node of an exclusive replica is without its engine, but holds its lease: the replica is left to it.',
    request: buildRequest({ kind: 'reschedule', release: buildRelease(1, { exclusive: true }) }),
    snapshot: buildSnapshot(
      [withoutEngine('a'), buildNode('b')],
      [buildReplica('web-1', 'a', { state: 'restarting' })],
    ),
  },
  'exclusive-drain': {
    title: 'An exclusive replica leaves a drained node: it stops there before it starts elsewhere.',
    request: buildRequest({ kind: 'reschedule', release: buildRelease(1, { exclusive: true }) }),
    snapshot: buildSnapshot(
      [buildNode('a', { availability: 'draining' }), buildNode('b')],
      [buildReplica('web-1', 'a')],
    ),
  },
  'exclusive-returned': {
    title: 'The node of an exclusive replica is back, which waits for a lease that another one has: it goes.',
    request: buildRequest({ kind: 'reschedule', release: buildRelease(1, { exclusive: true }) }),
    snapshot: buildSnapshot(three, [
      buildReplica('web-1', 'a', { state: 'restarting' }),
      buildReplica('web-2', 'b'),
    ]),
  },
  'no-build': {
    title:
      'Of two nodes there is no build, as one of them has answered: the others get all, without those two.',
    request: buildRequest({
      scale: 3,
      attempt: 2,
      missingBuilds: { b: [{ image: 'nginx:1.27', available: ['amd64'], seenAtMs: NOW_MS }] },
    }),
    snapshot: buildSnapshot([
      buildNode('a'),
      buildNode('b', { architecture: 'arm64', images: [] }),
      buildNode('c', { architecture: 'arm64', images: [] }),
      buildNode('d'),
    ]),
  },
  'no-build-anywhere': {
    title: 'There is a build for none of the nodes: what runs goes on.',
    request: buildRequest({ scale: 2, release: v2 }),
    snapshot: buildSnapshot(
      ['a', 'b'].map((id) =>
        buildNode(id, {
          architecture: 'arm64',
          missingBuilds: [{ image: 'nginx:1.28', available: ['amd64', 's390x'], seenAtMs: NOW_MS }],
        }),
      ),
      onePerNode.slice(0, 2),
    ),
  },
  'daemon-engine-lost': {
    title: 'A daemon on a node without its engine is not replaced, and renewed on the others.',
    request: buildRequest({ release: buildRelease(2, { daemon: true }) }),
    snapshot: buildSnapshot(
      [buildNode('a'), withoutEngine('b')],
      onePerNode.slice(0, 2).map((replica) => ({ ...replica, daemon: true })),
    ),
  },
  'daemon-first-deploy': {
    title: 'A daemon goes to every node that matches: not to one that is cordoned, lost or of another kind.',
    request: buildRequest({
      release: buildRelease(1, { daemon: true, constraints: { 'node.arch': 'amd64' } }),
    }),
    snapshot: buildSnapshot([
      buildNode('a'),
      buildNode('b', { images: [] }),
      buildNode('c', { availability: 'cordoned' }),
      buildNode('d', { up: false }),
      buildNode('e', { architecture: 'arm64' }),
    ]),
  },
  'daemon-rollout': {
    title: 'A new release of a daemon: node by node, in place, also where nothing new may go.',
    request: buildRequest({ release: { ...v2, spec: { ...v2.spec, daemon: true } } }),
    snapshot: buildSnapshot(
      [buildNode('a'), buildNode('b', { availability: 'cordoned' }), buildNode('c')],
      onePerNode,
    ),
  },
  'daemon-new-node': {
    title: 'A node has joined: the daemon starts there, and nothing else happens.',
    request: buildRequest({ kind: 'reschedule', release: buildRelease(1, { daemon: true }) }),
    snapshot: buildSnapshot(three, onePerNode.slice(0, 2)),
  },
  'daemon-drain': {
    title: 'A daemon leaves a drained node when nothing else is there, and none takes its place.',
    request: buildRequest({ kind: 'reschedule', release: buildRelease(1, { daemon: true }) }),
    snapshot: buildSnapshot(
      [
        buildNode('a', { availability: 'draining' }),
        buildNode('b', { availability: 'draining', movableReplicas: 1 }),
        buildNode('c'),
      ],
      onePerNode.map((replica) => ({ ...replica, daemon: true })),
    ),
  },
  'near-and-apart': {
    title: 'Beside the database, rather not beside the batch; never beside the intruder.',
    request: buildRequest({
      scale: 3,
      release: buildRelease(1, {
        near: [{ microservice: 'orders-db', required: true }],
        apart: ['batch', { microservice: 'intruder', required: true }],
      }),
    }),
    snapshot: buildSnapshot([
      buildNode('a', { microservices: { 'default/orders-db': 1, 'default/batch': 1 } }),
      buildNode('b', { microservices: { 'default/orders-db': 1 } }),
      buildNode('c', { microservices: { 'default/orders-db': 1, 'default/intruder': 1 } }),
      buildNode('d', { microservices: { 'other/orders-db': 1 } }),
    ]),
  },
  zones: {
    title: 'Four replicas over two zones, one of which has one node only.',
    request: buildRequest({ scale: 4 }),
    snapshot: buildSnapshot([
      buildNode('a', { labels: { zone: 'east' } }),
      buildNode('b', { labels: { zone: 'west' } }),
      buildNode('c', { labels: { zone: 'west' } }),
    ]),
  },
  rebalance: {
    title: 'A node is back with nothing: one replica at a time moves there, the newest of the fullest node.',
    request: buildRequest({ kind: 'reschedule', scale: 5 }),
    snapshot: buildSnapshot(
      [...three, buildNode('d', { unstableUntilMs: NOW_MS + 1 })],
      [
        buildReplica('web-1', 'a'),
        buildReplica('web-2', 'a', { createdAtMs: NOW_MS - 1 }),
        buildReplica('web-3', 'a'),
        buildReplica('web-4', 'b'),
        buildReplica('web-5', 'b'),
      ],
    ),
  },
};
