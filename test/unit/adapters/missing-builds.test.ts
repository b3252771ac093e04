/** What a pull says of an image for other architectures, over an engine that answers as Docker does. */

import { Readable } from 'node:stream';

import type Docker from 'dockerode';

import { createImagePuller } from '../../../adapters/docker/image-puller';
import { createMissingBuilds } from '../../../workers/node/missing-builds';

const NO_MATCH = 'no matching manifest for linux/arm64/v8 in the manifest list entries';

interface Call {
  readonly path: string;
}

/** @param platforms what the registry tells; undefined: nothing */
const pullOver = async (platforms: readonly object[] | null | undefined, error: string = NO_MATCH) => {
  const asked: string[] = [];
  const docker = {
    createImage: async () => Readable.from([`${JSON.stringify({ error })}\n`]),
    modem: {
      dial: ({ path }: Call, done: (error: Error | null, found?: unknown) => void) => {
        asked.push(path);
        if (path.startsWith('/distribution/') && platforms !== undefined)
          done(null, { Platforms: platforms });
        else done(Object.assign(new Error('there is none'), { statusCode: 404 }));
      },
    },
  } as unknown as Docker;
  const builds = createMissingBuilds({ nowMs: () => 5, onChange: () => undefined });
  const puller = createImagePuller({ docker, builds, authFor: async () => undefined });
  const outcome = await puller.pull('web', 'missing', new AbortController().signal, () => undefined);
  return { outcome, asked, known: builds.all() };
};

test('what there is, is told in words', async () => {
  const { outcome, asked, known } = await pullOver([
    { architecture: 'amd64', os: 'linux' },
    { architecture: 'arm', os: 'linux', variant: 'v7' },
    { architecture: 'amd64', os: 'windows' },
    { architecture: 'amd64', os: 'linux' },
    { architecture: 'unknown', os: 'unknown' },
    {},
  ]);
  const missingBuild = { image: 'web', available: ['amd64', 'arm/v7', 'windows/amd64'], seenAtMs: 5 };
  expect(outcome).toMatchObject({ kind: 'failed', code: 'image_not_found', missingBuild });
  expect(known).toEqual([missingBuild]);
  expect(asked).toEqual(['/images/web/json', '/distribution/web:latest/json']);
});

test.each([[undefined], [null]])(
  'a registry that does not tell (%s) makes no difference but in words',
  async (platforms) => {
    const { outcome, known } = await pullOver(platforms);
    const missingBuild = { image: 'web', available: [], seenAtMs: 5 };
    expect(outcome).toMatchObject({ kind: 'failed', code: 'image_not_found', missingBuild });
    expect(known).toEqual([missingBuild]);
  },
);

test('of an image that does not exist nothing more is asked, and nothing remembered', async () => {
  const { outcome, asked, known } = await pullOver([], 'manifest for web:latest not found: manifest unknown');
  expect(outcome).toMatchObject({ kind: 'failed', code: 'image_not_found' });
  expect(outcome).not.toHaveProperty('missingBuild');
  expect(asked).toEqual(['/images/web/json']);
  expect(known).toEqual([]);
});
