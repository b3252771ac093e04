// A stop that is given up half-way holds up nobody, and what it has begun is never undone.
import { CancelledFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';

import { LABEL } from '../../contracts/docker';
import { loadInto, webImage } from '../support/images';
import { eventually, eventuallyValue } from '../support/wait';
import { buildStart, startNodeMachine, startOne, stopOne, type NodeMachine } from './node-machine';

let machine: NodeMachine;

beforeAll(async () => {
  machine = await startNodeMachine();
  await loadInto(machine.engine, await webImage('v1'));
}, 60_000);
afterAll(() => machine?.dispose());

const app = { image: 'web:v1', ports: [80], env: { STOP_DELAY_SECONDS: 600 }, stopGraceSeconds: 600 };

test.each([
  ['one container', { app }],
  ['several containers', { app, side: { image: 'web:v1', env: { PORT: 81 }, stopGraceSeconds: 0 } }],
])(
  'a stop of %s can be cancelled, and is finished by the next one',
  async (_, containers) => {
    const replica = buildStart({ containers });
    expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
    const { docker } = machine.engine;
    const [found] = await docker.listContainers({ filters: { label: [`${LABEL.container}=app`] } });
    const container = docker.getContainer(found?.Id ?? '');

    const killed = await docker.getEvents({
      filters: JSON.stringify({ container: [container.id], event: ['kill'] }),
    });
    const asked = new Promise((resolve) => killed.once('data', resolve));
    const context = new MockActivityEnvironment();
    const stopping = context.run(() =>
      machine.node.activities.stopReplicas({
        nodeId: machine.config.nodeId,
        replicas: [{ ...replica, reason: 'outdated' }],
      }),
    );
    stopping.catch(() => undefined);
    await asked;
    (killed as unknown as { destroy(): void }).destroy();
    context.cancel();
    await expect(stopping).rejects.toThrow(CancelledFailure);
    expect((await container.inspect()).State.Running).toBe(true);
    expect(await machine.services()).toEqual([]);

    // Neither this node worker nor the next one brings back what ends.
    const seenEnded = (state: string) =>
      eventuallyValue(
        () => machine.document(replica),
        (document) =>
          document?.state === state &&
          document.containers.some(({ name, running }) => name === 'app' && !running),
        { describe: `it is ${state}, and its end has been seen` },
      );
    await container.kill();
    await machine.restartNode();
    await seenEnded('stopping');
    expect((await container.inspect()).State.Running).toBe(false);
    expect(await startOne(machine, replica)).toMatchObject({ kind: 'failed', code: 'conflict' });

    expect(await stopOne(machine, replica)).toMatchObject({ existed: true });
    await eventually(async () => expect(await machine.document(replica)).toBeUndefined());
    expect(await docker.listContainers({ all: true })).toEqual([]);
  },
  60_000,
);

test('a stop that is cancelled before it has begun leaves the replica as it was', async () => {
  const replica = buildStart({ containers: { app: { image: 'web:v1', ports: [80], stopGraceSeconds: 0 } } });
  expect(await startOne(machine, replica)).toMatchObject({ kind: 'ready' });
  const context = new MockActivityEnvironment();
  const stopping = context.run(() =>
    machine.node.activities.stopReplicas({
      nodeId: machine.config.nodeId,
      replicas: [{ ...replica, reason: 'outdated' }],
    }),
  );
  context.cancel();
  await expect(stopping).rejects.toThrow(CancelledFailure);
  expect(await machine.document(replica)).toMatchObject({ state: 'running' });
  expect(await machine.services()).toHaveLength(1);
  const { docker } = machine.engine;
  expect((await docker.listContainers()).map(({ Names }) => Names)).toEqual([[`/${replica.replicaId}-app`]]);

  // It is kept as before.
  const container = docker.getContainer(`${replica.replicaId}-app`);
  const { State } = await container.inspect();
  await container.kill();
  await eventually(async () => {
    const now = (await container.inspect()).State;
    expect(now.Running && now.StartedAt !== State.StartedAt).toBe(true);
  });
  expect(await stopOne(machine, replica)).toMatchObject({ existed: true });
});
