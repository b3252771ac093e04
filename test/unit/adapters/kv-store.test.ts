import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { createKeyValueStore } from '../../../adapters/consul/kv-store';
import type { KeyValueStore } from '../../../contracts/key-value-store';

let status = 200;
let server: Server;
let store: KeyValueStore;

beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume();
    response.writeHead(status).end('what Consul says');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  store = createKeyValueStore(
    { address: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
    (message) => {
      throw new Error(message);
    },
  );
});
afterAll(() => {
  store.close();
  server.closeAllConnections();
  server.close();
});

const write = () => store.transact([{ kind: 'set', key: 'a', value: 1 }]);

test.each([500, 503, 429, 403])('a Consul that says %d may say otherwise later', async (said) => {
  status = said;
  for (const call of [() => store.get('a'), () => store.list('a'), write]) {
    await expect(call()).rejects.toMatchObject({ code: 'unavailable' });
  }
});

test.each([400, 413])('a request that Consul refuses with %d is a defect', async (said) => {
  status = said;
  for (const call of [() => store.get('a'), () => store.list('a'), write]) {
    await expect(call()).rejects.toMatchObject({ statusCode: said });
    await expect(call()).rejects.not.toHaveProperty('code', 'unavailable');
  }
});
