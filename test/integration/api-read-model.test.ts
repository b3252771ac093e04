/** The read model over a real Consul: fresh within moments, across restarts, outages and loss of all data. */

import pino from 'pino';

import { createConsulClient, kvPath, type ConsulClient } from '../../adapters/consul/consul-client';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { watchMembers } from '../../adapters/consul/watch-members';
import { createOperations } from '../../api/operations';
import { TOPIC } from '../../api/read-documents';
import { createReadModel, type ReadModel } from '../../api/read-model';
import { KV_PREFIX, microserviceKvKey, operationKvKey, replicaKvKey } from '../../contracts/kv';
import { buildReplica } from '../support/builders';
import { createConsulServer, type ConsulServer } from '../support/consul';
import { eventually } from '../support/wait';
import {
  buildMicroservice,
  buildOperation,
  eventDocument,
  microserviceDocuments,
  nodeDocument,
} from '../unit/api/api-under-test';

const log = pino({ level: 'silent' });
const WEB = { project: 'default', name: 'web' };

let consul: ConsulServer;
let client: ConsulClient;
let readModel: ReadModel;

const put = async (documents: Readonly<Record<string, unknown>>): Promise<number> => {
  const response = await client.request<{ Results: { KV: { ModifyIndex: number } }[] }>({
    method: 'PUT',
    path: '/txn',
    body: Object.entries(documents).map(([key, value]) => ({
      KV: { Verb: 'set', Key: key, Value: Buffer.from(JSON.stringify(value)).toString('base64') },
    })),
  });
  return response.body.Results[0]?.KV.ModifyIndex ?? 0;
};

const remove = (key: string) => client.request({ method: 'DELETE', path: kvPath(key) });
const generation = () => readModel.microservice(WEB)?.generation;
const web = (number: number) => microserviceDocuments(buildMicroservice('web', { generation: number }));
const whenWritable = () =>
  eventually(() => put({ 'containeros/nodes/probe': JSON.parse('{}') as unknown }), { timeoutMs: 30_000 });

beforeAll(async () => {
  consul = await createConsulServer();
  consul.start();
  client = createConsulClient({ address: consul.address });
  readModel = createReadModel({
    kv: createKvStore(client),
    log,
    nowMs: Date.now,
    version: '0.1.0',
    watchMembers: (handlers) => watchMembers(client, handlers),
  });
  await whenWritable();
}, 60_000);

afterAll(async () => {
  readModel.close();
  client.close();
  await consul.kill();
  consul.dispose();
});

test('is loaded when Consul is there, though it was started before Consul', async () => {
  expect(await readModel.whenLoaded(20_000)).toBe(true);
}, 30_000);

test('a writer sees its own write, and others see it without asking', async () => {
  for (let number = 1; number <= 20; number += 1) {
    const index = await put(web(number));
    expect(await readModel.waitForIndex(index, 2_000)).toBe(true);
    expect(generation()).toBe(number);
  }
  const version = readModel.versions.of(TOPIC.microservice(WEB));
  const changed = readModel.versions.waitBeyond(TOPIC.microservice(WEB), version, 5_000);
  const startedAt = performance.now();
  await put(web(21));
  await changed;
  expect(generation()).toBe(21);
  expect(performance.now() - startedAt).toBeLessThan(2_000);
});

test('a write of something else is waited for too, by reading', async () => {
  const index = await put(nodeDocument('node-1'));
  const startedAt = performance.now();
  expect(await readModel.waitForIndex(index, 5_000)).toBe(true);
  expect(performance.now() - startedAt).toBeLessThan(2_000);
});

test('many writers at once, none waits long', async () => {
  const startedAt = performance.now();
  await Promise.all(
    Array.from({ length: 50 }, async (_, number) => {
      const name = `many-${number}`;
      const index = await put(microserviceDocuments(buildMicroservice(name)));
      expect(await readModel.waitForIndex(index, 5_000)).toBe(true);
      expect(readModel.microservice({ project: 'default', name })).toBeDefined();
    }),
  );
  expect(performance.now() - startedAt).toBeLessThan(10_000);
}, 20_000);

test('while replicas start and stop they are read a few times a second, and who asks has them at once', async () => {
  const asked = jest.spyOn(client, 'request');
  const startedAt = performance.now();
  const ids = Array.from({ length: 60 }, (_, number) => `web-${number}`);
  for (const [number, id] of ids.entries()) {
    await put({ [replicaKvKey(WEB, id)]: buildReplica(id, 'node-1') });
    if (number % 20 !== 19) continue;
    await readModel.catchUp();
    expect(readModel.replicasOf(WEB)).toHaveLength(number + 1);
  }
  const elapsedMs = performance.now() - startedAt;
  const reads = asked.mock.calls.filter(([{ path }]) => path === kvPath(KV_PREFIX.replicas)).length;
  asked.mockRestore();
  // Three were asked for; the first pauses after a calm are short ones.
  expect(reads).toBeLessThanOrEqual(3 + 5 + elapsedMs / 250);
  for (const id of ids) await remove(replicaKvKey(WEB, id));
  await readModel.catchUp();
  expect(readModel.replicasOf(WEB)).toEqual([]);
});

test('what is deleted is gone', async () => {
  await put(web(22));
  await remove(microserviceKvKey(WEB));
  await eventually(() => expect(readModel.microservice(WEB)).toBeUndefined(), { intervalMs: 5 });
});

test('what was written is never missing from a Consul that has just started', async () => {
  const kv = createKvStore(client);
  for (let round = 1; round <= 5; round += 1) {
    const key = operationKvKey(WEB, `deploy.default.web.00000000000${round}`);
    await put({ [key]: { round } });
    await consul.kill();
    consul.start();
    // As soon as it answers anything at all.
    const found = await eventually(() => kv.get(key), { timeoutMs: 30_000, intervalMs: 1 });
    expect(found.document?.text).toBe(JSON.stringify({ round }));
    const listed = await eventually(() => kv.list(key), { timeoutMs: 30_000, intervalMs: 1 });
    expect(listed.documents.map(({ text }) => text)).toEqual([JSON.stringify({ round })]);
  }
}, 120_000);

test('an operation is followed through an outage to its end', async () => {
  const id = 'deploy.default.web.0123456789ab';
  const operation = buildOperation(id, { state: 'running' });
  await put({ [operationKvKey(operation, id)]: operation });
  const operations = createOperations({ kv: createKvStore(client), readModel, log });
  const states: string[] = [];
  const following = (async () => {
    for await (const { state } of operations.follow(id, AbortSignal.timeout(60_000))) states.push(state);
  })();
  await eventually(() => expect(states).toEqual(['running']), { intervalMs: 5 });
  await consul.kill();
  await eventually(() => expect(readModel.status().staleSinceMs).toBeDefined(), { intervalMs: 5 });
  consul.start();
  await whenWritable();
  await put({ [operationKvKey(operation, id)]: { ...operation, state: 'succeeded' } });
  await following;
  expect(states).toEqual(['running', 'succeeded']);
}, 90_000);

test('after a restart of Consul it follows again, and says so meanwhile', async () => {
  await put(web(30));
  await eventually(() => expect(generation()).toBe(30), { intervalMs: 5 });
  await consul.kill();
  await eventually(() => expect(readModel.status().staleSinceMs).toBeDefined(), { intervalMs: 5 });
  expect(generation()).toBe(30);
  expect(await readModel.waitForIndex(1e12, 300)).toBe(false);
  consul.start();
  await whenWritable();
  await put(web(31));
  await eventually(() => expect(generation()).toBe(31), { intervalMs: 5 });
  await eventually(() => expect(readModel.status().staleSinceMs).toBeUndefined(), { intervalMs: 5 });
}, 90_000);

test('a Consul that lost everything and numbers anew is believed', async () => {
  await put({ ...web(40), ...eventDocument(1_000, 'before00') });
  await eventually(() => expect(generation()).toBe(40), { intervalMs: 5 });
  await consul.kill();
  consul.forgetEverything();
  consul.start();
  await whenWritable();
  await eventually(() => expect(readModel.microservice(WEB)).toBeUndefined(), { timeoutMs: 30_000 });
  await put({ ...web(41), ...eventDocument(2_000, 'after000') });
  await eventually(() => expect(generation()).toBe(41), { intervalMs: 5 });
  await eventually(() =>
    expect(readModel.events.all().map(({ event }) => event.message)).toEqual(['after000']),
  );
}, 90_000);
