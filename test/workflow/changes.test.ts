/** What accepted changes do, when all goes well. */

import { SEARCH_ATTRIBUTE, microserviceWorkflowId } from '../../contracts/workflows';
import { eventuallyValue } from '../support/wait';

import { createSubject } from './subject';
import { useTemporal } from './temporal';

const use = useTemporal();

test('a first apply makes a microservice that runs at its scale', async () => {
  const subject = createSubject(use.project);
  const accepted = await subject.apply({ scale: 2 });
  expect(accepted).toMatchObject({ created: true, generation: 1, operation: { kind: 'deploy', release: 1 } });
  // It was published before it was answered.
  expect(accepted.index).toBeGreaterThan(0);
  expect(subject.document()).toMatchObject({ scale: 2, release: { number: 1 }, generation: 1 });

  const operation = await subject.ended(accepted);
  expect(operation).toMatchObject({ state: 'succeeded', message: 'v1 runs at scale 2' });
  expect(operation.plan.join('\n')).toMatch(/pull shop:1/);
  expect(await subject.steady(2, 1)).toMatchObject({ settledRelease: 1, operation: operation.id });
  expect(new Set(subject.replicas().map(({ nodeId }) => nodeId)).size).toBe(2);
  // Images come before containers, once for each node.
  expect(use.project.cluster.journal.map((line) => line.split(' ')[1])).toEqual([
    'pull',
    'pull',
    'start',
    'start',
  ]);
});

test('scale defaults to 1, and an apply without scale keeps it', async () => {
  const subject = createSubject(use.project);
  await subject.applied();
  await subject.steady(1);
  await subject.ended(await subject.scale(3));
  await subject.applied({ image: 'shop:2' });
  await subject.steady(3, 2);
});

test('scale goes up, down and to nothing, without a release', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 1 });
  for (const scale of [4, 2, 0, 1]) {
    const operation = await subject.ended(await subject.scale(scale));
    expect(operation).toMatchObject({ kind: 'scale', state: 'succeeded', release: 1, scale });
    await subject.steady(scale, 1);
  }
  expect(use.project.cluster.releases(subject.name)).toHaveLength(1);
});

test('an apply that changes the scale alone is a scale', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 1 });
  const operation = await subject.applied({ scale: 2 });
  expect(operation).toMatchObject({ kind: 'scale', release: 1 });
  await subject.steady(2, 1);
});

test('an apply that changes nothing succeeds and leaves the replicas alone', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  const before = subject.replicas().map(({ id }) => id);
  expect(await subject.applied({ scale: 2 })).toMatchObject({ kind: 'deploy', state: 'succeeded' });
  expect((await subject.steady(2, 1)).releaseNumbers).toEqual([1]);
  expect(subject.replicas().map(({ id }) => id)).toEqual(before);
});

test('a burst of scales ends in the last one, and the others are recorded as superseded', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 1 });
  const accepted = [];
  for (const scale of [5, 0, 5, 2]) accepted.push(await subject.scale(scale));
  await subject.steady(2, 1);
  const ended = await Promise.all(accepted.map((one) => subject.ended(one)));
  expect(ended.at(-1)).toMatchObject({ state: 'succeeded', scale: 2 });
  const superseded = ended.filter(({ state }) => state === 'superseded');
  expect(superseded.length).toBeGreaterThan(0);
  for (const { id, message } of superseded) {
    const later = ended.slice(ended.findIndex((one) => one.id === id) + 1);
    expect(later.map((one) => `superseded by ${one.id}`)).toContain(message);
  }
});

test('the same burst as first applies, all at once', async () => {
  const subject = createSubject(use.project);
  const accepted = await Promise.all([5, 0, 5, 2].map((scale) => subject.apply({ scale })));
  const last = accepted.reduce((newest, one) => (one.generation > newest.generation ? one : newest));
  await subject.ended(last);
  await subject.steady(last.operation.scale, 1);
  expect(accepted.filter(({ created }) => created)).toHaveLength(1);
  expect(accepted.map(({ generation }) => generation).sort()).toEqual([1, 2, 3, 4]);
});

test('a new release starts before the old one stops', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  const watch = use.project.cluster.watchRunning(subject.name);
  const operation = await subject.applied({ image: 'shop:2' });
  expect(operation).toMatchObject({ kind: 'deploy', state: 'succeeded', release: 2 });
  expect(await subject.steady(2, 2)).toMatchObject({ settledRelease: 2, releaseNumbers: [1, 2] });
  expect(watch).toMatchObject({ fewest: 2, most: 3 });
  expect(use.project.cluster.releases(subject.name).map(({ number }) => number)).toEqual([1, 2]);
});

test('a restart replaces every replica, the new ones first', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  const before = subject.replicas().map(({ id }) => id);
  const watch = use.project.cluster.watchRunning(subject.name);
  expect(await subject.ended(await subject.restart())).toMatchObject({ kind: 'restart', state: 'succeeded' });
  await subject.steady(2, 1);
  expect(subject.replicas().filter(({ id }) => before.includes(id))).toEqual([]);
  expect(watch.fewest).toBe(2);
});

test('a rollback goes back to the release before, as a new one', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ image: 'shop:1' });
  await subject.applied({ image: 'shop:2' });
  await subject.applied({ image: 'shop:3' });
  const { operation } = await subject.rollback();
  expect(operation).toMatchObject({ kind: 'rollback', release: 4 });
  const document = await subject.steady(1, 4);
  expect(document.release).toMatchObject({ number: 4, rollbackOf: 2 });
  expect(document.release.spec.containers[0]?.image).toBe('shop:2');

  await subject.rollback(1);
  expect((await subject.steady(1, 5)).release).toMatchObject({ rollbackOf: 1 });
  expect(subject.document()?.release.spec.containers[0]?.image).toBe('shop:1');
});

test('a rollback passes over releases that were never healthy', async () => {
  const subject = createSubject(use.project);
  use.project.cluster.setImage('shop:broken', { kind: 'unhealthy', reason: 'it ended', logTail: [] });
  await subject.applied({ image: 'shop:1' });
  expect(await subject.applied({ image: 'shop:broken' })).toMatchObject({ state: 'rolled_back' });
  await subject.applied({ image: 'shop:3' });
  await subject.steady(1, 3);
  await subject.ended(await subject.rollback());
  expect((await subject.steady(1, 4)).release).toMatchObject({ rollbackOf: 1 });
  // And from there to the one that it went back from.
  await subject.ended(await subject.rollback());
  expect((await subject.steady(1, 5)).release).toMatchObject({ rollbackOf: 3 });
});

test('a removal stops everything and leaves only its operations', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2, hostnames: ['shop.example.com'] });
  expect(use.project.cluster.hostnames()).toEqual({ 'shop.example.com': subject.name });
  const removal = await subject.remove();
  expect(await subject.ended(removal)).toMatchObject({ kind: 'remove', state: 'succeeded' });
  await subject.gone();
  expect(subject.operations().map(({ kind }) => kind)).toEqual(['deploy', 'remove']);
  expect(use.project.cluster.events().map(({ type }) => type)).toContain('microservice.removed');
});

test('an apply after a removal makes a new microservice', async () => {
  const subject = createSubject(use.project);
  await subject.applied({ scale: 2 });
  await subject.remove();
  await subject.gone();
  const accepted = await subject.apply({ image: 'shop:2' });
  expect(accepted).toMatchObject({ created: true, generation: 1, operation: { release: 1 } });
  await subject.steady(1, 1);
});

test('operations are found by their attributes and read like a log', async () => {
  const subject = createSubject(use.project);
  const { client } = use.project;
  const { id } = await subject.applied({ scale: 2 });
  const entity = client.workflow.getHandle(
    microserviceWorkflowId({ project: use.project.name, name: subject.name }),
  );
  const child = await client.workflow.getHandle(id).describe();
  expect(child.type).toBe('deploy');
  expect(await child.staticSummary()).toBe(`deploy ${subject.name} v1 at scale 2`);
  expect(await child.staticDetails()).toBe('- app: `shop:1`');
  const attributes = child.searchAttributes;
  expect(attributes[SEARCH_ATTRIBUTE.project]).toEqual([use.project.name]);
  expect(attributes[SEARCH_ATTRIBUTE.microservice]).toEqual([subject.name]);
  expect(attributes[SEARCH_ATTRIBUTE.release]).toEqual(['v1']);
  expect(attributes[SEARCH_ATTRIBUTE.nodes]).toHaveLength(2);

  const described = await entity.describe();
  expect(described.searchAttributes[SEARCH_ATTRIBUTE.microservice]).toEqual([subject.name]);
  expect(await described.staticSummary()).toBe(`Microservice ${subject.name}`);

  const query = `${SEARCH_ATTRIBUTE.microservice} = '${subject.name}' AND ${SEARCH_ATTRIBUTE.release} = 'v1'`;
  await eventuallyValue(
    async () => {
      const found: string[] = [];
      for await (const { workflowId } of client.workflow.list({ query })) found.push(workflowId);
      return found;
    },
    (found) => found.length === 1 && found[0] === id,
  );
});

test('only the newest operations and releases are kept', async () => {
  const subject = createSubject(use.project);
  for (let number = 1; number <= 23; number += 1) await subject.apply({ image: `shop:${number}` });
  const document = await subject.steady(1, 23);
  expect(document.releaseNumbers.length).toBeLessThanOrEqual(21);
  expect(use.project.cluster.releases(subject.name).length).toBeLessThanOrEqual(21);
  expect(subject.operations()).toHaveLength(20);
});
