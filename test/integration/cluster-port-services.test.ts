/**
 * Services of nodes whose tokens may register none, through a real cluster port into a real Consul that denies by
 * default, as the agents of those nodes and everybody else see them there.
 */

import { pino } from 'pino';

import { createClusterPortAgent } from '../../adapters/cluster-port/agent';
import { createClusterPortWriter, type ClusterPortWriter } from '../../adapters/cluster-port/documents';
import { createNodeAccess } from '../../adapters/consul/access';
import type { AgentServiceDefinition, ConsulAgent } from '../../adapters/consul/consul-agent';
import type { ConsulClient } from '../../adapters/consul/consul-client';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createReplicaRegistry, type ReplicaRegistry } from '../../adapters/consul/replica-registry';
import { createServiceCatalogue } from '../../adapters/consul/service-catalogue';
import { createNodeLiveness, type NodeLiveness } from '../../api/cluster-port/node-liveness';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { nodeKvKey, replicaKvKey } from '../../contracts/kv';
import { NODE_SILENCE_MS, type NodeServiceWrite } from '../../contracts/node-documents';
import type { ServiceCatalogue } from '../../contracts/service-catalogue';
import { nodeAliveCheckId, nodeServiceId } from '../../contracts/services';
import type { ObservedNode, ObservedReplica } from '../../domain/model';
import { createConsulKeeper } from '../../workers/node/consul-keeper';
import { rememberReplica, type NodeMemory } from '../../workers/node/node-memory';
import { createReplicaPublisher } from '../../workers/node/replica-publisher';
import { buildNode, buildRelease, buildReplica } from '../support/builders';
import { startGuardedConsul, type GuardedConsul, type NodeAgent } from '../support/consul';
import { eventually } from '../support/wait';
import { CLUSTER_ID, startTestPort, type TestPort } from './cluster-port';

const CONTROL = '33333333-4444-5555-6666-777777777777';
/** As README.md says for the control plane. */
const RULES = `
  key_prefix "containeros/" { policy = "write" }
  service_prefix "" { policy = "write" }
  node_prefix "" { policy = "read" }
  agent_prefix "" { policy = "read" }`;

interface TestNode {
  readonly id: string;
  readonly address: string;
  readonly consul: ConsulClient;
  readonly writer: ClusterPortWriter;
  readonly agent: ConsulAgent;
  readonly registry: ReplicaRegistry;
}

type JoinedNode = TestNode & Pick<NodeAgent, 'restart'>;

let consul: GuardedConsul;
let store: KeyValueStore;
let catalogue: ServiceCatalogue;
let liveness: NodeLiveness;
let now = 0;
let target: TestPort;
let a: JoinedNode;
let b: JoinedNode;

const nodeOf = (id: string, address: string, client: ConsulClient): TestNode => {
  const holder = target.certificateOf(id);
  const writer = createClusterPortWriter({
    url: `https://${target.port.address}`,
    nodeId: id,
    credentials: () => ({ ...holder, authorityPem: target.authority.certificatePem }),
  });
  const agent = createClusterPortAgent({ writer, consul: client, nodeId: id });
  return { id, address, consul: client, writer, agent, registry: createReplicaRegistry(agent, writer) };
};

const inCatalogue = async (node: string): Promise<void> => {
  const { body } = await consul.management.request<readonly { readonly CheckID: string }[]>({
    path: `/health/node/${node}`,
  });
  expect(body.map(({ CheckID }) => CheckID)).toContain('serfHealth');
};

const joined = async (id: string, address: string): Promise<JoinedNode> => {
  const { secretId } = await createNodeAccess(consul.management, id);
  const started = await consul.startAgent(id, secretId);
  await eventually(() => inCatalogue(id), { timeoutMs: 60_000 });
  const node = { ...nodeOf(id, address, started.client), restart: () => started.restart() };
  await node.writer.put(nodeKvKey(id), documentOf(node));
  return node;
};

const documentOf = ({ id, address }: Pick<TestNode, 'id' | 'address'>): ObservedNode =>
  buildNode(id, { address });
const keyOf = (replicaId: string) => replicaKvKey({ project: 'default', name: 'web' }, replicaId);

const definition = (
  node: Pick<TestNode, 'id' | 'address'>,
  replica: string,
  overrides: Partial<AgentServiceDefinition> = {},
): AgentServiceDefinition => ({
  ID: `${replica}-app-80`,
  Name: 'web',
  Tags: ['containeros', 'release-1', 'tcp'],
  Meta: {
    cluster: CLUSTER_ID,
    project: 'default',
    microservice: 'Web',
    release: '1',
    replica,
    container: 'app',
    port: '80',
    protocol: 'tcp',
    node: node.id,
  },
  Address: node.address,
  Port: 20_080,
  Checks: [{ CheckID: `${replica}-app-80:0`, Name: 'TCP 80', TCP: '172.17.0.2:80', Status: 'passing' }],
  ...overrides,
});

interface Instance {
  readonly Node: { readonly Node: string };
  readonly Service: { readonly ID: string; readonly Address: string; readonly Port?: number };
  readonly Checks: readonly { readonly CheckID: string; readonly Status: string; readonly Output: string }[];
}

/** As anybody asks Consul for it: `node service:port check=state …`, without the membership. */
const seen = async (service = 'web'): Promise<readonly string[]> => {
  const { body } = await b.consul.request<readonly Instance[]>({ path: `/health/service/${service}` });
  return body
    .map(({ Node, Service, Checks }) => {
      const checks = Checks.filter(({ CheckID }) => CheckID !== 'serfHealth')
        .map(({ CheckID, Status }) => `${CheckID}=${Status}`)
        .sort();
      return [Node.Node, `${Service.ID}:${Service.Port ?? 0}`, ...checks].join(' ');
    })
    .sort();
};
const serfOf = async (node: string): Promise<string | undefined> => {
  const { body } = await consul.management.request<readonly { CheckID: string; Status: string }[]>({
    path: `/health/node/${node}`,
  });
  return body.find(({ CheckID }) => CheckID === 'serfHealth')?.Status;
};

beforeAll(async () => {
  consul = await startGuardedConsul('first');
  await consul.grant('containeros', CONTROL, RULES);
  store = createKeyValueStore({ address: consul.server.address, token: CONTROL }, (message) => {
    throw new Error(message);
  });
  catalogue = createServiceCatalogue(consul.clientOf(CONTROL));
  liveness = createNodeLiveness({ catalogue, log: pino({ level: 'silent' }), nowMs: () => now });
  target = await startTestPort({ consul: { store, catalogue, liveness } });
  [a, b] = await Promise.all([joined('a', '10.0.0.1'), joined('b', '10.0.0.2')]);
}, 120_000);

afterEach(async () => {
  for (const node of [a, b]) {
    const services = await catalogue.services(node.id);
    await node.registry.deregister((services ?? []).map(({ id }) => id));
  }
});

afterAll(async () => {
  a.writer.close();
  b.writer.close();
  await target.close();
  store.close();
  await consul.close();
});

test('a service comes with its document, changes its state, is replaced and goes', async () => {
  const service = definition(a, 'web-1');
  // In one turn, as a node starts a replica: the document says whose the service is.
  await Promise.all([a.writer.put(keyOf('web-1'), buildReplica('web-1', 'a')), a.agent.register(service)]);
  expect(await seen()).toEqual(['a web-1-app-80:20080 web-1-app-80:0=passing']);
  const { body: raw } = await b.consul.request<readonly Instance[]>({ path: '/health/service/web' });
  expect(raw[0]?.Service).toMatchObject({ Address: '10.0.0.1', Meta: service.Meta, Tags: service.Tags });
  expect(await a.agent.services('cluster', CLUSTER_ID)).toMatchObject([
    { ID: 'web-1-app-80', Service: 'web', Meta: service.Meta, Port: 20_080 },
  ]);
  expect(await a.agent.services('cluster', 'other')).toEqual([]);
  expect(await a.agent.nodeName()).toBe('a');

  // The node hears of a state as of any other check of it.
  const stop = new AbortController();
  const known = await a.agent.nodeChecks('a');
  const changed = a.agent.nodeChecks('a', { index: known.index, waitMs: 20_000, signal: stop.signal });
  await a.agent.report('web-1-app-80:0', 'critical', 'port 80 refused connections');
  expect((await changed).body).toContainEqual(
    expect.objectContaining({
      CheckID: 'web-1-app-80:0',
      ServiceID: 'web-1-app-80',
      Name: 'TCP 80',
      Status: 'critical',
      Output: 'port 80 refused connections',
    }),
  );
  expect(await seen()).toEqual(['a web-1-app-80:20080 web-1-app-80:0=critical']);

  const replaced = definition(a, 'web-1', {
    Port: 20_081,
    Checks: [1, 2].map((at) => ({ CheckID: `web-1-app-80:${at}`, Name: 'TCP', Status: 'passing' as const })),
  });
  await a.agent.register(replaced);
  await a.agent.register(replaced);
  expect(await seen()).toEqual(['a web-1-app-80:20081 web-1-app-80:1=passing web-1-app-80:2=passing']);
  await a.agent.register({ ...replaced, Checks: [] });
  expect(await seen()).toEqual(['a web-1-app-80:20081']);

  expect(await a.agent.deregister('web-1-app-80')).toBe(true);
  expect(await a.agent.deregister('web-1-app-80')).toBe(false);
  expect(await seen()).toEqual([]);
});

test('a state of what is not there is told, and harms nothing that is written with it', async () => {
  const key = keyOf('web-2');
  const put = a.writer.put(key, buildReplica('web-2', 'a'));
  await expect(a.agent.report('web-2-app-80:0', 'critical', 'x')).rejects.toMatchObject({
    code: 'not_found',
  });
  await put;
  expect(await store.get(key)).toBeDefined();
  expect(await seen()).toEqual([]);
});

test('the registry of a node keeps its word: new checks begin as passing, and a state is of the newest', async () => {
  await a.writer.put(keyOf('web-1'), buildReplica('web-1', 'a'));
  await a.registry.register([definition(a, 'web-1')]);
  const [first] = await seen();
  await a.registry.report('web-1-app-80', 0, 'critical', 'x');
  a.registry.forgetWhatIsKnown();
  await expect(a.registry.report('web-1-app-80', 0, 'critical', 'x')).rejects.toMatchObject({
    code: 'not_found',
  });
  await a.registry.register([definition(a, 'web-1')]);
  const [second] = await seen();
  expect(second).toMatch(/^a web-1-app-80:20080 web-1-app-80:0:\w+=passing$/);
  expect(second).not.toBe(first);
  await a.registry.report('web-1-app-80', 0, 'critical', 'x');
  expect((await seen())[0]).toBe(second?.replace('passing', 'critical'));
  const { body } = await a.agent.nodeChecks('a');
  const ids = new Set(body.map(({ ServiceID }) => ServiceID));
  expect(a.registry.noteCatalogue(ids)).toEqual([]);
});

test('many come at once, each with its document', async () => {
  const ids = Array.from({ length: 100 }, (_, at) => `web-m${at}`);
  await Promise.all(
    ids.flatMap((id) => [
      a.writer.put(keyOf(id), buildReplica(id, 'a')),
      a.registry.register([definition(a, id)]),
    ]),
  );
  expect(await seen()).toHaveLength(100);
  await Promise.all(ids.map((id) => a.registry.report(`${id}-app-80`, 0, 'critical', id)));
  expect((await seen()).filter((line) => line.endsWith('=critical'))).toHaveLength(100);
  await Promise.all(
    ids.flatMap((id) => [a.registry.deregister([`${id}-app-80`]), a.writer.remove(keyOf(id))]),
  );
  expect(await seen()).toEqual([]);
});

test('who starts replicas has nothing read, and is judged by what stands there all the same', async () => {
  const start = async (id: string) => {
    await Promise.all([a.writer.put(keyOf(id), buildReplica(id, 'a')), a.agent.register(definition(a, id))]);
  };
  await start('web-s1');
  const asked = [jest.spyOn(catalogue, 'services'), jest.spyOn(store, 'get')];
  await Promise.all([start('web-s2'), start('web-s3')]);
  await start('web-s4');
  for (const spy of asked) expect(spy).not.toHaveBeenCalled();
  for (const spy of asked) spy.mockRestore();
  expect(await seen()).toHaveLength(4);

  // Nobody else writes this document; an operator might.
  const key = nodeKvKey('a');
  await store.transact([{ kind: 'set', key, value: { ...documentOf(a), address: '10.9.9.9' } }]);
  await expect(start('web-s5')).rejects.toMatchObject({ code: 'forbidden' });
  await store.transact([{ kind: 'delete', key }]);
  await expect(start('web-s5')).rejects.toMatchObject({ code: 'unavailable' });
  expect(await seen()).toHaveLength(4);
  expect(await store.get(keyOf('web-s5'))).toBeUndefined();
  await a.writer.put(key, documentOf(a));
  await start('web-s5');
  expect(await seen()).toHaveLength(5);
});

test('the keeper of a node finds what is left, what is lost and what fails', async () => {
  const spec = {
    project: 'default',
    name: 'web',
    replicaId: 'web-1',
    release: buildRelease(1, {
      containers: { app: { image: 'a', ports: [80], check: { tcp: { port: 80 } } } },
    }),
    operation: 'o',
  };
  const memory: NodeMemory = new Map();
  rememberReplica(memory, spec, 0, 'kept');
  const registry = createReplicaRegistry(a.agent, a.writer);
  const publisher = createReplicaPublisher(
    registry,
    { clusterId: CLUSTER_ID, nodeId: 'a', advertiseAddress: a.address },
    a.address,
  );
  for (const id of ['web-1', 'web-old']) {
    await a.writer.put(keyOf(id), buildReplica(id, 'a'));
    await a.agent.register(definition(a, id));
  }
  let critical: ReadonlyMap<string, string> = new Map();
  let losses = 0;
  const keeper = createConsulKeeper({
    clusterId: CLUSTER_ID,
    nodeId: 'a',
    consul: a.consul,
    agent: a.agent,
    memory,
    publisher,
    adopted: async () => undefined,
    onAgent: () => undefined,
    onCritical: (found) => (critical = found),
    onLost: () => (losses += 1),
    onReturn: () => undefined,
    logger: pino({ level: 'silent' }),
  });
  keeper.start();
  try {
    await eventually(async () => {
      expect(await seen()).toEqual(['a web-1-app-80:20080 web-1-app-80:0=passing']);
      expect((await store.get<ObservedReplica>(keyOf('web-old')))?.value?.state).toBe('broken');
    });
    expect(registry.isRegistered('web-1-app-80')).toBe(true);
    // What was registered before Consul was compared says nothing of a replica.
    await registry.register([definition(a, 'web-1')]);
    await registry.report('web-1-app-80', 0, 'critical', 'port 80 refused connections');
    await eventually(() =>
      expect([...critical]).toEqual([['web-1-app-80', 'check TCP 80 fails: port 80 refused connections']]),
    );
    await registry.report('web-1-app-80', 0, 'passing', 'ok');
    await eventually(() => expect([...critical]).toEqual([]));
    expect(losses).toBe(0);

    // Not before it has had the time to be seen: only then is what is not there lost.
    await consul.management.request({
      method: 'PUT',
      path: '/catalog/deregister',
      body: { Node: 'a', ServiceID: 'web-1-app-80' },
    });
    await eventually(async () => {
      // Anything that changes on the node makes the keeper look.
      await a.agent.register(definition(a, 'web-old'));
      await a.agent.deregister('web-old-app-80');
      expect(losses).toBeGreaterThan(0);
    });
    expect(registry.isRegistered('web-1-app-80')).toBe(false);
  } finally {
    keeper.stop();
  }
});

test('the agent of a node takes out nothing that it does not know', async () => {
  await a.writer.put(keyOf('web-1'), buildReplica('web-1', 'a'));
  await a.agent.register(definition(a, 'web-1'));
  await a.agent.report('web-1-app-80:0', 'critical', 'x');
  await a.restart();
  // It has tried: it counts what it is refused.
  await eventually(
    async () => {
      const { body } = await a.consul.request<{ readonly Counters: readonly { readonly Name: string }[] }>({
        path: '/agent/metrics',
      });
      expect(body.Counters.map(({ Name }) => Name)).toContain('consul.acl.blocked.service.deregistration');
    },
    { timeoutMs: 60_000, intervalMs: 500 },
  );
  expect(await seen()).toEqual(['a web-1-app-80:20080 web-1-app-80:0=critical']);
}, 90_000);

describe('two nodes', () => {
  const attempt = (node: TestNode, write: NodeServiceWrite) =>
    node.writer.writeService(write).then(
      (found) => (found ? 'done' : 'absent'),
      (error: unknown) => (error as { readonly code: string }).code,
    );
  const put = (service: AgentServiceDefinition): NodeServiceWrite => ({
    kind: 'putService',
    service: {
      id: service.ID,
      name: service.Name,
      tags: service.Tags,
      meta: service.Meta,
      address: service.Address,
      port: service.Port,
      checks: service.Checks.map(({ CheckID, Name }) => ({ id: CheckID, name: Name, status: 'critical' })),
    },
  });

  test("cannot touch what is the other one's", async () => {
    await Promise.all([
      b.writer.put(keyOf('web-b'), buildReplica('web-b', 'b')),
      b.agent.register(definition(b, 'web-b')),
    ]);
    await a.writer.put(keyOf('web-a'), buildReplica('web-a', 'a'));
    const before = await seen();
    const checks = await catalogue.checksOfNode('b');
    const asB = definition(b, 'web-b');
    const asA = definition(a, 'web-b');
    expect(await attempt(a, put(asB))).toBe('forbidden');
    expect(await attempt(a, put(asA))).toBe('forbidden'); // the replica is b's
    expect(await attempt(a, put({ ...definition(a, 'web-a'), Address: b.address }))).toBe('forbidden');
    expect(await attempt(a, put({ ...definition(a, 'web-a'), Name: 'bank' }))).toBe('forbidden');
    const serf = { CheckID: 'serfHealth', Name: 'forged' };
    expect(await attempt(a, put({ ...definition(a, 'web-a'), Checks: [serf] }))).toBe('forbidden');
    expect(await attempt(a, put(definition(a, 'web-none')))).toBe('unavailable');
    // Ids of services are of their node: these are not there on a.
    expect(await attempt(a, { kind: 'removeService', serviceId: 'web-b-app-80' })).toBe('absent');
    const report = { kind: 'reportCheck', status: 'critical', output: 'forged' } as const;
    expect(await attempt(a, { ...report, serviceId: 'web-b-app-80', checkId: 'web-b-app-80:0' })).toBe(
      'absent',
    );
    expect(await attempt(a, { ...report, serviceId: 'web-b-app-80', checkId: 'serfHealth' })).toBe(
      'forbidden',
    );
    expect(
      await attempt(a, { ...report, serviceId: nodeServiceId('b'), checkId: nodeAliveCheckId('b') }),
    ).toBe('absent');
    expect(await seen()).toEqual(before);
    expect(await catalogue.checksOfNode('b')).toEqual(checks);
    expect([await serfOf('a'), await serfOf('b')]).toEqual(['passing', 'passing']);
    expect(await seen('bank')).toEqual([]);
  });

  test('refused, a service takes the documents that came with it along', async () => {
    const other = a.writer.put(keyOf('web-3'), buildReplica('web-3', 'a')).catch((error: unknown) => error);
    expect(await attempt(a, put(definition(b, 'web-3')))).toBe('forbidden');
    expect(await other).toMatchObject({ code: 'forbidden' });
    expect(await store.get(keyOf('web-3'))).toBeUndefined();
  });

  test('do not take what an operator has put there', async () => {
    const Service = { ID: 'web-1-app-80', Service: 'web', Port: 1 };
    await consul.management.request({
      method: 'PUT',
      path: '/catalog/register',
      body: { Node: 'a', Address: '127.0.0.1', SkipNodeUpdate: true, Service },
    });
    await a.writer.put(keyOf('web-1'), buildReplica('web-1', 'a'));
    expect(await attempt(a, put(definition(a, 'web-1')))).toBe('forbidden');
    expect(await attempt(a, { kind: 'removeService', serviceId: 'web-1-app-80' })).toBe('forbidden');
    expect(await seen()).toEqual(['a web-1-app-80:1']);
    await consul.management.request({
      method: 'PUT',
      path: '/catalog/deregister',
      body: { Node: 'a', ServiceID: 'web-1-app-80' },
    });
  });
});

test('what a node writes before it is in the catalogue it writes again', async () => {
  const early = nodeOf('c', '10.0.0.3', a.consul);
  try {
    await early.writer.put(nodeKvKey('c'), documentOf(early));
    await early.writer.put(keyOf('web-c'), buildReplica('web-c', 'c'));
    expect(await early.agent.services('cluster', CLUSTER_ID)).toEqual([]);
    const service = definition(early, 'web-c');
    await expect(early.agent.register(service)).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/catalogue has no node c yet.*look at the agent/) as string,
    });
    await consul.startAgent('c', (await createNodeAccess(consul.management, 'c')).secretId);
    await eventually(() => early.agent.register(service), { timeoutMs: 60_000 });
    expect(await seen()).toEqual(['c web-c-app-80:20080 web-c-app-80:0=passing']);
    await early.agent.deregister(service.ID);
  } finally {
    early.writer.close();
  }
}, 120_000);

test('a node that says nothing is shown as dead, until it speaks again', async () => {
  const alive = (node: TestNode): AgentServiceDefinition => ({
    ID: nodeServiceId(node.id),
    Name: 'containeros-node',
    Tags: ['containeros'],
    Meta: { node: node.id, kind: 'node', 'cluster-id': CLUSTER_ID },
    Address: node.address,
    Port: 0,
    Checks: [{ CheckID: nodeAliveCheckId(node.id), Name: 'Node worker', TTL: '20s', Status: 'passing' }],
  });
  const shown = () => seen('containeros-node');
  const say = (node: TestNode) => node.agent.report(nodeAliveCheckId(node.id), 'passing', 'It is alive.');
  const line = (id: string, state: string) =>
    `${id} containeros-node-${id}:0 containeros-node-${id}:alive=${state}`;
  // The head node's worker registers at its agent, which runs the check.
  await consul.management.request({
    method: 'PUT',
    path: '/catalog/register',
    body: {
      ...{ Node: 'first', Address: '127.0.0.1' },
      Service: { ID: 'containeros-node-first', Service: 'containeros-node', Port: 0 },
      Check: {
        Node: 'first',
        CheckID: 'containeros-node-first:alive',
        Name: 'Node worker',
        Status: 'passing',
        ServiceID: 'containeros-node-first',
      },
    },
  });
  for (const node of [a, b]) {
    await node.agent.register(alive(node));
    await say(node);
  }
  await liveness.look();
  const index = async () =>
    (await catalogue.checksOfNode('b')).find(({ id }) => id === nodeAliveCheckId('b'))?.index;
  const before = await index();
  const asked = jest.spyOn(catalogue, 'services');
  for (let turn = 0; turn < 5; turn += 1) {
    now += NODE_SILENCE_MS / 4;
    await say(b);
    await liveness.look();
  }
  now += 1;
  await say(b);
  await liveness.look();
  expect(asked).not.toHaveBeenCalled(); // to be as it is shown is no news
  asked.mockRestore();
  expect(await shown()).toEqual([line('a', 'critical'), line('b', 'passing'), line('first', 'passing')]);
  expect(await index()).toBe(before); // what has not changed was not written
  await say(a);
  expect(await shown()).toEqual([line('a', 'passing'), line('b', 'passing'), line('first', 'passing')]);

  // A node whose service was lost hears of it, and registers anew.
  await consul.management.request({
    method: 'PUT',
    path: '/catalog/deregister',
    body: { Node: 'b', ServiceID: nodeServiceId('b') },
  });
  await liveness.look();
  await expect(say(b)).rejects.toMatchObject({ code: 'not_found' });
  await b.agent.register(alive(b));
  await say(b);
});
