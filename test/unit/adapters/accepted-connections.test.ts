/** Connections that the kernel counts as accepted. */

import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';

import { acceptedConnections } from '../../../adapters/host/accepted-connections';

test('each connection that is accepted on this machine is counted', async () => {
  const server = createServer((socket) => socket.end());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const before = acceptedConnections() ?? NaN;
  for (let times = 0; times < 5; times += 1) {
    await once(connect((server.address() as AddressInfo).port, '127.0.0.1').resume(), 'close');
  }
  server.close();
  expect(acceptedConnections() ?? NaN).toBeGreaterThanOrEqual(before + 5);
});
