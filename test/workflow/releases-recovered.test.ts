/** A release in stages whose entity and operation Temporal has lost: both begin again from what was published. */

import { operationKvKey } from '../../contracts/kv';
import { microserviceWorkflowId, type ChangeAccepted } from '../../contracts/workflows';
import type { Operation } from '../../domain/model';
import type { RawMicroserviceSpec } from '../../domain/spec/schema';
import { eventually } from '../support/wait';

import { createSubject, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';
import { recoverEntity } from './watch';

const use = useTemporal();

const HOSTNAMES = ['shop.example.com'];
const FOREVER = 86_400;

const released = async (
  update: NonNullable<RawMicroserviceSpec['update']>,
): Promise<readonly [Subject, ChangeAccepted]> => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, hostnames: HOSTNAMES });
  await subject.steady(2, 1);
  return [subject, await subject.apply({ spec: { ...specOf('shop:2', HOSTNAMES), update } })];
};

/** As if Temporal's database were new. */
const loseAndRecover = async (subject: Subject, { operation }: ChangeAccepted): Promise<void> => {
  const { client, name: project } = use.project;
  await client.workflow.getHandle(microserviceWorkflowId({ project, name: subject.name })).terminate();
  await client.workflow.getHandle(operation.id).terminate();
  await recoverEntity(use.project, subject.name);
};

test('a canary goes on in the stage that it had reached', async () => {
  const [subject, deploy] = await released({
    strategy: 'canary',
    judge: false,
    steps: [
      { weight: 20, seconds: 0 },
      { weight: 60, seconds: FOREVER },
    ],
  });
  await eventually(() => expect(subject.weights()).toEqual({ 1: 40, 2: 60 }));
  const seen = new Set<string>();
  const looking = setInterval(() => seen.add(JSON.stringify(subject.weights())), 5);
  await loseAndRecover(subject, deploy);
  await subject.recorded(deploy, ({ message }) => message.startsWith('stage 2 of 3: give v2 60%'));
  await eventually(async () => {
    await subject.steer('promote');
  });
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  clearInterval(looking);
  // It never had less on the way.
  expect(seen).not.toContain('{"1":80,"2":20}');
  expect(seen).not.toContain('{"1":100,"2":0}');
  await subject.steady(2, 2);
  expect(subject.weights()).toBeUndefined();
});

test('a canary that was paused is paused still', async () => {
  const [subject, deploy] = await released({
    strategy: 'canary',
    judge: false,
    steps: [{ weight: 20, seconds: 1 }],
  });
  await eventually(() => expect(subject.weights()).toEqual({ 1: 80, 2: 20 }));
  await subject.steer('pause');
  await subject.recorded(deploy, ({ state }) => state === 'paused');
  await loseAndRecover(subject, deploy);
  await eventually(async () => {
    await expect(subject.steer('pause')).rejects.toThrow('is paused already');
  });
  expect(await subject.recorded(deploy, ({ state }) => state === 'paused')).toMatchObject({ release: 2 });
  expect(subject.weights()).toEqual({ 1: 80, 2: 20 });
  await subject.steer('resume');
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 2);
});

test.each([
  ['rolling', {}],
  ['blue-green', { strategy: 'blue-green', keepOldSeconds: 0 }],
] as const)(
  'what is paused, and does not know its images yet, asks nobody for them: %s',
  async (_, update) => {
    const { cluster } = use.project;
    cluster.setImage('shop:2', { kind: 'unreachable' });
    const [subject, deploy] = await released(update);
    const asked = () => cluster.resolved.filter((line) => line.includes('shop:2')).length;
    await eventually(() => expect(asked()).toBeGreaterThan(0));
    await subject.steer('pause');
    await subject.recorded(deploy, ({ state }) => state === 'paused');
    const before = asked();
    await loseAndRecover(subject, deploy);
    await eventually(async () => {
      await expect(subject.steer('pause')).rejects.toThrow('is paused already');
    });

    // What is lost of the old release comes back, and nobody begins with the new one for it.
    cluster.loseReplica(subject.running()[0]?.id ?? '');
    await subject.signal();
    await eventually(() => expect(subject.running().map(({ release }) => release)).toEqual([1, 1]));
    expect(asked()).toBe(before);
    cluster.setImage('shop:2', { kind: 'healthy' });
    await subject.steer('resume');
    expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
    await subject.steady(2, 2);
  },
);

test('a split whose release was superseded ends before the newer release begins', async () => {
  const { cluster } = use.project;
  const [subject, canary] = await released({
    strategy: 'canary',
    judge: false,
    steps: [{ weight: 20, seconds: FOREVER }],
  });
  await eventually(() => expect(subject.weights()).toEqual({ 1: 80, 2: 20 }));
  await subject.recorded(canary, ({ message }) => message.includes('give v2 20%'));
  // The newer release is accepted, and all is lost before the canary has heard of it.
  const key = operationKvKey({ project: use.project.name, name: subject.name }, canary.operation.id);
  const planned = cluster.store.holdWrites((writes) =>
    writes.some(
      (write) => write.kind === 'set' && write.key === key && (write.value as Operation).plan.length > 0,
    ),
  );
  await subject.signal();
  await eventually(() => expect(planned.waiting).toBe(1));
  const rolled = await subject.apply({ image: 'shop:3', hostnames: HOSTNAMES });
  const hold = cluster.holdStarts();
  const lost = loseAndRecover(subject, canary);
  planned.release();
  await lost;

  await eventually(() => expect(hold.waiting).toBeGreaterThan(0));
  const serving = subject.running().map(({ release }) => release);
  expect({ serving, weights: subject.weights() }).toEqual({ serving: [1, 1], weights: undefined });
  hold.release();
  expect(await subject.ended(rolled)).toMatchObject({ state: 'succeeded' });
  await eventually(() => expect(subject.running().map(({ release }) => release)).toEqual([3, 3]));
  // Nobody else would tell that it has ended.
  expect(await subject.ended(canary)).toMatchObject({
    state: 'superseded',
    message: expect.stringMatching(
      new RegExp(`^superseded by ${rolled.operation.id}, and lost before it had ended`),
    ) as string,
  });
});
