import { MAX_NODE_IMAGES, MAX_NODE_IMAGE_CHARACTERS } from '../../../../contracts/node-documents';
import { tellableImages } from '../../../../workers/node/known-images';

const many = (count: number, make: (at: number) => string) =>
  Array.from({ length: count }, (_, at) => make(at));
const digest = (at: number) => `registry.example.com/team/app@sha256:${String(at).padStart(64, '0')}`;

test('a usual machine tells all of its images', () => {
  const images = ['b:1', 'a:2', digest(1)];
  expect(tellableImages(images)).toEqual(['a:2', 'b:1', digest(1)]);
});

test('one with very many tells those by a tag first, and what fits', () => {
  const tagged = many(1_000, (at) => `app:${at}`);
  const told = tellableImages([...many(10_000, digest), ...tagged]);
  expect(told).toEqual([...told].sort());
  expect(told.filter((one) => !one.includes('@'))).toHaveLength(1_000);
  expect(told.length).toBeGreaterThan(1_000);
  expect(told.join('').length).toBeLessThanOrEqual(MAX_NODE_IMAGE_CHARACTERS);
  expect(tellableImages(many(10_000, (at) => `app:${at}`))).toHaveLength(MAX_NODE_IMAGES);
});
