/**
 * The loss of nodes, from the change of membership to the replacements: with the real watch, and with the real time
 * limits, so that whoever waits for one of them is too late.
 */

import { eventually, eventuallyValue } from '../support/wait';

import { createSubject, type Subject } from './subject';
import { useTemporal } from './temporal';
import { startWatch, type Watch } from './watch';

const use = useTemporal({ realTimeouts: true });

/** Less than the shortest time that a node which does not answer is given (contracts/timeouts). */
const AT_ONCE = { timeoutMs: 20_000, intervalMs: 10 } as const;

let watch: Watch;
beforeEach(() => {
  watch = startWatch(use.project);
});
afterEach(() => watch.stop());

const lose = (...nodeIds: readonly string[]) => {
  for (const nodeId of nodeIds) {
    use.project.cluster.kill(nodeId);
    use.project.cluster.setUp(nodeId, false);
  }
};

const recover = (nodeId: string) => {
  use.project.cluster.revive(nodeId);
  use.project.cluster.setUp(nodeId, true);
};

const runningBut = (subject: Subject, ...lost: readonly string[]) =>
  subject.running().filter(({ nodeId }) => !lost.includes(nodeId));

/** Waits until the plan of an operation says it. */
const planned = (subject: Subject, words: string) =>
  eventually(
    () =>
      expect(
        subject
          .operations()
          .flatMap(({ plan }) => plan)
          .join('\n'),
      ).toContain(words),
    AT_ONCE,
  );

const settled = (subject: Subject) =>
  eventually(() => expect(subject.operations().map(({ state }) => state)).not.toContain('running'), AT_ONCE);

test('what 30 microservices have on a lost node starts elsewhere about as soon as it was deployed', async () => {
  const { cluster } = use.project;
  const subjects = Array.from({ length: 30 }, () => createSubject(use.project));
  const lastStartMs = (isNew: (id: string) => boolean) =>
    Math.max(
      ...subjects
        .flatMap((subject) => subject.replicas())
        .filter(({ id }) => isNew(id))
        .map(({ createdAtMs }) => createdAtMs),
    );
  for (const nodeId of ['b', 'c']) cluster.setAvailability(nodeId, 'cordoned');
  const deployedAtMs = Date.now();
  // All at once they would be too many for the API's time limit on a machine that has much else to do.
  for (let index = 0; index < subjects.length; index += 10) {
    await Promise.all(subjects.slice(index, index + 10).map((subject) => subject.applied()));
  }
  const deployMs = lastStartMs(() => true) - deployedAtMs;

  const before = new Set(subjects.flatMap((subject) => subject.replicas()).map(({ id }) => id));
  for (const nodeId of ['b', 'c']) cluster.setAvailability(nodeId, 'active');
  const lostAtMs = Date.now();
  lose('a');
  await eventually(
    () => {
      for (const subject of subjects) expect(runningBut(subject, 'a')).toHaveLength(1);
    },
    { timeoutMs: 60_000, intervalMs: 10 },
  );
  const lossMs = lastStartMs((id) => !before.has(id)) - lostAtMs;
  console.log(`30 microservices: deployed in ${deployMs} ms, replaced after a loss in ${lossMs} ms`);
  expect(lossMs).toBeLessThan(3 * deployMs);
}, 120_000);

test('two nodes that are lost one after the other leave nothing waiting for either', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3, 1);
  cluster.setAvailability('c', 'cordoned');
  cluster.kill('b');
  lose('a');
  await planned(subject, 'node b: start');
  cluster.setAvailability('c', 'active');
  lose('b');
  await eventually(() => expect(runningBut(subject, 'a', 'b')).toHaveLength(3), AT_ONCE);
  await settled(subject);
  expect(subject.operations().map(({ kind, state }) => [kind, state])).toEqual([
    ['deploy', 'succeeded'],
    ['reschedule', 'succeeded'],
  ]);
});

test('what is lost does not wait for what starts slowly on other nodes', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3, 1);
  cluster.setAvailability('c', 'cordoned');
  const slow = cluster.holdStarts();
  lose('a');
  await eventuallyValue(
    () => slow.waiting,
    (waiting) => waiting === 1,
    AT_ONCE,
  );
  const [starting] = subject.replicas().filter(({ state }) => state === 'starting');
  expect(starting?.nodeId).toBe('b');
  cluster.setAvailability('c', 'active');
  // The one on the third node is lost while the first replacement is still starting, on the second one.
  lose('c');
  await eventuallyValue(
    () => slow.waiting,
    (waiting) => waiting === 2,
    AT_ONCE,
  );
  slow.release();
  await eventually(() => expect(runningBut(subject, 'a', 'c')).toHaveLength(3), AT_ONCE);
  await settled(subject);
  expect(runningBut(subject, 'a', 'c').map(({ id }) => id)).toContain(starting?.id);
  expect(subject.operations().map(({ kind, state }) => [kind, state])).toEqual([
    ['deploy', 'succeeded'],
    ['reschedule', 'succeeded'],
  ]);
});

test('a deploy goes on elsewhere when a node is lost in its midst', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3, 1);
  cluster.kill('a');
  const deploy = await subject.apply({ image: 'shop:2' });
  await planned(subject, 'node a: pull shop:2');
  lose('a');
  await eventually(() => {
    expect(runningBut(subject, 'a').map(({ release }) => release)).toEqual([2, 2, 2]);
  }, AT_ONCE);
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
});

test('a change that supersedes what waits for a lost node does not wait for it', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 1 });
  await subject.steady(1, 1);
  const hold = cluster.holdStarts();
  await subject.scale(3);
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting === 2,
    AT_ONCE,
  );
  const scale = await subject.scale(2);
  hold.release();
  lose('a');
  expect(await subject.ended(scale)).toMatchObject({ state: 'succeeded' });
  await eventually(() => expect(runningBut(subject, 'a')).toHaveLength(2), AT_ONCE);
});

test('work for a node that nobody takes is given to another one when the node is lost', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  for (const nodeId of ['a', 'b', 'c']) cluster.setUp(nodeId, false);
  cluster.addNode('silent');
  const deploy = await subject.apply();
  // It waits for an answer by then, not only about to ask.
  await eventually(async () => {
    const { raw } = await use.project.client.workflow.getHandle(deploy.operation.id).describe();
    expect(raw.pendingActivities?.map(({ activityType }) => activityType?.name)).toEqual(['resolveImages']);
  }, AT_ONCE);
  cluster.setUp('c', true);
  cluster.setUp('silent', false);
  await eventually(() => expect(runningBut(subject, 'silent')).toHaveLength(1), AT_ONCE);
  expect(await subject.ended(deploy)).toMatchObject({ state: 'succeeded' });
});

test('a drain whose node is lost is done: what it would have stopped is surplus when the node is back', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3, 1);
  const [old] = subject.replicas().filter(({ nodeId }) => nodeId === 'a');
  cluster.kill('a');
  cluster.setAvailability('a', 'draining');
  await eventually(() => expect(runningBut(subject, 'a')).toHaveLength(3), AT_ONCE);
  await planned(subject, `node a: stop ${old?.id ?? ''}`);
  lose('a');
  await settled(subject);
  expect(subject.replicas().map(({ id }) => id)).toContain(old?.id);
  expect(subject.operations().map(({ kind, state }) => [kind, state])).toEqual([
    ['deploy', 'succeeded'],
    ['reschedule', 'succeeded'],
  ]);
  recover('a');
  await eventually(() => expect(subject.replicas()).toHaveLength(3), AT_ONCE);
  expect(subject.replicas().map(({ id }) => id)).not.toContain(old?.id);
});

test('a node that is back while its replacement starts keeps nothing, and nothing is missed meanwhile', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 1 });
  await subject.steady(1, 1);
  const [old] = subject.replicas();
  const nodeId = old?.nodeId ?? '';
  const hold = cluster.holdStarts();
  lose(nodeId);
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting === 1,
    AT_ONCE,
  );
  const [replacement] = subject.replicas().filter(({ id }) => id !== old?.id);
  const watched = cluster.watchRunning(subject.name);
  recover(nodeId);
  hold.release();
  await eventually(() => expect(subject.replicas().map(({ id }) => id)).toEqual([replacement?.id]), AT_ONCE);
  await settled(subject);
  expect(watched.fewest).toBe(1);
  expect(cluster.journal).toContain(`${nodeId}: stop ${old?.id ?? ''} surplus`);
});

test('a node that is lost again while it is being put in order holds nothing up', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 1 });
  await subject.steady(1, 1);
  const [old] = subject.replicas();
  const nodeId = old?.nodeId ?? '';
  lose(nodeId);
  await eventually(() => expect(runningBut(subject, nodeId)).toHaveLength(1), AT_ONCE);
  await settled(subject);

  cluster.setUp(nodeId, true);
  await planned(subject, `node ${nodeId}: stop ${old?.id ?? ''} (surplus)`);
  cluster.setUp(nodeId, false);
  await settled(subject);
  expect(await subject.ended(await subject.scale(2))).toMatchObject({ state: 'succeeded' });
  expect(runningBut(subject, nodeId)).toHaveLength(2);

  recover(nodeId);
  await eventually(() => expect(subject.replicas()).toHaveLength(2), AT_ONCE);
  expect(subject.replicas().map(({ id }) => id)).not.toContain(old?.id);
});
