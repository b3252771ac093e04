// Which bits an image is, as a real engine and a real registry have it.
import type { ImageResolution } from '../../contracts/activities';
import { pinnedReference } from '../../domain/release-images';
import { OWN_ARCHITECTURE, loadInto, webImage } from '../support/images';
import { startRegistry, type Registry } from '../support/registry';
import { buildStart, startNodeMachine, startOne, type NodeMachine } from './node-machine';

let machine: NodeMachine;
let registry: Registry;

beforeAll(async () => {
  registry = await startRegistry();
  machine = await startNodeMachine({});
}, 60_000);
afterAll(async () => {
  await machine?.dispose();
  await registry?.dispose();
});

type Policy = 'always' | 'missing' | 'never';

const request = (image: string, pull: Policy) => ({
  project: 'default',
  name: 'web',
  nodeId: machine.config.nodeId,
  operation: 'o',
  images: [{ image, pull }],
});

const resolve = async (image: string, pull: Policy, asksRegistry = false): Promise<ImageResolution> => {
  const [outcome] = await machine.activities.resolveImages({ ...request(image, pull), asksRegistry });
  return outcome as ImageResolution;
};

const digestOf = async (image: string, pull: Policy = 'always', asksRegistry = false): Promise<string> => {
  const outcome = await resolve(image, pull, asksRegistry);
  if (outcome.kind !== 'digest') throw new Error(`no digest: ${JSON.stringify(outcome)}`);
  return outcome.digest;
};

const idOf = async (reference: string): Promise<string> => {
  const [outcome] = await machine.activities.pullImages(request(reference, 'missing'));
  if (outcome === undefined || outcome.kind === 'failed') throw new Error(JSON.stringify(outcome));
  return outcome.imageId;
};

test('a digest goes on meaning the same when its tag has moved', async () => {
  const image = await registry.push({ ...(await webImage('v1')), repository: 'moved', tag: 'live' });
  const before = await digestOf(image);
  expect(before).toMatch(/^sha256:[0-9a-f]{64}$/);
  expect(await digestOf(image)).toBe(before);
  const idBefore = await idOf(image);

  await registry.push({ ...(await webImage('v2')), repository: 'moved', tag: 'live' });
  const after = await digestOf(image);
  expect(after).not.toBe(before);
  // What the engine has is what it may run, unless somebody wants what is new.
  expect(await digestOf(image, 'missing')).toBe(before);
  expect(await digestOf(image, 'missing', true)).toBe(after);

  const idAfter = await idOf(pinnedReference(image, after));
  expect(idAfter).not.toBe(idBefore);
  expect(await idOf(pinnedReference(image, before))).toBe(idBefore);
});

test('the digest of an image for several architectures is that of all of them', async () => {
  const image = await registry.pushFor({ ...(await webImage('v1')), repository: 'many' }, [
    OWN_ARCHITECTURE,
    OWN_ARCHITECTURE === 'arm64' ? 'amd64' : 'arm64',
  ]);
  registry.resetRequests();
  const digest = await digestOf(image);
  await idOf(pinnedReference(image, digest));
  // By its digest the registry hands out the list, and the engine takes its own build from it.
  expect(registry.requestCount(new RegExp(`manifests/${digest}$`))).toBeGreaterThan(0);
  expect(await digestOf(image, 'missing')).toBe(digest);
});

test('where the registry is away, what the engine has counts; otherwise it is said why not', async () => {
  const image = await registry.push({ ...(await webImage('v1')), repository: 'away' });
  const digest = await digestOf(image);
  await idOf(image);
  await registry.stop();
  try {
    expect(await digestOf(image)).toBe(digest);
    expect(await resolve(`${registry.host}/away:other`, 'always')).toMatchObject({
      kind: 'unknown',
      code: 'pull_failed',
      mayPass: true,
      reason: expect.stringMatching(/^The image .*away:other could not be pulled: .+\.$/) as string,
    });
    // What its digest names is there, so nothing is asked of the registry.
    expect(await idOf(pinnedReference(image, digest))).toMatch(/^sha256:/);
  } finally {
    await registry.start();
  }
  expect(await resolve(`${registry.host}/away:other`, 'always')).toMatchObject({
    kind: 'unknown',
    code: 'image_not_found',
    mayPass: false,
  });
});

test('an image that is in no registry is known by its id, and a container of another one is refused', async () => {
  const image = await loadInto(machine.engine, { ...(await webImage('v1')), repository: 'only-here' });
  const found = await resolve(image, 'missing');
  if (found.kind !== 'local') throw new Error(JSON.stringify(found));
  expect(await resolve(image, 'never')).toEqual(found);
  expect(await resolve('not-here:1', 'never')).toMatchObject({ kind: 'unknown', mayPass: false });

  const replica = buildStart({ containers: { app: { image } } });
  const start = (localImages: Readonly<Record<string, Readonly<Record<string, string>>>>) =>
    startOne(machine, { ...replica, release: { ...replica.release, images: {}, localImages } });
  const other = `sha256:${'0'.repeat(64)}`;
  expect(await start({ [image]: { [OWN_ARCHITECTURE]: other } })).toMatchObject({
    kind: 'refused',
    reason: expect.stringContaining(other) as string,
  });
  expect(await start({ [image]: { [OWN_ARCHITECTURE]: found.imageId } })).toMatchObject({ kind: 'ready' });
}, 60_000);
