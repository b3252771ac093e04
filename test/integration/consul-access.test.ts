/**
 * What the tokens of nodes can do to others, asked of a real Consul: a reader nothing; a registrar, or whoever may
 * write services of any one name, a lot. The second half holds Consul's own behaviour, on which the first is decided.
 */

import {
  allowReadingServices,
  createNodeAccess,
  renewNodeRights,
  revokeNodeAccess,
  type NodeAccess,
} from '../../adapters/consul/access';
import { createConsulAgent } from '../../adapters/consul/consul-agent';
import { createConsulClient, type ConsulClient } from '../../adapters/consul/consul-client';
import { startGuardedConsul, type GuardedConsul } from '../support/consul';
import { eventually } from '../support/wait';

/** What is written to an answer of 403, or in a transaction's. */
const DENIED = 'Permission denied';

let consul: GuardedConsul;
let management: ConsulClient;

/** 'done', or DENIED; anything else fails the test. */
const attempt = async (
  client: ConsulClient,
  method: 'GET' | 'PUT' | 'DELETE',
  path: string,
  body?: unknown,
) => {
  try {
    const answer = await client.request<unknown>({ method, path, ...(body === undefined ? {} : { body }) });
    if (answer.status < 400) return 'done';
    if (JSON.stringify(answer.body).includes(DENIED)) return DENIED;
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  } catch (error) {
    if (error instanceof Error && error.message.includes(DENIED)) return DENIED;
    throw error;
  }
};

const BETA = { Node: 'beta', Address: '10.0.0.2', SkipNodeUpdate: true };
const WEB = { ID: 'web-1', Service: 'web', Port: 80 };

/** Another node with a service, a check of it and the check of its membership, as they were before any attempt. */
const seedBeta = async (): Promise<void> => {
  await attempt(management, 'PUT', '/catalog/deregister', { Node: 'beta' });
  await management.request({
    method: 'PUT',
    path: '/catalog/register',
    body: {
      ...BETA,
      SkipNodeUpdate: false,
      Service: WEB,
      Checks: [
        { Node: 'beta', CheckID: 'web-1:0', Name: 'Command', Status: 'passing', ServiceID: 'web-1' },
        { Node: 'beta', CheckID: 'serfHealth', Name: 'Serf Health Status', Status: 'passing' },
      ],
    },
  });
};

const betaState = async (): Promise<unknown> => {
  const { body: checks } = await management.request<
    readonly Record<'CheckID' | 'Status' | 'ServiceName', string>[]
  >({ path: '/health/node/beta' });
  const { body: node } = await management.request<{
    readonly Node: { readonly Address: string };
    readonly Services: Readonly<Record<string, { readonly Service: string; readonly Port: number }>>;
  }>({ path: '/catalog/node/beta' });
  return {
    address: node.Node.Address,
    services: Object.values(node.Services).map(({ Service, Port }) => `${Service}:${Port}`),
    checks: checks.map(({ CheckID, Status, ServiceName }) => `${CheckID} ${Status} ${ServiceName}`.trim()),
  };
};

const UNHARMED = {
  address: '10.0.0.2',
  services: ['web:80'],
  checks: ['serfHealth passing', 'web-1:0 passing web'],
};

const checkOf = (CheckID: string, ServiceID: string) => ({
  Node: 'beta',
  CheckID,
  Name: 'forged',
  Status: 'critical',
  ServiceID,
});

type Attack = readonly [name: string, path: string, body: unknown];
const ON_OTHERS: readonly Attack[] = [
  ['another address for a node', '/catalog/register', { Node: 'beta', Address: '6.6.6.6' }],
  ['a node that is none', '/catalog/register', { Node: 'gamma', Address: '6.6.6.6' }],
  ['a node removed', '/catalog/deregister', { Node: 'beta' }],
  ['a node removed in a transaction', '/txn', [{ Node: { Verb: 'delete', Node: { Node: 'beta' } } }]],
  ['membership removed', '/catalog/deregister', { Node: 'beta', CheckID: 'serfHealth' }],
  ['membership overwritten', '/catalog/register', { ...BETA, Check: checkOf('serfHealth', '') }],
  ['a session of a node', '/session/create', { Node: 'beta', NodeChecks: [] }],
];
const BY_SERVICES: readonly Attack[] = [
  ['a service redirected', '/catalog/register', { ...BETA, Service: { ...WEB, Port: 6 } }],
  ['a service removed', '/catalog/deregister', { Node: 'beta', ServiceID: 'web-1' }],
  [
    'a service removed in a transaction',
    '/txn',
    [{ Service: { Verb: 'delete', Node: 'beta', Service: WEB } }],
  ],
  ['a check of a service failed', '/catalog/register', { ...BETA, Check: checkOf('web-1:0', 'web-1') }],
  ['a check of a service removed', '/catalog/deregister', { Node: 'beta', CheckID: 'web-1:0' }],
];
const FORGERY: Attack = [
  'membership forged as the check of an own service',
  '/catalog/register',
  {
    ...BETA,
    Service: { ID: 'forged', Service: 'alpha.web', Port: 6 },
    Checks: [checkOf('serfHealth', 'forged')],
  },
];

beforeAll(async () => {
  consul = await startGuardedConsul('alpha');
  ({ management } = consul);
}, 60_000);

beforeEach(seedBeta);

afterAll(() => consul.close());

const selfOf = (access: NodeAccess) => attempt(consul.clientOf(access.secretId), 'GET', '/catalog/nodes');
const tokens = async (): Promise<readonly string[]> =>
  (
    await management.request<readonly { readonly AccessorID: string; readonly Description: string }[]>({
      path: '/acl/tokens',
    })
  ).body
    .filter(({ Description }) => Description.startsWith('ContainerOS node '))
    .map(({ AccessorID }) => AccessorID);

describe('access', () => {
  test('made again replaces the first, and revoked is none', async () => {
    const first = await createNodeAccess(management, 'alpha');
    const other = await createNodeAccess(management, 'alpha-2');
    const second = await createNodeAccess(management, 'alpha');
    expect(second).not.toEqual(first);
    expect([...(await tokens())].sort()).toEqual([other.accessorId, second.accessorId].sort());
    await expect(selfOf(first)).rejects.toThrow(/ACL not found/);
    expect(await selfOf(second)).toBe('done');

    await revokeNodeAccess(management, 'alpha');
    await revokeNodeAccess(management, 'alpha');
    await expect(selfOf(second)).rejects.toThrow(/ACL not found/);
    expect(await selfOf(other)).toBe('done');
    await revokeNodeAccess(management, 'alpha-2');
    expect(await tokens()).toEqual([]);
  });

  test('who has lost the name while it was given a token has none, and takes none away', async () => {
    const next = await createNodeAccess(management, 'alpha');
    const late = createNodeAccess(management, 'alpha', 'reader', () => Promise.resolve(false));
    await expect(late).rejects.toMatchObject({ code: 'conflict' });
    await revokeNodeAccess(management, 'alpha', () => Promise.resolve(false));
    expect(await tokens()).toEqual([next.accessorId]);
    expect(await selfOf(next)).toBe('done');
    await revokeNodeAccess(management, 'alpha');
    expect(await tokens()).toEqual([]);
  });

  test('changes its rights with the next token', async () => {
    const body = { ID: 'own', Name: 'own', Port: 1 };
    const register = async (access: NodeAccess) =>
      attempt(consul.clientOf(access.secretId), 'PUT', '/agent/service/register', body);
    expect(await register(await createNodeAccess(management, 'alpha', 'registrar'))).toBe('done');
    expect(await register(await createNodeAccess(management, 'alpha', 'reader'))).toBe(DENIED);
  });

  test('made when nodes had fewer rights gets those of now, and stays what it is', async () => {
    const [reader, registrar] = [
      consul.clientOf((await createNodeAccess(management, 'alpha')).secretId),
      consul.clientOf((await createNodeAccess(management, 'alpha-2', 'registrar')).secretId),
    ];
    const mayRegister = (client: ConsulClient) =>
      attempt(client, 'PUT', '/agent/service/register', { Name: 'own', Port: 1 });
    const mayRead = (client: ConsulClient) =>
      attempt(client, 'GET', '/kv/containeros/hostnames/hello.localhost');
    for (const { ID, Name } of (
      await management.request<readonly { readonly ID: string; readonly Name: string }[]>({
        path: '/acl/policies',
      })
    ).body) {
      if (!Name.startsWith('containeros-node-')) continue;
      const { body } = await management.request<{ readonly Rules: string }>({ path: `/acl/policy/${ID}` });
      const Rules = body.Rules.replace(/key_prefix "containeros.hostnames.*/, '');
      await management.request({ method: 'PUT', path: `/acl/policy/${ID}`, body: { ID, Name, Rules } });
    }
    await management.request({ method: 'PUT', path: '/kv/containeros/hostnames/hello.localhost', body: {} });
    await eventually(async () => expect(await mayRead(reader)).toBe(DENIED));
    await renewNodeRights(management);
    await eventually(async () => expect(await mayRead(reader)).toBe('done'));
    expect(await mayRead(registrar)).toBe('done');
    expect(await mayRegister(reader)).toBe(DENIED);
    await revokeNodeAccess(management, 'alpha');
    await revokeNodeAccess(management, 'alpha-2');
  });

  test.each(['', 'Alpha', 'a" { policy = "write" } node "b', '../x'])('is for no id like %j', async (id) => {
    await expect(createNodeAccess(management, id)).rejects.toMatchObject({ code: 'invalid' });
    await expect(revokeNodeAccess(management, id)).rejects.toMatchObject({ code: 'invalid' });
  });
});

describe('a reader', () => {
  let reader: ConsulClient;
  beforeEach(async () => {
    reader = consul.clientOf((await createNodeAccess(management, 'alpha')).secretId);
  });

  test.each([...ON_OTHERS, ...BY_SERVICES, FORGERY])('cannot do: %s', async (_name, path, body) => {
    expect(await attempt(reader, 'PUT', path, body)).toBe(DENIED);
    expect(await betaState()).toEqual(UNHARMED);
  });

  test.each([
    ['PUT', '/kv/containeros/nodes/alpha'],
    ['PUT', '/kv/containeros/replicas/default/web/1'],
    ['DELETE', '/kv/containeros/?recurse'],
    ['GET', '/kv/containeros/join-tokens/x'],
    ['GET', '/kv/containeros/identities/beta'],
    ['GET', '/acl/tokens'],
    ['GET', '/acl/policies'],
    ['GET', '/snapshot'],
    ['GET', '/operator/keyring'],
    ['PUT', '/agent/force-leave/beta'],
    ['PUT', '/event/fire/x'],
  ] as const)('is refused %s %s', async (method, path) => {
    expect(await attempt(reader, method, path, method === 'PUT' ? {} : undefined)).toBe(DENIED);
  });

  test('sees nodes, services, replicas and its own agent', async () => {
    expect(await createConsulAgent(reader).nodeName()).toBe('alpha');
    expect(await createConsulAgent(reader).nodeChecks('beta')).toMatchObject({ body: [{}, {}] });
    const { body } = await reader.request({ path: '/health/service/web' });
    expect(body).toHaveLength(1);
    await management.request({ method: 'PUT', path: '/kv/containeros/replicas/x', body: {} });
    expect(await reader.request({ path: '/kv/containeros/replicas/x' })).toMatchObject({ status: 200 });
  });
});

describe('a registrar', () => {
  let registrar: ConsulClient;
  beforeEach(async () => {
    registrar = consul.clientOf((await createNodeAccess(management, 'alpha', 'registrar')).secretId);
  });

  test.each(ON_OTHERS)('cannot do: %s', async (_name, path, body) => {
    expect(await attempt(registrar, 'PUT', path, body)).toBe(DENIED);
    expect(await betaState()).toEqual(UNHARMED);
  });

  test('registers with its own agent under any name', async () => {
    const agent = createConsulAgent(registrar);
    await agent.register({
      ...{ ID: 'web-1', Name: 'web', Tags: [], Meta: {}, Address: '127.0.0.1', Port: 80 },
      Checks: [],
    });
    expect(await agent.deregister('web-1')).toBe(true);
  });

  test.each([...BY_SERVICES, FORGERY])('can do to others, as Consul is: %s', async (_name, path, body) => {
    expect(await attempt(registrar, 'PUT', path, body)).toBe('done');
    expect(await betaState()).not.toEqual(UNHARMED);
  });
});

describe.each([
  ['prefix', 'service_prefix "alpha."'],
  ['exact name', 'service "alpha.web"'],
])('rights to services of one %s only, as Consul is', (kind, resource) => {
  let narrow: ConsulClient;
  beforeAll(async () => {
    const name = `narrow-${kind.replace(' ', '-')}`;
    const Rules = `node_prefix "" { policy = "read" } ${resource} { policy = "write" }`;
    await management.request({ method: 'PUT', path: '/acl/policy', body: { Name: name, Rules } });
    const { body } = await management.request<{ readonly SecretID: string }>({
      method: 'PUT',
      path: '/acl/token',
      body: { Policies: [{ Name: name }] },
    });
    narrow = consul.clientOf(body.SecretID);
  });

  test.each(BY_SERVICES)('they protect against: %s', async (_name, path, body) => {
    expect(await attempt(narrow, 'PUT', path, body)).toBe(DENIED);
    expect(await betaState()).toEqual(UNHARMED);
  });

  test('but another node is failed by a check that takes the name of its membership', async () => {
    expect(await attempt(narrow, 'PUT', FORGERY[1], FORGERY[2])).toBe('done');
    expect(await betaState()).toMatchObject({
      checks: ['serfHealth critical alpha.web', 'web-1:0 passing web'],
    });
  });
});

describe('a request without a token', () => {
  test('looks services up once it may, and can do nothing else', async () => {
    const client = createConsulClient({ address: consul.server.address });
    const servicesOn = async (node: string) =>
      (
        await client.request<readonly object[]>({
          path: '/health/service/web',
          query: { filter: `Node.Node == ${node}` },
        })
      ).body.length;
    try {
      await seedBeta();
      expect(await servicesOn('beta')).toBe(0);
      await allowReadingServices(management);
      await allowReadingServices(management);
      await eventually(async () => expect(await servicesOn('beta')).toBe(1));
      expect(await attempt(client, 'PUT', '/catalog/deregister', { Node: 'beta' })).toBe(DENIED);
      expect(await attempt(client, 'GET', '/kv/containeros/nodes/beta')).toBe(DENIED);
      expect(await attempt(client, 'GET', '/acl/tokens')).toBe(DENIED);
    } finally {
      client.close();
    }
  });
});
