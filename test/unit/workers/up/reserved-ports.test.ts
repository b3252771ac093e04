/** Which public ports no microservice gets, because ContainerOS has them. */

import { parseConfig } from '../../../../workers/config';
import { reservedPorts } from '../../../../workers/up/ports';

const reserved = (...flags: readonly string[]) =>
  new Map(
    reservedPorts(parseConfig(['--data-dir', '/tmp/unused', ...flags], {}, true)).map(
      ({ port, protocol, what }) => [`${port}/${protocol}`, what],
    ),
  );

const JOINABLE = ['--advertise-address', '192.0.2.1'];

test('those of the API, of hostnames, of nodes, of Temporal and of Consul, which speaks both protocols', () => {
  const all = reserved(...JOINABLE, '--http-port', '80', '--https-port', '443', '--api-port', '8001');
  expect(Object.fromEntries(all)).toMatchObject({
    '8001/tcp': 'the API',
    '80/tcp': 'hostnames of microservices',
    '443/tcp': 'HTTPS of hostnames',
    '443/udp': 'HTTPS of hostnames',
    '7443/tcp': 'joining and nodes',
    '7233/tcp': 'Temporal',
    '8301/tcp': 'Consul',
    '8301/udp': 'Consul',
  });
  expect([...all.keys()]).not.toContain('80/udp');
});

test('where something is not, its port can be had', () => {
  const all = reserved('--dev', '--no-ingress', '--http-port', '80', '--temporal-address', '192.0.2.2:7233');
  expect([...all.keys()]).toEqual(expect.arrayContaining(['8000/tcp', '8500/tcp']));
  for (const port of ['80/tcp', '443/tcp', '7443/tcp', '7233/tcp'])
    expect([...all.keys()]).not.toContain(port);
});
