/** Which lines of the kernel's tables are connections that others have open, and those of a real process. */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';

import { countEstablished, countOpenConnections } from '../../../adapters/host/open-connections';
import { eventually } from '../../support/wait';

const HEAD =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';
/** Port 80 of 10.0.0.2, towards whom and in which state is said. */
const line = (remote: string, state: string, port = '0050') =>
  `   0: 0200000A:${port} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 1 1\n`;

test.each([
  ['a connection from elsewhere', '0100000A:C350', '01', 1],
  ['one of the machine itself', '0100007F:C350', '01', 0],
  ['one of the machine itself by IPv6', '00000000000000000000000001000000:C350', '01', 0],
  ['one of the machine itself by a mapped address', '0000000000000000FFFF00000100007F:C350', '01', 0],
  ['one from elsewhere by a mapped address', '0000000000000000FFFF00000100000A:C350', '01', 1],
  ['a socket that listens', '00000000:0000', '0A', 0],
  ['one that is closing', '0100000A:C350', '06', 0],
])('%s', (_, remote, state, count) => {
  expect(countEstablished(HEAD + line(remote, state), new Set([80]))).toBe(count);
  expect(countEstablished(HEAD + line(remote, state), new Set([8080]))).toBe(0);
});

test('of a real process, while they are open', async () => {
  const address = Object.values(networkInterfaces())
    .flat()
    .find((one) => one !== undefined && one.family === 'IPv4' && !one.internal)?.address;
  const server = createServer((socket) => socket.on('error', () => undefined)).listen(0);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const ports = new Set([port]);
  const client = connect(port, address ?? '127.0.0.1');
  await once(client, 'connect');
  // From a machine without any other address it can only be told that loopback does not count.
  expect(await countOpenConnections(process.pid, ports)).toBe(address === undefined ? 0 : 1);
  client.destroy();
  await eventually(async () => expect(await countOpenConnections(process.pid, ports)).toBe(0));
  server.close();
});

test('of a process that is gone nothing is known', async () => {
  expect(await countOpenConnections(2 ** 22 + 1, new Set([80]))).toBeUndefined();
});
