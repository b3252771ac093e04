/** Which bits the replicas of a release run: looked up once, and the same ever after. */

import type { SnapshotNode } from '../../domain/model';
import { fakeDigest } from '../support/fake-cluster';
import { eventually } from '../support/wait';

import { createSubject, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

const NEW = fakeDigest('what the tag leads to later');
const OLD = fakeDigest('shop:1');
const LOCAL = fakeDigest('what nodes have made themselves');

const releaseOf = (subject: Subject, number: number) =>
  use.project.cluster.releases(subject.name).find((release) => release.number === number);
const lookedUp = () => use.project.cluster.resolved.length;

test('every replica runs what the tag led to when the release was made, also on nodes that come later', async () => {
  const { cluster } = use.project;
  cluster.setUp('c', false);
  const subject = createSubject(use.project);
  const operation = await subject.applied({ scale: 2 });
  expect(operation).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 1);
  expect(subject.document()?.release).toMatchObject({ images: { 'shop:1': OLD } });
  expect(releaseOf(subject, 1)).toMatchObject({ images: { 'shop:1': OLD } });
  expect(lookedUp()).toBe(1);

  cluster.setDigest('shop:1', NEW);
  cluster.setUp('c', true);
  await subject.ended(await subject.scale(5));
  await subject.ended(await subject.restart());
  await subject.steady(5, 1);
  // The registry was never asked again, and nodes were asked for the digest.
  expect(lookedUp()).toBe(1);
  for (const { images, id } of cluster.view.nodes() as readonly SnapshotNode[]) {
    expect({ id, images }).toMatchObject({ images: expect.arrayContaining([`shop@${OLD}`]) as unknown });
    expect(images).not.toContain(`shop@${NEW}`);
  }
});

test('a redeploy looks again, and a rollback runs the bits of then', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied();
  cluster.setDigest('shop:1', NEW);
  const redeployed = await subject.ended(await subject.redeploy({ by: { kind: 'webhook', name: 'ci' } }));
  expect(redeployed).toMatchObject({
    kind: 'deploy',
    state: 'succeeded',
    release: 2,
    by: { kind: 'webhook', name: 'ci' },
  });
  expect(releaseOf(subject, 2)).toMatchObject({
    redeployOf: 1,
    images: { 'shop:1': NEW },
    by: { kind: 'webhook', name: 'ci' },
  });
  await subject.ended(await subject.rollback(1));
  await subject.steady(1, 3);
  expect(releaseOf(subject, 3)).toMatchObject({ rollbackOf: 1, images: { 'shop:1': OLD } });
  expect(lookedUp()).toBe(2);
});

test('what a digest names already is not looked up', async () => {
  const image = `shop@${OLD}`;
  const subject = createSubject(use.project);
  await subject.applied({ image });
  await subject.steady(1, 1);
  expect(releaseOf(subject, 1)?.images).toEqual({});
  expect(lookedUp()).toBe(0);
});

test('an image that is in no registry runs where it is, and only that build of it', async () => {
  const { cluster } = use.project;
  cluster.setLocalImage('local:1', { a: LOCAL, b: LOCAL });
  cluster.addNode('a', { images: ['local:1'] });
  const subject = createSubject(use.project);
  await subject.applied({ image: 'local:1' });
  await subject.steady(1, 1);
  expect(subject.running().map(({ nodeId }) => nodeId)).toEqual(['a']);
  expect(releaseOf(subject, 1)).toMatchObject({
    images: {},
    localImages: { 'local:1': { amd64: LOCAL } },
  });
});

test('an image that nobody has fails before anything is started, and nothing is pulled', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied();
  cluster.setImage('shop:none', { kind: 'missing' });
  const operation = await subject.applied({ image: 'shop:none' });
  expect(operation).toMatchObject({
    state: 'rolled_back',
    error: { code: 'image_not_found', message: 'there is no image shop:none' },
  });
  expect(cluster.journal.filter((line) => line.includes('shop:none'))).toEqual([]);
  await subject.steady(1, 1);
});

test('a release that was superseded while it started keeps what was looked up', async () => {
  const { cluster } = use.project;
  const hold = cluster.holdStarts();
  const subject = createSubject(use.project);
  await subject.apply({ spec: specOf('shop:1') });
  await eventually(() => expect(hold.waiting).toBe(1));
  cluster.setDigest('shop:1', NEW);
  const scaled = await subject.scale(3);
  hold.release();
  await subject.ended(scaled);
  await subject.steady(3, 1);
  expect(releaseOf(subject, 1)).toMatchObject({ images: { 'shop:1': OLD } });
  expect(lookedUp()).toBe(1);
});

test('what is lost of an old release whose image is in no registry comes back where the image is', async () => {
  const { cluster } = use.project;
  cluster.setLocalImage('local:1', { a: LOCAL, b: LOCAL });
  for (const id of ['a', 'b']) cluster.addNode(id, { images: ['local:1'] });
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, image: 'local:1' });
  await subject.steady(2, 1);

  // The next place would be on c, which cannot have the image.
  cluster.setAvailability('a', 'cordoned');
  const lost = subject.running().find(({ nodeId }) => nodeId === 'a');
  cluster.loseReplica(lost?.id ?? '');
  const deploy = await subject.apply({
    spec: { ...specOf('shop:2'), update: { strategy: 'blue-green', promote: 'manual' } },
  });
  const waiting = await subject.recorded(
    deploy,
    ({ state }) => state === 'paused' || state === 'rolled_back',
  );
  expect(waiting).toMatchObject({ state: 'paused' });
  const nodesOf = (release: number) =>
    subject
      .running()
      .filter((one) => one.release === release)
      .map(({ nodeId }) => nodeId);
  expect(nodesOf(1)).toEqual(['b', 'b']);
  expect(nodesOf(2)).toHaveLength(2);
  expect(cluster.journal).toContain('c: pull local:1');
});

test('what is paused while its images are looked up asks no further', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied();
  cluster.setImage('shop:2', { kind: 'unreachable' });
  const deploy = await subject.apply({ image: 'shop:2' });
  const asked = () => cluster.resolved.filter((line) => line.includes('shop:2')).length;
  await eventually(() => expect(asked()).toBeGreaterThan(0));
  await subject.steer('pause');
  await subject.recorded(deploy, ({ state }) => state === 'paused');
  const before = asked();
  cluster.setImage('shop:2', { kind: 'healthy' });
  await subject.steer('resume');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  expect(asked()).toBe(before + 1);
});
