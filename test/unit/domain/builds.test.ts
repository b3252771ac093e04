/** Which nodes an image has no build for, as far as that is known, and what follows from it. */

import type { MissingBuild, SnapshotNode } from '../../../domain/model';
import { missingBuildInWords, withMissingBuilds } from '../../../domain/placement/builds';
import { daemonNodes } from '../../../domain/placement/daemon';
import { explainPlacement } from '../../../domain/placement/explain';
import { computePlan } from '../../../domain/plan';
import {
  NOW_MS,
  buildNode,
  buildRelease,
  buildReplica,
  buildRequest,
  buildSnapshot,
} from '../../support/builders';

const IMAGE = 'nginx:1.27';
const found = (overrides: Partial<MissingBuild> = {}): MissingBuild => ({
  image: IMAGE,
  available: ['amd64'],
  seenAtMs: NOW_MS,
  ...overrides,
});
const arm64 = (id: string, overrides: Partial<SnapshotNode> = {}) =>
  buildNode(id, { architecture: 'arm64', images: [], ...overrides });

const lacking = (nodes: readonly SnapshotNode[], ...rest: readonly [typeof TOLD?, boolean?]) =>
  withMissingBuilds(buildSnapshot(nodes), buildRelease(), ...rest).nodes.flatMap(({ id, missingBuilds }) =>
    missingBuilds === undefined ? [] : [id],
  );
const TOLD: Readonly<Record<string, readonly MissingBuild[]>> = { b: [found()] };

describe('what is known of missing builds', () => {
  test('is nothing where nobody has found out anything', () => {
    const snapshot = buildSnapshot([buildNode('a'), arm64('b')]);
    expect(withMissingBuilds(snapshot, buildRelease())).toBe(snapshot);
    expect(withMissingBuilds(snapshot, buildRelease(), {})).toBe(snapshot);
  });

  test('holds for the node that says so, from the making of the release on', () => {
    const nodes = (seenAtMs: number) => [
      buildNode('a'),
      arm64('b', { missingBuilds: [found({ seenAtMs })] }),
      arm64('c'),
    ];
    expect(lacking(nodes(NOW_MS))).toEqual(['b']);
    expect(lacking(nodes(NOW_MS - 1))).toEqual([]);
    expect(lacking(nodes(NOW_MS), {}, true)).toEqual([]);
  });

  test('holds for all nodes of an architecture that do not have the image, within an operation', () => {
    const nodes = [buildNode('a', { images: [] }), arm64('b'), arm64('c'), arm64('d', { images: [IMAGE] })];
    expect(lacking(nodes, TOLD)).toEqual(['b', 'c']);
    expect(lacking(nodes, TOLD, true)).toEqual(['b', 'c']);
    // Who was asked knows better than the list of what it has.
    expect(lacking([arm64('b', { images: [IMAGE] })], TOLD)).toEqual(['b']);
  });

  test('is told once for each image', () => {
    const { nodes } = withMissingBuilds(
      buildSnapshot([arm64('b', { missingBuilds: [found({ available: [] })] }), arm64('c')]),
      buildRelease(),
      { b: [found()], c: [found()] },
    );
    expect(nodes.map(({ missingBuilds }) => missingBuilds)).toEqual([[found()], [found()]]);
  });

  test('a document that says nothing of it in so many words is no trouble', () => {
    const node = arm64('b', { missingBuilds: null as unknown as readonly MissingBuild[] });
    expect(lacking([node, arm64('c', { missingBuilds: [found()] })])).toEqual(['c']);
    expect(computePlan(buildRequest(), buildSnapshot([node])).unplaced).toBe(0);
  });
});

test.each([
  [['amd64'], 'the image nginx:1.27 has no build for arm64; it has amd64'],
  [['amd64', 's390x'], 'the image nginx:1.27 has no build for arm64; it has amd64, s390x'],
  [[], 'the image nginx:1.27 has no build for arm64'],
])('builds for %j are said as: %s', (available, words) => {
  expect(missingBuildInWords({ image: IMAGE, available }, 'arm64')).toBe(words);
});

describe('a node that lacks a build', () => {
  test('gets no replica, and says why', () => {
    const snapshot = buildSnapshot([
      buildNode('a'),
      arm64('b', { missingBuilds: [found()] }),
      arm64('c', { missingBuilds: [found({ image: 'other:1' })] }),
    ]);
    const { spec } = buildRelease();
    expect(
      explainPlacement(spec, snapshot, NOW_MS, { project: 'default', name: 'web' }).map(
        ({ fits, reason }) => [fits, reason],
      ),
    ).toEqual([
      [true, expect.stringMatching(/first choice/)],
      [false, 'cannot run it: the image nginx:1.27 has no build for arm64; it has amd64'],
      [true, expect.stringMatching(/^has room/)],
    ]);
    const plan = computePlan(buildRequest({ scale: 3 }), snapshot);
    const nodes = plan.phases.flatMap(({ steps }) => steps).map(({ nodeId }) => nodeId);
    expect(nodes).toContain('c');
    expect(nodes).not.toContain('b');
    expect(plan.rejections).toEqual([
      expect.objectContaining({
        nodeId: 'b',
        noBuild: true,
        reason: expect.stringMatching(/no build/) as string,
      }),
    ]);
  });

  test('is asked again by a restart, until that has been answered', () => {
    const snapshot = buildSnapshot([arm64('b', { missingBuilds: [found()] })]);
    const request = { kind: 'restart', release: buildRelease() } as const;
    expect(computePlan(buildRequest(request), snapshot).unplaced).toBe(0);
    expect(computePlan(buildRequest({ ...request, missingBuilds: TOLD }), snapshot)).toMatchObject({
      unplaced: 1,
      phases: [],
      rejections: [{ nodeId: 'b', noBuild: true }],
    });
  });

  test('keeps what runs there', () => {
    const nodes = [buildNode('a'), arm64('b', { missingBuilds: [found()] })];
    const replicas = [buildReplica('web-1', 'a'), buildReplica('web-2', 'b')];
    const request = buildRequest({ kind: 'reschedule', scale: 2 });
    expect(computePlan(request, buildSnapshot(nodes, replicas)).converged).toBe(true);
  });

  test('wants no daemon, unless it has one of that release or an earlier one, or no node can have it', () => {
    const daemon = buildRelease(2, { daemon: true });
    const nodes = [buildNode('a'), arm64('b', { missingBuilds: [found()] })];
    const nodesWith = (...releases: readonly number[]) =>
      daemonNodes(
        daemon,
        buildSnapshot(
          nodes,
          releases.map((release) => buildReplica(`web-${release}`, 'b', { release })),
        ),
      );
    expect(nodesWith()).toEqual(['a']);
    expect(nodesWith(1)).toEqual(['a', 'b']);
    expect(nodesWith(2)).toEqual(['a', 'b']);
    // What a later release has left there goes with it.
    expect(nodesWith(3)).toEqual(['a']);
    expect(daemonNodes(daemon, buildSnapshot(nodes.slice(1)))).toEqual(['b']);
  });
});
