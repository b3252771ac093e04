/** An entity whose history is full goes on in a new run, with nothing forgotten and nobody kept waiting. */

import { microserviceWorkflowId } from '../../contracts/workflows';
import { eventuallyValue } from '../support/wait';

import { GOOD_IMAGE, createSubject, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal({ suggestContinueAsNewAfter: 40 });

/** For sixty of them one after the other, on a machine that is busy with ten other things. */
const MANY_OPERATIONS_MS = 120_000;

const runOf = async (subject: Subject): Promise<string> =>
  (
    await use.project.client.workflow
      .getHandle(microserviceWorkflowId({ project: use.project.name, name: subject.name }))
      .describe()
  ).runId;

const nextRun = (subject: Subject, before: string): Promise<string> =>
  eventuallyValue(
    () => runOf(subject),
    (run) => run !== before,
    { describe: 'a new run of the entity' },
  );

/** Makes changes until the entity has gone on in a new run. */
const wearOut = async (subject: Subject): Promise<void> => {
  const before = await runOf(subject);
  for (let change = 0; change < 40 && (await runOf(subject)) === before; change += 1) {
    await subject.ended(await subject.scale(1 + (change % 2)));
  }
  await nextRun(subject, before);
};

test('the state goes along: releases, generation, and what rollback needs', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ image: 'shop:1', hostnames: ['a.example.com'] });
  await subject.applied({ image: 'shop:2', hostnames: ['b.example.com'] });
  await wearOut(subject);
  const document = await subject.documented(({ state }) => state === 'steady');
  expect(document).toMatchObject({ releaseNumbers: [1, 2], settledRelease: 2 });
  expect(await subject.scale(3, { ifGeneration: document.generation })).toMatchObject({
    generation: document.generation + 1,
  });
  await subject.steady(3, 2);
  await subject.rollback();
  await subject.steady(3, 3);
  expect(use.project.cluster.hostnames()).toEqual({ 'a.example.com': subject.name });
});

test(
  'large releases go along as far as a payload holds them',
  async () => {
    const subject = createSubject(use.project);
    const large = (letter: string) => ({
      ...specOf(GOOD_IMAGE),
      containers: {
        app: { image: GOOD_IMAGE, args: Array.from({ length: 12 }, () => letter.repeat(10_000)) },
      },
    });
    for (const letter of 'abcdefghijklmnopqr') await subject.applied({ scale: 1, spec: large(letter) });
    await wearOut(subject);
    // More than a payload would hold if each replica brought its own copy.
    expect(await subject.ended(await subject.scale(40))).toMatchObject({ state: 'succeeded' });
    const { releaseNumbers } = await subject.documented(({ state }) => state === 'steady');
    expect(releaseNumbers).toEqual([11, 12, 13, 14, 15, 16, 17, 18]);
    expect(use.project.cluster.releases(subject.name).map(({ number }) => number)).toEqual(releaseNumbers);
    expect(await subject.ended(await subject.rollback(11))).toMatchObject({
      state: 'succeeded',
      release: 19,
    });
  },
  MANY_OPERATIONS_MS,
);

test('idempotency keys go along', async () => {
  const subject = createSubject(use.project);
  const change = { idempotencyKey: 'k1', requestHash: 'h1' };
  const first = await subject.apply({ scale: 2, ...change });
  await wearOut(subject);
  const again = await subject.apply({ scale: 2, ...change });
  expect(again.operation.id).toBe(first.operation.id);
  await expect(subject.scale(5, { idempotencyKey: 'k1', requestHash: 'h2' })).rejects.toMatchObject({
    code: 'conflict',
  });
});

test('changes without a pause neither wait nor get lost, and the history stays short', async () => {
  const subject = createSubject(use.project);
  await subject.apply({ scale: 0 });
  const before = await runOf(subject);
  const generations: number[] = [];
  const clients = [0, 1, 2].map(async (offset) => {
    for (let change = 0; change < 12; change += 1) {
      generations.push((await subject.scale((change + offset) % 4)).generation);
    }
  });
  await Promise.all(clients);
  // Each was entered exactly once.
  expect([...generations].sort((left, right) => left - right)).toEqual(
    Array.from({ length: 36 }, (_, index) => index + 2),
  );
  const document = await subject.documented(
    ({ state, generation }) => state === 'steady' && generation === 37,
  );
  await subject.steady(document.scale, 1);
  expect(await runOf(subject)).not.toBe(before);
  const { historyLength } = await use.project.client.workflow
    .getHandle(microserviceWorkflowId({ project: use.project.name, name: subject.name }))
    .describe();
  expect(historyLength).toBeLessThan(150);
});

test('a back-off and a removal go along', async () => {
  const subject = createSubject(use.project);
  use.project.cluster.setImage('shop:bad', {
    kind: 'unhealthy',
    reason: 'exits',
    logTail: [],
    leaves: 'broken',
  });
  await subject.applied({ image: 'shop:bad' });
  const before = await runOf(subject);
  await nextRun(subject, before);
  expect(subject.document()).toMatchObject({ state: 'failed' });
  await subject.remove();
  await subject.gone();
});
