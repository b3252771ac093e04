/** Nodes that are lost or drained while a release takes over in stages: both releases keep what the stage gives them. */

import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { eventually } from '../support/wait';

import { createSubject, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';
import { startWatch, type Watch } from './watch';

const use = useTemporal({ realTimeouts: true });

const AT_ONCE = { timeoutMs: 20_000, intervalMs: 10 } as const;
const HOSTNAMES = ['shop.example.com'];
const FOREVER = 86_400;

let watch: Watch;
beforeEach(() => {
  watch = startWatch(use.project);
});
afterEach(() => watch.stop());

const withUpdate = (update: NonNullable<RawMicroserviceSpec['update']>) => ({
  spec: { ...specOf('shop:2', HOSTNAMES), update },
});

const CANARY = {
  strategy: 'canary',
  judge: false,
  steps: [{ weight: 50, seconds: FOREVER }],
} as const;

const settled = async (scale: number): Promise<Subject> => {
  const subject = createSubject(use.project);
  await subject.applied({ scale, hostnames: HOSTNAMES });
  await subject.steady(scale, 1);
  return subject;
};

const runs = (subject: Subject, wanted: Readonly<Record<number, number>>, but = '') =>
  eventually(() => {
    const numbers: Record<number, number> = {};
    for (const { release, nodeId } of subject.running()) {
      if (nodeId !== but) numbers[release] = (numbers[release] ?? 0) + 1;
    }
    expect(numbers).toEqual(wanted);
  }, AT_ONCE);

test.each(['a', 'b'])('node %s is lost during a canary', async (nodeId) => {
  const { cluster } = use.project;
  const subject = await settled(4);
  const deploy = await subject.apply(withUpdate({ ...CANARY, steps: [...CANARY.steps] }));
  await subject.recorded(deploy, ({ message }) => message.includes('give v2 50%'));
  await runs(subject, { 1: 4, 2: 2 });
  cluster.kill(nodeId);
  cluster.setUp(nodeId, false);
  await runs(subject, { 1: 4, 2: 2 }, nodeId);
  cluster.revive(nodeId);
  cluster.setUp(nodeId, true);
  await runs(subject, { 1: 4, 2: 2 });
  await subject.steer('promote');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  await subject.steady(4, 2);
});

test('a node is lost after a blue-green switch, and the abort that follows has somewhere to go', async () => {
  const { cluster } = use.project;
  const subject = await settled(3);
  const deploy = await subject.apply(withUpdate({ strategy: 'blue-green', keepOldSeconds: FOREVER }));
  await subject.recorded(deploy, ({ message }) => message.includes('switch all'));
  await runs(subject, { 1: 3, 2: 3 });
  cluster.kill('c');
  cluster.setUp('c', false);
  await runs(subject, { 1: 3, 2: 3 }, 'c');
  await subject.steer('abort');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'rolled_back' });
  cluster.revive('c');
  cluster.setUp('c', true);
  await subject.steady(3, 1);
});

test('a node is drained during a canary: what it has moves, and never fewer run', async () => {
  const { cluster } = use.project;
  const subject = await settled(4);
  const deploy = await subject.apply(withUpdate({ ...CANARY, steps: [...CANARY.steps] }));
  await subject.recorded(deploy, ({ message }) => message.includes('give v2 50%'));
  await runs(subject, { 1: 4, 2: 2 });
  const counts = cluster.watchRunning(subject.name);
  cluster.setAvailability('a', 'draining');
  await runs(subject, { 1: 4, 2: 2 });
  await eventually(() => expect(subject.running().some(({ nodeId }) => nodeId === 'a')).toBe(false), AT_ONCE);
  await runs(subject, { 1: 4, 2: 2 });
  expect(counts.fewest).toBe(6);
  cluster.setAvailability('a', 'active');
  await subject.steer('promote');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
});

test('where there is no room for a second set, the operation says what it would take, and nothing changes', async () => {
  const { cluster } = use.project;
  for (const nodeId of ['a', 'b', 'c']) cluster.refuse(nodeId, 'needs 1 CPU, 0.5 are free');
  cluster.refuse('a', undefined);
  const subject = await settled(2);
  cluster.refuse('a', 'needs 1 CPU, 0.5 are free');
  const deploy = await subject.apply(withUpdate({ strategy: 'blue-green' }));
  const ended = await subject.ended(deploy);
  expect(ended).toMatchObject({ state: 'rolled_back', error: { code: 'no_capacity' } });
  expect(ended.message).toContain('With "blue-green" the replicas of v2 run beside those of v1');
  for (const nodeId of ['a', 'b', 'c']) cluster.refuse(nodeId, undefined);
  await subject.steady(2, 1);
});
