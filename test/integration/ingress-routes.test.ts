/**
 * Options of routes, each with a real Caddy and a real Consul. Two keepers with a Caddy each stand for two nodes: what
 * one does for a client, the other goes on with.
 */

import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import * as http2 from 'node:http2';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import { connect, type AddressInfo } from 'node:net';

import { hashSync } from 'bcryptjs';

import { hostnameKvKey, maintenanceKvKey, routesKvKey } from '../../contracts/kv';
import type { MaintenanceState, PortRoute } from '../../domain/ingress/route-options';
import type { ObservedReplica } from '../../domain/model';
import { createTestAuthority } from '../support/certificates';
import { startConsul, type RunningConsul } from '../support/consul';
import { httpRequest, type HttpAnswer } from '../support/http';
import { cuttingSlowBodiesSoon } from '../support/ingress';
import {
  keyOf,
  routesIn,
  startIngressNode,
  type IngressNode,
  type PublishedRoutes,
} from '../support/ingress-node';
import { sendBytes } from '../support/raw-http';
import { eventually } from '../support/wait';

let consul: RunningConsul;
let nodes: readonly IngressNode[] = [];
let replica: PublishedRoutes['replica'];
let publish: PublishedRoutes['publish'];
let publishRoutes: PublishedRoutes['publishRoutes'];
let serve: PublishedRoutes['serve'];
const servers: { close(): unknown }[] = [];

const listen = async (server: Server | TlsServer | http2.Http2Server): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  servers.push(server);
  return (server.address() as AddressInfo).port;
};

const backend = (answer: RequestListener): Promise<number> => listen(createServer(answer));
const saying = (text: string): Promise<number> => backend((_, response) => response.end(text));

const first = (): IngressNode => nodes[0] as IngressNode;

const ask = (
  url: string,
  {
    node = first(),
    ...options
  }: { node?: IngressNode; method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<HttpAnswer> => {
  const { hostname, pathname, search } = new URL(`http://${url}`);
  return httpRequest(`http://127.0.0.1:${node.httpPort}${pathname}${search}`, {
    ...options,
    headers: { host: hostname, ...options.headers },
  });
};

const answers = async (url: string, text: string, options: Parameters<typeof ask>[1] = {}): Promise<void> => {
  await eventually(async () => expect((await ask(url, options)).text).toBe(text), {
    describe: `${url} answers ${text}`,
  });
  for (const node of nodes) await node.loads.settled();
};

const basic = (user: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
});

beforeAll(async () => {
  consul = await startConsul();
  ({ replica, publish, publishRoutes, serve } = routesIn(consul));
  nodes = [
    await startIngressNode(consul),
    await startIngressNode(
      consul,
      { addresses: ['127.0.0.1', '10.1.0.0/16'], proxyProtocol: true },
      { changeConfig: cuttingSlowBodiesSoon },
    ),
  ];
}, 60_000);

afterAll(async () => {
  for (const node of nodes) await node.stop();
  for (const server of servers) server.close();
  await consul?.close();
}, 30_000);

test('paths lead to ports of several microservices, on the borders of segments, the longest first', async () => {
  const echo = (name: string) =>
    backend(({ url, headers }, response) =>
      response.end(`${name} ${url} ${String(headers['x-forwarded-prefix'])}`),
    );
  await consul.documents.put(hostnameKvKey('paths.localhost'), keyOf('root'));
  const root = replica('root-1', 'root', await echo('root'));
  await publish({ ...root, ports: root.ports.map((port) => ({ ...port, hostnames: ['paths.localhost'] })) });
  await answers('paths.localhost/api/x', 'root /api/x undefined');
  const hostnames = ['paths.localhost'];
  await serve('api', await echo('api'), { hostnames, path: '/api', stripPath: true });
  await serve('deep', await echo('deep'), { hostnames, path: '/api/deep' });
  await answers('paths.localhost/api/x?q=1', 'api /x?q=1 /api');
  await answers('paths.localhost/api/deep/x', 'deep /api/deep/x undefined');
  for (const [path, text] of [
    ['/api', 'api / /api'],
    ['/API/x', 'api /x /api'],
    ['/apis', 'root /apis undefined'],
    ['/', 'root / undefined'],
    ['/api/deeper', 'api /deeper /api'],
    ['/api/deep', 'deep /api/deep undefined'],
  ] as const) {
    expect((await ask(`paths.localhost${path}`)).text).toBe(text);
  }
  // What goes gives its paths back to the next shorter one.
  await consul.documents.remove(hostnameKvKey('paths.localhost/api'));
  await answers('paths.localhost/api/x', 'root /api/x undefined');
});

test('redirects keep scheme, path, query, port and method', async () => {
  await serve('apex', await saying('apex'), { redirectFrom: ['www.apex.localhost'] });
  await answers('apex.localhost', 'apex');
  await eventually(async () => {
    const { status, headers } = await ask('www.apex.localhost/a%20b?c=d', {
      method: 'POST',
      headers: { host: `www.apex.localhost:${first().httpPort}` },
    });
    expect([status, headers.location]).toEqual([308, `//apex.localhost:${first().httpPort}/a%20b?c=d`]);
  });
  expect((await ask('www.apex.localhost/x')).headers.location).toBe('//apex.localhost/x');
});

test('a wildcard is redirected where no exact name stands, and has options behind those of exact ones', async () => {
  await serve('star', await saying('star'), {
    hostnames: ['www.star.localhost'],
    redirectFrom: ['*.star.localhost'],
  });
  await answers('www.star.localhost', 'star');
  await eventually(async () =>
    expect((await ask('any.star.localhost/x')).headers.location).toBe('//www.star.localhost/x'),
  );
  await serve('tenants', await saying('tenants'), {
    hostnames: ['*.tenants.localhost'],
    path: '/app',
    allow: ['127.0.0.0/8'],
  });
  await serve('one', await saying('one'), { hostnames: ['one.tenants.localhost'], allow: ['127.0.0.0/8'] });
  await answers('two.tenants.localhost/app/x', 'tenants');
  await answers('one.tenants.localhost/app/x', 'one');
  expect((await ask('two.tenants.localhost/')).status).toBe(404);
});

test('passwords are asked for, on the path that has them only', async () => {
  const basicAuth = { alice: hashSync('correct horse', 4) };
  await serve('auth', await saying('in'), { errorPage: 'none' }, { path: '/admin', basicAuth });
  await answers('auth.localhost', 'in');
  await eventually(async () => expect((await ask('auth.localhost/admin')).status).toBe(401));
  const unasked = await ask('auth.localhost/admin');
  expect(unasked.headers['www-authenticate']).toMatch(/^Basic/);
  expect(unasked.text).toBe(
    'auth.localhost asks for a user and a password. Send both, or check those that you sent.\n',
  );
  expect((await ask('auth.localhost/%61dmin/x', { headers: basic('alice', 'wrong') })).status).toBe(401);
  expect((await ask('auth.localhost//ADMIN', { headers: basic('bob', 'correct horse') })).status).toBe(401);
  expect((await ask('auth.localhost/admin', { headers: basic('alice', 'correct horse') })).text).toBe('in');
});

test('who has said the password is told to the replica', async () => {
  const basicAuth = { alice: hashSync('correct horse', 4) };
  await serve('told', await backend(({ headers }, response) => response.end(headers.authorization)), {
    basicAuth,
  });
  const headers = basic('alice', 'correct horse');
  await answers('told.localhost', headers.authorization, { headers });
});

test('allow lists go by who really asks, which nobody outside can make up', async () => {
  await serve(
    'listed',
    await backend(({ headers }, response) => response.end(String(headers['x-forwarded-for']))),
    {
      allow: ['203.0.113.0/24', '2001:db8::/32'],
    },
  );
  const [near, behind] = nodes;
  const from = (forwarded: string) => ({ 'x-forwarded-for': forwarded });
  await eventually(async () => expect((await ask('listed.localhost')).status).toBe(403));
  for (const { loads } of nodes) await loads.settled();
  // 127.0.0.1 is nobody's proxy here.
  expect(
    (await ask('listed.localhost', { node: near as IngressNode, headers: from('203.0.113.5') })).status,
  ).toBe(403);
  const node = behind as IngressNode;
  await eventually(async () =>
    expect((await ask('listed.localhost', { node, headers: from('203.0.113.5') })).status).toBe(200),
  );
  expect((await ask('listed.localhost', { node, headers: from('2001:db8::1') })).status).toBe(200);
  expect((await ask('listed.localhost', { node, headers: from('198.51.100.1') })).status).toBe(403);
  // What the client itself has sent stands to the left of what the proxy has seen.
  expect((await ask('listed.localhost', { node, headers: from('203.0.113.5, 198.51.100.1') })).status).toBe(
    403,
  );
  expect(
    (await ask('listed.localhost', { node, headers: from('6.6.6.6, 203.0.113.5, 10.1.2.3') })).status,
  ).toBe(200);
});

test('the PROXY protocol of a trusted load balancer says who asks', async () => {
  const node = nodes[1] as IngressNode;
  await serve('proxied', await saying('in'), { allow: ['203.0.113.7'] });
  const sent = (head: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(node.httpPort, '127.0.0.1', () =>
        socket.write(`${head}GET / HTTP/1.1\r\nHost: proxied.localhost\r\nConnection: close\r\n\r\n`),
      );
      let got = '';
      socket.setEncoding('utf8');
      socket.on('data', (chunk: string) => (got += chunk));
      socket.on('end', () => resolve(got));
      socket.on('error', reject);
    });
  await eventually(async () =>
    expect(await sent('PROXY TCP4 203.0.113.7 127.0.0.1 1234 80\r\n')).toMatch(/^HTTP\/1.1 200 /),
  );
  await node.loads.settled();
  expect(await sent('PROXY TCP4 203.0.113.8 127.0.0.1 1234 80\r\n')).toMatch(/^HTTP\/1.1 403 /);
  expect(await sent('')).toMatch(/^HTTP\/1.1 403 /);
});

test('bodies that are too large, and replicas that take too long, are cut', async () => {
  let slow = 0;
  const port = await backend((incoming, response) => {
    if (incoming.url === '/slow') {
      slow += 1;
      return;
    }
    incoming.resume().on('end', () => response.end('got it'));
  });
  await serve('limited', port, {
    maxBodyBytes: 1_000,
    responseTimeoutMs: 300,
    errorPage: '<b>{file./etc/passwd}</b>',
  });
  await answers('limited.localhost', 'got it', { method: 'POST', body: 'x'.repeat(1_000) });
  const tooLarge = await ask('limited.localhost', { method: 'POST', body: 'x'.repeat(1_001) });
  expect([tooLarge.status, tooLarge.text]).toEqual([
    413,
    'The body of the request is larger than limited.localhost takes. Send a smaller one.\n',
  ]);
  const late = await ask('limited.localhost/slow', { method: 'POST' });
  expect([late.status, late.text, late.headers['content-type'], late.headers['retry-after']]).toEqual([
    503,
    '<b>{file./etc/passwd}</b>',
    'text/html; charset=utf-8',
    // It may have been carried out.
    undefined,
  ]);
  expect(slow).toBe(1);
  // What changes nothing is tried for five seconds.
  const startedAt = performance.now();
  expect((await ask('limited.localhost/slow')).status).toBe(503);
  expect(slow).toBeGreaterThan(5);
  expect(performance.now() - startedAt).toBeLessThan(8_000);
  const gone = { release: 1, releasedAtMs: 0, state: 'stopping' as const };
  await publish(replica('limited-1', 'limited', port, gone));
  await eventually(async () => {
    const { status, text, headers } = await ask('limited.localhost');
    expect([status, text, headers['retry-after']]).toEqual([503, '<b>{file./etc/passwd}</b>', '5']);
  });
  // What a replica itself says of its troubles is its own.
  await serve('troubled', await backend((_, response) => response.writeHead(503).end('own')), {
    errorPage: 'not this',
  });
  await answers('troubled.localhost', 'own');
});

describe.each<[string, Partial<PortRoute>]>([
  ['error page', {}],
  ['error page and sessions', { sticky: true }],
  ['error page and a limit', { rateLimit: { requests: 1_000, perMs: 1_000 } }],
])('with an %s', (_what, options) => {
  const hostname = `faults${Object.keys(options).join('')}.localhost`.toLowerCase();
  const head = `POST / HTTP/1.1\r\nHost: ${hostname}\r\n`;

  test('a body that is malformed or comes too slowly is the fault of the client', async () => {
    const port = await backend((incoming, response) => {
      incoming.on('error', () => undefined);
      incoming.resume().on('end', () => response.end('got it'));
    });
    await serve(hostname.split('.')[0] ?? '', port, { ...options, errorPage: 'nobody answers' });
    await answers(hostname, 'got it', { node: nodes[1] as IngressNode });
    const send = async (rest: string) => (await sendBytes(nodes[1]?.httpPort ?? 0, head + rest)).text;
    const malformed = await send('Transfer-Encoding: chunked\r\n\r\nno number\r\n');
    expect(malformed).toMatch(/^HTTP\/1\.1 400 [^]*\r\n\r\nThe body of the request is malformed\.\n$/);
    const slow = await send('Content-Length: 1000000\r\n\r\nabc');
    // Caddy says by itself that the client is gone when it notices the end of the connection first.
    expect(slow).toMatch(
      /^HTTP\/1\.1 (?:408 [^]*\r\n\r\nThe body of the request comes too slowly\.\n|499 [^]*)$/,
    );
  });
});

test('a sticky client stays with its replica: on every node, and while others come and go', async () => {
  const ports = await Promise.all(['a', 'b', 'c', 'd', 'e'].map(saying));
  const one = (index: number, more: Partial<ObservedReplica> = {}) =>
    publish(
      replica(`sticky-${index}`, 'sticky', ports[index] ?? 0, { release: 1, releasedAtMs: 0, ...more }),
    );
  await publishRoutes('sticky', { 1: [{ sticky: true }] });
  await one(0);
  await answers('sticky.localhost', 'a');
  for (const index of [1, 2]) await one(index);
  const cookieOf = (answer: HttpAnswer): string =>
    String(answer.headers['set-cookie']?.[0]).split(';')[0] ?? '';
  const clients = new Map<string, string>();
  await eventually(async () => {
    const answer = await ask('sticky.localhost');
    clients.set(answer.text, cookieOf(answer));
    expect([...clients.keys()].sort()).toEqual(['a', 'b', 'c']);
  });
  const stays = async (): Promise<void> => {
    for (const node of nodes) {
      for (const [text, cookie] of clients) {
        const answer = await ask('sticky.localhost', { node, headers: { cookie } });
        expect([answer.text, answer.headers['set-cookie']]).toEqual([text, undefined]);
      }
    }
  };
  for (const cookie of clients.values()) expect(cookie).toMatch(/^containeros_[0-9a-f]{8}=[0-9a-f]{24}$/);
  await eventually(stays);
  const loads = nodes.map((node) => node.loads.count());
  for (const index of [3, 4]) await one(index);
  await eventually(async () => {
    const answer = await ask('sticky.localhost', { node: nodes[1] as IngressNode });
    expect(['d', 'e']).toContain(answer.text);
  });
  await stays();
  await one(0, { state: 'stopping' });
  const cookie = clients.get('a') ?? '';
  clients.delete('a');
  for (const node of nodes) {
    await eventually(async () => {
      const answer = await ask('sticky.localhost', { node, headers: { cookie } });
      expect(answer.text).not.toBe('a');
      // Also where the seat that is free now leads.
      expect(cookieOf(answer)).toMatch(/=[0-9a-f]{24}$/);
      expect(cookieOf(answer)).not.toBe(cookie);
    });
  }
  await stays();
  for (let again = 0; again < 20; again += 1) {
    const answer = await ask('sticky.localhost', { headers: { cookie: cookie.replace(/=.*/, '=-') } });
    expect(cookieOf(answer)).toMatch(/=[0-9a-f]{24}$/);
  }
  expect(nodes.map((node) => node.loads.count())).toEqual(loads);
});

test('also with options another replica is asked when one fails, but not for a client that sticks to it', async () => {
  let status = 200;
  const failing = await backend((_, response) => response.writeHead(status).end('failing'));
  const well = await saying('well');
  const publishBoth = async (name: string, option: Partial<PortRoute>) => {
    await serve(name, failing, option);
    await answers(`${name}.localhost`, 'failing');
    const cookie = String((await ask(`${name}.localhost`)).headers['set-cookie']?.[0]).split(';')[0] ?? '';
    await publish(replica(`${name}-2`, name, well, { release: 1, releasedAtMs: 0 }));
    return cookie;
  };
  await publishBoth('cut', { responseTimeoutMs: 3_000, errorPage: 'nobody' });
  const cookie = await publishBoth('stuck', { sticky: true });
  status = 503;
  for (const name of ['cut', 'stuck']) {
    await answers(`${name}.localhost`, 'well');
    for (let request = 0; request < 20; request += 1) {
      expect((await ask(`${name}.localhost`)).text).toBe('well');
    }
  }
  const { status: got, text } = await ask('stuck.localhost', { headers: { cookie } });
  expect([got, text]).toEqual([503, 'failing']);
});

test('a web socket opens through a sticky route', async () => {
  const server = createServer((_, response) => response.end('ready'));
  server.on('upgrade', (_, socket) =>
    socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello'),
  );
  await serve('socket', await listen(server), { sticky: true });
  await answers('socket.localhost', 'ready');
  const sent = request({
    port: first().httpPort,
    host: '127.0.0.1',
    headers: { host: 'socket.localhost', connection: 'Upgrade', upgrade: 'websocket' },
  });
  sent.end();
  const [response] = (await once(sent, 'upgrade')) as [IncomingMessage];
  expect(response.statusCode).toBe(101);
  response.socket.destroy();
});

test('events and uploads are passed on as they come', async () => {
  let got = 0;
  const port = await backend((incoming, response) => {
    if (incoming.method === 'POST') {
      incoming.on('data', (chunk: Buffer) => (got += chunk.length));
      incoming.on('end', () => response.end(String(got)));
      return;
    }
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write('data: first\n\n');
  });
  await serve('stream', port, { sticky: true, maxBodyBytes: 10_000_000 });
  await eventually(async () => expect((await ask('stream.localhost', { method: 'POST' })).status).toBe(200));
  const headers = { host: 'stream.localhost' };
  const events = request({ port: first().httpPort, host: '127.0.0.1', headers });
  events.end();
  const [response] = (await once(events, 'response')) as [IncomingMessage];
  const [chunk] = (await once(response, 'data')) as [Buffer];
  expect(chunk.toString()).toBe('data: first\n\n');
  events.destroy();
  got = 0;
  const upload = request({ port: first().httpPort, host: '127.0.0.1', method: 'POST', headers });
  upload.write('x'.repeat(100_000));
  await eventually(() => expect(got).toBe(100_000));
  upload.end('y');
  const [done] = (await once(upload, 'response')) as [IncomingMessage];
  expect((await once(done.setEncoding('utf8'), 'data'))[0]).toBe('100001');
});

test('HTTP/2 without TLS goes through, with trailers, as gRPC needs it', async () => {
  const server = http2.createServer();
  server.on('stream', (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end('reply');
  });
  await serve('grpc', await listen(server), { protocol: 'h2c' });
  await answers('grpc.localhost', 'reply');
  const session = http2.connect(`http://127.0.0.1:${first().httpPort}`);
  try {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/s.S/M',
      ':authority': 'grpc.localhost',
      te: 'trailers',
    });
    stream.end('call');
    const trailers = once(stream, 'trailers');
    let text = '';
    stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    const [got] = (await trailers) as [http2.IncomingHttpHeaders];
    expect(got['grpc-status']).toBe('0');
    await eventually(() => expect(text).toBe('reply'));
  } finally {
    session.destroy();
  }
});

test('a replica that speaks TLS with a certificate of its own is spoken to', async () => {
  const authority = createTestAuthority('a replica');
  servers.push({ close: () => authority.dispose() });
  const { keyPem, certificatePem } = authority.issue({ commonName: 'self', organisation: 'a replica' });
  const server = createTlsServer({ key: keyPem, cert: certificatePem }, (_, response) =>
    response.end('over TLS'),
  );
  await serve('tls', await listen(server), { protocol: 'https' });
  await answers('tls.localhost', 'over TLS');
});

test('maintenance answers in its own words, but to those that may still pass, and ends', async () => {
  await serve('work', await saying('at work'), {});
  await answers('work.localhost', 'at work');
  const state: MaintenanceState = {
    ...keyOf('work'),
    text: 'Back at {noon}.',
    retryAfterSeconds: 90,
    allow: ['203.0.113.9'],
    setAtMs: 0,
  };
  await consul.documents.put(maintenanceKvKey(keyOf('work')), state);
  await eventually(async () => {
    const { status, text, headers } = await ask('work.localhost/x');
    expect([status, text, headers['retry-after']]).toEqual([503, 'Back at {noon}.', '90']);
  });
  const headers = { 'x-forwarded-for': '203.0.113.9' };
  await answers('work.localhost', 'at work', { node: nodes[1] as IngressNode, headers });
  await consul.documents.remove(maintenanceKvKey(keyOf('work')));
  await answers('work.localhost', 'at work');
});

test('options change with the first replica of a new release, and never lead to one that is spoken to otherwise', async () => {
  const [old, next] = [
    await saying('old'),
    await backend(({ url }, response) => response.end(`next ${url}`)),
  ];
  await publishRoutes('turn', { 1: [{ path: '/a', allow: ['127.0.0.0/8'] }] });
  await publish(replica('turn-1', 'turn', old, { release: 1, releasedAtMs: 0 }));
  await answers('turn.localhost/a/b', 'old');
  await publishRoutes('turn', {
    2: [{ path: '/a', stripPath: true }],
    1: [{ path: '/a', allow: ['127.0.0.0/8'] }],
  });
  await publish(replica('turn-2', 'turn', next, { release: 2, releasedAtMs: 0, state: 'starting' }));
  expect((await ask('turn.localhost/a/b')).text).toBe('old');
  await publish(replica('turn-2', 'turn', next, { release: 2, releasedAtMs: 0 }));
  await answers('turn.localhost/a/b', 'next /b');
  for (let again = 0; again < 20; again += 1) {
    expect((await ask('turn.localhost/a/b')).text).toBe('next /b');
  }
  // A port with options of which nothing is known is led to by nobody.
  await consul.documents.remove(routesKvKey(keyOf('turn')));
  await eventually(async () => expect((await ask('turn.localhost/a/b')).status).toBe(503));
});
