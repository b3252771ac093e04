/** What takes over from a release that has all requests, while the one before it is still kept. */

import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { eventually } from '../support/wait';

import { createSubject, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

type Update = NonNullable<RawMicroserviceSpec['update']>;

const FOREVER = 86_400;
const BAD = { kind: 'unhealthy', reason: 'app ended with status 3', logTail: [] } as const;
const KEPT: Update = { strategy: 'blue-green', keepOldSeconds: FOREVER };
const AT_ONCE: Update = { strategy: 'blue-green', keepOldSeconds: 0 };
const BY_HAND: Update = { ...AT_ONCE, promote: 'manual' };

const withUpdate = (update: Update, image: string, hostnames = ['shop.example.com']) => ({
  spec: { ...specOf(image, hostnames), update },
});

const countOf = (subject: Subject, release: number) =>
  subject.running().filter((one) => one.release === release).length;

/** v2 has all requests, and v1 is kept; each of them at scale 2. */
const switched = async (hostnames = ['shop.example.com']): Promise<Subject> => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, hostnames: ['shop.example.com'] });
  await subject.steady(2, 1);
  const deploy = await subject.apply({
    ...withUpdate(KEPT, 'shop:2', hostnames),
    movesHostnames: hostnames.length > 1,
  });
  await subject.recorded(deploy, ({ message }) => message.startsWith('stage 2 of 2: switch all requests'));
  expect(subject.weights()).toEqual({ 1: 0, 2: 100 });
  return subject;
};

/** Releases that have been given requests since, in order. */
const watchRequests = (subject: Subject) => {
  const seen: string[] = [];
  const timer = setInterval(() => {
    for (const [release, weight] of Object.entries(subject.weights() ?? {})) {
      if (weight > 0 && !seen.includes(release)) seen.push(release);
    }
  }, 1);
  return { seen, end: () => clearInterval(timer) };
};

test.each<readonly [string, Update, readonly string[]]>([
  ['blue-green', AT_ONCE, ['2', '3']],
  ['rolling', {}, ['2']],
])('a newer deploy (%s) takes over from the release that has all requests', async (_name, update, led) => {
  const subject = await switched();
  const watch = watchRequests(subject);
  const deploy = await subject.apply(withUpdate(update, 'shop:3'));
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  watch.end();
  expect(watch.seen).toEqual(led);
  expect(await subject.steady(2, 3)).toMatchObject({ settledRelease: 3 });
  expect(subject.weights()).toBeUndefined();
});

test.each<readonly [string, Update]>([
  ['blue-green', AT_ONCE],
  ['rolling', {}],
])('a newer deploy (%s) that fails goes back to the release that had all requests', async (_name, update) => {
  const subject = await switched();
  const watch = watchRequests(subject);
  use.project.cluster.setImage('shop:bad', BAD);
  const deploy = await subject.apply(withUpdate(update, 'shop:bad'));
  const ended = await subject.ended(deploy);
  watch.end();
  expect(ended).toMatchObject({
    state: 'rolled_back',
    message: 'v3 was rolled back to v2: app ended with status 3',
  });
  expect(watch.seen).toEqual(['2']);
  expect(await subject.steady(2, 2)).toMatchObject({ settledRelease: 2, release: { number: 2 } });
});

test('until it is promoted the newest has nothing, the one before has all requests, and the oldest has gone', async () => {
  const subject = await switched();
  const key = { project: use.project.name, name: subject.name };
  // A dry run says what would be.
  const preview = await use.project.changes.preview(key, { kind: 'redeploy', change: {} });
  expect(preview).toMatchObject({ takesOverFrom: { release: { number: 2 } } });
  const watch = watchRequests(subject);
  const third = await subject.apply(withUpdate(BY_HAND, 'shop:3'));
  await subject.recorded(third, ({ message }) => message.endsWith('until it is promoted'));
  expect([1, 2, 3].map((release) => countOf(subject, release))).toEqual([0, 2, 2]);
  expect(subject.weights()).toEqual({ 2: 100, 3: 0 });
  await subject.steer('abort');
  expect(await subject.ended(third)).toMatchObject({
    state: 'rolled_back',
    message: 'v3 was rolled back to v2: aborted by a test',
  });
  watch.end();
  expect(watch.seen).toEqual(['2']);
  await subject.steady(2, 2);
});

test('what it goes back to takes the hostnames that it was about to take', async () => {
  const other = createSubject(use.project);
  await other.applied({ scale: 1, hostnames: ['api.example.com'] });
  await other.steady(1, 1);
  const hostnames = ['api.example.com', 'shop.example.com'];
  const subject = await switched(hostnames);
  use.project.cluster.setImage('shop:bad', BAD);
  const deploy = await subject.apply(withUpdate({}, 'shop:bad', hostnames));
  expect(await subject.ended(deploy)).toMatchObject({ state: 'rolled_back' });
  await subject.steady(2, 2);
  expect(use.project.cluster.hostnames()).toMatchObject({ 'api.example.com': subject.name });
});

test('what is aborted is nothing that another release takes over from, whatever it had', async () => {
  const subject = await switched();
  await subject.steer('abort');
  const deploy = await subject.apply(withUpdate(BY_HAND, 'shop:3'));
  await subject.recorded(deploy, ({ message }) => message.endsWith('until it is promoted'));
  expect(subject.weights()).toEqual({ 1: 100, 3: 0 });
  await subject.steer('promote');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 3);
});

test('a canary that has passed its last step is what the next release takes over from', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 4, image: 'shop:1' });
  await subject.steady(4, 1);
  const steps = [{ weight: 25, seconds: 1 }];
  await subject.apply(withUpdate({ strategy: 'canary', judge: false, steps }, 'shop:2', []));
  await eventually(() => expect([countOf(subject, 1), countOf(subject, 2)]).toEqual([3, 1]));
  // What follows its last step is that all others are replaced.
  const hold = use.project.cluster.holdStarts();
  await eventually(() => expect(hold.waiting).toBeGreaterThan(0));
  use.project.cluster.setImage('shop:bad', BAD);
  const deploy = await subject.apply(withUpdate({}, 'shop:bad', []));
  hold.release();
  expect(await subject.ended(deploy)).toMatchObject({
    state: 'rolled_back',
    message: 'v3 was rolled back to v2: app ended with status 3',
  });
  await subject.steady(4, 2);
});
