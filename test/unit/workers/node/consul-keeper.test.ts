/** What the keeper of Consul's view finds amiss in KV, over a Consul in memory. */

import { pino } from 'pino';

import type { ConsulAgent } from '../../../../adapters/consul/consul-agent';
import type { ConsulClient } from '../../../../adapters/consul/consul-client';
import { createReplicaRegistry } from '../../../../adapters/consul/replica-registry';
import { replicaKvKey } from '../../../../contracts/kv';
import type { ObservedReplica } from '../../../../domain/model';
import { createConsulKeeper, type ConsulKeeper } from '../../../../workers/node/consul-keeper';
import { rememberReplica, type NodeMemory } from '../../../../workers/node/node-memory';
import type { ReplicaPublisher } from '../../../../workers/node/replica-publisher';
import { buildRelease, buildReplica } from '../../../support/builders';
import { eventually } from '../../../support/wait';

const notMadeUp = (what: string) => () => {
  throw new Error(`${what} is not made up here`);
};

const keepers: ConsulKeeper[] = [];
afterEach(() => {
  for (const keeper of keepers.splice(0)) keeper.stop();
});

/** A node a with one replica in its memory, which it publishes whenever it looks. */
const startKeeper = (replica: ObservedReplica) => {
  const kv = new Map<string, string>();
  const broken: string[] = [];
  const agent: ConsulAgent = {
    nodeName: async () => 'a',
    services: async () => [],
    nodeChecks: async () => ({ status: 200, index: 1, body: [] }),
    register: notMadeUp('register'),
    deregister: notMadeUp('deregister'),
    report: notMadeUp('report'),
  };
  const consul: ConsulClient = {
    address: 'http://127.0.0.1:1',
    request: async <T>() => ({
      status: kv.size === 0 ? 404 : 200,
      index: 1,
      body: [...kv].map(([Key, text]) => ({ Key, Value: Buffer.from(text).toString('base64') })) as T,
    }),
    close: () => undefined,
  };
  const registry = createReplicaRegistry(agent, {
    put: async (key, value) => {
      kv.set(key, JSON.stringify(value));
      return { index: 1 };
    },
    remove: async (key) => {
      kv.delete(key);
      return { index: 1 };
    },
  });
  const publisher: ReplicaPublisher = {
    registry,
    ports: () => [],
    publish: notMadeUp('publish'),
    publishBroken: async ({ id }) => void broken.push(id),
    register: notMadeUp('register'),
    deregister: notMadeUp('deregister'),
  };
  const spec = {
    project: 'default',
    name: 'web',
    replicaId: replica.id,
    release: buildRelease(),
    operation: 'deploy.default.web.1',
  };
  const memory: NodeMemory = new Map();
  rememberReplica(memory, spec, 0, 'kept');
  const look = () => void registry.publish(replica);
  const keeper = createConsulKeeper({
    clusterId: 'c',
    nodeId: 'a',
    consul,
    agent,
    memory,
    publisher,
    adopted: async () => undefined,
    onCritical: () => undefined,
    onLost: look,
    onReturn: look,
    logger: pino({ level: 'silent' }),
    sweepEveryMs: 1,
  });
  keepers.push(keeper);
  keeper.start();
  return { kv, broken };
};

const keyOf = (replica: ObservedReplica) => replicaKvKey(replica, replica.id);
const web = buildReplica('web-1', 'a');

test('a document that somebody has deleted is written again', async () => {
  const { kv } = startKeeper(web);
  await eventually(() => expect([...kv.keys()]).toEqual([keyOf(web)]));
  kv.delete(keyOf(web));
  await eventually(() => expect([...kv.keys()]).toEqual([keyOf(web)]));
});

test('a document that cannot be read does not keep the others from being looked at', async () => {
  const { kv, broken } = startKeeper(web);
  await eventually(() => expect(kv.size).toBe(1));
  const gone = buildReplica('web-2', 'a');
  const elsewhere = buildReplica('web-3', 'b');
  kv.set('containeros/replicas/default/web/web-0', '[]');
  kv.set(keyOf(elsewhere), JSON.stringify(elsewhere));
  kv.set(keyOf(gone), JSON.stringify(gone));
  await eventually(() => expect(broken).toContain('web-2'));
  expect(broken).not.toContain('web-3');
});
