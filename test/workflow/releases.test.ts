/** Releases that take over in stages, and what people may ask of a release that is under way. */

import { LATENCY_BUCKETS } from '../../domain/judgement';
import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { eventually, eventuallyValue } from '../support/wait';

import { createSubject, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

type Update = NonNullable<RawMicroserviceSpec['update']>;

const QUIET: Update = { strategy: 'canary', judge: false };

const withUpdate = (update: Update, image = 'shop:2', hostnames = ['shop.example.com']) => ({
  spec: { ...specOf(image, hostnames), update },
});

const FOREVER = 86_400;

/** v1 runs at this scale; the next release is v2. */
const settled = async (scale = 4, hostnames = ['shop.example.com']): Promise<Subject> => {
  const subject = createSubject(use.project);
  await subject.applied({ scale, hostnames });
  await subject.steady(scale, 1);
  return subject;
};

const countOf = (subject: Subject, release: number) =>
  subject.running().filter((one) => one.release === release).length;

const numbers = (subject: Subject) => ({
  v1: countOf(subject, 1),
  v2: countOf(subject, 2),
  weights: subject.weights(),
});

const reaches = (subject: Subject, wanted: object) =>
  eventually(() => expect(numbers(subject)).toEqual(wanted));

test('blue-green: the whole new set is ready before the switch, and the old one goes after', async () => {
  const subject = await settled(3);
  const watch = use.project.cluster.watchRunning(subject.name);
  const seen: unknown[] = [];
  const deploy = await subject.apply(withUpdate({ strategy: 'blue-green', keepOldSeconds: 1 }));
  await eventuallyValue(
    () => {
      const now = JSON.stringify(numbers(subject));
      if (seen.at(-1) !== now) seen.push(now);
      return subject.weights()?.[2] === 100;
    },
    (isSwitched) => isSwitched,
    { intervalMs: 1, timeoutMs: 15_000 },
  );
  expect(numbers(subject)).toEqual({ v1: 3, v2: 3, weights: { 1: 0, 2: 100 } });
  expect(seen).toContain(JSON.stringify({ v1: 3, v2: 3, weights: { 1: 100, 2: 0 } }));
  const ended = await subject.ended(deploy);
  expect(ended).toMatchObject({ state: 'succeeded', message: 'v2 runs at scale 3' });
  expect(ended.plan.slice(0, 4)).toEqual([
    'have v2 ready beside v1',
    'switch all requests to v2, keep v1 for 1 s',
    'stop v1',
    'plan 1, towards v2:',
  ]);
  await subject.steady(3, 2);
  expect(subject.weights()).toBeUndefined();
  expect(watch.fewest).toBe(3);
  expect(watch.most).toBe(6);
});

test('a canary gets its shares one after the other, with replicas for each', async () => {
  const subject = await settled(4);
  const deploy = await subject.apply(
    withUpdate({
      ...QUIET,
      steps: [
        { weight: 10, seconds: 1 },
        { weight: 50, seconds: 1 },
      ],
    }),
  );
  await reaches(subject, { v1: 4, v2: 1, weights: { 1: 90, 2: 10 } });
  await reaches(subject, { v1: 4, v2: 2, weights: { 1: 50, 2: 50 } });
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  expect(await subject.steady(4, 2)).toMatchObject({ settledRelease: 2 });
  expect(subject.weights()).toBeUndefined();
});

test('a canary without an ingress takes over by the number of its replicas', async () => {
  const subject = await settled(4, []);
  const watch = use.project.cluster.watchRunning(subject.name);
  const steps = [{ weight: 25, seconds: FOREVER }];
  const deploy = await subject.apply(withUpdate({ ...QUIET, steps }, 'shop:2', []));
  await eventually(() => expect(numbers(subject)).toMatchObject({ v1: 3, v2: 1 }));
  await subject.steer('promote');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  await subject.steady(4, 2);
  expect(watch.fewest).toBe(4);
});

test('only a release that an ingress leads to waits until each ingress splits its requests', async () => {
  use.project.cluster.leaveBehind(['c']);
  const update: Update = { ...QUIET, steps: [{ weight: 50, seconds: FOREVER }] };
  const messageOf = async (hostnames: readonly string[]) => {
    const subject = await settled(2, [...hostnames]);
    const deploy = await subject.apply(withUpdate(update, 'shop:2', [...hostnames]));
    const isHeld = ({ message }: { message: string }) =>
      message.startsWith('stage 1') && !message.includes('start');
    return (await subject.recorded(deploy, isHeld)).message;
  };
  expect(await messageOf(['shop.example.com'])).toContain('the ingress of c has not confirmed it yet');
  expect(await messageOf([])).toBe('stage 1 of 1: run 1 of v2 beside 1 of v1 for 86400 s');
});

test('nodes that may lead to replicas that have stopped are named, and the split is told of by an event', async () => {
  use.project.cluster.leaveBehind(['b', 'c']);
  const subject = await settled(2, ['shop.example.com']);
  const update: Update = { strategy: 'blue-green', keepOldSeconds: 0 };
  const deploy = await subject.apply(withUpdate(update, 'shop:2', ['shop.example.com']));
  expect(await subject.ended(deploy)).toMatchObject({
    state: 'succeeded',
    message: expect.stringMatching(
      /^v2 runs .*; the ingress of b, c has not confirmed that it leads nobody to the replicas that have stopped$/,
    ) as string,
  });
  const scaled = await subject.ended(await subject.scale(1));
  expect(scaled.message).toMatch(/^v2 runs at scale 1; the ingress of b, c has not confirmed that/);
  const told = use.project.cluster.events().filter(({ type }) => type === 'ingress.behind');
  expect(told[0]).toMatchObject({
    level: 'warning',
    microservice: subject.name,
    operation: deploy.operation.id,
  });
  expect(told[0]?.message).toMatch(/^The ingress of b, c has not confirmed yet/);
});

const counted = (subject: Subject, [v1, v2]: readonly [number, number], errors: number) => {
  const split = use.project.cluster.split(subject.name);
  if (!split) throw new Error('there is no split');
  const latencies = Array<number>(LATENCY_BUCKETS).fill(0);
  use.project.cluster.count({
    id: 'a',
    splits: [
      {
        operation: split.operation,
        stage: split.stage,
        releases: [
          { release: 1, requests: v1, errors: 0, latencies },
          { release: 2, requests: v2, errors, latencies },
        ],
      },
    ],
  });
};

test('a canary that does worse is rolled back, with the numbers in words', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(
    withUpdate({ strategy: 'canary', steps: [{ weight: 10, seconds: FOREVER }] }),
  );
  await reaches(subject, { v1: 2, v2: 1, weights: { 1: 90, 2: 10 } });
  counted(subject, [2_790, 310], 25);
  const words = 'v2 answered 8.1% of 310 requests with errors, v1 0% of 2,790';
  expect(await subject.ended(deploy)).toMatchObject({
    state: 'rolled_back',
    message: `v2 was rolled back to v1: ${words}`,
    error: { code: 'unhealthy', message: words },
  });
  await subject.steady(2, 1);
  expect(use.project.cluster.events().some(({ message }) => message.includes(words))).toBe(true);
  expect(subject.weights()).toBeUndefined();
});

test('a canary that nobody asks anything passes by its health, and says so', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(withUpdate({ strategy: 'canary', steps: [{ weight: 10, seconds: 1 }] }));
  expect(await subject.ended(deploy)).toMatchObject({
    state: 'succeeded',
    message:
      'v2 runs at scale 2: v2 answered 0% of 0 requests with errors, v1 had none: too few to judge it by, so it went on by its health only',
  });
});

test('a manual release waits to be promoted, says so, and takes over when it is', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(
    withUpdate({ strategy: 'blue-green', promote: 'manual', keepOldSeconds: 0 }),
  );
  expect(await subject.recorded(deploy, ({ state }) => state === 'paused')).toMatchObject({
    message: 'stage 1 of 2: have v2 ready beside v1 until it is promoted',
  });
  expect(numbers(subject)).toEqual({ v1: 2, v2: 2, weights: { 1: 100, 2: 0 } });
  await expect(subject.steer('resume')).rejects.toThrow('waits to be promoted');
  await subject.steer('promote');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 2);
});

test('an abort gives all requests back at once, within the time that the old replicas are kept', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(withUpdate({ strategy: 'blue-green', keepOldSeconds: FOREVER }));
  await reaches(subject, { v1: 2, v2: 2, weights: { 1: 0, 2: 100 } });
  await expect(subject.steer('promote')).rejects.toThrow('gets all requests already');
  const before = use.project.cluster.journal.length;
  await subject.steer('abort', 'Ada: it looks wrong');
  expect(await subject.ended(deploy)).toMatchObject({
    state: 'rolled_back',
    message: 'v2 was rolled back to v1: aborted by Ada: it looks wrong',
    error: { code: 'conflict' },
  });
  await subject.steady(2, 1);
  // Nothing had to start for it.
  expect(use.project.cluster.journal.slice(before).filter((line) => line.includes('start'))).toEqual([]);
});

test('a canary that is paused stays as it is until it is resumed', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(withUpdate({ ...QUIET, steps: [{ weight: 20, seconds: 2 }] }));
  await reaches(subject, { v1: 2, v2: 1, weights: { 1: 80, 2: 20 } });
  await subject.steer('pause');
  await subject.recorded(deploy, ({ state, message }) => state === 'paused' && message.includes('paused in'));
  await expect(subject.steer('pause')).rejects.toThrow('is paused already');
  await new Promise((resolve) => setTimeout(resolve, 2_500)); // longer than the stage would have lasted
  expect(numbers(subject)).toEqual({ v1: 2, v2: 1, weights: { 1: 80, 2: 20 } });
  await subject.steer('resume');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 2);
});

test('a newer deploy while one is paused takes over cleanly, and so does a removal', async () => {
  const subject = await settled(2);
  const first = await subject.apply(withUpdate({ strategy: 'blue-green', promote: 'manual' }));
  await subject.recorded(first, ({ state }) => state === 'paused');
  const second = await subject.apply(withUpdate({}, 'shop:3'));
  expect(await subject.ended(first)).toMatchObject({ state: 'superseded' });
  expect(await subject.ended(second)).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 3);
  expect(subject.weights()).toBeUndefined();
  const third = await subject.apply(withUpdate({ strategy: 'blue-green', promote: 'manual' }, 'shop:4'));
  await subject.recorded(third, ({ state }) => state === 'paused');
  await subject.remove();
  await subject.gone();
  expect(subject.weights()).toBeUndefined();
});

test('a change of the scale after the switch goes on from there', async () => {
  const subject = await settled(2);
  await subject.apply(withUpdate({ strategy: 'blue-green', keepOldSeconds: 3 }));
  await reaches(subject, { v1: 2, v2: 2, weights: { 1: 0, 2: 100 } });
  const scale = await subject.scale(3);
  await reaches(subject, { v1: 3, v2: 3, weights: { 1: 0, 2: 100 } });
  expect(await subject.ended(scale)).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 2);
});

test('a restart while a release takes over in stages is refused, also as a dry run, and changes nothing', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(withUpdate({ ...QUIET, steps: [{ weight: 20, seconds: FOREVER }] }));
  const words = `v2 of ${subject.name} takes over from v1 in stages: a restart would let it take over at once. Promote or abort it first; a redeploy begins its stages anew.`;
  // Also before it has begun.
  await expect(subject.restart()).rejects.toMatchObject({ code: 'conflict', message: words });
  await reaches(subject, { v1: 2, v2: 1, weights: { 1: 80, 2: 20 } });
  await expect(subject.restart()).rejects.toMatchObject({ code: 'conflict', message: words });
  const key = { project: use.project.name, name: subject.name };
  expect(await use.project.changes.preview(key, { kind: 'restart', change: {} })).toMatchObject({
    kind: 'refused',
    message: words,
  });
  expect(numbers(subject)).toEqual({ v1: 2, v2: 1, weights: { 1: 80, 2: 20 } });
  await subject.steer('abort');
  await subject.ended(deploy);
  await subject.steady(2, 1);
  expect(await subject.ended(await subject.restart())).toMatchObject({ state: 'succeeded', release: 1 });
});

test('a scale of 0 ends both releases, and scaled up again the new one takes over in its stages', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(withUpdate({ ...QUIET, steps: [{ weight: 20, seconds: FOREVER }] }));
  await reaches(subject, { v1: 2, v2: 1, weights: { 1: 80, 2: 20 } });
  const none = await subject.scale(0);
  expect(await subject.ended(none)).toMatchObject({ state: 'succeeded', release: 2 });
  expect(await subject.ended(deploy)).toMatchObject({ state: 'superseded' });
  expect(await subject.steady(0)).toMatchObject({ settledRelease: 1 });
  expect(subject.weights()).toBeUndefined();
  const three = await subject.scale(3);
  await reaches(subject, { v1: 3, v2: 1, weights: { 1: 80, 2: 20 } });
  await subject.steer('promote');
  expect(await subject.ended(three)).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 2);
});

test('what is lost in a stage is replaced, of both releases', async () => {
  const subject = await settled(3);
  const deploy = await subject.apply(withUpdate({ ...QUIET, steps: [{ weight: 50, seconds: FOREVER }] }));
  await reaches(subject, { v1: 3, v2: 2, weights: { 1: 50, 2: 50 } });
  for (const release of [1, 2]) {
    const lost = subject.running().find((one) => one.release === release);
    use.project.cluster.loseReplica(lost?.id ?? '');
    await subject.signal();
    await reaches(subject, { v1: 3, v2: 2, weights: { 1: 50, 2: 50 } });
  }
  const crashing = subject.running().find((one) => one.release === 2);
  use.project.cluster.setReplica(crashing?.id ?? '', 'crash_looping');
  await subject.signal();
  expect(await subject.ended(deploy)).toMatchObject({
    state: 'rolled_back',
    error: { message: 'a replica of v2 keeps ending' },
  });
  await subject.steady(3, 1);
});

test('a rolling release can be paused between two steps, resumed and aborted', async () => {
  const subject = await settled(4);
  const hold = use.project.cluster.holdStarts();
  const deploy = await subject.apply(withUpdate({ maxSurge: 1 }));
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  await subject.steer('pause');
  hold.release();
  await subject.recorded(deploy, ({ state }) => state === 'paused');
  expect(numbers(subject)).toEqual({ v1: 4, v2: 1, weights: undefined });
  const lost = subject.running().find((one) => one.release === 1);
  use.project.cluster.loseReplica(lost?.id ?? '');
  await subject.signal();
  await eventually(() => expect(countOf(subject, 1) + countOf(subject, 2)).toBe(4));
  await subject.steer('abort');
  expect(await subject.ended(deploy)).toMatchObject({
    state: 'rolled_back',
    message: 'v2 was rolled back to v1: aborted by a test',
  });
  await subject.steady(4, 1);
});

test('a release that is not healthy within its deadline is rolled back, and says so', async () => {
  const subject = await settled(1);
  const hold = use.project.cluster.holdStarts();
  const deploy = await subject.apply(withUpdate({ deadlineSeconds: 1 }));
  const ended = await subject.ended(deploy);
  hold.release();
  expect(ended).toMatchObject({
    state: 'rolled_back',
    message:
      'v2 was rolled back to v1: its replicas were not healthy within its deadline of 1 s ("deadlineSeconds")',
  });
  await subject.steady(1, 1);
});

test('what heals in a stage has all the time that it needs, also beyond the deadline of its release', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(
    withUpdate({ ...QUIET, deadlineSeconds: 2, steps: [{ weight: 20, seconds: FOREVER }] }),
  );
  await reaches(subject, { v1: 2, v2: 1, weights: { 1: 80, 2: 20 } });
  const hold = use.project.cluster.holdStarts();
  const lost = subject.running().find(({ release }) => release === 1);
  use.project.cluster.loseReplica(lost?.id ?? '');
  await subject.signal();
  await eventually(() => expect(hold.waiting).toBe(1));
  await new Promise((resolve) => setTimeout(resolve, 2_500)); // longer than the deadline
  // A start that was given up would have ended.
  expect(countOf(subject, 1)).toBe(1);
  hold.release();
  await reaches(subject, { v1: 2, v2: 1, weights: { 1: 80, 2: 20 } });
  await subject.steer('promote');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 2);
});

test('what there is nothing for is refused in words', async () => {
  const subject = await settled(1);
  for (const command of ['promote', 'abort', 'pause', 'resume'] as const) {
    await expect(subject.steer(command)).rejects.toThrow(`No release of ${subject.name} is under way`);
  }
  const fresh = createSubject(use.project);
  const hold = use.project.cluster.holdStarts();
  const first = await fresh.apply({ scale: 1 });
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  await expect(fresh.steer('abort')).rejects.toThrow('no earlier healthy release');
  await expect(fresh.steer('promote')).rejects.toThrow('does not take over in stages');
  hold.release();
  await fresh.ended(first);
  const again = use.project.cluster.holdStarts();
  const recreated = await fresh.apply(withUpdate({ strategy: 'recreate' }, 'shop:2', []));
  await eventuallyValue(
    () => again.waiting,
    (waiting) => waiting > 0,
  );
  await expect(fresh.steer('pause')).rejects.toThrow('paused in between, nothing would run');
  again.release();
  await fresh.ended(recreated);
});

test('a redeploy is a new release of the same specification', async () => {
  const subject = await settled(2);
  const redeploy = await subject.redeploy();
  expect(redeploy.operation).toMatchObject({ kind: 'deploy', release: 2 });
  expect(await subject.ended(redeploy)).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 2);
});

test('a rollback while a release takes over leads all requests back first, and is rolling', async () => {
  const subject = await settled(2);
  const deploy = await subject.apply(withUpdate({ strategy: 'blue-green', keepOldSeconds: FOREVER }));
  await reaches(subject, { v1: 2, v2: 2, weights: { 1: 0, 2: 100 } });
  const hold = use.project.cluster.holdStarts();
  const rollback = await subject.rollback();
  expect(await subject.ended(deploy)).toMatchObject({ state: 'superseded' });
  // Before its own replicas are there, the old ones have all requests.
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  expect([countOf(subject, 1), countOf(subject, 2)]).toEqual([2, 0]);
  hold.release();
  expect(await subject.ended(rollback)).toMatchObject({ state: 'succeeded', release: 3 });
  await subject.steady(2, 3);
  expect(subject.weights()).toBeUndefined();
});

test('a rollback whose scale changes on the way is rolling still', async () => {
  const update: Update = { strategy: 'blue-green', promote: 'manual' };
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, ...withUpdate(update, 'shop:1') });
  await subject.steady(2, 1);
  await subject.applied(withUpdate({}, 'shop:2'));
  await subject.steady(2, 2);
  const hold = use.project.cluster.holdStarts();
  const rollback = await subject.rollback();
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  const scale = await subject.scale(3);
  hold.release();
  expect(await subject.ended(rollback)).toMatchObject({ state: 'superseded' });
  expect(await subject.ended(scale)).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 3);
});

test('a paused daemon keeps what each node has', async () => {
  const subject = createSubject(use.project);
  const daemon = (image: string) => ({ spec: { ...specOf(image), daemon: true } });
  await subject.applied(daemon('shop:1'));
  const hold = use.project.cluster.holdStarts();
  const deploy = await subject.apply(daemon('shop:2'));
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  await subject.steer('pause');
  hold.release();
  await subject.recorded(deploy, ({ state }) => state === 'paused');
  const before = subject.replicas().length;
  await subject.signal();
  await subject.steer('resume');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  expect(subject.running()).toHaveLength(before);
});
