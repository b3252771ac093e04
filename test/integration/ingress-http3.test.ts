/**
 * HTTP/3 through the ingress, with a real client of it: requests with and without a body, with a certificate that is
 * checked, over new configurations, and nothing before the handshake is complete.
 */

import { createServer } from 'node:http';
import { text as readText } from 'node:stream/consumers';

import { createHostnameAuthority, issueForHostname } from '../../adapters/certificates/hostname-authority';
import { startHttp3Client, type Http3Client } from '../support/http3';
import { listenOn, startIngress, type TestIngress } from '../support/ingress';
import { eventually } from '../support/wait';

const HOSTNAME = 'swift.localhost';
const RELOADS = 5;

const backend = createServer((request, response) => {
  void readText(request).then((body) =>
    response.end(JSON.stringify({ method: request.method, headers: request.headers, body })),
  );
});
let ingress: TestIngress;
let root: string;
const clients: Http3Client[] = [];

beforeAll(async () => {
  const nowMs = Date.now();
  const authority = await createHostnameAuthority({ clusterId: 'c1', nowMs });
  const { chainPem, keyPem } = await issueForHostname({ authority, hostname: HOSTNAME, nowMs });
  root = authority.certificatePem;
  const address = `127.0.0.1:${await listenOn(backend)}`;
  ingress = await startIngress({ [HOSTNAME]: address }, new Map([[HOSTNAME, `${chainPem}${keyPem}`]]));
}, 60_000);

afterEach(async () => {
  for (const client of clients.splice(0)) await client.close();
});

afterAll(async () => {
  await ingress?.stop();
  backend.closeAllConnections();
  backend.close();
}, 30_000);

const connect = (options: { readonly root?: string } = {}): Http3Client => {
  const client = startHttp3Client({ port: ingress.httpsPort, hostname: HOSTNAME, root, ...options });
  clients.push(client);
  return client;
};

test('a request is answered, and one with a body gets there whole', async () => {
  const client = connect();
  const answer = await client.ask({ path: '/a?b=c' });
  expect(answer.status).toBe(200);
  expect(JSON.parse(answer.text)).toMatchObject({
    method: 'GET',
    headers: { host: HOSTNAME, 'x-forwarded-for': '127.0.0.1', 'x-forwarded-proto': 'https' },
    body: '',
  });
  const body = 'ab'.repeat(500_000);
  const posted = await client.ask({ method: 'POST', body });
  expect(JSON.parse(posted.text)).toMatchObject({ method: 'POST', body });
});

test('who trusts another root is not answered', async () => {
  const other = await createHostnameAuthority({ clusterId: 'c2', nowMs: Date.now() });
  await expect(connect({ root: other.certificatePem }).ask()).rejects.toThrow(/certificate/i);
});

test('new configurations lose no request', async () => {
  const client = connect();
  const failures: string[] = [];
  let answered = 0;
  let isDone = false;
  const asking = (async () => {
    for (let number = 0; !isDone; number += 1) {
      try {
        const body = `body ${number}`;
        const { text } = await client.ask(number % 2 === 0 ? {} : { method: 'POST', body });
        if (!text.includes(number % 2 === 0 ? '"GET"' : body)) failures.push(text);
        answered += 1;
      } catch (error) {
        failures.push((error as Error).message);
      }
    }
  })();
  for (let reload = 0; reload < RELOADS; reload += 1) {
    await ingress.reload();
    const before = answered;
    await eventually(() => expect(answered).toBeGreaterThan(before + 20));
  }
  isDone = true;
  await asking;
  expect(failures).toEqual([]);
}, 60_000);

test('a body that is being sent gets there whole over new configurations', async () => {
  const client = connect();
  await client.ask();
  const body = 'ab'.repeat(1_000);
  const posted = client.ask({ method: 'POST', body, pauseMs: 2_000 });
  let isAnswered = false;
  void posted.then(() => (isAnswered = true));
  for (let reload = 0; reload < 2; reload += 1) await ingress.reload();
  expect(isAnswered).toBe(false);
  expect(JSON.parse((await posted).text)).toMatchObject({ method: 'POST', body });
});

test('nothing is taken before a handshake is complete, as it could be sent again by anybody', async () => {
  const client = connect();
  await eventually(async () => {
    await client.ask();
    expect((await client.ask({ early: true })).status).toBe(200);
  });
  for (let time = 0; time < 3; time += 1) {
    const again = await client.ask({ method: 'POST', body: 'again', early: true });
    expect(again.status).toBe(200);
    expect(again.wasEarly).toBe(false);
    expect(again.text).not.toContain('early-data');
  }
});
