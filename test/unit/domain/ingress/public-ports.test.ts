/** Where public ports lead, and which replica a connection goes to. */

import {
  chooseEndpoint,
  endpointKey,
  type EndpointGroup,
  type ForwardEndpoint,
} from '../../../../domain/ingress/balancing';
import { claimInWords, claimsTakenInWords } from '../../../../domain/ingress/claim-words';
import { proxyHeader } from '../../../../domain/ingress/proxy-header';
import { isHostnameClaim, publicPortRoutesOf } from '../../../../domain/ingress/public-ports';
import type { ObservedReplica } from '../../../../domain/model';
import { buildReplica } from '../../../support/builders';

const key = { project: 'default', name: 'gate' };

const replica = (
  id: string,
  nodeId: string,
  hostPort: number,
  more: Partial<ObservedReplica> = {},
): ObservedReplica =>
  buildReplica(id, nodeId, {
    ...key,
    ports: [
      {
        container: 'main',
        port: 5432,
        protocol: 'tcp',
        address: `10.0.0.${nodeId}`,
        hostPort,
        serviceId: id,
        hostnames: [],
        publicPorts: [15_432],
      },
    ],
    ...more,
  });

const routes = (replicas: readonly ObservedReplica[], owner = key, down: readonly string[] = []) =>
  publicPortRoutesOf({
    claims: new Map([
      ['tcp:15432', owner],
      ['gate.localhost', owner],
    ]),
    replicas,
    isUp: (id) => !down.includes(id),
  });

test('a port leads to replicas that serve on nodes that are up, in a stable order', () => {
  const [route] = routes([replica('b', '2', 20_001), replica('a', '1', 20_000)]);
  expect(route).toMatchObject({ port: 15_432, protocol: 'tcp', name: 'gate', lost: [] });
  expect(route?.endpoints.map(({ replicaId, address, port }) => [replicaId, address, port])).toEqual([
    ['a', '10.0.0.1', 20_000],
    ['b', '10.0.0.2', 20_001],
  ]);
});

test('those that do not serve get nothing, and those on lost nodes are told as lost', () => {
  const [route] = routes(
    [replica('a', '1', 20_000, { state: 'stopping' }), replica('b', '2', 20_001), replica('c', '3', 20_002)],
    key,
    ['3'],
  );
  expect(route?.endpoints.map(({ replicaId }) => replicaId)).toEqual(['b']);
  expect(route?.lost).toEqual([{ address: '10.0.0.3', port: 20_002 }]);
});

test('a port leads to nobody but whoever holds it, and is known without replicas', () => {
  expect(routes([replica('a', '1', 20_000)], { project: 'default', name: 'other' })).toMatchObject([
    { name: 'other', endpoints: [] },
  ]);
  expect(routes([])).toHaveLength(1);
});

test('a microservice that came back under its name in other capitals, while the old one was removed, is led to', () => {
  const [route] = routes([replica('a', '1', 20_000, { name: 'Gate' })]);
  expect(route?.endpoints).toHaveLength(1);
});

test('claims of ports are no hostnames, and are called by their names', () => {
  expect(['tcp:80', 'a.example.com', 'a.example.com/api'].map(isHostnameClaim)).toEqual([false, true, true]);
  expect(['udp:53', 'a.example.com/api'].map(claimInWords)).toEqual(['port 53/udp', 'a.example.com/api']);
  expect(claimsTakenInWords([{ hostname: 'udp:53', owner: 'dns' }])).toBe(
    'The public port 53/udp belongs to the microservice dns. Use another public port, take it from there first, or take it over with ?moveHostnames=true (containeros deploy --move-hostnames).',
  );
  const taken = ['a.example.com', 'a.example.com/api', 'tcp:53'].map((hostname) => ({
    hostname,
    owner: 'dns',
  }));
  expect(claimsTakenInWords(taken)).toBe(
    'The hostname a.example.com belongs to the microservice dns, hostname a.example.com/api to dns, and public port 53/tcp to dns. Use others, take them from there first, or take them over with ?moveHostnames=true (containeros deploy --move-hostnames).',
  );
});

const endpoint = (port: number, isLocal = false): ForwardEndpoint => ({ address: '10.0.0.1', port, isLocal });

/** How often each port is chosen, in parts of a hundred, when nothing stays open. */
const shares = (groups: readonly EndpointGroup[], open: ReadonlyMap<number, number> = new Map()) => {
  const counts = new Map<number, number>();
  const steps = 100;
  for (let first = 0; first < steps; first += 1) {
    for (let second = 0; second < steps; second += 1) {
      const draws = [first / steps, second / steps];
      const chosen = chooseEndpoint(
        groups,
        (id) => open.get(Number(id.split(' ')[1])) ?? 0,
        () => false,
        () => draws.shift() ?? 0,
      );
      if (chosen !== undefined) counts.set(chosen.port, (counts.get(chosen.port) ?? 0) + 1);
    }
  }
  return Object.fromEntries([...counts].map(([port, count]) => [port, Math.round(count / steps)]));
};

test('the replica with the fewest connections is taken, and of equals a local one most of the time', () => {
  const groups = [{ weight: 1, endpoints: [endpoint(1, true), endpoint(2), endpoint(3)] }];
  expect(shares(groups)).toEqual({ 1: 60, 2: 20, 3: 20 });
  expect(shares(groups, new Map([[1, 1]]))).toEqual({ 2: 50, 3: 50 });
  const busy = new Map([
    [1, 4],
    [2, 3],
    [3, 5],
  ]);
  expect(shares(groups, busy)).toEqual({ 2: 100 });
});

test('a release gets its share, however many replicas and connections it has', () => {
  const groups = [
    { weight: 90, endpoints: [endpoint(1), endpoint(2)] },
    { weight: 10, endpoints: [endpoint(3)] },
  ];
  expect(shares(groups)).toEqual({ 1: 45, 2: 45, 3: 10 });
  expect(shares(groups, new Map([[3, 9]]))).toEqual({ 1: 45, 2: 45, 3: 10 });
});

test('those that have been tried are left out, and when all have there is none', () => {
  const groups = [
    { weight: 99, endpoints: [endpoint(1)] },
    { weight: 1, endpoints: [endpoint(2)] },
  ];
  const without = (...tried: readonly number[]) =>
    chooseEndpoint(
      groups,
      () => 0,
      (id) => tried.some((port) => endpointKey(endpoint(port)) === id),
      () => 0,
    );
  expect(without(1)?.port).toBe(2);
  expect(without(1, 2)).toBeUndefined();
});

const v4 = {
  clientAddress: '::ffff:192.0.2.1',
  clientPort: 4660,
  ownAddress: '::ffff:10.0.0.1',
  ownPort: 25,
};
const v6 = { clientAddress: '2001:db8::1', clientPort: 4660, ownAddress: '::1', ownPort: 25 };
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

test('the PROXY protocol tells who the client is', () => {
  expect(Buffer.from(proxyHeader('v1', v4)).toString()).toBe('PROXY TCP4 192.0.2.1 10.0.0.1 4660 25\r\n');
  expect(Buffer.from(proxyHeader('v1', v6)).toString()).toBe('PROXY TCP6 2001:db8::1 ::1 4660 25\r\n');
  const signature = '0d0a0d0a000d0a515549540a';
  expect(hex(proxyHeader('v2', v4))).toBe(`${signature}2111000cc00002010a00000112340019`);
  expect(hex(proxyHeader('v2', v6))).toBe(
    `${signature}2121002420010db8000000000000000000000001${'0'.repeat(31)}112340019`,
  );
});
