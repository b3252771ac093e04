/** On which port hostnames answer. */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

import { parseConfig } from '../../../../workers/config';
import {
  checkPorts,
  chooseDoorPort,
  chooseHttpPort,
  chooseHttpsPort,
  quicPortNeeds,
} from '../../../../workers/up/ports';
import { freePorts } from '../../../support/consul';

const config = (...flags: readonly string[]) => parseConfig(['--dev', ...flags], {}, true);

test('where the usual port is taken, it is the other one, and back when it is free', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  expect(await chooseHttpPort(config(), [port, 8080])).toBe(8080);
  server.close();
  await once(server, 'close');
  expect(await chooseHttpPort(config(), [port, 8080])).toBe(port);
});

test('a port that was asked for is kept, and without an ingress there is none', async () => {
  expect(await chooseHttpPort(config('--http-port', '8181'))).toBe(8181);
  expect(await chooseHttpPort(config('--no-ingress'))).toBeUndefined();
});

test('what is no port is refused', () => {
  expect(() => config('--http-port', '0')).toThrow('--http-port must be a port from 1 to 65535, not 0');
});

test('HTTPS needs the port of TCP and that of UDP, or has the other one', async () => {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  const [other = 0] = await freePorts(1);
  expect(await chooseHttpsPort(config(), [port, other])).toBe(other);
  expect(await chooseHttpsPort(config('--https-port', '8181'))).toBe(8181);
  expect(await chooseHttpsPort(config('--no-ingress'))).toBeUndefined();
  const needs = quicPortNeeds({ ...config('--https-port', String(port)), httpPort: 8080 });
  await expect(checkPorts(needs)).rejects.toThrow(
    `127.0.0.1:${port} for HTTPS of hostnames is in use; choose another with --https-port or --no-ingress`,
  );
  socket.close();
  await once(socket, 'close');
  expect(await chooseHttpsPort(config(), [port, other])).toBe(port);
});

test('the port of the door is free, and neither one of a replica nor one that the system gives away', async () => {
  const port = await chooseDoorPort();
  expect(port).toBeGreaterThanOrEqual(30_000);
  expect(port).toBeLessThan(32_768);
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  server.close();
});
