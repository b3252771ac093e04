/** Releases that fail, nodes that refuse, and how an entity finds its way back. */

import { microserviceWorkflowId, operationId } from '../../contracts/workflows';
import { GB } from '../support/builders';
import { consistently, eventually, eventuallyValue } from '../support/wait';

import { createSubject, isRecord, specOf } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

const BAD = { kind: 'unhealthy', reason: 'app ended with status 3', logTail: ['starting', 'boom'] } as const;

test('a release that does not become healthy is rolled back by itself, and says why', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, hostnames: ['a.example.com'] });
  await subject.steady(2, 1);
  const before = subject.replicas().map(({ id }) => id);
  const watch = use.project.cluster.watchRunning(subject.name);
  use.project.cluster.setImage('shop:bad', BAD);
  const operation = await subject.applied({ image: 'shop:bad', hostnames: ['b.example.com'] });
  expect(operation).toMatchObject({
    state: 'rolled_back',
    message: 'v2 was rolled back to v1: app ended with status 3',
    error: { code: 'unhealthy', message: 'app ended with status 3', logTail: ['starting', 'boom'] },
  });
  const document = await subject.steady(2, 1);
  expect(document).toMatchObject({ settledRelease: 1, generation: 3, release: { number: 1 } });
  expect(document.message).toBe(operation.message);
  expect(watch.fewest).toBe(2);
  expect(subject.replicas().map(({ id }) => id)).toEqual(before);
  expect(use.project.cluster.hostnames()).toEqual({ 'a.example.com': subject.name });
  expect(use.project.cluster.events()).toContainEqual(
    expect.objectContaining({
      type: 'operation.rolled_back',
      level: 'error',
      operation: operation.id,
      message: `${subject.name}: v2 was rolled back to v1: app ended with status 3. Its last lines: "starting", "boom".`,
    }),
  );
  // Nothing says that it is done while the old release serves.
  expect(
    use.project.cluster
      .events()
      .filter(({ operation: id, type }) => id === operation.id && type === 'operation.succeeded'),
  ).toEqual([]);

  // The number of the failed release is not used again.
  await subject.applied({ image: 'shop:2' });
  await subject.steady(2, 3);
});

test('a scale that takes over a deploy rolls its release back when that fails', async () => {
  const subject = createSubject(use.project);
  await subject.applied();
  await subject.steady(1);
  use.project.cluster.setImage('shop:bad', BAD);
  const hold = use.project.cluster.holdStarts();
  await subject.apply({ image: 'shop:bad' });
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  const scale = await subject.scale(2);
  hold.release();
  expect(await subject.ended(scale)).toMatchObject({ kind: 'scale', state: 'rolled_back' });
  await subject.steady(2, 1);
});

test('a release without replicas proves nothing: what fails at its first run goes back to the one that ran', async () => {
  const subject = createSubject(use.project);
  await subject.applied();
  await subject.steady(1);
  use.project.cluster.setImage('shop:bad', BAD);
  await subject.applied({ scale: 0, image: 'shop:bad' });
  expect(await subject.steady(0, 2)).toMatchObject({ settledRelease: 1, message: 'v2 runs at scale 0' });
  const scale = await subject.scale(1);
  expect(await subject.ended(scale)).toMatchObject({
    state: 'rolled_back',
    message: 'v2 was rolled back to v1: app ended with status 3',
  });
  await subject.steady(1, 1);
});

test('a microservice that was made without replicas is settled by its first run', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 0 });
  expect((await subject.steady(0)).settledRelease).toBeUndefined();
  expect(await subject.ended(await subject.scale(2))).toMatchObject({ state: 'succeeded' });
  expect(await subject.steady(2)).toMatchObject({ settledRelease: 1, message: 'v1 runs at scale 2' });
  expect(use.project.cluster.events().map(({ type }) => type)).not.toContain('microservice.recovered');
});

test('a first release that fails is failed for as long as it is, and heals', async () => {
  const subject = createSubject(use.project);
  use.project.cluster.setImage('shop:bad', BAD);
  const operation = await subject.applied({ scale: 2, image: 'shop:bad' });
  expect(operation).toMatchObject({
    state: 'failed',
    error: { code: 'unhealthy', logTail: ['starting', 'boom'] },
  });
  expect(subject.document()).toMatchObject({ state: 'failed', message: 'app ended with status 3' });
  expect(subject.document()?.settledRelease).toBeUndefined();
  await consistently(() => expect(subject.document()).toMatchObject({ state: 'failed' }), {
    durationMs: 1_000,
  });
  use.project.cluster.setImage('shop:bad', { kind: 'healthy' });
  for (const { id } of subject.replicas()) use.project.cluster.setReplica(id, 'running');
  await subject.steady(2, 1);
  expect(subject.document()).toMatchObject({ settledRelease: 1 });
  expect(use.project.cluster.events().map(({ type }) => type)).toContain('microservice.recovered');
});

test('a first release whose replicas break is tried again with growing pauses', async () => {
  const subject = createSubject(use.project);
  use.project.cluster.setImage('shop:bad', { ...BAD, leaves: 'broken' });
  await subject.applied({ image: 'shop:bad' });
  const failures = await eventuallyValue(
    () => subject.operations(),
    (operations) => operations.filter(({ state }) => state === 'failed').length >= 4,
  );
  // At least 200 ms, then 400, then 800 from the end of one to the next.
  for (const [index, { createdAtMs }] of failures.slice(1, 4).entries()) {
    const pauseMs = createdAtMs - (failures[index]?.endedAtMs ?? 0);
    expect(pauseMs).toBeGreaterThanOrEqual(200 * 2 ** index - 10);
  }
  // A signal does not hurry it.
  const count = subject.operations().length;
  await subject.signal();
  await consistently(() => expect(subject.operations().length).toBe(count), { durationMs: 100 });
  use.project.cluster.setImage('shop:bad', { kind: 'healthy' });
  await subject.steady(1, 1);
});

test('a job that may run once and fails is not run again', async () => {
  const subject = createSubject(use.project);
  use.project.cluster.setImage('shop:bad', { ...BAD, leaves: 'broken' });
  const spec = { ...specOf('shop:bad'), restart: { policy: 'never' as const } };
  expect(await subject.applied({ spec })).toMatchObject({ state: 'failed' });
  await subject.signal();
  await consistently(() => expect(subject.operations()).toHaveLength(1), { durationMs: 1_000 });
  // Until somebody asks for it.
  expect(await subject.ended(await subject.restart())).toMatchObject({ state: 'failed' });
  await subject.applied({ image: 'shop:1' });
  await subject.steady(1, 2);
});

test('a failed release gives way to a good one', async () => {
  const subject = createSubject(use.project);
  use.project.cluster.setImage('shop:bad', BAD);
  await subject.applied({ image: 'shop:bad' });
  await subject.applied({ image: 'shop:1' });
  expect(await subject.steady(1, 2)).toMatchObject({ settledRelease: 2 });
});

test('an image that does not exist fails the release before anything is stopped', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  await subject.steady(2);
  use.project.cluster.setImage('shop:none', { kind: 'missing' });
  const watch = use.project.cluster.watchRunning(subject.name);
  expect(await subject.applied({ image: 'shop:none' })).toMatchObject({
    state: 'rolled_back',
    error: { code: 'image_not_found', message: 'there is no image shop:none' },
  });
  await subject.steady(2, 1);
  expect(watch).toMatchObject({ fewest: 2, most: 2 });
});

test('a registry that is away is waited for, while the old release serves', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 1 });
  await subject.steady(1);
  use.project.cluster.setImage('shop:2', { kind: 'unreachable' });
  const accepted = await subject.apply({ image: 'shop:2' });
  await eventually(() =>
    expect(use.project.cluster.resolved.filter((line) => line.endsWith(': shop:2')).length).toBeGreaterThan(
      3,
    ),
  );
  expect(subject.running().map(({ release }) => release)).toEqual([1]);
  use.project.cluster.setImage('shop:2', { kind: 'healthy' });
  expect(await subject.ended(accepted)).toMatchObject({ state: 'succeeded' });
  await subject.steady(1, 2);
});

test('what finds no room is told, node by node, and started when there is room', async () => {
  const subject = createSubject(use.project);
  const spec = {
    containers: { app: { image: 'shop:1', memLimit: 5 * GB, reserve: { memory: 5 * GB } } },
  };
  const operation = await subject.applied({ spec, scale: 5 });
  expect(operation).toMatchObject({ state: 'failed', error: { code: 'no_capacity' } });
  expect(operation.message).toMatch(
    /2 replicas of \S+ found no node: a needs 5 GB of memory, .* are free; b .*; c /,
  );
  expect(subject.running()).toHaveLength(3);
  expect(subject.document()).toMatchObject({ state: 'failed' });
  use.project.cluster.addNode('a', {
    capacity: { cpus: 4, memoryBytes: 20 * GB, diskBytes: 100 * GB },
    memoryAvailableBytes: 20 * GB,
  });
  await subject.signal();
  await subject.steady(5, 1);
});

test('a release that finds no room is rolled back', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  await subject.steady(2);
  const spec = { containers: { app: { image: 'shop:2', memLimit: 50 * GB, reserve: { memory: 50 * GB } } } };
  expect(await subject.applied({ spec })).toMatchObject({
    state: 'rolled_back',
    error: { code: 'no_capacity' },
  });
  await subject.steady(2, 1);
});

test('when a node refuses, the operation plans again without it', async () => {
  const subject = createSubject(use.project);
  use.project.cluster.refuse('a', 'memory is low');
  use.project.cluster.refuse('b', 'memory is low');
  const operation = await subject.applied({ scale: 3 });
  expect(operation).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 1);
  expect(new Set(subject.replicas().map(({ nodeId }) => nodeId))).toEqual(new Set(['c']));
});

test('a node that finds on the way that it is full is planned around', async () => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  cluster.fill('a', 'no space left on the disk');
  cluster.fill('b', 'no space left on the disk');
  expect(await subject.applied({ scale: 3 })).toMatchObject({ state: 'succeeded' });
  await subject.steady(3, 1);
  expect(subject.replicas().map(({ nodeId }) => nodeId)).toEqual(['c', 'c', 'c']);

  cluster.fill('c', 'no space left on the disk');
  expect(await subject.ended(await subject.scale(4))).toMatchObject({
    state: 'failed',
    error: {
      code: 'no_capacity',
      message: expect.stringContaining('c refused: no space left on the disk') as string,
    },
  });
  await eventually(() => expect(subject.replicas()).toHaveLength(3));
});

test('when all nodes refuse, the words of each are told', async () => {
  const subject = createSubject(use.project);
  for (const node of ['a', 'b', 'c']) use.project.cluster.refuse(node, `${node} is full`);
  const operation = await subject.applied();
  expect(operation).toMatchObject({ state: 'failed', error: { code: 'no_capacity' } });
  expect(operation.message).toMatch(/a refused: a is full; b refused: b is full; c refused: c is full/);
  use.project.cluster.refuse('b', undefined);
  await subject.steady(1, 1);
});

test('a node that does not take the work is planned around when Consul says that it is down', async () => {
  const subject = createSubject(use.project);
  const { cluster } = use.project;
  for (const node of ['a', 'b', 'c']) cluster.setUp(node, false);
  cluster.addNode('silent');
  const accepted = await subject.apply();
  await subject.documented(({ state }) => state === 'changing');
  await eventually(() =>
    expect(cluster.operation(accepted.operation.id)?.plan.join(' ')).toContain('silent'),
  );
  cluster.setUp('silent', false);
  cluster.setUp('c', true);
  expect(await subject.ended(accepted)).toMatchObject({ state: 'succeeded' });
  await subject.steady(1, 1);
  expect(subject.replicas()[0]?.nodeId).toBe('c');
});

test('an operation that an operator cancels fails, and its entity lives', async () => {
  const subject = createSubject(use.project);
  const { client } = use.project;
  const hold = use.project.cluster.holdStarts();
  const accepted = await subject.apply({ scale: 2 });
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting === 2,
  );
  await client.workflow.getHandle(accepted.operation.id).cancel();
  expect(await subject.ended(accepted)).toMatchObject({
    state: 'failed',
    message: 'The operation was cancelled by an operator.',
  });
  hold.release();
  await subject.ended(await subject.scale(1));
  await subject.steady(1, 1);
});

test('an operation that an operator terminates fails, and its entity lives', async () => {
  const subject = createSubject(use.project);
  const { client } = use.project;
  const hold = use.project.cluster.holdStarts();
  const accepted = await subject.apply({ scale: 2 });
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting === 2,
  );
  await client.workflow.getHandle(accepted.operation.id).terminate();
  expect(await subject.ended(accepted)).toMatchObject({ state: 'failed' });
  hold.release();
  await subject.steady(2, 1);
});

test('an entity that is cancelled goes on, and takes changes', async () => {
  const subject = createSubject(use.project);
  const { client } = use.project;
  await subject.applied({ scale: 1, hostnames: ['a.example.com'] });
  await subject.steady(1);
  const entity = client.workflow.getHandle(
    microserviceWorkflowId({ project: use.project.name, name: subject.name }),
  );
  await entity.cancel();
  await subject.ended(await subject.scale(2));
  await subject.applied({ image: 'shop:2', hostnames: ['b.example.com'] });
  await Promise.all([3, 4, 3].map((scale) => subject.scale(scale)));
  const document = await subject.documented(({ state }) => state === 'steady');
  await subject.steady(document.scale, 2);
  const [lost] = subject.replicas();
  use.project.cluster.loseReplica(lost?.id ?? '');
  await subject.signal();
  await subject.steady(document.scale, 2);
  await subject.remove();
  await subject.gone();
});

test('a removal that fails goes on until it is done', async () => {
  const subject = createSubject(use.project);
  const { client } = use.project;
  await subject.applied({ scale: 2 });
  await subject.steady(2);
  const hold = use.project.cluster.store.holdWrites((operations) =>
    operations.some((write) => isRecord(write, 'remove', 'running')),
  );
  const removal = await subject.remove();
  await eventuallyValue(
    () => hold.waiting,
    (waiting) => waiting > 0,
  );
  await client.workflow.getHandle(removal.operation.id).terminate();
  expect(await subject.ended(removal)).toMatchObject({ state: 'failed' });
  expect(subject.document()).toMatchObject({ state: 'removing' });
  await expect(subject.scale(3)).rejects.toMatchObject({ code: 'not_found' });
  hold.release();
  await subject.gone();
});

test('ids of operations are fit for paths and tell what they are', async () => {
  const subject = createSubject(use.project, 'Shop-1');
  const { operation } = await subject.apply();
  const prefix = operationId('deploy', { project: use.project.name, name: 'shop-1' }, '');
  expect(operation.id.startsWith(prefix)).toBe(true);
  await subject.steady(1);
});
