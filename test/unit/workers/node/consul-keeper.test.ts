/** What the keeper of Consul's view finds amiss in KV, over a Consul in memory. */

import { pino } from 'pino';

import type {
  AgentServiceDefinition,
  ConsulAgent,
  NodeCheck,
} from '../../../../adapters/consul/consul-agent';
import type { ConsulClient, ConsulRequest } from '../../../../adapters/consul/consul-client';
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

const keyOf = (replica: ObservedReplica) => replicaKvKey(replica, replica.id);
const never = new Promise<never>(() => undefined);

interface Course {
  /** Stand in KV at first. */
  readonly documents?: readonly ObservedReplica[];
  readonly onQuery?: (query: Query, memory: NodeMemory) => Promise<void>;
  /** Before a document is written. */
  readonly onPut?: () => Promise<void>;
  /** @param own the id of a check as the service was registered with it */
  readonly checks?: (own: (serviceId: string) => string) => readonly NodeCheck[];
}
type Query = NonNullable<ConsulRequest['query']>;

/** A node a with one replica in its memory, which it publishes whenever it looks. */
const startKeeper = (
  replica: ObservedReplica,
  { documents = [], onQuery, onPut, checks = () => [] }: Course = {},
) => {
  const kv = new Map(documents.map((document) => [keyOf(document), JSON.stringify(document)]));
  const broken: string[] = [];
  const queries: Query[] = [];
  const criticals: (readonly [string, string])[][] = [];
  const checkIds = new Map<string, string>();
  let looks = 0;
  const agent: ConsulAgent = {
    nodeName: async () => 'a',
    services: async () => [],
    nodeChecks: async () => ({ status: 200, index: 1, body: checks((id) => checkIds.get(id) ?? '') }),
    register: async ({ ID, Checks: [check] }) => void checkIds.set(ID, check?.CheckID ?? ''),
    deregister: notMadeUp('deregister'),
    report: notMadeUp('report'),
  };
  const consul: ConsulClient = {
    address: 'http://127.0.0.1:1',
    request: async <T>({ query = {} }: ConsulRequest) => {
      queries.push(query);
      const entries = [...kv].map(([Key, text]) => ({ Key, Value: Buffer.from(text).toString('base64') }));
      await onQuery?.(query, memory);
      return {
        status: entries.length === 0 ? 404 : 200,
        index: 1,
        body: (query['keys'] === true ? entries.map(({ Key }) => Key) : entries) as T,
      };
    },
    close: () => undefined,
  };
  const registry = createReplicaRegistry(agent, {
    put: async (key, value) => {
      await onPut?.();
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
  const look = () => {
    looks += 1;
    void registry.publish(replica);
  };
  const keeper = createConsulKeeper({
    clusterId: 'c',
    nodeId: 'a',
    consul,
    agent,
    memory,
    publisher,
    adopted: async () => undefined,
    onAgent: () => undefined,
    onCritical: (found) => void criticals.push([...found]),
    onLost: look,
    onReturn: look,
    logger: pino({ level: 'silent' }),
    sweepEveryMs: 1,
  });
  keepers.push(keeper);
  keeper.start();
  return { kv, broken, queries, criticals, registry, looks: () => looks };
};

const web = buildReplica('web-1', 'a');
const isSweep = (query: Query) => query['keys'] === true;

const critical = { Name: 'web', Status: 'critical', Output: 'refused' } as const;
const registered = (ID: string) =>
  ({ ID, Checks: [{ CheckID: `${ID}:0` }] }) as unknown as AgentServiceDefinition;

test('maintenance of a service says nothing of its container', async () => {
  const { criticals, registry } = startKeeper(web, {
    checks: (own) => [
      { ...critical, CheckID: own('web-1-main-80'), ServiceID: 'web-1-main-80' },
      { ...critical, CheckID: '_service_maintenance:web-2-main-80', ServiceID: 'web-2-main-80' },
    ],
  });
  await eventually(() => expect(criticals.length).toBeGreaterThan(0));
  await registry.register([registered('web-1-main-80'), registered('web-2-main-80')]);
  await eventually(() => expect(criticals.at(-1)).toEqual([['web-1-main-80', 'check web fails: refused']]));
});

test('checks of before Consul was away say nothing', async () => {
  // An agent that starts holds them for critical until it has run them.
  const { criticals, registry } = startKeeper(web, {
    checks: () => [{ ...critical, CheckID: 'web-1-main-80:0:before', ServiceID: 'web-1-main-80' }],
  });
  await eventually(() => expect(criticals.length).toBeGreaterThan(0));
  await registry.register([registered('web-1-main-80')]);
  const heard = criticals.length;
  await eventually(() => expect(criticals.length).toBeGreaterThan(heard + 1));
  expect(criticals.flat()).toEqual([]);
});

test('a document that somebody has deleted is written again', async () => {
  const { kv } = startKeeper(web);
  await eventually(() => expect([...kv.keys()]).toEqual([keyOf(web)]));
  kv.delete(keyOf(web));
  await eventually(() => expect([...kv.keys()]).toEqual([keyOf(web)]));
});

test('a document that is being written is not taken for deleted', async () => {
  const { queries, looks } = startKeeper(web, { onPut: () => never });
  await eventually(() => expect(queries.filter(isSweep).length).toBeGreaterThan(2));
  expect(looks()).toBe(1);
});

test('a document that was written while KV was read is not taken for deleted', async () => {
  let written: () => void = () => undefined;
  let sweeps = 0;
  const { queries, looks } = startKeeper(web, {
    onPut: () => new Promise((resolve) => (written = resolve)),
    onQuery: async (query) => {
      if (isSweep(query)) sweeps += 1;
      if (sweeps !== 1) return;
      written();
      await new Promise((resolve) => setImmediate(resolve));
    },
  });
  await eventually(() => expect(queries.filter(isSweep).length).toBeGreaterThan(2));
  expect(looks()).toBe(1);
});

test('values are read once, and then only keys', async () => {
  const { queries } = startKeeper(web);
  await eventually(() => expect(queries.length).toBeGreaterThan(3));
  expect(queries.map(isSweep)).toEqual([false, ...queries.slice(1).map(() => true)]);
});

test('a document that cannot be read does not keep the others from being looked at', async () => {
  const documents = [
    { ...buildReplica('web-0', 'a'), containers: 'unreadable' as unknown as [] },
    buildReplica('web-2', 'a'),
    buildReplica('web-3', 'b'),
  ];
  const { kv, broken } = startKeeper(web, { documents });
  await eventually(() => expect([...kv.keys()]).toContain(keyOf(web)));
  expect(broken).toEqual(['web-2']);
});

test('a replica whose stop ended while KV was read is not broken', async () => {
  const { broken, queries } = startKeeper(web, {
    documents: [web],
    onQuery: async (query, memory) => {
      if (!isSweep(query)) memory.delete(web.id);
    },
  });
  await eventually(() => expect(queries.some(isSweep)).toBe(true));
  expect(broken).toEqual([]);
});
