/** Which services a node may have written: what an honest one sends goes through, and what an attacker sends does not. */

import { LIVENESS_NOTES } from '../../../../api/cluster-port/node-liveness';
import {
  assertOwnService,
  isServiceWrite,
  parseServiceWrite,
  planServices,
  replicaKeyOf,
  type ServiceFacts,
} from '../../../../api/cluster-port/node-services';
import { serviceDefinitions } from '../../../../adapters/consul/service-definitions';
import { createClusterPortAgent } from '../../../../adapters/cluster-port/agent';
import { createConsulClient } from '../../../../adapters/consul/consul-client';
import { replicaKvKey } from '../../../../contracts/kv';
import {
  MAX_CHECK_OUTPUT_CHARACTERS,
  MAX_NODE_SERVICES,
  MAX_SERVICE_CHECKS,
  operationsOf,
  targetOf,
  type NodeService,
  type NodeServiceWrite,
} from '../../../../contracts/node-documents';
import type { CatalogueCheck } from '../../../../contracts/service-catalogue';
import { buildRelease } from '../../../support/builders';

const HOLDER = { nodeId: 'a', clusterId: 'c' };
const ADDRESS = '10.0.0.1';
const ID = 'shop-1-app-80';

/** What a node's agent sends for the replica `shop-1` of `Shop`, with two ports. */
const sentByNode = async (nodeId = 'a'): Promise<readonly NodeService[]> => {
  const writes: NodeServiceWrite[] = [];
  const consul = createConsulClient({ address: 'http://127.0.0.1:1' });
  const agent = createClusterPortAgent({
    writer: {
      writeService: async (write) => {
        writes.push(write);
        return true;
      },
    },
    consul,
    nodeId,
  });
  const replica = {
    project: 'default',
    name: 'Shop',
    replicaId: 'shop-1',
    release: buildRelease(2, {
      containers: {
        app: {
          image: 'a',
          ports: ['53/udp', 9000],
          httpPorts: { '80': 'shop.example.com' },
          check: { http: { port: 80 } },
        },
      },
    }),
    operation: 'o',
  };
  const place = { clusterId: 'c', nodeId, advertiseAddress: ADDRESS };
  for (const container of replica.release.spec.containers) {
    const at = { address: '172.17.0.2', hostPorts: new Map([['80/tcp', 20_080]]) };
    for (const definition of serviceDefinitions(replica, container, place, at)) {
      await agent.register(definition);
    }
  }
  await agent.register({
    ID: `containeros-node-${nodeId}`,
    Name: 'containeros-node',
    Tags: ['containeros'],
    Meta: { node: nodeId, kind: 'node', 'cluster-id': 'c' },
    Address: ADDRESS,
    Port: 0,
    Checks: [{ CheckID: `containeros-node-${nodeId}:alive`, Name: 'Node worker', TTL: '20s' }],
  });
  consul.close();
  return writes.flatMap((write) => (write.kind === 'putService' ? [write.service] : []));
};

const put = (service: unknown): unknown => ({ kind: 'putService', service });
const judge = (value: unknown): NodeServiceWrite => {
  const write = parseServiceWrite(value, 0);
  assertOwnService(write, HOLDER);
  return write;
};
const facts = (overrides: Partial<ServiceFacts> = {}): ServiceFacts => ({
  ...HOLDER,
  address: ADDRESS,
  ownsReplica: (key) => key === replicaKvKey({ project: 'default', name: 'shop' }, 'shop-1'),
  services: [],
  checks: [],
  ...overrides,
});

let web: NodeService;
let node: NodeService;
beforeAll(async () => {
  const sent = await sentByNode();
  web = sent.find(({ id }) => id === ID) as NodeService;
  node = sent.at(-1) as NodeService;
});

test('what a node registers is its own, under the node of its certificate', async () => {
  const sent = await sentByNode();
  const writes = sent.map((service) => judge(put(service)));
  expect(writes.map(targetOf)).toEqual([
    'service shop-1-app-53-udp',
    'service shop-1-app-80',
    'service shop-1-app-9000',
    'service containeros-node-a',
  ]);
  const { operations, absent } = planServices(writes, facts());
  expect(absent).toEqual([]);
  expect(operations).toHaveLength(4);
  expect(operations.every((one) => one.kind === 'putService' && one.node === 'a')).toBe(true);
  expect(operations[1]).toMatchObject({
    service: { name: 'shop', address: ADDRESS, port: 20_080, meta: { node: 'a', cluster: 'c' } },
    checks: [{ id: `${ID}:0`, status: 'passing', notes: '' }],
  });
  expect(operations[3]).toMatchObject({
    service: { name: 'containeros-node' },
    checks: [{ id: 'containeros-node-a:alive', status: 'critical', notes: LIVENESS_NOTES }],
  });
});

type Change = (service: NodeService) => unknown;
const withMeta =
  (meta: Readonly<Record<string, string>>): Change =>
  (service) => ({ ...service, meta: { ...service.meta, ...meta } });
const withChecks =
  (...ids: string[]): Change =>
  (service) => ({ ...service, checks: ids.map((id) => ({ id, name: 'forged', status: 'critical' })) });

test.each<readonly [string, 'forbidden' | 'invalid', Change]>([
  ['another node in its metadata', 'forbidden', withMeta({ node: 'b' })],
  ['another cluster in its metadata', 'forbidden', withMeta({ cluster: 'other' })],
  [
    'no cluster in its metadata',
    'forbidden',
    ({ meta: { node: of = '' }, ...rest }) => ({ ...rest, meta: { node: of } }),
  ],
  ['the node in the body', 'invalid', (service) => ({ ...service, node: 'b' })],
  ['the id of another replica', 'forbidden', (service) => ({ ...service, id: 'shop-2-app-80' })],
  ['an id that only begins like it', 'forbidden', (service) => ({ ...service, id: 'shop-1-app-80-x' })],
  ['the replica of another id', 'forbidden', withMeta({ replica: 'shop-2' })],
  ['the id of a node', 'forbidden', (service) => ({ ...service, id: 'containeros-node-b' })],
  ['an id with a slash', 'invalid', (service) => ({ ...service, id: '../x' })],
  ['an id with a colon', 'invalid', (service) => ({ ...service, id: `${ID}:0` })],
  ['the name of another microservice', 'forbidden', (service) => ({ ...service, name: 'bank' })],
  ['the name of another project', 'forbidden', (service) => ({ ...service, name: 'shop-blue' })],
  ['the name of another port', 'forbidden', (service) => ({ ...service, name: 'shop-9000' })],
  ['the name of the service of nodes', 'forbidden', (service) => ({ ...service, name: 'containeros-node' })],
  [
    'that name, by a microservice called so',
    'forbidden',
    (service) => ({
      ...service,
      name: 'containeros-node',
      meta: { ...service.meta, microservice: 'containeros-node' },
    }),
  ],
  ['the name of Consul itself', 'forbidden', (service) => ({ ...service, name: 'consul' })],
  ['no port in its metadata', 'invalid', withMeta({ port: '0' })],
  ['another protocol', 'invalid', withMeta({ protocol: 'sctp' })],
  ['no container in its metadata', 'invalid', withMeta({ container: '' })],
  ['no port', 'invalid', (service) => ({ ...service, port: 0 })],
  ['a port that is none', 'invalid', (service) => ({ ...service, port: 70_000 })],
  ['the membership as its check', 'forbidden', withChecks('serfHealth')],
  ['the check of another service', 'forbidden', withChecks('shop-1-app-9000:0')],
  ['a check of nodes', 'forbidden', withChecks('_node_maintenance')],
  ['maintenance', 'forbidden', withChecks(`_service_maintenance:${ID}`)],
  ['a check with an empty id', 'invalid', withChecks('')],
  ['a check that has nothing after the id', 'forbidden', withChecks(`${ID}:`)],
  ['a check twice', 'invalid', withChecks(`${ID}:0`, `${ID}:0`)],
  [
    'too many checks',
    'invalid',
    withChecks(...Array.from({ length: MAX_SERVICE_CHECKS + 1 }, (_, at) => `${ID}:${at}`)),
  ],
  [
    'a check of something else',
    'invalid',
    (service) => ({ ...service, checks: [{ id: `${ID}:0`, name: 'x', status: 'passing', serviceId: '' }] }),
  ],
  [
    'a state that is none',
    'invalid',
    (service) => ({ ...service, checks: [{ id: `${ID}:0`, name: 'x', status: 'well' }] }),
  ],
  [
    'too much metadata',
    'invalid',
    withMeta(Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`k${at}`, 'x']))),
  ],
  ['long metadata', 'invalid', withMeta({ note: 'x'.repeat(513) })],
  [
    'too many tags',
    'invalid',
    (service) => ({ ...service, tags: Array.from({ length: 17 }, (_, at) => `t${at}`) }),
  ],
  ['a proxy', 'invalid', (service) => ({ ...service, kind: 'connect-proxy' })],
])('a service with %s is refused as %s', (_name, code, change) => {
  expect(() => judge(put(change(web)))).toThrow(expect.objectContaining({ code }) as Error);
});

test.each<readonly [string, Change]>([
  ['of another node', (service) => ({ ...service, id: 'containeros-node-b' })],
  ['that says another node', withMeta({ node: 'b' })],
  ['of another cluster', withMeta({ 'cluster-id': 'other' })],
  ['under another name', (service) => ({ ...service, name: 'shop' })],
  ['with the check of another node', withChecks('containeros-node-b:alive')],
  ['with the membership as its check', withChecks('serfHealth')],
])('the service of a node %s is refused', (_name, change) => {
  expect(() => judge(put(change(node)))).toThrow(expect.objectContaining({ code: 'forbidden' }) as Error);
});

test.each([
  ['of the membership', { serviceId: ID, checkId: 'serfHealth' }, 'forbidden'],
  ['of the node, without a service', { serviceId: '', checkId: 'serfHealth' }, 'invalid'],
  ['without a service', { serviceId: undefined, checkId: 'serfHealth' }, 'invalid'],
  ['of another service', { serviceId: ID, checkId: 'shop-2-app-80:0' }, 'forbidden'],
  [
    'with endless words',
    { serviceId: ID, checkId: `${ID}:0`, output: 'x'.repeat(MAX_CHECK_OUTPUT_CHARACTERS + 1) },
    'invalid',
  ],
] as const)('the state of a check %s is refused', (_name, change, code) => {
  const write = { kind: 'reportCheck', status: 'critical', output: '', ...change };
  expect(() => judge(write)).toThrow(expect.objectContaining({ code }) as Error);
});

describe('what has to be known of the node', () => {
  const plan =
    (overrides: Partial<ServiceFacts>, ...writes: NodeServiceWrite[]) =>
    () =>
      planServices(writes.length === 0 ? [{ kind: 'putService', service: web }] : writes, facts(overrides));
  const stranger = { id: ID, name: 'shop', meta: {} };
  const remove = { kind: 'removeService', serviceId: ID } as const;
  const report = {
    kind: 'reportCheck',
    serviceId: ID,
    checkId: `${ID}:0`,
    status: 'critical',
    output: 'x',
  } as const;

  test.each<readonly [string, string, () => unknown, RegExp]>([
    ['no node in the catalogue', 'unavailable', plan({ services: undefined }), /no node a yet/],
    ['no replica of that id', 'unavailable', plan({ ownsReplica: () => false }), /no document says/],
    ['no document of the node', 'unavailable', plan({ address: undefined }), /no document yet/],
    [
      'another address',
      'forbidden',
      plan({ address: '10.0.0.9' }),
      /10\.0\.0\.1 is not that of the node a, 10\.0\.0\.9/,
    ],
    ["a stranger's service in its place", 'forbidden', plan({ services: [stranger] }), /not of ContainerOS/],
    [
      "a stranger's service to be removed",
      'forbidden',
      plan({ services: [stranger] }, remove),
      /not of ContainerOS/,
    ],
    [
      "a stranger's check to be told",
      'forbidden',
      plan({ services: [stranger] }, report),
      /not of ContainerOS/,
    ],
    [
      "another cluster's service to be removed",
      'forbidden',
      plan({ services: [{ ...stranger, meta: { node: 'a', cluster: 'd' } }] }, remove),
      /not of ContainerOS/,
    ],
    [
      'as many services as may be',
      'too_large',
      plan({
        services: Array.from({ length: MAX_NODE_SERVICES }, (_, at) => ({
          id: `x${at}`,
          name: 'x',
          meta: {},
        })),
      }),
      /2000 services at most/,
    ],
  ])('%s: %s', (_name, code, run, words) => {
    expect(run).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(words) as string }) as Error,
    );
  });

  test('what is not there is told, and what has not changed is not written', () => {
    const own = { id: ID, name: 'shop', meta: web.meta };
    const check: CatalogueCheck = {
      id: `${ID}:0`,
      node: 'a',
      serviceId: ID,
      serviceName: 'shop',
      name: 'HTTP',
      status: 'passing',
      output: 'ok',
      notes: 'kept',
      index: 7,
    };
    expect(plan({}, remove)()).toEqual({ operations: [], absent: [ID] });
    expect(plan({}, report)()).toEqual({ operations: [], absent: [`${ID}:0`] });
    expect(plan({ services: [own] }, report)()).toEqual({ operations: [], absent: [`${ID}:0`] });
    expect(
      plan({ services: [own], checks: [{ ...check, serviceId: 'other' }] }, report)().absent,
    ).toHaveLength(1);
    const known = { services: [own], checks: [check] };
    expect(plan(known, { ...report, status: 'passing', output: 'ok' })()).toEqual({
      operations: [],
      absent: [],
    });
    expect(plan(known, report)().operations).toEqual([
      { kind: 'replaceCheck', check: { ...check, status: 'critical', output: 'x' } },
    ]);
    expect(plan(known, remove)().operations).toEqual([
      { kind: 'removeService', node: 'a', serviceId: ID, serviceName: 'shop' },
    ]);
  });
});

test('writes of services are told from documents, and weigh what their transaction takes', () => {
  const write = judge(put(web));
  expect(isServiceWrite(write)).toBe(true);
  expect(isServiceWrite({ kind: 'remove', key: 'x' })).toBe(false);
  expect(operationsOf(write)).toBe(3);
  expect(replicaKeyOf(web, HOLDER)).toBe(replicaKvKey({ project: 'default', name: 'shop' }, 'shop-1'));
  expect(replicaKeyOf(node, HOLDER)).toBeUndefined();
});
