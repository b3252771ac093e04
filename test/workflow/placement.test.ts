/** What entities do by themselves about where their replicas run: drains, daemons, and balance. */

import { SIGNAL, microserviceWorkflowId } from '../../contracts/workflows';
import { eventually } from '../support/wait';

import { TIMEOUT } from './short-timeouts';
import { GOOD_IMAGE, createSubject, specOf } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

const DAEMON = { ...specOf(GOOD_IMAGE), daemon: true };

test('a drained node gives its replicas to others before they stop, and gets none until it is uncordoned', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3, 1);
  const [before] = subject.replicas().filter(({ nodeId }) => nodeId === 'a');
  const watched = cluster.watchRunning(subject.name);
  cluster.setAvailability('a', 'draining');
  await subject.signal();
  await eventually(() => expect(subject.replicas().filter(({ nodeId }) => nodeId === 'a')).toEqual([]));
  await subject.steady(3, 1);
  expect(watched).toMatchObject({ fewest: 3, most: 4 });
  expect(cluster.journal).toContain(`a: stop ${before?.id ?? ''} drained`);
  expect(subject.operations().at(-1)).toMatchObject({ kind: 'reschedule', state: 'succeeded' });

  await subject.ended(await subject.scale(4));
  await subject.steady(4, 1);
  expect(subject.replicas().map(({ nodeId }) => nodeId)).not.toContain('a');
});

test('a drain that finds no room says why, keeps what runs, and is done when there is room', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ spec: { ...specOf(GOOD_IMAGE), constraints: { 'node.id': 'a' } } });
  await subject.steady(1, 1);
  const [replica] = subject.replicas();
  cluster.setAvailability('a', 'draining');
  await subject.signal();
  const failed = await subject.documented(({ state }) => state === 'failed');
  expect(failed.message).toContain('a is being drained');
  expect(failed.message).toContain('b is b, but node.id has to be a');
  expect(subject.running().map(({ id }) => id)).toEqual([replica?.id]);

  cluster.setAvailability('a', 'active');
  await subject.signal();
  await subject.steady(1, 1);
  expect(subject.running().map(({ id }) => id)).toEqual([replica?.id]);
});

test('a daemon comes to a node that joins, and leaves a drained one after all others', async () => {
  const { cluster } = use.project;
  cluster.removeNode('c');
  const daemon = createSubject(use.project);
  expect(await daemon.applied({ scale: 1, spec: DAEMON })).toMatchObject({
    message: 'v1 runs on every node that matches',
  });
  const nodesOf = () =>
    daemon
      .running()
      .map(({ nodeId }) => nodeId)
      .sort();
  expect(nodesOf()).toEqual(['a', 'b']);

  cluster.addNode('c');
  await daemon.signal();
  await eventually(() => expect(nodesOf()).toEqual(['a', 'b', 'c']));

  const bound = createSubject(use.project);
  await bound.applied({ spec: { ...specOf(GOOD_IMAGE), constraints: { 'node.id': 'c' } } });
  cluster.setAvailability('c', 'draining');
  await bound.signal();
  await bound.documented(({ state }) => state === 'failed');
  await daemon.signal();
  // It is taken in after the look that the signal asked for.
  await daemon.ended(await daemon.restart());
  expect(nodesOf()).toEqual(['a', 'b', 'c']);

  await bound.ended(await bound.remove());
  await daemon.signal();
  await eventually(() =>
    expect(
      daemon
        .replicas()
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['a', 'b']),
  );
});

test('a new release of a daemon is renewed in place, one node at a time', async () => {
  const { cluster } = use.project;
  const daemon = createSubject(use.project);
  expect(await daemon.applied({ scale: 1, spec: DAEMON })).toMatchObject({
    message: 'v1 runs on every node that matches',
  });
  const count = daemon.running().length;
  const places = daemon.running().map(({ nodeId }) => nodeId);
  const watched = cluster.watchRunning(daemon.name);
  expect(await daemon.applied({ spec: { ...specOf('shop:2'), daemon: true } })).toMatchObject({
    state: 'succeeded',
  });
  expect(
    daemon
      .running()
      .map(({ nodeId }) => nodeId)
      .sort(),
  ).toEqual([...places].sort());
  expect(watched).toMatchObject({ fewest: count - 1, most: count });
});

test('replicas move to a node that is back, one at a time, start first, until it is even', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  cluster.setUp('c', false);
  await subject.applied({ scale: 6 });
  await subject.steady(6, 1);
  const counts = () =>
    ['a', 'b', 'c'].map((id) => subject.replicas().filter(({ nodeId }) => nodeId === id).length);
  expect(counts()).toEqual([3, 3, 0]);
  const watched = cluster.watchRunning(subject.name);
  cluster.setUp('c', true);
  await subject.signal();
  await eventually(() => expect(counts()).toEqual([2, 2, 2]));
  await subject.steady(6, 1);
  expect(watched).toMatchObject({ fewest: 6, most: 7 });
  const moves = subject.operations().filter(({ kind }) => kind === 'reschedule');
  expect(moves).toHaveLength(2);
  // Nobody tells of the second one, and it does not wait for the periodic look.
  const pauseMs = (moves[1]?.createdAtMs ?? Infinity) - (moves[0]?.endedAtMs ?? 0);
  expect(pauseMs).toBeLessThan(TIMEOUT.reconcileEveryMs);
});

test('what has to be mended first does not keep replicas from a node that is back', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  cluster.setUp('c', false);
  await subject.applied({ scale: 4 });
  await subject.steady(4, 1);
  cluster.loseReplica(subject.replicas()[0]?.id ?? '');
  cluster.setUp('c', true);
  cluster.setAvailability('c', 'cordoned');
  const hold = cluster.holdStarts();
  await use.project.client.workflow
    .getHandle(microserviceWorkflowId({ project: use.project.name, name: subject.name }))
    .signal(SIGNAL.observedChanged, { reason: 'node c can take replicas', hasRoom: true });
  await eventually(() => expect(hold.waiting).toBe(1));
  cluster.setAvailability('c', 'active');
  hold.release();
  await eventually(() => expect(subject.running().filter(({ nodeId }) => nodeId === 'c')).toHaveLength(1));
  await subject.steady(4, 1);
  const [mended, moved] = subject.operations().filter(({ kind }) => kind === 'reschedule');
  const pauseMs = (moved?.createdAtMs ?? Infinity) - (mended?.endedAtMs ?? 0);
  expect(pauseMs).toBeLessThan(TIMEOUT.reconcileEveryMs);
});

test.each(['refuses', 'finds no room on the way'])(
  'a move for balance to a node that %s is tried once, and not again and again',
  async (how) => {
    const { cluster } = use.project;
    const subject = createSubject(use.project);
    cluster.setUp('c', false);
    await subject.applied({ scale: 4 });
    await subject.steady(4, 1);
    cluster.setUp('c', true);
    if (how === 'refuses') cluster.refuse('c', 'no room');
    else cluster.fill('c', 'no space left on device');
    await subject.signal();
    await eventually(() => expect(subject.operations().map(({ kind }) => kind)).toContain('reschedule'));
    await subject.steady(4, 1);
    await subject.signal();
    // A change is taken in after the look that the signal asked for.
    await subject.ended(await subject.scale(5));
    expect(subject.operations().map(({ kind }) => kind)).toEqual(['deploy', 'reschedule', 'scale']);
    expect(subject.replicas().map(({ nodeId }) => nodeId)).not.toContain('c');
  },
);

test('with rebalance off replicas stay where they are', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  cluster.setUp('c', false);
  await subject.applied({ scale: 4, spec: { ...specOf(GOOD_IMAGE), rebalance: false } });
  await subject.steady(4, 1);
  cluster.setUp('c', true);
  await subject.signal();
  // A change is taken in after the look that the signal asked for.
  await subject.ended(await subject.scale(5));
  expect(subject.operations().map(({ kind }) => kind)).toEqual(['deploy', 'scale']);
});

test('a microservice that fails to become a daemon has its replicas again', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3, 1);
  use.project.cluster.setImage('shop:bad', { kind: 'unhealthy', reason: 'ended', logTail: [] });
  expect(await subject.applied({ spec: { ...specOf('shop:bad'), daemon: true } })).toMatchObject({
    state: 'rolled_back',
  });
  await subject.steady(3, 1);
});
