// Pulling images from a registry that behaves, and from one that does not.
import { CancelledFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';

import type { PullOutcome } from '../../contracts/activities';
import { OWN_ARCHITECTURE, bigImage, loadInto, webImage } from '../support/images';
import { startRegistry, type Registry } from '../support/registry';
import { KV_PREFIX } from '../../contracts/kv';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import type { MissingBuild, ObservedNode } from '../../domain/model';
import { eventually } from '../support/wait';
import { startNodeMachine, type NodeMachine } from './node-machine';

let machine: NodeMachine;
let registry: Registry;

beforeAll(async () => {
  registry = await startRegistry();
  machine = await startNodeMachine({ dataRootTmpfsBytes: 200_000_000 });
}, 60_000);
afterAll(async () => {
  await machine?.dispose();
  await registry?.dispose();
});

const pull = async (
  image: string,
  policy: 'always' | 'missing' | 'never' = 'always',
): Promise<PullOutcome> => {
  const [outcome] = await machine.activities.pullImages({
    project: 'default',
    name: 'web',
    nodeId: machine.config.nodeId,
    operation: 'o',
    images: [{ image, pull: policy }],
  });
  return outcome as PullOutcome;
};

test('an image is pulled, each time it is asked for, and once however many ask', async () => {
  const image = await registry.push(await webImage('v1'));
  expect(await pull(image, 'never')).toMatchObject({ kind: 'failed', code: 'image_not_found' });
  registry.resetRequests();
  const outcomes = await Promise.all([pull(image), pull(image), pull(image, 'missing')]);
  expect(registry.requestCount(/^HEAD .*manifests\/v1$/)).toBeLessThanOrEqual(1);
  expect(registry.requestCount(/^GET .*manifests\/v1$/)).toBeLessThanOrEqual(1);
  expect(outcomes.map(({ kind }) => kind)).toEqual(['pulled', 'pulled', 'pulled']);
  expect(new Set(outcomes.map((outcome) => outcome.kind === 'pulled' && outcome.imageId)).size).toBe(1);
  expect(await pull(image)).toMatchObject({ kind: 'pulled' });
  expect(await pull(image, 'missing')).toMatchObject({ kind: 'present' });
  expect(await pull(image, 'never')).toMatchObject({ kind: 'present' });
}, 60_000);

test('what the registry does not have is final, unless the engine has it', async () => {
  const image = `${registry.host}/nothing:v1`;
  expect(await pull(image)).toMatchObject({ kind: 'failed', code: 'image_not_found' });
  const local = await loadInto(machine.engine, {
    ...(await webImage('v2')),
    repository: `${registry.host}/local`,
  });
  expect(await pull(local)).toMatchObject({ kind: 'present' });
}, 60_000);

test('a registry that is away may come back', async () => {
  const image = await registry.push(await webImage('v3'));
  await registry.stop();
  await expect(pull(image)).rejects.toMatchObject({ type: 'pull_failed', nonRetryable: false });
  await registry.start();
  await eventually(async () => expect(await pull(image)).toMatchObject({ kind: 'pulled' }));
}, 60_000);

test('a full disk is told as such, and what runs goes on', async () => {
  const image = await registry.push(await bigImage(250_000_000));
  expect(await pull(image)).toMatchObject({
    kind: 'failed',
    code: 'no_capacity',
    reason: expect.stringMatching(/disk of the node is full/) as string,
  });
  expect(await pull(await registry.push(await webImage('v1')))).toMatchObject({ kind: 'pulled' });
}, 120_000);

test('a pull that is cancelled leaves nothing behind that would keep the next one waiting', async () => {
  const image = await registry.push(await webImage('v4'));
  registry.setFault({ kind: 'hold' });
  const context = new MockActivityEnvironment();
  const pulling = context.run(() =>
    machine.node.activities.pullImages({
      project: 'default',
      name: 'web',
      nodeId: machine.config.nodeId,
      operation: 'o',
      images: [{ image, pull: 'always' }],
    }),
  );
  pulling.catch(() => undefined);
  await eventually(() => expect(registry.requestCount(/v4/)).toBeGreaterThan(0));
  context.cancel();
  await expect(pulling).rejects.toThrow(CancelledFailure);
  registry.setFault(undefined);
  expect(await pull(image)).toMatchObject({ kind: 'pulled' });
}, 60_000);

test('what is pulled ahead gives way to what is needed now, and is there before it is needed', async () => {
  const { nodeId } = machine.config;
  const [later, now] = [await registry.push(await webImage('v5')), await registry.push(await webImage('v6'))];
  registry.resetRequests();
  registry.setFault({ kind: 'hold' });
  const ahead = machine.activities.pullAhead({ nodeId, images: [later, `${registry.host}/nothing:v1`] });
  await eventually(() => expect(registry.requestCount(/v5/)).toBeGreaterThan(0));
  const needed = pull(now);
  expect(await ahead).toEqual([{ kind: 'gave_way', image: later }]);
  expect(await machine.activities.pullAhead({ nodeId, images: [later] })).toEqual([
    { kind: 'gave_way', image: later },
  ]);
  registry.setFault(undefined);
  expect(await needed).toMatchObject({ kind: 'pulled' });

  const missing = `${registry.host}/nothing:v1`;
  expect(await machine.activities.pullAhead({ nodeId, images: [missing, later] })).toEqual([
    { kind: 'failed', image: missing, reason: 'the registry does not have it' },
    { kind: 'pulled', image: later },
  ]);
  registry.resetRequests();
  expect(await machine.activities.pullAhead({ nodeId, images: [later] })).toEqual([
    { kind: 'present', image: later },
  ]);
  expect(await pull(later, 'missing')).toMatchObject({ kind: 'present' });
  expect(registry.requestCount(/./)).toBe(0);
}, 60_000);

describe('an image that is made for other architectures', () => {
  const missingBuilds = async (): Promise<readonly MissingBuild[]> => {
    const store = createKeyValueStore({ address: machine.config.consulUrl }, (message) => {
      throw new Error(message);
    });
    const nodes = await store.list<ObservedNode>(KV_PREFIX.nodes);
    return nodes.flatMap(({ value }) => value.missingBuilds ?? []);
  };
  const others = ['riscv64', 's390x'];

  test('is told as such, with what there is, until there is a build for this one', async () => {
    const web = { ...(await webImage('v7')), repository: 'elsewhere' };
    const image = await registry.pushFor(web, others.toReversed());
    const missing = { image, available: others };
    for (const _time of [1, 2]) {
      expect(await pull(image)).toMatchObject({
        kind: 'failed',
        code: 'image_not_found',
        reason: expect.stringMatching(/architecture/) as string,
        missingBuild: missing,
      });
      await eventually(async () => expect(await missingBuilds()).toMatchObject([missing]));
    }
    await registry.pushFor(web, [...others, OWN_ARCHITECTURE]);
    expect(await pull(image)).toMatchObject({ kind: 'pulled' });
    await eventually(async () => expect(await missingBuilds()).toEqual([]));
  }, 60_000);

  test('is found by a pull ahead, too, which asks for nothing more when all is well', async () => {
    const image = await registry.pushFor({ ...(await webImage('v9')), repository: 'ahead' }, others);
    const { nodeId } = machine.config;
    const [outcome] = await machine.activities.pullAhead({ nodeId, images: [image] });
    expect(outcome).toMatchObject({ kind: 'failed', image });
    await eventually(async () => expect((await missingBuilds()).map((one) => one.image)).toContain(image));
    const good = await registry.push(await webImage('v10'));
    registry.resetRequests();
    await pull(good);
    expect(registry.requestCount(/manifests\/v10/)).toBeLessThanOrEqual(2);
  }, 60_000);
});
