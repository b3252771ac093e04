/** When the publisher of a node tries again, and when no more, over a Consul that does not answer. */

import type Docker from 'dockerode';
import { pino } from 'pino';

import type { ConsulAgent } from '../../../../adapters/consul/consul-agent';
import { createNodePublisher } from '../../../../workers/node/node-publisher';
import type { NodeConfig } from '../../../../workers/node/node-config';
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

test('a write is repeated until it succeeds or the node is stopped, also when it fails after that', async () => {
  const writes: ((error: Error) => void)[] = [];
  const fail = () => writes.at(-1)?.(new Error('no Consul'));
  const publisher = createNodePublisher({
    config,
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
      put: () => new Promise((_, reject) => writes.push(reject)),
      remove: async () => ({ index: 1 }),
    },
    missingBuilds: () => [],
    hostStats: { read: async () => stats },
    eventLog: { append: () => undefined, stop: () => undefined },
    logger: pino({ level: 'silent' }),
    onPublished: () => undefined,
  });
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
