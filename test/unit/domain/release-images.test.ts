/** References of images with their digests, and who is asked for them. */

import {
  engineReference,
  findImageSources,
  hasImage,
  imageInWords,
  openImages,
  pinnedReference,
  withDigests,
  withoutDigests,
  writtenImage,
} from '../../../domain/release-images';
import { buildNode, buildRelease, buildReplica } from '../../support/builders';

const DIGEST = `sha256:${'a1'.repeat(32)}`;

test.each([
  ['web', 'web:latest', 'web'],
  ['web:1', 'web:1', 'web'],
  ['host:5000/team/web', 'host:5000/team/web:latest', 'host:5000/team/web'],
  ['host:5000/team/web:1.2', 'host:5000/team/web:1.2', 'host:5000/team/web'],
])('%s with a digest', (image, words, repository) => {
  const pinned = pinnedReference(image, DIGEST);
  expect(pinned).toBe(`${words}@${DIGEST}`);
  expect(engineReference(pinned)).toBe(`${repository}@${DIGEST}`);
  expect(imageInWords(pinned)).toBe(words);
  expect(engineReference(image)).toBe(image);
});

test('an image that its user named by a digest stays as it is', () => {
  const image = `web@${DIGEST}`;
  expect(imageInWords(image)).toBe(image);
  expect(
    openImages({ containers: buildRelease(1, { containers: { a: { image } } }).spec.containers }),
  ).toEqual([]);
});

test('an engine has an image by its tag, its digest, or the short name of the default registry', () => {
  const has = (...images: string[]) => hasImage(new Set(images), `docker.io/library/web:1@${DIGEST}`);
  expect(has('web:1')).toBe(false);
  expect(has(`web@${DIGEST}`)).toBe(true);
  expect(has(`docker.io/library/web@${DIGEST}`)).toBe(true);
});

test('a release with its digests is what nodes run, and tells what was written', () => {
  const release = {
    ...buildRelease(1, { containers: { a: { image: 'web' }, b: { image: 'db:1' } } }),
    images: { web: DIGEST },
  };
  const pinned = withDigests(release);
  expect(pinned.spec.containers.map(({ image }) => image)).toEqual([`web:latest@${DIGEST}`, 'db:1']);
  expect(pinned.spec.containers.map(({ image }) => writtenImage(pinned, image))).toEqual(['web', 'db:1']);
  expect(withDigests(pinned)).toEqual(pinned);
  expect(withoutDigests(pinned)).toEqual(release);
});

test('nodes that have the images are asked first, a few of each architecture, and none that cannot answer', () => {
  const release = buildRelease(1, { containers: { app: { image: 'web:1' } } });
  const nodes = [
    ...['a', 'b', 'c', 'd'].map((id) => buildNode(id, { images: id === 'd' ? ['web:1'] : [] })),
    buildNode('e', { architecture: 'arm64', images: [] }),
    buildNode('f', { up: false, images: ['web:1'] }),
  ];
  const { isTooLate, sources } = findImageSources(release, { nodes, replicas: [] });
  expect(isTooLate).toBe(false);
  expect(sources.map(({ nodeId }) => nodeId)).toEqual(['d', 'a', 'b', 'e']);
  expect(sources[0]).toEqual({ nodeId: 'd', architecture: 'amd64', has: ['web:1'] });
  // What runs from before digests were looked up goes on.
  const replicas = [buildReplica('web-1', 'a', { release: 1 })];
  expect(findImageSources(release, { nodes, replicas }).isTooLate).toBe(true);
});
