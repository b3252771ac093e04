/** On which port hostnames answer. */

import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

import { parseConfig } from '../../../../workers/config';
import { chooseHttpPort } from '../../../../workers/up/ports';

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
