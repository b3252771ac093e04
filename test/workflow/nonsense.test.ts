/** A node whose worker answers nonsense: what a microservice makes of it, and that nothing is kept waiting by it. */

import { Context, CompleteAsyncError } from '@temporalio/activity';

import type { NodeActivities } from '../../contracts/activities';
import { eventually } from '../support/wait';

import { createSubject, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

type Activity = keyof NodeActivities;

/** The node does nothing, and answers this to one of the activities. */
const answers = (nodeId: string, activity: Activity, answer: unknown) =>
  use.project.cluster.garble(nodeId, async (asked, work) => (asked === activity ? answer : work()));

/** The node does nothing, and sends this to Temporal as its result or failure, as it is. */
const sends = (
  nodeId: string,
  activity: Activity,
  send: (task: { readonly namespace: string; readonly taskToken: Uint8Array }) => Promise<unknown>,
) =>
  use.project.cluster.garble(nodeId, async (asked, work) => {
    if (asked !== activity) return work();
    const { taskToken } = Context.current().info;
    await send({ namespace: 'default', taskToken });
    throw new CompleteAsyncError();
  });

const nonsenseEvents = () =>
  use.project.cluster.events().filter(({ type }) => type === 'node.answered_nonsense');

const placedOn = (subject: Subject) => [...new Set(subject.running().map(({ nodeId }) => nodeId))].sort();

/** Whatever has been, it can be deployed, scaled and removed. */
const expectUsable = async (subject: Subject) => {
  expect(await subject.applied({ image: 'shop:2' })).toMatchObject({ state: 'succeeded' });
  expect(await subject.ended(await subject.scale(4))).toMatchObject({ state: 'succeeded' });
  const { release } = await subject.documented(({ state }) => state === 'steady');
  await subject.steady(4, release.number);
  await subject.remove();
  await subject.gone();
};

const readable = { kind: 'failed', replicaId: '', code: 'unhealthy', reason: 'no', logTail: [] };

test.each<[string, unknown, string]>([
  ['null', null, 'it is not a list'],
  ['an object', {}, 'it is not a list'],
  ['nothing', undefined, 'it is empty'],
  ['a reason that is no text', [{ ...readable, reason: { html: 1 } }], '/0/reason is not text'],
])('%s for a start is told, and the replica starts elsewhere', async (_what, answer, why) => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  answers('a', 'startReplicas', answer);
  const operation = await subject.applied({ scale: 3 });
  expect(operation).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 1);
  expect(placedOn(subject)).toEqual(['b', 'c']);
  const words = `answered nonsense to startReplicas: ${why}`;
  const message = expect.stringContaining(`Node a ${words}`) as string;
  expect(nonsenseEvents()).toMatchObject([
    { level: 'error', node: 'a', microservice: subject.name, operation: operation.id, message },
  ]);
  expect(cluster.operation(operation.id)?.plan).toContainEqual(message);

  await expectUsable(subject);
});

test('where no other node would do, the operation says what keeps it, and the next one works when that is mended', async () => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  for (const nodeId of ['b', 'c']) cluster.setUp(nodeId, false);
  answers('a', 'startReplicas', null);
  expect(await subject.applied()).toMatchObject({
    state: 'failed',
    error: {
      code: 'no_capacity',
      message: expect.stringContaining(
        'a refused: it answered nonsense to startReplicas: it is not a list',
      ) as string,
    },
  });
  cluster.garble('a', undefined);
  await subject.steady(1, 1);
  await expectUsable(subject);
});

test('a node that answers nonsense to a stop, and stops, keeps nothing from its end', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  use.project.cluster.garble('a', async (activity, work) => {
    const answer = await work();
    return activity === 'stopReplicas' ? {} : answer;
  });
  expect(await subject.applied({ scale: 3, image: 'shop:2' })).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 2);
  await subject.remove();
  await subject.gone();
  expect(nonsenseEvents().map(({ message }) => message)).toContainEqual(
    expect.stringContaining('Node a answered nonsense to stopReplicas: it is not a list'),
  );
});

test('a node that answers nonsense to a stop, and does not, fails the removal, which ends when the node is mended', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3);
  answers('a', 'stopReplicas', [{ replicaId: 7, existed: 'yes' }]);
  expect(await subject.ended(await subject.remove())).toMatchObject({
    state: 'failed',
    error: {
      code: 'unavailable',
      message: expect.stringMatching(
        /^Node a answered nonsense to stopReplicas: \/0\/replicaId is not text\. Look at its version/,
      ) as string,
    },
  });
  expect(subject.document()).toMatchObject({ state: 'removing' });
  use.project.cluster.garble('a', undefined);
  await subject.gone();
});

test('it ends too when the node that answers nonsense is removed', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3);
  answers('a', 'stopReplicas', null);
  expect(await subject.ended(await subject.remove())).toMatchObject({ state: 'failed' });
  use.project.cluster.setUp('a', false);
  await eventually(() => expect(subject.document()).toBeUndefined());
});

test('nonsense for a pull is planned around', async () => {
  const subject = createSubject(use.project);
  answers('a', 'pullImages', [{ kind: 'pulled', image: 'another:1', imageId: 'sha256:1' }]);
  expect(await subject.applied({ scale: 3 })).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 1);
  expect(placedOn(subject)).toEqual(['b', 'c']);
  expect(nonsenseEvents()[0]?.message).toContain(
    'Node a answered nonsense to pullImages: /0 is about what it was not asked for',
  );
});

test.each<[string, unknown]>([
  ['a digest that is none', [{ kind: 'digest', image: 'shop:1', digest: 'latest' }]],
  ['a digest that is no text', [{ kind: 'digest', image: 'shop:1', digest: { sha256: 1 } }]],
  ['null', null],
])('of a node that answers %s another one is asked for the digest', async (_what, answer) => {
  const subject = createSubject(use.project);
  // It is asked first.
  use.project.cluster.addNode('a', { images: ['shop:1'] });
  answers('a', 'resolveImages', answer);
  expect(await subject.applied()).toMatchObject({ state: 'succeeded' });
  expect(nonsenseEvents()).toMatchObject([{ node: 'a' }]);
  expect(subject.document()?.release.images).toEqual({
    'shop:1': expect.stringMatching(/^sha256:[0-9a-f]{64}$/) as string,
  });
});

test('when all that are asked for a digest answer nonsense, the operation fails at once and says so', async () => {
  const subject = createSubject(use.project);
  for (const nodeId of ['a', 'b', 'c']) answers(nodeId, 'resolveImages', null);
  expect(await subject.applied()).toMatchObject({
    state: 'failed',
    error: {
      code: 'unavailable',
      message: expect.stringMatching(
        /^shop:1 could not be looked up by node [abc]: it answered nonsense to resolveImages: it is not a list$/,
      ) as string,
    },
  });
  for (const nodeId of ['a', 'b', 'c']) use.project.cluster.garble(nodeId, undefined);
  await subject.steady(1, 1);
});

const payloadOf = (encoding: string, data: string) => ({
  metadata: { encoding: Buffer.from(encoding) },
  data: Buffer.from(data),
});

test.each([
  ['broken JSON', payloadOf('json/plain', '[{')],
  ['an encoding that nobody knows', payloadOf('binary/secret', 'x')],
  ['bytes', payloadOf('binary/plain', 'x')],
])('a result of %s is nonsense', async (_what, payload) => {
  const subject = createSubject(use.project);
  const { workflowService } = use.temporal.client;
  sends('a', 'startReplicas', (task) =>
    workflowService.respondActivityTaskCompleted({ ...task, result: { payloads: [payload] } }),
  );
  expect(await subject.applied({ scale: 3 })).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 1);
  expect(placedOn(subject)).toEqual(['b', 'c']);
  expect(nonsenseEvents()[0]?.message).toContain('Node a answered nonsense to startReplicas');
});

test.each([
  [
    'details',
    { applicationFailureInfo: { nonRetryable: true, details: { payloads: [payloadOf('x', 'x')] } } },
  ],
  ['a cause', { applicationFailureInfo: { nonRetryable: true }, cause: { activityFailureInfo: {} } }],
  [
    'words beyond any measure and a type',
    { applicationFailureInfo: { nonRetryable: true, type: 'no_capacity' } },
  ],
])('a failure with %s that cannot be read fails the operation, and no more', async (_what, failure) => {
  const subject = createSubject(use.project);
  const { workflowService } = use.temporal.client;
  for (const nodeId of ['a', 'b', 'c']) {
    sends(nodeId, 'startReplicas', (task) =>
      workflowService.respondActivityTaskFailed({
        ...task,
        failure: { message: 'x'.repeat(1_000_000), ...failure },
      }),
    );
  }
  const operation = await subject.applied();
  expect(operation).toMatchObject({ state: 'failed' });
  expect(operation.message.length).toBeLessThan(2_100);
  for (const nodeId of ['a', 'b', 'c']) use.project.cluster.garble(nodeId, undefined);
  await subject.steady(1, 1);
  await expectUsable(subject);
});
