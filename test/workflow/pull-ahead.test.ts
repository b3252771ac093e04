/** Images on nodes that may have to take over, before they have to. */

import { createImagesAhead } from '../../activities/images-ahead';
import { AHEAD } from '../../contracts/timeouts';
import { microserviceWorkflowId, pullAheadWorkflowId } from '../../contracts/workflows';
import { pinnedReference } from '../../domain/release-images';
import { fakeDigest } from '../support/fake-cluster';
import { pullsAheadBy } from '../../workers/entities';
import { eventually } from '../support/wait';

import { GOOD_IMAGE, createSubject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

/** As the watch over the cluster has it, at a time when it is due. */
const createAhead = () => {
  const { cluster, client } = use.project;
  let nowMs = Date.now();
  const ahead = createImagesAhead({
    store: cluster.store,
    view: cluster.view,
    pullAhead: pullsAheadBy(client),
    nowMs: () => nowMs,
  });
  return {
    look: async () => {
      nowMs += AHEAD.everyMs;
      await ahead.keep();
    },
  };
};

const resultOf = (nodeId: string) =>
  use.project.client.workflow.getHandle(pullAheadWorkflowId(nodeId)).result() as Promise<unknown>;

test('a replacement starts on a node that got its image ahead, while the registry is away', async () => {
  const { cluster, client } = use.project;
  const subject = createSubject(use.project);
  cluster.setUp('c', false);
  await subject.applied({ scale: 2 });
  await subject.steady(2, 1);
  cluster.setUp('c', true);
  const key = { project: use.project.name, name: subject.name };
  /** What the entity was told from outside; what it does by itself may still go on. */
  const told = async () =>
    (await client.workflow.getHandle(microserviceWorkflowId(key)).fetchHistory()).events?.filter(
      (event) =>
        event.workflowExecutionSignaledEventAttributes ??
        event.workflowExecutionUpdateAcceptedEventAttributes,
    ).length;
  const before = await told();
  expect(before).toBeGreaterThan(0);
  const ahead = createAhead();
  await ahead.look();
  const pinned = pinnedReference(GOOD_IMAGE, fakeDigest(GOOD_IMAGE));
  expect(await resultOf('c')).toEqual([{ kind: 'pulled', image: pinned }]);
  expect(await told()).toBe(before);
  await ahead.look();
  expect(cluster.journal.filter((line) => line.includes('pull ahead'))).toEqual([`c: pull ahead ${pinned}`]);

  cluster.setImage(GOOD_IMAGE, { kind: 'unreachable' });
  cluster.setUp('a', false);
  await subject.signal();
  await eventually(() =>
    expect(
      subject
        .running()
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['a', 'b', 'c']),
  );
  expect(subject.operations().at(-1)?.plan.join('\n')).not.toContain('pull');
});

test('what cannot be pulled ahead fails nothing: not for want of the image, nor of the node', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  for (const nodeId of ['b', 'c']) cluster.setUp(nodeId, false);
  await subject.applied({ scale: 1 });
  await subject.steady(1, 1);
  cluster.setUp('c', true);
  cluster.setImage(GOOD_IMAGE, { kind: 'missing' });
  await createAhead().look();
  expect(await resultOf('c')).toMatchObject([{ kind: 'failed', reason: `there is no image ${GOOD_IMAGE}` }]);

  cluster.setUp('c', false);
  cluster.addNode('silent');
  await createAhead().look();
  expect(await resultOf('silent')).toMatchObject([
    { kind: 'failed', image: pinnedReference(GOOD_IMAGE, fakeDigest(GOOD_IMAGE)) },
  ]);
  expect(subject.operations()).toHaveLength(1);
});

test('a node is asked for one thing after the other', async () => {
  const { cluster, client } = use.project;
  const pullAhead = pullsAheadBy(client);
  cluster.kill('c');
  expect(await pullAhead('c', ['one:1'])).toBe(true);
  expect(await pullAhead('c', ['two:1'])).toBe(false);
  await client.workflow.getHandle(pullAheadWorkflowId('c')).terminate();
  cluster.revive('c');
  expect(await pullAhead('c', ['two:1'])).toBe(true);
  expect(await resultOf('c')).toEqual([{ kind: 'pulled', image: 'two:1' }]);
});
