/** A Consul that denies everything by default: all that talks to it does so with the token, and says what it lacks without. */

import pino from 'pino';

import { createClusterView } from '../../adapters/consul/cluster-view';
import { createConsulAgent } from '../../adapters/consul/consul-agent';
import { createConsulClient, kvPath, type ConsulClient } from '../../adapters/consul/consul-client';
import { createDocumentWriter } from '../../adapters/consul/document-writer';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { watchMembers } from '../../adapters/consul/watch-members';
import { createReadModel } from '../../api/read-model';
import { KV_ROOT, microserviceKvKey, nodeKvKey } from '../../contracts/kv';
import { createConsulServer, type ConsulServer } from '../support/consul';
import { eventually } from '../support/wait';
import { buildMicroservice, microserviceDocuments, nodeDocument } from '../unit/api/api-under-test';

const MANAGEMENT = '11111111-2222-3333-4444-555555555555';
const AGENT = '22222222-3333-4444-5555-666666666666';
const OURS = '33333333-4444-5555-6666-777777777777';
/** As README.md says. */
const RULES = `
  key_prefix "containeros/" { policy = "write" }
  service_prefix "" { policy = "write" }
  node_prefix "" { policy = "read" }
  agent_prefix "" { policy = "read" }`;

const WEB = buildMicroservice('web');
const REFUSED = {
  code: 'unavailable',
  message: expect.stringMatching(/403.*It wants a token, and none is given/s) as string,
};

let server: ConsulServer;
let ours: ConsulClient;
let anonymous: ConsulClient;

/** Makes a policy and a token of it, or finds that they are there. */
const give = async (management: ConsulClient, name: string, token: string, rules: string) => {
  await management.request({ method: 'PUT', path: '/acl/policy', body: { Name: name, Rules: rules } });
  await management.request({
    method: 'PUT',
    path: '/acl/token',
    body: { SecretID: token, Policies: [{ Name: name }] },
  });
};

beforeAll(async () => {
  server = await createConsulServer(`
    node_name = "one"
    acl {
      enabled = true
      default_policy = "deny"
      tokens { initial_management = "${MANAGEMENT}", agent = "${AGENT}" }
    }`);
  server.start();
  const management = createConsulClient({ address: server.address, token: MANAGEMENT });
  await eventually(() => management.request({ path: '/acl/token/self' }), { timeoutMs: 30_000 });
  await give(management, 'agent', AGENT, 'node_prefix "" { policy = "write" }');
  await give(management, 'containeros', OURS, RULES);
  management.close();
  ours = createConsulClient({ address: server.address, token: OURS });
  anonymous = createConsulClient({ address: server.address });
  // The agent registers itself once its token is there.
  await eventually(
    async () => {
      const { body } = await ours.request<readonly unknown[]>({ path: '/health/node/one' });
      if (body.length === 0) throw new Error('the node is not in the catalogue yet');
    },
    { timeoutMs: 60_000 },
  );
}, 120_000);

afterAll(async () => {
  ours.close();
  anonymous.close();
  await server.kill();
  server.dispose();
});

const SERVICE = {
  ID: 'web-1',
  Name: 'web',
  Tags: [],
  Meta: { cluster: 'c1' },
  Address: '127.0.0.1',
  Port: 1,
  Checks: [{ CheckID: 'web-1:0', Name: 'Command', TTL: '24h', Status: 'passing' as const }],
};

test('the token opens documents, services, checks and what waits for them', async () => {
  const log = pino({ level: 'silent' });
  const kv = createKvStore(ours);
  const store = createKeyValueStore({ address: server.address, token: OURS }, () => undefined);
  const view = createClusterView(
    ours,
    kv,
    () => undefined,
    () => undefined,
  );
  const readModel = createReadModel({
    kv,
    log,
    nowMs: Date.now,
    watchMembers: (handlers) => watchMembers(ours, handlers),
  });
  const agent = createConsulAgent(ours);
  try {
    await view.ready;
    expect(await readModel.whenLoaded(10_000)).toBe(true);

    await createDocumentWriter(ours).put(nodeKvKey('one'), nodeDocument('one')[nodeKvKey('one')]);
    await eventually(() => expect(view.nodes()).toMatchObject([{ id: 'one', up: true }]), { intervalMs: 10 });

    const key = microserviceKvKey(WEB);
    const value = microserviceDocuments(WEB)[key];
    expect(await store.transact([{ kind: 'set', key, value }])).toMatchObject({ kind: 'written' });
    expect(await store.get(key)).toMatchObject({ value: { name: 'web' } });
    expect(await store.list(KV_ROOT)).toHaveLength(2);
    await eventually(() => expect(readModel.microservice(WEB)).toBeDefined(), { intervalMs: 10 });

    await agent.register(SERVICE);
    expect(await agent.services('cluster', 'c1')).toHaveLength(1);
    expect(await agent.nodeName()).toBe('one');
    const stop = new AbortController();
    const known = await eventually(
      async () => {
        const found = await agent.nodeChecks('one');
        expect(found.body.map(({ CheckID }) => CheckID)).toContain('web-1:0');
        return found;
      },
      { intervalMs: 10 },
    );
    const changed = agent.nodeChecks('one', { index: known.index, waitMs: 20_000, signal: stop.signal });
    await agent.report('web-1:0', 'critical', 'it fails');
    expect((await changed).body).toContainEqual(
      expect.objectContaining({ CheckID: 'web-1:0', Status: 'critical' }),
    );
    expect(await agent.deregister('web-1')).toBe(true);
  } finally {
    view.close();
    readModel.close();
    store.close();
  }
}, 60_000);

test('without it every refusal says that a token is wanted', async () => {
  const agent = createConsulAgent(anonymous);
  // What /readyz asks.
  await expect(anonymous.request({ path: kvPath(KV_ROOT) })).rejects.toMatchObject(REFUSED);
  await expect(createDocumentWriter(anonymous).put(nodeKvKey('one'), {})).rejects.toThrow(
    /Permission denied/,
  );
  await expect(agent.register(SERVICE)).rejects.toMatchObject(REFUSED);
  await expect(agent.nodeName()).rejects.toMatchObject(REFUSED);
  const store = createKeyValueStore({ address: server.address }, () => undefined);
  try {
    await expect(store.get(nodeKvKey('one'))).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/403/) as string,
    });
    // Not a lost race.
    await expect(
      store.transact([{ kind: 'create', key: nodeKvKey('two'), value: {} }]),
    ).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/Permission denied/) as string,
    });
  } finally {
    store.close();
  }
});

test('a token that may not do it is told from none', async () => {
  const stranger = createConsulClient({ address: server.address, token: AGENT });
  try {
    await expect(stranger.request({ path: kvPath(KV_ROOT) })).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringMatching(/403.*The token given may not do it/s) as string,
    });
  } finally {
    stranger.close();
  }
});
