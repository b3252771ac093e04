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
import { AGENT_TOKEN, startGuardedConsul, type ConsulServer, type GuardedConsul } from '../support/consul';
import { eventually } from '../support/wait';
import { buildMicroservice, microserviceDocuments, nodeDocument } from '../unit/api/api-under-test';

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

let consul: GuardedConsul;
let server: ConsulServer;
let ours: ConsulClient;
let anonymous: ConsulClient;

beforeAll(async () => {
  consul = await startGuardedConsul('one');
  ({ server } = consul);
  await consul.grant('agent', AGENT_TOKEN, 'node_prefix "" { policy = "write" }');
  await consul.grant('containeros', OURS, RULES);
  ours = consul.clientOf(OURS);
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
  anonymous.close();
  await consul.close();
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
    version: '0.1.0',
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
  const stranger = consul.clientOf(AGENT_TOKEN);
  await expect(stranger.request({ path: kvPath(KV_ROOT) })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/403.*The token given may not do it/s) as string,
  });
});
