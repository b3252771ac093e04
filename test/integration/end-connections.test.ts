/** Connections of this machine, ended by its kernel. */

import { once } from 'node:events';
import type { Socket } from 'node:net';

import { endConnections } from '../../adapters/host/end-connections';
import { dialPort, hasClosed, say, startNamed, type StreamServer } from '../support/stream-servers';

const servers: StreamServer[] = [];
afterAll(() => servers.forEach((server) => server.kill()));

const connected = async (name: string): Promise<{ readonly port: number; readonly socket: Socket }> => {
  const server = await startNamed(name);
  servers.push(server);
  return { port: server.port, socket: await dialPort(server.port) };
};

test('those to some endpoints are ended, also idle ones, and no others', async () => {
  const [one, two, other] = await Promise.all(['one', 'two', 'other'].map(connected));
  if (one === undefined || two === undefined || other === undefined) throw new Error('there are not three');
  const errors = Promise.all([one, two].map(({ socket }) => once(socket, 'error')));
  const closed = Promise.all([one, two].map(({ socket }) => hasClosed(socket)));
  // More than one call's worth, with what no connection leads to, and what is no endpoint.
  const nowhere = Array.from({ length: 150 }, (_, index) => ({ address: '192.0.2.1', port: 20_000 + index }));
  await endConnections([
    { address: '127.0.0.1', port: one.port },
    { address: '::1', port: other.port },
    { address: 'name.example.org', port: other.port },
    { address: '127.0.0.1', port: 0 },
    ...nowhere,
    { address: '127.0.0.1', port: two.port },
  ]);
  await closed;
  expect((await errors).flat()).toMatchObject([{ code: 'ECONNABORTED' }, { code: 'ECONNABORTED' }]);
  expect(await say(other.socket, 'hello')).toBe('other: hello');
  other.socket.destroy();
});

test('there may be nothing to end', async () => {
  await endConnections([]);
  await endConnections([{ address: '192.0.2.1', port: 20_000 }]);
});
