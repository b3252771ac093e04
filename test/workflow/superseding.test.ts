/** Changes that meet an operation under way, a removal included. */

import fc from 'fast-check';

import {
  UPDATE,
  microserviceWorkflowId,
  type ChangeAccepted,
  type ScaleRequest,
} from '../../contracts/workflows';
import { eventually, eventuallyValue } from '../support/wait';

import { createSubject, isFinal, isRecord } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

test('a newer change cancels a start that waits, and takes over what was begun', async () => {
  const subject = createSubject(use.project);
  const hold = use.project.cluster.holdStarts();
  const first = await subject.apply({ scale: 3 });
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting === 3,
  );
  const second = await subject.scale(1);
  expect(await subject.ended(first)).toMatchObject({
    state: 'superseded',
    message: `superseded by ${second.operation.id}`,
  });
  expect(await subject.ended(second)).toMatchObject({ state: 'succeeded' });
  await subject.steady(1, 1);
  const starts = use.project.cluster.journal.filter((line) => line.includes('start'));
  expect(starts).toHaveLength(3);
  hold.release();
});

test('a release that is superseded by the next never becomes the settled one', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ image: 'shop:1' });
  const hold = use.project.cluster.holdStarts();
  const second = await subject.apply({ image: 'shop:2' });
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  use.project.cluster.setImage('shop:3', { kind: 'unhealthy', reason: 'exits', logTail: [] });
  const third = await subject.apply({ image: 'shop:3' });
  expect(await subject.ended(second)).toMatchObject({ state: 'superseded' });
  hold.release();
  expect(await subject.ended(third)).toMatchObject({ state: 'rolled_back' });
  expect(await subject.steady(1, 1)).toMatchObject({ settledRelease: 1, release: { number: 1 } });
});

test('a removal ends what is under way', async () => {
  const subject = createSubject(use.project);
  const hold = use.project.cluster.holdStarts();
  const first = await subject.apply({ scale: 2 });
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting === 2,
  );
  const removal = await subject.remove();
  expect(await subject.ended(removal)).toMatchObject({ state: 'succeeded' });
  await subject.gone();
  hold.release();
  expect(await subject.ended(first)).toMatchObject({ state: 'superseded' });
  await subject.gone();
});

test('an apply during a removal wins, and has nothing to go back to', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3, hostnames: ['a.example.com'] });
  await subject.steady(3);
  // The removal cannot plan before the apply has come.
  const hold = use.project.cluster.store.holdWrites((operations) =>
    operations.some((write) => isRecord(write, 'remove', 'running')),
  );
  const removal = await subject.remove();
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  expect(subject.document()).toMatchObject({ state: 'removing' });
  use.project.cluster.setImage('shop:2', { kind: 'unhealthy', reason: 'exits', logTail: ['boom'] });
  const accepted = await subject.apply({ image: 'shop:2', hostnames: ['b.example.com'] });
  hold.release();
  expect(accepted).toMatchObject({ created: true, operation: { release: 2, scale: 1 } });
  // It may have stopped the last replica before it learnt of the apply.
  expect(['superseded', 'succeeded']).toContain((await subject.ended(removal)).state);
  expect(await subject.ended(accepted)).toMatchObject({ state: 'failed' });
  expect(await subject.documented(({ state }) => state === 'failed')).toMatchObject({
    state: 'failed',
    releaseNumbers: [2],
  });
  use.project.cluster.setImage('shop:3', { kind: 'healthy' });
  await subject.applied({ image: 'shop:3', hostnames: ['b.example.com'] });
  await subject.steady(1, 3);
  expect(use.project.cluster.hostnames()).toEqual({ 'b.example.com': subject.name });
});

test('an apply while a removal is being forgotten begins a new life', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, hostnames: ['a.example.com'] });
  await subject.steady(2);
  const hold = use.project.cluster.store.holdWrites((operations) =>
    operations.some(({ kind }) => kind === 'deletePrefix'),
  );
  const removal = await subject.remove();
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  const applying = subject.apply({ hostnames: ['a.example.com'] });
  const scaling = subject.scale(5);
  hold.release();
  expect(await applying).toMatchObject({ created: true, operation: { release: 1 } });
  await scaling.catch((error: unknown) => expect(error).toMatchObject({ code: 'not_found' }));
  expect(await subject.ended(removal)).toMatchObject({ state: 'succeeded' });
  const document = await subject.documented(({ state }) => state === 'steady');
  await subject.steady(document.scale, 1);
  expect(use.project.cluster.hostnames()).toEqual({ 'a.example.com': subject.name });
});

test('an apply right after a removal has ended is never lost', async () => {
  const subject = createSubject(use.project);
  for (let round = 0; round < 5; round += 1) {
    await subject.applied({ scale: 1 });
    await subject.ended(await subject.remove());
  }
  await subject.applied({ scale: 2 });
  await subject.steady(2);
});

test('an operation that was superseded while it planned is never written as running again', async () => {
  const subject = createSubject(use.project);
  await subject.applied();
  await subject.steady(1);
  const hold = use.project.cluster.store.holdWrites((operations) =>
    operations.some((write) => isRecord(write, 'scale', 'running')),
  );
  const first = await subject.scale(2);
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  const second = await subject.scale(3);
  hold.release();
  await subject.ended(second);
  await subject.steady(3);
  expect(await subject.ended(first)).toMatchObject({ state: 'superseded' });
});

test('an update that comes again, to whichever run, makes the same operation', async () => {
  const suffixes = async (): Promise<readonly string[]> => {
    const subject = createSubject(use.project);
    await subject.applied();
    const entity = use.project.client.workflow.getHandle(
      microserviceWorkflowId({ project: use.project.name, name: subject.name }),
    );
    const accepted = await Promise.all(
      ['update-1', 'update-2', 'update-3'].map((updateId) =>
        entity.executeUpdate<ChangeAccepted, [ScaleRequest]>(UPDATE.scale, {
          args: [{ scale: 2 }],
          updateId,
        }),
      ),
    );
    await subject.steady(2);
    return accepted.map(({ operation }) => operation.id.split('.').at(-1) ?? '');
  };
  const first = await suffixes();
  expect(new Set(first).size).toBe(3);
  expect(await suffixes()).toEqual(first);
});

type Action =
  | { readonly kind: 'apply'; readonly scale: number; readonly image: string }
  | { readonly kind: 'scale'; readonly scale: number }
  | { readonly kind: 'restart' }
  | { readonly kind: 'remove' };

const actions: fc.Arbitrary<Action> = fc.oneof(
  fc.record({
    kind: fc.constant('apply' as const),
    scale: fc.integer({ min: 0, max: 4 }),
    image: fc.constantFrom('shop:1', 'shop:2'),
  }),
  fc.record({ kind: fc.constant('scale' as const), scale: fc.integer({ min: 0, max: 4 }) }),
  fc.constant({ kind: 'restart' as const }),
  fc.constant({ kind: 'remove' as const }),
);

test('whatever changes come, and however fast, the last one is what there is', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(actions, fc.integer({ min: 0, max: 40 })), { minLength: 2, maxLength: 8 }),
      async (steps) => {
        const subject = createSubject(use.project);
        let expected: { scale: number; image: string } | undefined;
        for (const [action, pauseMs] of steps) {
          // What needs a microservice is refused when the one before removed it.
          if (action.kind !== 'apply' && expected === undefined) continue;
          switch (action.kind) {
            case 'apply':
              await subject.apply(action);
              expected = action;
              break;
            case 'scale':
              await subject.scale(action.scale);
              expected = { image: expected?.image ?? '', scale: action.scale };
              break;
            case 'restart':
              await subject.restart();
              break;
            case 'remove':
              await subject.remove();
              expected = undefined;
              break;
          }
          await new Promise((resolve) => setTimeout(resolve, pauseMs));
        }
        if (expected === undefined) {
          if (subject.operations().length > 0) await subject.gone();
        } else {
          const document = await subject.steady(expected.scale);
          expect(document.scale).toBe(expected.scale);
          expect(document.release.spec.containers[0]?.image).toBe(expected.image);
          expect(subject.running().every(({ release }) => release === document.release.number)).toBe(true);
        }
        await eventuallyValue(
          () => subject.operations().filter((operation) => !isFinal(operation)),
          (open) => open.length === 0,
        );
      },
    ),
    { numRuns: 15, endOnFailure: true },
  );
}, 60_000);

test('an operation whose pull fails just after a newer change came is superseded, and has not failed', async () => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  let fail: () => void = () => undefined;
  const after = new Promise<void>((resolve) => {
    fail = resolve;
  });
  cluster.setImage('shop:away', { kind: 'unreachable', after });
  const pulling = await subject.apply({ image: 'shop:away' });
  await eventually(() => expect(cluster.resolved.at(-1)).toMatch(/: shop:away$/));
  const next = await subject.apply({ image: 'shop:2' });
  await eventually(async () => {
    const { events } = await use.project.client.workflow.getHandle(pulling.operation.id).fetchHistory();
    expect(events?.some((event) => event.activityTaskCancelRequestedEventAttributes)).toBe(true);
  });
  fail();
  expect(await subject.ended(pulling)).toMatchObject({ state: 'superseded' });
  expect(await subject.ended(next)).toMatchObject({ state: 'succeeded' });
  await subject.steady(1, 2);
});
