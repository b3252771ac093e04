/** Changes that are refused: at once, with a code and words, and with nothing changed. */

import { microserviceWorkflowId } from '../../contracts/workflows';
import type { ErrorCode } from '../../domain/errors';

import { createSubject, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

const refused = (code: ErrorCode, message: RegExp) => ({
  name: 'ContainerOsError',
  code,
  message: expect.stringMatching(message) as string,
});

const acceptedUpdates = async (subject: Subject): Promise<number> => {
  const key = { project: use.project.name, name: subject.name };
  const history = await use.project.client.workflow.getHandle(microserviceWorkflowId(key)).fetchHistory();
  return (history.events ?? []).filter((event) => event.workflowExecutionUpdateAcceptedEventAttributes)
    .length;
};

/** Runs changes that are to be refused, and checks that they left no trace. */
const leavesNoTrace = async (subject: Subject, body: () => Promise<void>): Promise<void> => {
  const [document, operations] = [subject.document(), subject.operations()];
  const accepted = await acceptedUpdates(subject);
  await body();
  expect(subject.document()).toEqual(document);
  expect(subject.operations()).toEqual(operations);
  expect(await acceptedUpdates(subject)).toBe(accepted);
};

test('what needs a microservice is refused while there is none', async () => {
  const subject = createSubject(use.project);
  const words = refused('not_found', /There is no microservice/);
  await expect(subject.scale(2)).rejects.toMatchObject(words);
  await expect(subject.restart()).rejects.toMatchObject(words);
  await expect(subject.rollback()).rejects.toMatchObject(words);
  await expect(subject.remove()).rejects.toMatchObject(words);
  expect(use.project.cluster.store.peek('')).toEqual([]);
});

test('a change for another generation is refused', async () => {
  const subject = createSubject(use.project);
  await subject.applied();
  await subject.steady(1);
  await leavesNoTrace(subject, async () => {
    const words = refused('precondition_failed', /is at generation 1, not/);
    await expect(subject.scale(2, { ifGeneration: 7 })).rejects.toMatchObject(words);
    await expect(subject.apply({ image: 'shop:2', ifGeneration: 0 })).rejects.toMatchObject(
      refused('precondition_failed', /^There is a microservice \S+ already\.$/),
    );
    await expect(subject.remove({ ifGeneration: 2 })).rejects.toMatchObject(words);
  });
  expect(await subject.scale(2, { ifGeneration: 1 })).toMatchObject({ generation: 2 });
  await subject.steady(2);
});

test('of two changes for the same generation, one wins', async () => {
  const subject = createSubject(use.project);
  await subject.applied();
  await subject.steady(1);
  const results = await Promise.allSettled([2, 3].map((scale) => subject.scale(scale, { ifGeneration: 1 })));
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  await subject.steady(results[0]?.status === 'fulfilled' ? 2 : 3);
});

test('a first apply for a generation that cannot be leaves nothing behind', async () => {
  const subject = createSubject(use.project);
  await expect(subject.apply({ ifGeneration: 3 })).rejects.toMatchObject(
    refused('precondition_failed', /^There is no microservice /),
  );
  expect(use.project.cluster.store.peek('')).toEqual([]);
  expect(await subject.apply({ ifGeneration: 0 })).toMatchObject({ created: true });
  await subject.steady(1);
});

test('names that differ in capitals only are one microservice', async () => {
  const subject = createSubject(use.project, 'Shop');
  await subject.applied();
  await subject.steady(1);
  await leavesNoTrace(subject, async () => {
    await expect(subject.apply({ as: 'SHOP' })).rejects.toMatchObject(
      refused('conflict', /There is a microservice Shop, whose name differs from SHOP/),
    );
  });
  await subject.remove();
  await subject.gone();
  await subject.applied({ as: 'SHOP' });
  expect((await subject.steady(1)).name).toBe('SHOP');
});

test('a rollback needs a release to go back to', async () => {
  const subject = createSubject(use.project);
  await subject.applied();
  await subject.steady(1);
  await leavesNoTrace(subject, async () => {
    await expect(subject.rollback()).rejects.toMatchObject(refused('not_found', /no earlier release/));
    await expect(subject.rollback(9)).rejects.toMatchObject(
      refused('not_found', /no release v9\. It has v1/),
    );
  });
});

test('a rollback that names no release needs one that was healthy', async () => {
  const subject = createSubject(use.project);
  use.project.cluster.setImage('shop:broken', { kind: 'unhealthy', reason: 'it ended', logTail: [] });
  expect(await subject.applied({ image: 'shop:broken' })).toMatchObject({ state: 'failed' });
  await subject.applied();
  await subject.steady(1, 2);
  await leavesNoTrace(subject, async () => {
    await expect(subject.rollback()).rejects.toMatchObject(
      refused('not_found', /no earlier release that was healthy\. It has v1, which toRelease can name/),
    );
  });
});

test('a hostname of another microservice is refused, and free again when it was given back', async () => {
  const first = createSubject(use.project);
  const second = createSubject(use.project);
  await first.applied({ hostnames: ['a.example.com', 'b.example.com'] });
  await first.steady(1);
  const words = refused('conflict', new RegExp(`a.example.com belongs to the microservice ${first.name}`));
  // All or none: c is not claimed either.
  const wanted = ['a.example.com', 'c.example.com'];
  await expect(second.apply({ hostnames: wanted })).rejects.toMatchObject(words);
  // Whatever else is somebody's is told with it.
  await expect(second.apply({ hostnames: [...wanted, 'b.example.com'] })).rejects.toMatchObject(
    refused(
      'conflict',
      new RegExp(`${first.name}, and hostname b.example.com to ${first.name}\\. Use others`),
    ),
  );
  expect(Object.keys(use.project.cluster.hostnames())).toEqual(['a.example.com', 'b.example.com']);
  expect(second.document()).toBeUndefined();

  await second.applied({ image: 'shop:1' });
  await second.steady(1, 1);
  await expect(second.apply({ hostnames: wanted })).rejects.toMatchObject(words);
  expect(second.document()).toMatchObject({ generation: 1, release: { number: 1 }, state: 'steady' });

  await first.applied({ hostnames: ['b.example.com'] });
  await first.steady(1, 2);
  await second.applied({ hostnames: wanted });
  await second.steady(1, 2);
  expect(use.project.cluster.hostnames()).toEqual({
    'a.example.com': second.name,
    'b.example.com': first.name,
    'c.example.com': second.name,
  });
});

test('hostnames come back with a rollback, unless they were taken meanwhile', async () => {
  const first = createSubject(use.project);
  const second = createSubject(use.project);
  await first.applied({ hostnames: ['a.example.com'] });
  await first.applied({ hostnames: ['b.example.com'] });
  await first.steady(1, 2);
  await second.applied({ hostnames: ['a.example.com'] });
  await second.steady(1, 1);
  await expect(first.rollback()).rejects.toMatchObject(refused('conflict', /a.example.com belongs to/));
  await second.remove();
  await second.gone();
  await first.rollback();
  await first.steady(1, 3);
  expect(use.project.cluster.hostnames()).toEqual({ 'a.example.com': first.name });
});

test('a hostname is given back by whatever change brings its release to an end', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ hostnames: ['a.example.com'] });
  await subject.steady(1, 1);
  const hold = use.project.cluster.holdStarts();
  await subject.apply({ hostnames: ['b.example.com'] });
  await subject.scale(2);
  hold.release();
  await subject.steady(2, 2);
  expect(use.project.cluster.hostnames()).toEqual({ 'b.example.com': subject.name });
  await subject.applied({ hostnames: [] });
  expect(use.project.cluster.hostnames()).toEqual({});
});

describe('idempotency keys', () => {
  const change = { idempotencyKey: 'k1', requestHash: 'h1' };

  test('the same request is answered with the same operation', async () => {
    const subject = createSubject(use.project);
    const first = await subject.apply({ scale: 2, ...change });
    const again = await subject.apply({ scale: 2, ...change });
    expect(again.operation.id).toBe(first.operation.id);
    await subject.steady(2);
    const later = await subject.apply({ scale: 2, ...change });
    expect(later).toMatchObject({ created: false, generation: 1, operation: { id: first.operation.id } });
    expect(subject.operations()).toHaveLength(1);
  });

  test('requests at the same time make one operation', async () => {
    const subject = createSubject(use.project);
    const answers = await Promise.all(
      [1, 2, 3, 4].map(() => subject.apply({ hostnames: ['k.example.com'], ...change })),
    );
    expect(new Set(answers.map(({ operation }) => operation.id)).size).toBe(1);
    await subject.steady(1, 1);
    expect(subject.operations()).toHaveLength(1);
  });

  test('another request under the same key is refused', async () => {
    const subject = createSubject(use.project);
    await subject.apply(change);
    await subject.steady(1);
    await leavesNoTrace(subject, async () => {
      await expect(subject.scale(3, { idempotencyKey: 'k1', requestHash: 'h2' })).rejects.toMatchObject(
        refused('conflict', /idempotency key k1 was used for another request/),
      );
    });
  });

  test('a repeated removal is answered while it is under way', async () => {
    const subject = createSubject(use.project);
    await subject.applied();
    await subject.steady(1);
    const held = use.project.cluster.store.holdWrites((operations) =>
      operations.some(({ kind }) => kind === 'deletePrefix'),
    );
    const first = await subject.remove(change);
    const again = await subject.remove(change);
    expect(again.operation.id).toBe(first.operation.id);
    held.release();
    await subject.gone();
  });
});
