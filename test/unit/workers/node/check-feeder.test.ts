/** Which checks the node runs itself, and what it tells of them, over a container that is a server in this process. */

import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import type Docker from 'dockerode';

import type { HealthStatus } from '../../../../adapters/consul/consul-agent';
import { createCheckFeeder, type CheckFeeder } from '../../../../workers/node/check-feeder';
import { rememberReplica, type NodeMemory } from '../../../../workers/node/node-memory';
import { buildRelease } from '../../../support/builders';
import { eventually } from '../../../support/wait';

let server: Server;
let status = 200;
let requests = 0;
const feeders: CheckFeeder[] = [];
beforeAll(async () => {
  server = createServer((_request, response) => {
    requests += 1;
    response.writeHead(status).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
beforeEach(() => {
  status = 200;
  requests = 0;
});
afterEach(() => {
  for (const feeder of feeders.splice(0)) feeder.stopAll();
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const startFeeder = (options?: { readonly runsAllChecks: boolean }) => {
  const { port } = server.address() as AddressInfo;
  const told: (readonly [string, number, HealthStatus])[] = [];
  let isAway = false;
  const feeder = createCheckFeeder(
    {} as Docker,
    {
      report: async (serviceId, check, said) => {
        if (isAway) throw new Error('away');
        told.push([serviceId, check, said]);
      },
    },
    () => {
      throw new Error('it has ports');
    },
    options,
  );
  feeders.push(feeder);
  const release = buildRelease(1, {
    containers: {
      app: { image: 'a', ports: [port], check: { http: { port }, intervalSeconds: 1, failures: 1 } },
    },
  });
  const [spec] = release.spec.containers;
  if (spec === undefined) throw new Error('no container');
  const container = { ...spec, checks: spec.checks.map((check) => ({ ...check, intervalMs: 10 })) };
  const memory: NodeMemory = new Map();
  const replica = rememberReplica(
    memory,
    { project: 'default', name: 'web', replicaId: 'web-1', release, operation: 'o' },
    0,
    'kept',
  );
  feeder.feed(replica, container, 'id', '127.0.0.1');
  return { feeder, told, serviceId: `web-1-app-${port}`, away: (value: boolean) => (isAway = value) };
};

test('checks of services are left to Consul', () => {
  startFeeder();
  const timers = jest.spyOn(globalThis, 'setTimeout');
  startFeeder();
  expect(timers.mock.calls).toEqual([]);
  expect(requests).toBe(0);
  timers.mockRestore();
});

test('or all are run, and only changes are told', async () => {
  const { told, serviceId } = startFeeder({ runsAllChecks: true });
  await eventually(() => expect(requests).toBeGreaterThan(3));
  expect(told).toEqual([]);
  status = 500;
  await eventually(() => expect(told).toEqual([[serviceId, 0, 'critical']]));
  const before = requests;
  await eventually(() => expect(requests).toBeGreaterThan(before + 3));
  expect(told).toHaveLength(1);
  status = 200;
  await eventually(() => expect(told.at(-1)).toEqual([serviceId, 0, 'passing']));
  expect(told).toHaveLength(2);
});

test('what could not be told is told with the next look', async () => {
  const { told, serviceId, away } = startFeeder({ runsAllChecks: true });
  away(true);
  status = 500;
  await eventually(() => expect(requests).toBeGreaterThan(3));
  away(false);
  await eventually(() => expect(told).toEqual([[serviceId, 0, 'critical']]));
});

test('a service that was registered again is told again how it is', async () => {
  const { feeder, told, serviceId } = startFeeder({ runsAllChecks: true });
  status = 500;
  await eventually(() => expect(told).toHaveLength(1));
  feeder.tellAgain('web-1', 'app');
  await eventually(() => expect(told).toEqual([1, 2].map(() => [serviceId, 0, 'critical'])));
  feeder.tellAgain('web-9', 'app');
  const before = requests;
  await eventually(() => expect(requests).toBeGreaterThan(before + 3));
  expect(told).toHaveLength(2);
});
