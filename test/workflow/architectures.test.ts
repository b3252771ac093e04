/** Clusters of nodes of several processor architectures, and images that are not made for all of them. */

import { eventually } from '../support/wait';

import { createSubject, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

const ONLY_AMD64 = { kind: 'built-for', architectures: ['amd64'] } as const;

/** As it is at first, but for the nodes that are named, which are arm64 and the ones that are free. */
const makeArm64 = (...nodeIds: readonly string[]) => {
  for (const nodeId of nodeIds) use.project.cluster.addNode(nodeId, { architecture: 'arm64' });
};
afterEach(() => {
  for (const nodeId of ['a', 'b', 'c']) use.project.cluster.addNode(nodeId);
});

const pulls = (image: string) =>
  use.project.cluster.journal
    .filter((line) => line.endsWith(`: pull ${image}`))
    .map((line) => line.slice(0, 1))
    .sort();
const nodesOf = (subject: Subject) => subject.running().map(({ nodeId }) => nodeId);

test('an image runs only where there is a build for it, without anybody having said so', async () => {
  const { cluster } = use.project;
  makeArm64('b', 'c');
  cluster.setImage('only-amd64:1', ONLY_AMD64);
  const subject = createSubject(use.project);
  const operation = await subject.applied({ scale: 3, image: 'only-amd64:1' });
  await subject.steady(3, 1);
  expect(nodesOf(subject)).toEqual(['a', 'a', 'a']);
  expect(subject.operations().map(({ id, state }) => [id, state])).toEqual([[operation.id, 'succeeded']]);
  expect(pulls('only-amd64:1')).toEqual(['a', 'b', 'c']);

  // What a node has found out is not asked again: neither when there is to be more of it, nor for the sake of balance.
  await subject.ended(await subject.scale(5));
  await subject.signal();
  await subject.steady(5, 1);
  expect(nodesOf(subject)).toEqual(['a', 'a', 'a', 'a', 'a']);
  expect(pulls('only-amd64:1')).toEqual(['a', 'b', 'c']);
});

test('of the nodes of one architecture no more are asked than were at once', async () => {
  const { cluster } = use.project;
  makeArm64('a', 'b');
  cluster.setImage('only-amd64:2', ONLY_AMD64);
  cluster.setAvailability('c', 'cordoned');
  const subject = createSubject(use.project);
  const ended = await subject.applied({ image: 'only-amd64:2' });
  expect(ended).toMatchObject({ state: 'failed', error: { code: 'no_capacity' } });
  expect(pulls('only-amd64:2')).toHaveLength(1);
  expect(ended.message).toMatch(
    /a cannot run it: the image only-amd64:2 has no build for arm64; it has amd64; b cannot run it: .*; c is cordoned/,
  );
});

test('when no node can have it, the release says so and is rolled back; a release that is made later asks anew', async () => {
  const { cluster } = use.project;
  makeArm64('a', 'b', 'c');
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  await subject.steady(2, 1);
  const before = subject.replicas();
  cluster.setImage('shop:built', ONLY_AMD64);
  const watched = cluster.watchRunning(subject.name);
  const failed = await subject.ended(await subject.apply({ scale: 2, image: 'shop:built' }));
  expect(failed).toMatchObject({ state: 'rolled_back', error: { code: 'image_not_found' } });
  expect(failed.message).toMatch(/has no build for arm64; it has amd64.*Build the image for/);
  expect(subject.replicas()).toEqual(before);
  expect(watched.fewest).toBe(2);

  cluster.setImage('shop:built', { kind: 'built-for', architectures: ['amd64', 'arm64'] });
  expect(await subject.ended(await subject.apply({ scale: 2, image: 'shop:built' }))).toMatchObject({
    state: 'succeeded',
  });
  await subject.steady(2, 3);
});

test('what cannot be run where it was pulled goes elsewhere, and leaves nothing', async () => {
  const { cluster } = use.project;
  makeArm64('a', 'b');
  cluster.setImage('silent:1', { kind: 'runs-on', architecture: 'amd64' });
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3, image: 'silent:1' });
  await subject.steady(3, 1);
  expect(nodesOf(subject)).toEqual(['c', 'c', 'c']);
  expect(subject.operations().map(({ state }) => state)).toEqual(['succeeded']);
});

test('a daemon does without the nodes that there is no build for', async () => {
  const { cluster } = use.project;
  makeArm64('b');
  cluster.setImage('agent:1', ONLY_AMD64);
  const subject = createSubject(use.project);
  await subject.applied({ spec: { ...specOf('agent:1'), daemon: true } });
  await eventually(() => expect(nodesOf(subject).sort()).toEqual(['a', 'c']));
  await subject.steady(2, 1);
  await subject.signal();
  await subject.steady(2, 1);
  expect(subject.operations().map(({ state }) => state)).toEqual(['succeeded']);

  // But no release takes it from a node that has one.
  cluster.setImage('agent:2', { kind: 'built-for', architectures: ['arm64'] });
  const failed = await subject.ended(await subject.apply({ spec: { ...specOf('agent:2'), daemon: true } }));
  expect(failed).toMatchObject({ state: 'rolled_back', error: { code: 'image_not_found' } });
  await eventually(() => expect(nodesOf(subject).sort()).toEqual(['a', 'c']));
});

test('what is brought back keeps away from such nodes, too', async () => {
  const { cluster } = use.project;
  makeArm64('b');
  cluster.setImage('only-amd64:3', ONLY_AMD64);
  cluster.setAvailability('b', 'cordoned');
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, image: 'only-amd64:3' });
  await subject.steady(2, 1);
  expect(nodesOf(subject).sort()).toEqual(['a', 'c']);
  cluster.setAvailability('b', 'active');
  cluster.setUp('a', false);
  await subject.signal();
  await eventually(() => expect(nodesOf(subject).filter((nodeId) => nodeId === 'c')).toHaveLength(2));
  expect(subject.operations().map(({ state }) => state)).not.toContain('failed');
  cluster.setUp('a', true);
});
