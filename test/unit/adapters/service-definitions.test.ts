import { checksOf, serviceDefinitions, serviceName } from '../../../adapters/consul/service-definitions';
import type { StartReplica } from '../../../contracts/activities';
import type { RawMicroserviceSpec } from '../../../domain/spec/schema';
import { buildRelease } from '../../support/builders';

const replicaOf = (containers: RawMicroserviceSpec['containers'], project = 'default'): StartReplica => ({
  project,
  name: 'Shop',
  replicaId: 'shop-1',
  release: buildRelease(2, { containers }),
  operation: 'o',
});
const place = { clusterId: 'c', nodeId: 'n', advertiseAddress: '10.0.0.1' };
const definitionsOf = (replica: StartReplica) =>
  replica.release.spec.containers.flatMap((container) =>
    serviceDefinitions(replica, container, place, {
      address: '172.17.0.2',
      hostPorts: new Map([
        ['80/tcp', 20_080],
        ['9000/tcp', 29_000],
        ['53/udp', 20_053],
      ]),
    }),
  );

test('the first port has the name of the microservice, the others their number as well', () => {
  const replica = replicaOf({
    app: { image: 'a', ports: ['53/udp', 9000], httpPorts: { '80': 'shop.example.com' } },
  });
  const names = definitionsOf(replica).map(({ Name, ID, Port, Tags }) => [Name, ID, Port, Tags[2]]);
  expect(names.sort()).toEqual([
    ['shop', 'shop-1-app-80', 20_080, 'http'],
    ['shop-53-udp', 'shop-1-app-53-udp', 20_053, 'udp'],
    ['shop-9000', 'shop-1-app-9000', 29_000, 'tcp'],
  ]);
});

test('names of other projects end in the project', () => {
  const replica = replicaOf({ app: { image: 'a', ports: [80] } }, 'blue');
  expect(serviceName(replica, { port: 80, protocol: 'tcp', hostnames: [] })).toBe('shop-blue');
});

test('checks are run against the container itself, and begin as passing', () => {
  const replica = replicaOf({
    app: {
      image: 'a',
      ports: [80],
      check: { http: { port: 80, path: '/health' }, intervalSeconds: 2, timeoutSeconds: 1, failures: 4 },
    },
  });
  expect(definitionsOf(replica)[0]?.Checks).toEqual([
    {
      CheckID: 'shop-1-app-80:0',
      Name: 'HTTP 80/health',
      HTTP: 'http://172.17.0.2:80/health',
      Method: 'GET',
      Interval: '2000ms',
      Timeout: '1000ms',
      FailuresBeforeCritical: 4,
      Status: 'passing',
    },
  ]);
});

test('a port has its own check, or else those of its container', () => {
  const [container] = replicaOf({
    app: { image: 'a', ports: [80, 9000], check: { http: { port: 80 } } },
  }).release.spec.containers;
  if (container === undefined) throw new Error('no container');
  for (const port of container.ports) {
    expect(checksOf(container, port).map(({ check }) => check)).toEqual([container.checks[0]]);
  }
});
