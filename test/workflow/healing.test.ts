/** What an entity mends by itself, and what outages do to it. */

import { CONTROL_PLANE_QUEUE } from '../../contracts/queues';
import { SIGNAL, WORKFLOW, microserviceWorkflowId, type ChangeAccepted } from '../../contracts/workflows';
import type { Microservice, Operation, OperationKind, Release } from '../../domain/model';
import { consistently, eventually, eventuallyValue } from '../support/wait';
import { stateFromDocument } from '../../workflows/entity-state';
import type { MicroserviceInput } from '../../workflows/entity';

import { GOOD_IMAGE, createSubject, isRecord, specOf, type Subject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

const entityOf = (subject: Subject) =>
  use.project.client.workflow.getHandle(
    microserviceWorkflowId({ project: use.project.name, name: subject.name }),
  );

test('a broken replica is replaced at a signal', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  await subject.steady(2);
  const [broken] = subject.replicas();
  use.project.cluster.setReplica(broken?.id ?? '', 'broken');
  await subject.signal();
  await eventually(() => expect(subject.operations().map(({ kind }) => kind)).toContain('reschedule'));
  await subject.steady(2, 1);
  expect(subject.replicas().map(({ id }) => id)).not.toContain(broken?.id);
  expect(subject.operations().at(-1)).toMatchObject({
    kind: 'reschedule',
    state: 'succeeded',
    message: 'v1 is back at scale 2',
  });
});

test('a signal for nothing makes no operation', async () => {
  const subject = createSubject(use.project);
  await subject.applied();
  await subject.steady(1);
  await subject.signal();
  await subject.ended(await subject.scale(2));
  expect(subject.operations().map(({ kind }) => kind)).toEqual(['deploy', 'scale']);
});

test('what a lost signal leaves is found by the next periodic look', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  await subject.steady(2);
  use.project.cluster.loseReplica(subject.replicas()[0]?.id ?? '');
  await eventually(() => expect(subject.running()).toHaveLength(2));
});

test('a signal during an operation is not forgotten', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 1 });
  await subject.steady(1);
  const [first] = subject.replicas();
  const hold = use.project.cluster.holdStarts();
  const scale = await subject.scale(2);
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting === 1,
  );
  use.project.cluster.loseReplica(first?.id ?? '');
  await subject.signal();
  hold.release();
  expect(await subject.ended(scale)).toMatchObject({ state: 'succeeded' });
  await eventually(() => expect(subject.running()).toHaveLength(2));
  await subject.steady(2, 1);
});

test('a replica whose image its new node cannot get goes to a node that has it', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  cluster.setUp('c', false);
  await subject.applied({ scale: 2 });
  await subject.steady(2, 1);
  cluster.setUp('c', true);
  cluster.setImage(GOOD_IMAGE, { kind: 'unreachable' });
  cluster.setUp('a', false);
  await subject.signal();
  // The first choice is the node that runs none of it.
  await eventually(() =>
    expect(
      subject
        .running()
        .map(({ nodeId }) => nodeId)
        .sort(),
    ).toEqual(['a', 'b', 'b']),
  );
  expect(cluster.journal.filter((line) => line === `c: pull ${GOOD_IMAGE}`)).toHaveLength(3);
  await eventually(() =>
    expect(subject.operations().at(-1)).toMatchObject({ kind: 'reschedule', state: 'succeeded' }),
  );
});

test('no replica that comes back waits for the image of another one', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  cluster.setUp('c', false);
  await subject.applied({ scale: 2 });
  await subject.steady(2, 1);
  cluster.setUp('c', true);
  let answer: () => void = () => undefined;
  const after = new Promise<void>((resolve) => {
    answer = resolve;
  });
  cluster.setImage(GOOD_IMAGE, { kind: 'unreachable', after });
  const before = subject.replicas().map(({ id }) => id);
  for (const id of before) cluster.setReplica(id, 'broken');
  cluster.setUp('a', false);
  await subject.signal();
  const running = () =>
    subject
      .running()
      .filter(({ id }) => !before.includes(id))
      .map(({ nodeId }) => nodeId);
  await eventually(() => expect(running()).toEqual(['b']));
  // It goes on until it is answered; which of the two nodes begins first is chance.
  await eventually(() => expect(cluster.journal).toContain(`c: pull ${GOOD_IMAGE}`));
  cluster.setImage(GOOD_IMAGE, { kind: 'healthy' });
  answer();
  await eventually(() => expect(running()).toEqual(['b', 'c']));
});

test('replicas of a lost node start elsewhere, and those that it brings back stop', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3);
  const [old] = subject.replicas().filter(({ nodeId }) => nodeId === 'a');
  cluster.setUp('a', false);
  await subject.signal();
  await eventually(() => expect(subject.running().filter(({ nodeId }) => nodeId !== 'a')).toHaveLength(3));
  const watched = cluster.watchRunning(subject.name);
  cluster.setUp('a', true);
  await subject.signal();
  await subject.steady(3, 1);
  const stopped = cluster.journal.filter((line) => line.includes(': stop ') && line.endsWith(' surplus'));
  expect(stopped).toEqual([`a: stop ${old?.id ?? ''} surplus`]);
  expect(watched.fewest).toBeGreaterThanOrEqual(3);
});

const HOURS_MS = 3_600_000;

test.each([
  ['right', {}],
  ['3 h ahead on the node that is back', { a: 3 * HOURS_MS }],
  ['3 h behind on the other nodes', { b: -3 * HOURS_MS, c: -3 * HOURS_MS }],
])(
  'of a replica that was replaced and whose node is back, the newest stays: clocks %s',
  async (_what, clocks) => {
    const { cluster } = use.project;
    for (const [nodeId, aheadMs] of Object.entries(clocks)) cluster.setClock(nodeId, aheadMs);
    const subject = createSubject(use.project);
    cluster.setAvailability('b', 'cordoned');
    cluster.setAvailability('c', 'cordoned');
    await subject.applied({ scale: 1 });
    await subject.steady(1);
    const [old] = subject.replicas();
    cluster.setAvailability('b', 'active');
    cluster.setAvailability('c', 'active');
    cluster.setUp(old?.nodeId ?? '', false);
    await subject.signal();
    const isNew = ({ id }: { readonly id: string }) => id !== old?.id;
    await eventually(() => expect(subject.running().filter(isNew)).toHaveLength(1));
    const [newest] = subject.running().filter(isNew);
    const watched = cluster.watchRunning(subject.name);
    cluster.setUp(old?.nodeId ?? '', true);
    await subject.signal();
    await subject.steady(1, 1);
    expect(subject.replicas().map(({ id }) => id)).toEqual([newest?.id]);
    expect(cluster.journal).toContain(`${old?.nodeId ?? ''}: stop ${old?.id ?? ''} surplus`);
    expect(watched.fewest).toBe(1);
  },
);

describe('what has to be near a microservice that is lost with it', () => {
  const begin = async () => {
    const { cluster } = use.project;
    for (const nodeId of ['b', 'c']) cluster.setAvailability(nodeId, 'cordoned');
    const data = createSubject(use.project);
    const web = createSubject(use.project);
    await data.applied({ image: 'db:1' });
    const near = [{ microservice: data.name, required: true }];
    await web.applied({ spec: { ...specOf(GOOD_IMAGE), near } });
    await web.steady(1);
    for (const nodeId of ['b', 'c']) cluster.setAvailability(nodeId, 'active');
    cluster.setUp('a', false);
    return { cluster, data, web };
  };
  const backOn = (subject: Subject) =>
    subject
      .running()
      .map(({ nodeId }) => nodeId)
      .filter((nodeId) => nodeId !== 'a');

  test('starts beside it as soon as that is back, and never counts as failed', async () => {
    let pulled: () => void = () => undefined;
    const pull = new Promise<void>((resolve) => {
      pulled = resolve;
    });
    const { cluster, data, web } = await begin();
    for (const nodeId of ['b', 'c']) {
      cluster.garble(nodeId, async (activity, work) => {
        if (activity === 'pullImages') await pull;
        return work();
      });
    }
    await web.signal();
    await data.signal();
    const isMending = () =>
      web.operations().some(({ kind, state }) => kind === 'reschedule' && state === 'running');
    await eventually(() => expect(isMending()).toBe(true));
    await consistently(() => expect(isMending()).toBe(true), { durationMs: 700 });
    pulled();
    await eventually(() => expect(backOn(web)).toHaveLength(1));
    expect(backOn(web)).toEqual(backOn(data));
    await eventually(() => expect(isMending()).toBe(false));
    expect(web.operations().map(({ state }) => state)).toEqual(['succeeded', 'succeeded']);
  });

  test('says what it waits for when that does not come back', async () => {
    const { cluster, data, web } = await begin();
    for (const nodeId of ['b', 'c']) cluster.refuse(nodeId, 'memory is low');
    await data.signal();
    await web.signal();
    const told = await web.documented(({ state }) => state === 'failed');
    expect(told.message).toContain(`has no replica of ${data.name}, which it has to be near`);
    for (const nodeId of ['b', 'c']) cluster.refuse(nodeId, undefined);
    await eventually(() => expect(backOn(web)).toHaveLength(1));
    expect(backOn(web)).toEqual(backOn(data));
  });
});

test('a node that comes and goes does not win its replicas back, and gets some when it has stayed', async () => {
  const { cluster } = use.project;
  const subject = createSubject(use.project);
  await subject.applied({ scale: 3 });
  await subject.steady(3);
  const nodesOf = () => subject.running().map(({ nodeId }) => nodeId);
  cluster.setUp('a', false);
  await subject.signal();
  await eventually(() => expect(nodesOf().filter((nodeId) => nodeId !== 'a')).toHaveLength(3));
  cluster.addNode('a', { returnedAtMs: Date.now(), unstableUntilMs: Date.now() + 3_600_000 });
  await subject.signal();
  await subject.steady(3, 1);
  expect(nodesOf()).not.toContain('a');
  await subject.ended(await subject.scale(4));
  await subject.steady(4, 1);
  expect(nodesOf()).not.toContain('a');

  cluster.addNode('a');
  await entityOf(subject).signal(SIGNAL.observedChanged, {
    reason: 'node a can take replicas',
    hasRoom: true,
  });
  await eventually(() => expect(nodesOf()).toContain('a'));
  await subject.steady(4, 1);
});

test('a lost replica that fits nowhere is told of, looked for less and less often, and back when there is room', async () => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  cluster.addNode('a', { labels: { disk: 'ssd' } });
  await subject.applied({ spec: { ...specOf(GOOD_IMAGE), constraints: { disk: 'ssd' } } });
  await subject.steady(1);
  cluster.setUp('a', false);
  await subject.signal();
  const told = await subject.documented(({ state }) => state === 'failed');
  expect(told.message).toMatch(/^1 replica of .* found no node: a /);
  const operations = subject.operations().length;
  const timers = async () => {
    const { events } = await entityOf(subject).fetchHistory();
    return (events ?? []).flatMap(({ timerStartedEventAttributes: timer }) => {
      const { seconds, nanos } = timer?.startToFireTimeout ?? {};
      return timer ? [Number(seconds ?? 0) * 1_000 + (nanos ?? 0) / 1_000_000] : [];
    });
  };
  await eventually(async () => expect((await timers()).slice(-4)).toEqual([200, 400, 800, 1_600]));
  expect(subject.operations()).toHaveLength(operations);
  cluster.setUp('a', true);
  await entityOf(subject).signal(SIGNAL.observedChanged, { reason: 'a node is back', hasRoom: true });
  await subject.steady(1, 1);
});

test('replicas that were out of reach at a removal are of no use to what is made under the name later', async () => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  await subject.applied({ scale: 3 });
  await subject.steady(3);
  cluster.setUp('a', false);
  const away = subject.replicas().filter(({ nodeId }) => nodeId === 'a');
  expect(away).toHaveLength(1);
  await subject.ended(await subject.remove());
  await eventually(() => expect(subject.document()).toBeUndefined());
  expect(subject.replicas()).toEqual(away);
  cluster.setUp('a', true);
  await subject.applied({ scale: 3 });
  await subject.steady(3, 1);
  expect(subject.replicas().map(({ id }) => id)).not.toContain(away[0]?.id);
});

test('while Consul is away a change waits, and nothing is lost', async () => {
  const subject = createSubject(use.project);
  const { store } = use.project.cluster;
  await subject.applied({ hostnames: ['a.example.com'] });
  await subject.steady(1, 1);
  store.away = true;
  const changes = [
    subject.scale(2),
    subject.apply({ image: 'shop:2', hostnames: ['b.example.com'] }),
    subject.scale(3),
  ];
  const answered = Promise.race(changes).then(() => 'answered');
  await eventually(() => expect(store.failures).toBeGreaterThan(3));
  expect(await Promise.race([answered, Promise.resolve('waits')])).toBe('waits');
  store.away = false;
  const accepted = await Promise.all(changes);
  expect(accepted.map(({ generation }) => generation).sort()).toEqual([2, 3, 4]);
  const last = accepted.find(({ generation }) => generation === 4);
  const document = await subject.steady(last?.operation.scale ?? 0, 2);
  expect(document.generation).toBe(4);
  expect(use.project.cluster.hostnames()).toEqual({ 'b.example.com': subject.name });
  if (last) expect(await subject.ended(last)).toMatchObject({ state: 'succeeded' });
});

test('an operation that Consul leaves in the middle ends as it should', async () => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  const hold = cluster.holdStarts();
  const accepted = await subject.apply({ scale: 2 });
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting === 2,
  );
  cluster.store.away = true;
  hold.release();
  await eventually(() => expect(cluster.store.failures).toBeGreaterThan(2));
  cluster.store.away = false;
  expect(await subject.ended(accepted)).toMatchObject({ state: 'succeeded' });
  await subject.steady(2, 1);
});

test('a removal waits for Consul too', async () => {
  const subject = createSubject(use.project);
  const { store } = use.project.cluster;
  await subject.applied({ hostnames: ['a.example.com'] });
  await subject.steady(1);
  store.away = true;
  const removing = subject.remove();
  await eventually(() => expect(store.failures).toBeGreaterThan(3));
  store.away = false;
  await subject.ended(await removing);
  await subject.gone();
});

test('a record that is published late does not hide what has been planned since', async () => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  const hold = cluster.store.holdWrites((operations) =>
    operations.some((write) => isRecord(write, 'deploy', 'queued')),
  );
  const applying = subject.apply({ scale: 1 });
  await eventually(() => expect(subject.running()).toHaveLength(1));
  hold.release();
  const operation = await subject.ended(await applying);
  expect(operation.plan.join('\n')).toContain('pull shop:1');
});

describe('an entity that Temporal has lost', () => {
  const recover = async (
    document: Microservice,
    releases: readonly Release[],
    operation?: Operation,
  ): Promise<void> => {
    const input: MicroserviceInput = {
      project: document.project,
      name: document.name,
      carried: stateFromDocument(document, releases, operation === undefined ? [] : [operation]),
    };
    await use.project.client.workflow.start(WORKFLOW.microservice, {
      workflowId: microserviceWorkflowId(document),
      taskQueue: CONTROL_PLANE_QUEUE,
      args: [input],
    });
  };

  /** Takes entity and operation from Temporal, as if its database were new. */
  const lose = async (subject: Subject, operation?: Operation) => {
    const document = subject.document();
    if (!document) throw new Error('there is no document');
    await entityOf(subject).terminate();
    if (operation) {
      await use.project.client.workflow
        .getHandle(operation.id)
        .terminate()
        .catch(() => undefined);
    }
    return { document, releases: use.project.cluster.releases(subject.name) };
  };

  /** Takes both while the operation's workflow is about to begin. */
  const loseDuring = async (
    subject: Subject,
    kind: OperationKind,
    begin: () => Promise<ChangeAccepted>,
    meanwhile: () => void = () => undefined,
  ) => {
    const hold = use.project.cluster.store.holdWrites((operations) =>
      operations.some((write) => isRecord(write, kind, 'running')),
    );
    const { operation } = await begin();
    await eventuallyValue(
      () => hold.waiting,
      (waiting) => waiting > 0,
    );
    const lost = await lose(subject, operation);
    meanwhile();
    hold.release();
    return { operation, ...lost };
  };

  test('is rebuilt from its document, and goes on', async () => {
    const subject = createSubject(use.project);
    await subject.applied({ scale: 2, image: 'shop:1' });
    await subject.applied({ scale: 2, image: 'shop:2' });
    await subject.steady(2, 2);
    const { document, releases } = await lose(subject);
    use.project.cluster.loseReplica(subject.replicas()[0]?.id ?? '');
    await recover(document, releases);
    await eventually(() => expect(subject.running()).toHaveLength(2));
    expect(await subject.scale(3, { ifGeneration: document.generation })).toMatchObject({
      generation: document.generation + 1,
    });
    await subject.steady(3, 2);
    expect(await subject.ended(await subject.rollback())).toMatchObject({ state: 'succeeded', release: 3 });
    expect((await subject.steady(3, 3)).release.rollbackOf).toBe(1);
  });

  test('takes up the operation that was under way, and can still go back', async () => {
    const subject = createSubject(use.project);
    const { cluster } = use.project;
    await subject.applied({ image: 'shop:1' });
    await subject.steady(1, 1);
    cluster.setImage('shop:2', { kind: 'unhealthy', reason: 'exits', logTail: [] });
    const { operation, document, releases } = await loseDuring(subject, 'deploy', () =>
      subject.apply({ image: 'shop:2' }),
    );
    await recover(document, releases, cluster.operation(operation.id));
    const ended = await eventuallyValue(
      () => cluster.operation(operation.id),
      (found) => found?.state === 'rolled_back',
    );
    expect(ended).toMatchObject({ release: 2 });
    await subject.steady(1, 1);
  });

  test('waits for what it had begun before it takes that up again', async () => {
    const subject = createSubject(use.project);
    const { cluster, client } = use.project;
    await subject.applied({ image: 'shop:1' });
    await subject.steady(1, 1);
    const { operation, document, releases } = await loseDuring(subject, 'deploy', () =>
      subject.apply({ image: 'shop:2' }),
    );
    // An execution under the operation's id that ends only when it is told to.
    const before = await client.workflow.start(WORKFLOW.cluster, {
      workflowId: operation.id,
      taskQueue: CONTROL_PLANE_QUEUE,
    });
    await recover(document, releases, cluster.operation(operation.id));
    const failedStarts = async () => {
      const { events } = await entityOf(subject).fetchHistory();
      return (events ?? []).filter((event) => event.startChildWorkflowExecutionFailedEventAttributes).length;
    };
    await eventually(async () => expect(await failedStarts()).toBeGreaterThan(1));
    await before.terminate();
    expect(await subject.ended({ operation, generation: 2, created: false, index: 0 })).toMatchObject({
      state: 'succeeded',
    });
    await subject.steady(1, 2);
  });

  test('ends the removal that was under way', async () => {
    const subject = createSubject(use.project);
    const { cluster } = use.project;
    await subject.applied({ scale: 2, hostnames: ['a.example.com'] });
    await subject.steady(2, 1);
    const { operation, document, releases } = await loseDuring(
      subject,
      'remove',
      () => subject.remove(),
      () => subject.replicas().forEach(({ id }) => cluster.loseReplica(id)),
    );
    await recover(document, releases, cluster.operation(operation.id));
    await subject.gone();
  });

  test('is steady when what it wanted is what there is', async () => {
    const subject = createSubject(use.project);
    await subject.applied();
    await subject.steady(1, 1);
    const { document, releases } = await lose(subject);
    await recover({ ...document, state: 'changing' }, releases);
    await subject.steady(1, 1);
    await eventually(() => expect(subject.document()?.message).toBe('v1 runs at scale 1'));
  });
});
