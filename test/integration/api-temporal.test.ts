/** Changes over a real Temporal server: what is answered when entities, workers or the server are not there. */

import { setTimeout as delay } from 'node:timers/promises';

import { Client, Connection } from '@temporalio/client';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import pino from 'pino';

import { createTemporalChanges } from '../../api/temporal-changes';
import { ContainerOsError } from '../../domain/errors';
import { buildReleaseSpec } from '../support/builders';
import { engineVariables } from '../support/programs';
import { startTemporal, type Temporal } from '../workflow/temporal';

const log = pino({ level: 'silent' });
const WEB = { project: 'default', name: 'web' };
const APPLY = { name: 'web', release: buildReleaseSpec() };

const errorOf = async (promise: Promise<unknown>): Promise<ContainerOsError> => {
  const error: unknown = await promise.then(
    () => new Error('it succeeded'),
    (reason: unknown) => reason,
  );
  if (error instanceof ContainerOsError) return error;
  throw error;
};

let bare: TestWorkflowEnvironment;
let temporal: Temporal;

beforeAll(async () => {
  temporal = await startTemporal();
  bare = await TestWorkflowEnvironment.createLocal({
    server: {
      executable: {
        type: 'existing-path',
        path: engineVariables()['CONTAINEROS_TEMPORAL_BIN'] ?? 'temporal',
      },
      ip: '127.0.0.1',
      log: { format: 'pretty', level: 'never' },
    },
  });
}, 120_000);

// At the end of all: a client whose connection is closed between two attempts throws.
afterAll(async () => {
  await temporal.close();
  await bare.teardown();
}, 60_000);

describe('a server without workers', () => {
  const changes = (updateMs: number) => createTemporalChanges({ client: bare.client, log, updateMs });

  test('an apply is not confirmed in time: unavailable, and how to look', async () => {
    const startedAt = performance.now();
    const error = await errorOf(changes(1_000).apply(WEB, APPLY));
    expect(error.code).toBe('unavailable');
    expect(error.message).toContain('It may still happen');
    expect(error.message).toContain('/v1/microservices/web');
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  }, 20_000);

  test('what needs an entity and has none is not found, at once', async () => {
    const startedAt = performance.now();
    const nobody = { project: 'default', name: 'nobody' };
    const asked = changes(10_000);
    const attempts = [
      () => asked.scale(nobody, { scale: 1 }),
      () => asked.restart(nobody, {}),
      () => asked.rollback(nobody, {}),
      () => asked.remove(nobody, {}),
    ];
    for (const attempt of attempts) expect((await errorOf(attempt())).code).toBe('not_found');
    expect(performance.now() - startedAt).toBeLessThan(5_000);
  }, 20_000);
});

test('a server that is not there: unavailable in time, not a defect', async () => {
  const connection = Connection.lazy({ address: '127.0.0.1:1' });
  const changes = createTemporalChanges({ client: new Client({ connection }), log, updateMs: 1_000 });
  const startedAt = performance.now();
  expect((await errorOf(changes.apply(WEB, APPLY))).code).toBe('unavailable');
  expect((await errorOf(changes.scale(WEB, { scale: 1 }))).code).toBe('unavailable');
  expect(performance.now() - startedAt).toBeLessThan(8_000);
}, 20_000);

test('what nobody waits for any more is not asked for again, to come after later changes', async () => {
  const connection = Connection.lazy({ address: '127.0.0.1:1' });
  const changes = createTemporalChanges({ client: new Client({ connection }), log, updateMs: 15_000 });
  const startedAt = performance.now();
  const gone = AbortSignal.timeout(200);
  await Promise.all(
    [changes.apply(WEB, APPLY, gone), changes.scale(WEB, { scale: 1 }, gone)].map((asked) =>
      expect(asked).rejects.toMatchObject({ code: 'unavailable' }),
    ),
  );
  expect(performance.now() - startedAt).toBeLessThan(5_000);
}, 20_000);

describe('with entities', () => {
  test('more changes at once than an entity takes in at a time: each is made', async () => {
    const project = temporal.openProject();
    const key = { project: project.name, name: 'web' };
    await project.changes.apply(key, APPLY);
    const accepted = await Promise.all(
      Array.from({ length: 30 }, (_, scale) => project.changes.scale(key, { scale: scale % 3 })),
    );
    const generations = accepted.map(({ generation }) => generation).sort((a, b) => a - b);
    expect(generations).toEqual(Array.from({ length: 30 }, (_, number) => number + 2));
    await project.close();
  }, 60_000);

  test('applies and removals in turn, without a pause: none is lost, none is refused for the other', async () => {
    const project = temporal.openProject();
    const key = { project: project.name, name: 'web' };
    for (let round = 0; round < 8; round += 1) {
      const accepted = await project.changes.apply(key, { ...APPLY, scale: 0 });
      expect(accepted.operation.kind).toBe('deploy');
      const removed = await project.changes.remove(key, {});
      expect(removed.operation.kind).toBe('remove');
    }
    await project.close();
  }, 60_000);

  test('what comes when an entity has just ended is not found soon, not given up late', async () => {
    const project = temporal.openProject();
    const key = { project: project.name, name: 'web' };
    for (let round = 0; round < 12; round += 1) {
      await project.changes.apply(key, { ...APPLY, scale: 0 });
      await project.changes.remove(key, {});
      // Somewhere before, at, or after the entity's end.
      await delay(round * 6);
      const startedAt = performance.now();
      const outcomes = await Promise.allSettled([
        project.changes.remove(key, {}),
        project.changes.scale(key, { scale: 1 }),
      ]);
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'not_found' });
      }
      expect(performance.now() - startedAt).toBeLessThan(5_000);
    }
    await project.close();
  }, 120_000);

  test('what an entity refuses keeps its code', async () => {
    const project = temporal.openProject();
    const key = { project: project.name, name: 'web' };
    expect((await errorOf(project.changes.apply(key, { ...APPLY, ifGeneration: 9 }))).code).toBe(
      'precondition_failed',
    );
    await project.changes.apply(key, APPLY);
    expect((await errorOf(project.changes.rollback(key, { toRelease: 9 }))).code).toBe('not_found');
    await project.close();
  }, 60_000);
});
