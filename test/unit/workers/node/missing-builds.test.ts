/** What a node remembers of images for other architectures, and for how long. */

import { MAX_AVAILABLE_BUILDS, MAX_MISSING_BUILDS } from '../../../../contracts/node-documents';
import { createMissingBuilds } from '../../../../workers/node/missing-builds';

const DAY_MS = 24 * 3_600_000;

test('what was found is told until there is a build, or for a day', () => {
  let nowMs = 1_000;
  let changes = 0;
  const builds = createMissingBuilds({ nowMs: () => nowMs, onChange: () => (changes += 1) });
  builds.forget('web:1');
  expect([builds.all(), changes]).toEqual([[], 0]);
  const noted = builds.note('web:1', ['amd64']);
  expect(noted).toEqual({ image: 'web:1', available: ['amd64'], seenAtMs: 1_000 });
  nowMs = 2_000;
  builds.note('web:2', []);
  expect(builds.all()).toEqual([noted, { image: 'web:2', available: [], seenAtMs: 2_000 }]);
  builds.forget('web:2');
  expect([builds.all(), changes]).toEqual([[noted], 3]);
  nowMs = 1_000 + DAY_MS - 1;
  expect(builds.all()).toEqual([noted]);
  nowMs += 1;
  expect(builds.all()).toEqual([]);
});

test('no more is told than a document has room for, the newest of it', () => {
  const builds = createMissingBuilds({ nowMs: () => 0, onChange: () => undefined });
  builds.note(
    'web:many',
    Array.from({ length: MAX_AVAILABLE_BUILDS + 1 }, (_, index) => `arch${index}`),
  );
  expect(builds.all()[0]?.available).toHaveLength(MAX_AVAILABLE_BUILDS);
  for (let number = 1; number <= MAX_MISSING_BUILDS; number += 1) builds.note(`web:${number}`, []);
  builds.note('web:2', ['arm64']);
  const images = builds.all().map(({ image }) => image);
  expect(images).toHaveLength(MAX_MISSING_BUILDS);
  expect(images).not.toContain('web:many');
  expect(images.at(-1)).toBe('web:2');
});
