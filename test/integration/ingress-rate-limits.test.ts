/**
 * Limits of requests, with a real Caddy, a real Consul, and the node worker's side of it by a clock that stands still.
 * Clients are told apart by what a trusted proxy says of them.
 */

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer, request, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import * as http2 from 'node:http2';
import { createServer as createStreamServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';

import { hashSync } from 'bcryptjs';
import pino from 'pino';

import { countingSocket } from '../../adapters/ingress/rate-limit';
import { replicaKvKey } from '../../contracts/kv';
import type { RateLimit } from '../../domain/ingress/route-options';
import { createRateLimits, type RateLimits } from '../../workers/node/rate-limits';
import { startConsul, type RunningConsul } from '../support/consul';
import { httpRequest, type HttpAnswer } from '../support/http';
import { routesIn, startIngressNode, type IngressNode, type PublishedRoutes } from '../support/ingress-node';
import { eventually } from '../support/wait';

/** One for each 20 s. */
const THREE: RateLimit = { requests: 3, perMs: 60_000 };
const TRUSTED = { addresses: ['127.0.0.1'], proxyProtocol: false };

let consul: RunningConsul;
let node: IngressNode;
let routes: PublishedRoutes;
let limits: RateLimits;
let clockMs = 0;
/** Questions to the node worker. */
let asked = 0;
const closing: (() => unknown)[] = [];

const limitsOf = ({ directory }: IngressNode): RateLimits => {
  const started = createRateLimits({
    directory,
    nowMs: () => {
      asked += 1;
      return clockMs;
    },
    logger: pino({ level: 'silent' }),
  });
  started.start();
  return started;
};
const startLimits = (): void => {
  limits = limitsOf(node);
};

const listen = async (server: Server | http2.Http2Server): Promise<number> => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => server.close());
  return (server.address() as AddressInfo).port;
};

const backend = (answer: RequestListener): Promise<number> => listen(createServer(answer));
const saying = (text: string): Promise<number> => backend((_, response) => response.end(text));

interface Asking {
  readonly client?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
  readonly at?: IngressNode;
}

const ask = (url: string, { client = '203.0.113.1', headers, at = node, ...options }: Asking = {}) => {
  const { hostname, pathname } = new URL(`http://${url}`);
  return httpRequest(`http://127.0.0.1:${at.httpPort}${pathname}`, {
    ...options,
    headers: { host: hostname, 'x-forwarded-for': client, ...headers },
  });
};

let probes = 0;
/** Asked by clients that nobody else is. */
const isServed = async (url: string, status = 200, at = node): Promise<void> => {
  await eventually(
    async () => {
      probes += 1;
      const client = `198.51.${probes >> 8}.${probes & 255}`;
      expect((await ask(url, { client, at })).status).toBe(status);
    },
    { describe: `${url} answers ${status}` },
  );
  await at.loads.settled();
};

const statuses = async (count: number, url: string, options: Asking = {}): Promise<readonly number[]> => {
  const got: number[] = [];
  for (let index = 0; index < count; index += 1) got.push((await ask(url, options)).status);
  return got;
};

beforeAll(async () => {
  consul = await startConsul();
  routes = routesIn(consul);
  node = await startIngressNode(consul, TRUSTED);
  startLimits();
}, 60_000);

afterAll(async () => {
  limits?.stop();
  await node?.stop();
  for (const close of closing) close();
  await consul?.close();
}, 30_000);

test('who asks too often is told when to come again, and what that one sends is told to nobody', async () => {
  let served = 0;
  const port = await backend((_, response) => {
    served += 1;
    response.end('ok');
  });
  await routes.serve('often', port, { rateLimit: THREE, sticky: true });
  await isServed('often.localhost');
  served = 0;
  expect(await statuses(4, 'often.localhost')).toEqual([200, 200, 200, 429]);
  const { status, headers, text } = await ask('often.localhost/x', { method: 'POST', body: 'y' });
  expect([status, headers['retry-after'], text]).toEqual([
    429,
    '20',
    'often.localhost takes no more requests from 203.0.113.1 now. Try again in 20 s.\n',
  ]);
  expect(headers['content-type']).toBe('text/plain; charset=utf-8');
  expect(served).toBe(3);
  clockMs += 20_000;
  expect(await statuses(2, 'often.localhost')).toEqual([200, 429]);
  clockMs += 60_000;
  expect((await ask('often.localhost', { client: '203.0.113.2' })).headers['set-cookie']).toHaveLength(1);
  expect(await statuses(4, 'often.localhost')).toEqual([200, 200, 200, 429]);
});

test('of many requests at once as many pass as may', async () => {
  await routes.serve('flood', await saying('ok'), { rateLimit: THREE });
  await isServed('flood.localhost');
  const got = await Promise.all(Array.from({ length: 200 }, () => ask('flood.localhost')));
  expect(got.filter(({ status }) => status === 200)).toHaveLength(3);
  expect(got.filter(({ status }) => status === 429)).toHaveLength(197);
});

test('clients have limits of their own, by networks of IPv6, and nobody else can be said to be one', async () => {
  await routes.serve('shared', await saying('ok'), { rateLimit: THREE });
  await isServed('shared.localhost');
  expect(await statuses(4, 'shared.localhost', { client: '203.0.113.5' })).toEqual([200, 200, 200, 429]);
  expect(await statuses(1, 'shared.localhost', { client: '203.0.113.6' })).toEqual([200]);
  for (const client of ['2001:db8::1', '2001:db8::2', '2001:db8::3:4']) {
    expect(await statuses(1, 'shared.localhost', { client })).toEqual([200]);
  }
  expect(await statuses(1, 'shared.localhost', { client: '2001:db8::5' })).toEqual([429]);
  expect(await statuses(1, 'shared.localhost', { client: '2001:db8:0:1::5' })).toEqual([200]);
  // What the client itself sends stands to the left, or is for the worker only.
  expect(await statuses(1, 'shared.localhost', { client: '8.8.8.8, 203.0.113.5' })).toEqual([429]);
  const headers = { 'client-address': '8.8.8.8' };
  expect(await statuses(1, 'shared.localhost', { client: '203.0.113.5', headers })).toEqual([429]);
});

test('hostnames and paths are counted by themselves, and what has no limit not at all', async () => {
  const hostnames = ['apart.localhost'];
  await routes.serve(
    'apart',
    await saying('ok'),
    { hostnames, path: '/a', rateLimit: THREE },
    { hostnames, path: '/b', rateLimit: { requests: 1, perMs: 1_000 } },
    { hostnames, path: '/c', allow: ['203.0.113.0/24'] },
    { hostnames: ['plain.localhost'] },
  );
  await isServed('apart.localhost/a');
  await isServed('plain.localhost');
  expect(await statuses(4, 'apart.localhost/a')).toEqual([200, 200, 200, 429]);
  expect(await statuses(2, 'apart.localhost/b')).toEqual([200, 429]);
  asked = 0;
  expect(await statuses(5, 'apart.localhost/c')).toEqual([200, 200, 200, 200, 200]);
  expect(await statuses(5, 'plain.localhost')).toEqual([200, 200, 200, 200, 200]);
  expect((await ask('nobody.localhost')).status).toBe(404);
  expect(asked).toBe(0);
});

test('bodies pass as they are, with a length or in chunks, and after the client was told to go on', async () => {
  const port = await backend((incoming, response) => {
    const hash = createHash('sha256');
    incoming.on('data', (chunk: Buffer) => hash.update(chunk));
    incoming.on('end', () => response.end(hash.digest('hex')));
  });
  await routes.serve('bodies', port, { rateLimit: { requests: 50, perMs: 1_000 }, maxBodyBytes: 2_000_000 });
  await isServed('bodies.localhost');
  const body = randomBytes(1_000_000);
  const expected = createHash('sha256').update(body).digest('hex');
  expect((await ask('bodies.localhost', { method: 'POST', body })).text).toBe(expected);
  for (const headers of [{ 'transfer-encoding': 'chunked' }, { expect: '100-continue' }]) {
    const sent = request({
      port: node.httpPort,
      host: '127.0.0.1',
      method: 'PUT',
      headers: { host: 'bodies.localhost', ...headers },
    });
    if ('expect' in headers) {
      sent.flushHeaders();
      await once(sent, 'continue');
    }
    sent.end(body);
    const [answer] = (await once(sent, 'response')) as [IncomingMessage];
    const [text] = (await once(answer.setEncoding('utf8'), 'data')) as [string];
    expect(text).toBe(expected);
  }
  const tooLarge = await ask('bodies.localhost', { method: 'POST', body: Buffer.alloc(2_000_001) });
  expect(tooLarge.status).toBe(413);
});

test('a web socket opens, and what comes after its opening is not counted', async () => {
  const server = createServer((_, response) => response.end('ready'));
  server.on('upgrade', (_, socket: Socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    socket.pipe(socket);
  });
  await routes.serve('socket', await listen(server), { rateLimit: THREE });
  await isServed('socket.localhost');
  asked = 0;
  const sent = request({
    port: node.httpPort,
    host: '127.0.0.1',
    headers: { host: 'socket.localhost', connection: 'Upgrade', upgrade: 'websocket' },
  });
  sent.end();
  const [response, socket] = (await once(sent, 'upgrade')) as [IncomingMessage, Socket];
  expect(response.statusCode).toBe(101);
  for (const said of ['one', 'two', 'three', 'four', 'five']) {
    socket.write(said);
    expect(String((await once(socket, 'data'))[0])).toBe(said);
  }
  expect(asked).toBe(1);
  socket.destroy();
});

test('calls of gRPC pass with their trailers, each counted, also on one connection', async () => {
  const server = http2.createServer();
  server.on('stream', (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.pipe(stream);
  });
  await routes.serve('grpc', await listen(server), { protocol: 'h2c', rateLimit: THREE });
  await isServed('grpc.localhost');
  const session = http2.connect(`http://127.0.0.1:${node.httpPort}`);
  const call = async (): Promise<readonly unknown[]> => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/s.S/M',
      ':authority': 'grpc.localhost',
      te: 'trailers',
      'x-forwarded-for': '203.0.113.1',
    });
    let status: unknown;
    let grpcStatus: unknown;
    let text = '';
    stream.on('response', (headers) => (status = headers[':status']));
    stream.on('trailers', (headers: http2.IncomingHttpHeaders) => (grpcStatus = headers['grpc-status']));
    stream.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    stream.write('first ');
    if (status !== 429) stream.end('second');
    await once(stream, 'end');
    return status === 200 ? [status, grpcStatus, text] : [status];
  };
  try {
    const calls = [await call(), await call(), await call(), await call()];
    expect(calls).toEqual([...Array<unknown>(3).fill([200, '0', 'first second']), [429]]);
  } finally {
    session.destroy();
  }
});

test('who may not come is not counted, passwords that are guessed are', async () => {
  const basicAuth = { alice: hashSync('correct horse', 4) };
  const allow = ['203.0.113.0/24', '198.51.0.0/16'];
  await routes.serve('guarded', await saying('in'), { rateLimit: THREE, allow, basicAuth });
  await isServed('guarded.localhost', 401);
  asked = 0;
  expect(await statuses(5, 'guarded.localhost', { client: '192.0.2.1' })).toEqual(Array<number>(5).fill(403));
  expect(asked).toBe(0);
  expect(await statuses(4, 'guarded.localhost')).toEqual([401, 401, 401, 429]);
  const authorization = `Basic ${Buffer.from('alice:correct horse').toString('base64')}`;
  expect((await ask('guarded.localhost', { headers: { authorization } })).status).toBe(429);
  const other = await ask('guarded.localhost', { client: '203.0.113.2', headers: { authorization } });
  expect(other.text).toBe('in');
});

test('what was sent counts on when the limit changes', async () => {
  const port = await saying('ok');
  await routes.serve('changed', port, { rateLimit: THREE });
  await isServed('changed.localhost');
  expect(await statuses(4, 'changed.localhost')).toEqual([200, 200, 200, 429]);
  const loads = node.loads.count();
  await routes.serve('changed', port, { rateLimit: { requests: 5, perMs: 60_000 } });
  await eventually(() => expect(node.loads.count()).toBe(loads + 1));
  await node.loads.settled();
  expect(await statuses(3, 'changed.localhost')).toEqual([200, 200, 429]);
});

test('without a replica the answer is what it would be', async () => {
  const port = await saying('ok');
  await routes.serve('gone', port, { rateLimit: THREE, errorPage: '<b>gone</b>' });
  await isServed('gone.localhost');
  const gone = routes.replica('gone-1', 'gone', port);
  await consul.documents.remove(replicaKvKey(gone, gone.id));
  await isServed('gone.localhost', 503);
  const { text, headers }: HttpAnswer = await ask('gone.localhost');
  expect([text, headers['retry-after']]).toEqual(['<b>gone</b>', '5']);
});

test('once it has settled, a route with a limit reads where to go as little as others', async () => {
  await routes.serve('settled', await saying('right'), { rateLimit: THREE });
  const other = await startIngressNode(consul, TRUSTED, {
    acceptedConnections: () => 0,
    settleAfterMs: 500,
  });
  try {
    await isServed('settled.localhost', 200, other);
    const places = join(other.directory, 'places');
    const misled = `127.0.0.1:${await saying('misled')}`;
    await eventually(
      async () => {
        const isMoved = readdirSync(other.directory).includes('moved');
        expect(isMoved).toBe(false);
        await other.loads.settled();
      },
      { describe: 'the configuration has everything' },
    );
    for (const place of readdirSync(places)) {
      for (const name of readdirSync(join(places, place)).filter((file) => /^\d+$/.test(file))) {
        writeFileSync(join(places, place, name), misled);
      }
    }
    // Nobody counts for it yet.
    expect((await ask('settled.localhost', { at: other })).text).toBe('right');
    const counting = limitsOf(other);
    closing.push(() => counting.stop());
    asked = 0;
    await eventually(async () => {
      expect((await ask('settled.localhost', { at: other })).text).toBe('right');
      expect(asked).toBeGreaterThan(0);
    });
  } finally {
    await other.stop();
  }
}, 60_000);

describe('while the node worker does not count', () => {
  afterEach(async () => {
    limits.stop();
    startLimits();
    await eventually(async () => {
      asked = 0;
      await ask('away.localhost');
      expect(asked).toBe(1);
    });
  });

  test('all requests pass when it is away, and are counted when it is there again', async () => {
    const body = randomBytes(1_000_000);
    const port = await backend((incoming, response) => {
      let bytes = 0;
      incoming.on('data', (chunk: Buffer) => (bytes += chunk.length));
      incoming.on('end', () => response.end(String(bytes)));
    });
    await routes.serve('away', port, { rateLimit: THREE });
    await isServed('away.localhost');
    expect(await statuses(4, 'away.localhost')).toEqual([200, 200, 200, 429]);
    limits.stop();
    expect(await statuses(10, 'away.localhost')).toEqual(Array<number>(10).fill(200));
    expect((await ask('away.localhost', { method: 'POST', body })).text).toBe(String(body.length));
    startLimits();
    await eventually(async () => expect((await ask('away.localhost')).status).toBe(429));
  });

  test('it is told of the client and its place alone, also when that sends much more', async () => {
    const port = await saying('ok');
    await routes.serve('away', port, { rateLimit: THREE });
    await isServed('away.localhost');
    limits.stop();
    const told: object[] = [];
    const counting = createServer(({ method, url, headers }, response) => {
      told.push({ method, url, headers });
      response.writeHead(500).end();
    });
    counting.listen(countingSocket(node.directory));
    await once(counting, 'listening');
    try {
      const headers = { cookie: 'a=b', authorization: 'Basic YTpi', 'x-key': 'c', te: 'trailers' };
      await eventually(async () => {
        // Whatever it answers but that the client has to wait: the request passes.
        const { status } = await ask('away.localhost/d?e', { method: 'DELETE', headers, body: 'f' });
        expect(status).toBe(200);
        expect(told).not.toEqual([]);
      });
      for (const one of told) {
        expect(one).toEqual({
          method: 'GET',
          url: expect.stringMatching(/^\/\d+\/3\/60000\/[0-9a-f-]{36}$/) as string,
          headers: {
            'client-address': '203.0.113.1',
            host: 'node-worker',
            'user-agent': 'Go-http-client/1.1',
          },
        });
      }
    } finally {
      counting.close();
      counting.closeAllConnections();
    }
  });

  test('all requests pass when it hangs, and one of them waits for it', async () => {
    await routes.serve('hung', await saying('ok'), { rateLimit: THREE });
    await isServed('hung.localhost');
    limits.stop();
    let connections = 0;
    const open = new Set<Socket>();
    const hung = createStreamServer((socket) => {
      connections += 1;
      open.add(socket);
      socket.on('error', () => undefined);
    });
    hung.listen(countingSocket(node.directory));
    await once(hung, 'listening');
    try {
      // It was left alone since the worker before went away, if anybody has noticed.
      await eventually(async () => {
        expect((await ask('hung.localhost')).status).toBe(200);
        expect(connections).toBeGreaterThan(0);
      });
      const tookMs: number[] = [];
      for (let index = 0; index < 20; index += 1) {
        const startedAt = performance.now();
        expect((await ask('hung.localhost')).status).toBe(200);
        tookMs.push(performance.now() - startedAt);
      }
      // It is asked once a second.
      expect(tookMs.filter((ms) => ms >= 400).length).toBeLessThanOrEqual(3);
      expect(Math.max(...tookMs)).toBeLessThan(2_000);
    } finally {
      for (const socket of open) socket.destroy();
      hung.close();
    }
  });
});

test('only this user can ask, and what is left of a worker that was killed is no hindrance', async () => {
  expect(statSync(countingSocket(node.directory)).mode & 0o777).toBe(0o600);
  limits.stop();
  writeFileSync(countingSocket(node.directory), '');
  startLimits();
  await routes.serve('again', await saying('ok'), { rateLimit: THREE });
  await isServed('again.localhost');
  await eventually(async () => expect((await ask('again.localhost')).status).toBe(429));
});
