/** When the publisher of a node tries again, and when no more, over a Consul that does not answer. */

import type Docker from 'dockerode';
import { pino } from 'pino';

import type { ConsulAgent } from '../../../../adapters/consul/consul-agent';
import { createNodePublisher } from '../../../../workers/node/node-publisher';
import type { NodeConfig } from '../../../../workers/node/node-config';
import type { ObservedNode } from '../../../../domain/model';
import { ENGINE_LOST_AFTER_MS } from '../../../../workers/node/engine-absence';
import { eventually } from '../../../support/wait';

const config: NodeConfig = {
  nodeId: 'a',
  clusterId: 'c',
  dockerSocketPath: '/nowhere',
  consulUrl: 'http://127.0.0.1:1',
  temporalAddress: '127.0.0.1:1',
  namespace: 'default',
  advertiseAddress: '127.0.0.1',
  hostPortRange: { first: 20_000, last: 29_999 },
  apiUrl: 'http://127.0.0.1:1',
  internalToken: 'test',
  dataDir: '/',
};
const engine = { cpus: 1, memoryBytes: 1e9, architecture: 'amd64', version: '1', rootDir: '/' };
const stats = { cpuPercent: 0, memoryAvailableBytes: 1e9, diskBytes: 1e9, diskFreeBytes: 1e9 };

const publisherWith = (
  put: (document: ObservedNode) => Promise<{ readonly index: number }>,
  nowMs?: () => number,
  toldBefore?: ObservedNode,
  clock: { readonly aheadMs: () => number; readonly events: string[] } = { aheadMs: () => 0, events: [] },
) =>
  createNodePublisher({
    config,
    version: '0.1.0',
    docker: {} as Docker,
    events: {
      listen: () => () => undefined,
      isConnected: () => true,
      start: () => undefined,
      stop: () => undefined,
    },
    agent: {
      register: async () => undefined,
      report: async () => undefined,
    } as unknown as ConsulAgent,
    documents: {
      put: (_key, document) => put(document as ObservedNode),
      remove: async () => ({ index: 1 }),
    },
    toldBefore: async () => toldBefore,
    publicPortTroubles: () => [],
    missingBuilds: () => [],
    hostStats: { read: async () => stats },
    eventLog: {
      append: ({ level, message }) => clock.events.push(`${level}: ${message}`),
      stop: () => undefined,
    },
    logger: pino({ level: 'silent' }),
    clockAheadMs: clock.aheadMs,
    onPublished: () => undefined,
    ...(nowMs === undefined ? {} : { nowMs }),
  });

test('a write is repeated until it succeeds or the node is stopped, also when it fails after that', async () => {
  const writes: ((error: Error) => void)[] = [];
  const fail = () => writes.at(-1)?.(new Error('no Consul'));
  const publisher = publisherWith(() => new Promise((_, reject) => writes.push(reject)));
  publisher.start();
  publisher.setEngine(engine);
  await eventually(() => expect(writes).toHaveLength(1));
  fail();
  await eventually(() => expect(writes).toHaveLength(2));

  const timers = jest.spyOn(globalThis, 'setTimeout');
  publisher.stop();
  fail();
  publisher.writeAgain(); // who was at it meanwhile may still tell it
  await new Promise((resolve) => setImmediate(resolve));
  expect(timers.mock.calls).toEqual([]);
  expect(writes).toHaveLength(2);
});

test('an engine that stays away for longer than a restart is told as lost since then, until it answers', async () => {
  const told: ObservedNode[] = [];
  let nowMs = 0;
  const publisher = publisherWith(
    async (document) => {
      told.push(document);
      return { index: 1 };
    },
    () => nowMs,
  );
  const last = () => [told.at(-1)?.health, told.at(-1)?.engineLostAtMs];
  publisher.start();
  publisher.setEngine(engine);
  await eventually(() => expect(last()).toEqual(['healthy', undefined]));
  expect(told[0]?.containerosVersion).toBe('0.1.0');
  const beforeMs = Date.now();
  publisher.setEngineAway();
  await eventually(() => expect(last()).toEqual(['degraded', undefined]));
  const afterMs = Date.now();
  nowMs = ENGINE_LOST_AFTER_MS - 1;
  publisher.setEngineAway();
  publisher.writeAgain();
  await eventually(() => expect(told).toHaveLength(3));
  expect(last()).toEqual(['degraded', undefined]);
  nowMs = ENGINE_LOST_AFTER_MS;
  publisher.setEngineAway();
  await eventually(() => expect(told).toHaveLength(4));
  expect(told.at(-1)?.engineLostAtMs).toBeGreaterThanOrEqual(beforeMs);
  expect(told.at(-1)?.engineLostAtMs).toBeLessThanOrEqual(afterMs);
  publisher.setEngine(engine);
  await eventually(() => expect(last()).toEqual(['healthy', undefined]));
  publisher.stop();
});

test('an engine that this process has never reached is told as away, by what was told of it before', async () => {
  const told: ObservedNode[] = [];
  let nowMs = 0;
  const write = async (document: ObservedNode) => {
    told.push(document);
    return { index: 1 };
  };
  const first = publisherWith(write);
  first.start();
  first.setEngine(engine);
  await eventually(() => expect(told).toHaveLength(1));
  first.stop();

  const second = publisherWith(write, () => nowMs, told[0]);
  second.start();
  await new Promise((resolve) => setImmediate(resolve));
  expect(told).toHaveLength(1); // it may answer in a moment
  second.setEngineAway();
  await eventually(() => expect(told).toHaveLength(2));
  expect(told[1]).toMatchObject({
    health: 'degraded',
    dockerVersion: engine.version,
    capacity: { cpus: engine.cpus, memoryBytes: engine.memoryBytes },
  });
  expect(told[1]?.engineLostAtMs).toBeUndefined();
  nowMs = ENGINE_LOST_AFTER_MS;
  second.setEngineAway();
  await eventually(() => expect(told.at(-1)?.engineLostAtMs).toBeGreaterThan(0));
  second.stop();
});

test('a clock that is wrong makes the node degraded, and is said once when it begins and when it ends', async () => {
  const told: ObservedNode[] = [];
  const events: string[] = [];
  let aheadMs = 0;
  const publisher = publisherWith(
    async (document) => {
      told.push(document);
      return { index: 1 };
    },
    undefined,
    undefined,
    { aheadMs: () => aheadMs, events },
  );
  const last = () => [told.at(-1)?.health, told.at(-1)?.reasons];
  const reason = 'its clock is 3 hours ahead of that of the head node: set it, for example by NTP';
  publisher.start();
  publisher.setEngine(engine);
  await eventually(() => expect(last()).toEqual(['healthy', []]));
  for (const measured of [3 * 3_600_000, 3 * 3_600_000 + 20]) {
    aheadMs = measured;
    publisher.writeAgain();
    await eventually(() => expect(last()).toEqual(['degraded', [reason]]));
  }
  aheadMs = 0;
  publisher.tell();
  await eventually(() => expect(last()).toEqual(['healthy', []]));
  expect(events).toEqual([`warning: Node a is degraded: ${reason}.`, 'info: Node a is well again.']);
  publisher.stop();
});
