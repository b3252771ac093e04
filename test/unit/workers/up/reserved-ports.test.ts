/** Which public ports no microservice gets, because ContainerOS has them. */

import { parseConfig } from '../../../../workers/config';
import { reservedPorts, reservedPortsOfMember } from '../../../../workers/up/ports';

const reservedBy = (of: typeof reservedPorts, flags: readonly string[]) =>
  new Map(
    of(parseConfig(['--data-dir', '/tmp/unused', ...flags], {}, true)).map(({ port, protocol, what }) => [
      `${port}/${protocol}`,
      what,
    ]),
  );
const reserved = (...flags: readonly string[]) => reservedBy(reservedPorts, flags);

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

test('that of SSH, which a public port would take from it when it starts again', () => {
  expect(reserved('--dev').get('22/tcp')).toBe('SSH');
});

test('those of a machine that has joined are of its own Consul and its own ingress', () => {
  const ports = ['--http-port', '8080', '--https-port', '8443', '--consul-port', '9500'];
  const all = reservedBy(reservedPortsOfMember, [...JOINABLE, ...ports]);
  expect([...all.keys()]).toEqual(
    expect.arrayContaining(['22/tcp', '8080/tcp', '8443/tcp', '8443/udp', '9500/tcp']),
  );
  for (const port of ['80/tcp', '8000/tcp', '7233/tcp', '7443/tcp'])
    expect([...all.keys()]).not.toContain(port);
});
