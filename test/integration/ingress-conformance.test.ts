/**
 * HTTP/1.1 at the ingress, byte by byte, with a real Caddy: what is sent as it is told, what a replica receives, and
 * what comes back. Whatever could be read in two ways is refused, or reaches the replica in one way.
 */

import { readFileSync } from 'node:fs';
import {
  createServer as createHttpServer,
  request as httpRequestOf,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { connect, createServer, type Socket } from 'node:net';

import { listenOn, startIngress, type TestIngress } from '../support/ingress';
import { createRawReplica, sendBytes, type RawAnswer, type RawReplica } from '../support/raw-http';
import { eventually } from '../support/wait';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const HOST = 'Host: a.localhost\r\n';
const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const FORWARDED =
  'X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: a.localhost\r\nX-Forwarded-Proto: http\r\n\r\n';

let ingress: TestIngress;
let replica: RawReplica;
/** What the replica answers next. */
let answerWith: (request: string, socket: Socket) => string = () => OK;
const streams = createHttpServer();
/** Answers at once, and takes no more of what comes; the first line that it heard on each connection. */
let heardEarly: string[] = [];
const early = createServer((socket) => {
  socket.on('error', () => undefined);
  socket.once('data', (chunk: Buffer) => {
    heardEarly.push(chunk.toString().split('\r\n')[0] ?? '');
    socket.resume();
    socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 8\r\n\r\ntoo much');
  });
});
let onStream: (incoming: IncomingMessage, response: ServerResponse) => void;

beforeAll(async () => {
  replica = createRawReplica((request, socket) => answerWith(request, socket));
  streams.on('request', (incoming, response) => onStream(incoming, response));
  const [raw, streaming] = [await listenOn(replica.server), await listenOn(streams)];
  ingress = await startIngress({
    'a.localhost': `127.0.0.1:${raw}`,
    'stream.localhost': `127.0.0.1:${streaming}`,
    'early.localhost': `127.0.0.1:${await listenOn(early)}`,
  });
}, 60_000);

afterAll(async () => {
  await ingress?.stop();
  replica?.server.close();
  early.close();
  streams.closeAllConnections();
  streams.close();
}, 30_000);

beforeEach(() => {
  answerWith = () => OK;
  replica.received();
});

const send = (bytes: string): Promise<RawAnswer> => sendBytes(ingress.httpPort, bytes);

const statusOf = ({ text }: RawAnswer): number => Number(/^HTTP\/1\.[01] (\d{3}) /.exec(text)?.[1]);

/** Waits for the end of the connection. */
const sendToEnd = (bytes: string, then?: (socket: Socket) => void): Promise<RawAnswer> =>
  sendBytes(ingress.httpPort, bytes, { until: () => false, ...(then === undefined ? {} : { then }) });

describe('what reaches the replica, byte by byte', () => {
  test.each([
    ['a plain request', `GET /a HTTP/1.1\r\n${HOST}\r\n`, `GET /a HTTP/1.1\r\n${HOST}Via: 1.1 Caddy\r\n`],
    ['HTTP/1.0', `GET / HTTP/1.0\r\n${HOST}\r\n`, `GET / HTTP/1.1\r\n${HOST}Via: 1.0 Caddy\r\n`],
    [
      'a path that is not made shorter',
      `GET /a%2fb/../c//d?x=%zz HTTP/1.1\r\n${HOST}\r\n`,
      `GET /a%2fb/../c//d?x=%zz HTTP/1.1\r\n${HOST}Via: 1.1 Caddy\r\n`,
    ],
    [
      'the root’s dot at the end of the host',
      'GET / HTTP/1.1\r\nHost: a.localhost.\r\n\r\n',
      `GET / HTTP/1.1\r\n${HOST}Via: 1.1 Caddy\r\n`,
    ],
    [
      'the absolute form, which counts more than the Host',
      'GET http://a.localhost/x HTTP/1.1\r\nHost: b.localhost\r\n\r\n',
      `GET /x HTTP/1.1\r\n${HOST}Via: 1.1 Caddy\r\n`,
    ],
    [
      'a header over two lines, as one',
      `GET / HTTP/1.1\r\n${HOST}A: a\r\n b\r\n\r\n`,
      `GET / HTTP/1.1\r\n${HOST}A: a b\r\nVia: 1.1 Caddy\r\n`,
    ],
    [
      'lines that end with LF alone, as proper ones',
      'GET / HTTP/1.1\nHost: a.localhost\n\n',
      `GET / HTTP/1.1\r\n${HOST}Via: 1.1 Caddy\r\n`,
    ],
    [
      'no header that is for the ingress',
      `GET / HTTP/1.1\r\n${HOST}Connection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n\r\n`,
      `GET / HTTP/1.1\r\n${HOST}Via: 1.1 Caddy\r\n`,
    ],
    [
      'no upgrade that the Connection header does not name',
      `GET / HTTP/1.1\r\n${HOST}Upgrade: websocket\r\n\r\n`,
      `GET / HTTP/1.1\r\n${HOST}Via: 1.1 Caddy\r\n`,
    ],
    [
      'no upgrade to HTTP/2, in which requests would be hidden',
      `GET / HTTP/1.1\r\n${HOST}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: H2C\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
      `GET / HTTP/1.1\r\n${HOST}Via: 1.1 Caddy\r\n`,
    ],
  ])('%s', async (_what, bytes, head) => {
    expect(statusOf(await send(bytes))).toBe(200);
    expect(replica.received()).toEqual([`${head}${FORWARDED}`]);
  });

  test.each([
    [
      'a length and chunks: the chunks count, and the length is gone',
      `POST / HTTP/1.1\r\n${HOST}Content-Length: 4\r\n${CHUNKED}\r\n3\r\nabc\r\n0\r\n\r\n`,
      CHUNKED,
      '3\r\nabc\r\n0\r\n\r\n',
    ],
    [
      'extensions of chunks, without them',
      `POST / HTTP/1.1\r\n${HOST}${CHUNKED}\r\n3;a=b\r\nabc\r\n0\r\n\r\n`,
      CHUNKED,
      '3\r\nabc\r\n0\r\n\r\n',
    ],
    [
      'a tab before the encoding, in upper case',
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding:\tCHUNKED\r\n\r\n0\r\n\r\n`,
      CHUNKED,
      '0\r\n\r\n',
    ],
    [
      'one length that is said twice',
      `POST / HTTP/1.1\r\n${HOST}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc`,
      'Content-Length: 3\r\n',
      'abc',
    ],
  ])('%s', async (_what, bytes, framing, body) => {
    expect(statusOf(await send(bytes))).toBe(200);
    expect(replica.received()).toEqual([
      `POST / HTTP/1.1\r\n${HOST}${framing}Via: 1.1 Caddy\r\n${FORWARDED}${body}`,
    ]);
  });

  test('chunks that HTTP/1.0 does not have are no body, and the connection ends', async () => {
    const { text, isClosed } = await sendToEnd(
      `POST / HTTP/1.0\r\n${HOST}${CHUNKED}\r\n3\r\nabc\r\n0\r\n\r\n`,
    );
    expect(text).toMatch(/^HTTP\/1\.0 200 /);
    expect(isClosed).toBe(true);
    const [only, ...more] = replica.received();
    expect(only).toMatch(/\r\nContent-Length: 0\r\n(?:.*\r\n)*\r\n$/);
    expect(more).toEqual([]);
  });

  test('two requests at once are two, in order', async () => {
    const bytes = `GET /1 HTTP/1.1\r\n${HOST}\r\nGET /2 HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`;
    const { text } = await sendToEnd(bytes);
    expect(text.match(/HTTP\/1\.1 200 OK\r\n/g)).toHaveLength(2);
    expect(
      replica
        .received()
        .join('')
        .match(/^GET .*/gm),
    ).toEqual(['GET /1 HTTP/1.1\r', 'GET /2 HTTP/1.1\r'].map((line) => line.trimEnd()));
  });
});

describe('what no replica sees', () => {
  test.each([
    ['two lengths', 400, `POST / HTTP/1.1\r\n${HOST}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd`],
    ['a list of lengths', 400, `POST / HTTP/1.1\r\n${HOST}Content-Length: 3, 3\r\n\r\nabc`],
    ['a length with a sign', 400, `POST / HTTP/1.1\r\n${HOST}Content-Length: +3\r\n\r\nabc`],
    ['a length below zero', 400, `POST / HTTP/1.1\r\n${HOST}Content-Length: -3\r\n\r\nabc`],
    ['a length in base 16', 400, `POST / HTTP/1.1\r\n${HOST}Content-Length: 0x3\r\n\r\nabc`],
    ['another encoding', 501, `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`],
    ['several encodings', 501, `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`],
    [
      'two encodings',
      501,
      `POST / HTTP/1.1\r\n${HOST}${CHUNKED}Transfer-Encoding: identity\r\n\r\n0\r\n\r\n`,
    ],
    ['a control character', 400, `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n`],
    [
      'a space before the colon',
      400,
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['a first header over two lines', 400, `GET / HTTP/1.1\r\n A: b\r\n${HOST}\r\n`],
    ['CR alone', 400, `GET / HTTP/1.1\r\n${HOST}A: a\rB: b\r\n\r\n`],
    ['NUL', 400, `GET / HTTP/1.1\r\n${HOST}A: a\0b\r\n\r\n`],
    ['a header without a colon', 400, `GET / HTTP/1.1\r\n${HOST}garbage\r\n\r\n`],
    [
      'a trailer that is a length',
      400,
      `POST / HTTP/1.1\r\n${HOST}Trailer: Content-Length\r\n${CHUNKED}\r\n0\r\nContent-Length: 7\r\n\r\n`,
    ],
    ['no host', 400, 'GET / HTTP/1.1\r\n\r\n'],
    ['two hosts', 400, `GET / HTTP/1.1\r\n${HOST}Host: b.localhost\r\n\r\n`],
    ['a host with a user', 400, 'GET / HTTP/1.1\r\nHost: x@a.localhost\r\n\r\n'],
    ['a host with a path', 400, 'GET / HTTP/1.1\r\nHost: a.localhost/x\r\n\r\n'],
    ['a space in the path', 400, `GET /a b HTTP/1.1\r\n${HOST}\r\n`],
    ['a path with a wrong escape', 400, `GET /%zz HTTP/1.1\r\n${HOST}\r\n`],
    ['HTTP/0.9', 400, 'GET /\r\n'],
    ['HTTP/3 in plain text', 505, `GET / HTTP/3.0\r\n${HOST}\r\n`],
    [
      'an expectation that nobody knows',
      417,
      `POST / HTTP/1.1\r\n${HOST}Expect: x\r\nContent-Length: 3\r\n\r\nabc`,
    ],
    ['headers of 40 KB', 431, `GET / HTTP/1.1\r\n${HOST}A: ${'a'.repeat(40_000)}\r\n\r\n`],
  ])('%s: %i, and the connection ends', async (_what, status, bytes) => {
    const answer = await sendToEnd(bytes);
    expect(statusOf(answer)).toBe(status);
    expect(answer.text.match(/^HTTP\//gm)).toHaveLength(1);
    expect(replica.received()).toEqual([]);
  });

  test('HTTP/2 without TLS is hung up on', async () => {
    const { text } = await sendToEnd('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    expect(text).not.toContain(' 200 ');
    expect(replica.received()).toEqual([]);
  });

  test.each([
    ['by authority', `CONNECT a.localhost:80 HTTP/1.1\r\n${HOST}\r\n`],
    ['by path', `CONNECT / HTTP/1.1\r\n${HOST}\r\n`],
  ])('CONNECT %s is answered with 405', async (_what, bytes) => {
    expect(statusOf(await send(bytes))).toBe(405);
    expect(replica.received()).toEqual([]);
  });
});

test.each([
  ['a length that is no number', 'no number\r\n'],
  ['more than its chunk', '3\r\nabcd\r\n0\r\n\r\n'],
  ['lines that end with LF alone', '3\nabc\n0\n\n'],
  ['a length beyond 64 bits', 'ffffffffffffffffff\r\nabc\r\n0\r\n\r\n'],
  ['an endless extension', `3;${'x'.repeat(9_000)}\r\nabc\r\n0\r\n\r\n`],
])('a body with %s is the client’s fault, and is sent once', async (_what, body) => {
  for (const method of ['POST', 'GET']) {
    const answer = await sendToEnd(`${method} / HTTP/1.1\r\n${HOST}${CHUNKED}\r\n${body}`);
    expect(answer.text).toMatch(/^HTTP\/1\.1 400 /);
    // What there is of it reaches one replica, and never its end.
    await eventually(() => expect(replica.open()).toBe(0), { describe: 'the replica is hung up on' });
    const received = replica.received();
    expect(received.join('').match(/ HTTP\/1\.1\r\n/g) ?? []).toHaveLength(received.length);
    expect(received.length).toBeLessThanOrEqual(1);
    expect(received.join('')).not.toContain('0\r\n\r\n');
  }
});

test('headers are taken up to 32 KB, in one or in many', async () => {
  const one = `A: ${'a'.repeat(31_000)}\r\n`;
  const many = Array.from({ length: 1_000 }, (_, index) => `A${index}: ${'a'.repeat(20)}\r\n`).join('');
  for (const headers of [one, many]) {
    expect(statusOf(await send(`GET / HTTP/1.1\r\n${HOST}${headers}\r\n`))).toBe(200);
    expect(replica.received()[0]).toContain('a'.repeat(20));
  }
});

test.each([
  ['in upper case', 'A.LOCALHOST', 200],
  ['with a port', 'a.localhost:8080', 200],
  ['with the root’s dot and a port', 'a.localhost.:8080', 200],
  ['that is an address of IPv6', '[::1]:80', 404],
  ['with two dots at the end', 'a.localhost..', 404],
])('a host %s', async (_what, host, status) => {
  const { text } = await send(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
});

test('a body goes both ways in chunks, with the trailers of the answer', async () => {
  answerWith = () => `HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n${CHUNKED}\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n`;
  const { text } = await sendBytes(
    ingress.httpPort,
    `POST / HTTP/1.1\r\n${HOST}TE: trailers\r\n${CHUNKED}\r\n3\r\nxyz\r\n2\r\nuv\r\n0\r\n\r\n`,
    { until: (so) => so.includes('X-Sum: 6\r\n\r\n') },
  );
  expect(text).toMatch(/\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n$/);
  expect(
    replica
      .received()
      .join('')
      .replace(/^[^]*?\r\n\r\n/, '')
      .replace(/[0-9a-f]+\r\n|\r\n/g, ''),
  ).toBe('xyzuv');
});

test.each([
  ['announced in one header', 'X-Sum, X-Other'],
  ['announced in a header each', 'X-Sum\r\nTrailer: X-Other'],
])('trailers of a request reach the replica: %s', async (_what, trailer) => {
  await sendBytes(
    ingress.httpPort,
    `POST / HTTP/1.1\r\n${HOST}Trailer: ${trailer}\r\n${CHUNKED}\r\n3\r\nxyz\r\n0\r\nX-Sum: 6\r\nX-Other: 7\r\n\r\n`,
  );
  // It answers before it has read all.
  await eventually(
    () =>
      expect(replica.received().join('')).toMatch(
        /\r\n0\r\n(?:X-Sum: 6\r\nX-Other: 7|X-Other: 7\r\nX-Sum: 6)\r\n\r\n$/,
      ),
    { describe: 'the replica has the trailers' },
  );
});

test('100-continue is said when the body is wanted', async () => {
  const head = `POST / HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n`;
  const { text } = await sendBytes(ingress.httpPort, head, {
    then: (socket) => socket.once('data', () => socket.write('abc')),
  });
  expect(text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  expect(replica.received()[0]).toMatch(/\r\n\r\nabc$/);
});

test.each([
  ['HEAD', 'HEAD', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n', 200, /^content-length: 5$/im],
  ['204', 'GET', 'HTTP/1.1 204 No Content\r\n\r\n', 204, /^HTTP/],
  ['304', 'GET', 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', 304, /^etag: "a"$/im],
])(
  'an answer to %s has no body, and the connection goes on',
  async (_what, method, answer, status, header) => {
    answerWith = (request) => (request.startsWith('GET /next') ? OK : answer);
    const { text } = await sendBytes(
      ingress.httpPort,
      `${method} / HTTP/1.1\r\n${HOST}\r\nGET /next HTTP/1.1\r\n${HOST}\r\n`,
      { until: (so) => so.endsWith('\r\n\r\nok') },
    );
    const [first = '', second = ''] = text.split(/(?<=\r\n\r\n)(?=HTTP)/);
    expect(first).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(first).toMatch(header);
    expect(first).toMatch(/\r\n\r\n$/);
    expect(second).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  },
);

test('a connection that is upgraded carries bytes both ways', async () => {
  answerWith = (_, socket) => {
    socket.once('data', (chunk: Buffer) => socket.write(`echo ${chunk.toString()}`));
    return 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  };
  const { text } = await sendBytes(
    ingress.httpPort,
    `GET / HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`,
    {
      until: (so) => so.endsWith('echo hello'),
      then: (socket) => socket.once('data', () => socket.write('hello')),
    },
  );
  expect(text).toMatch(/^HTTP\/1\.1 101 /);
});

describe('an answer before the end of the upload', () => {
  const HIDDEN = `GET /hidden HTTP/1.1\r\nHost: early.localhost\r\n\r\n`.repeat(500);

  test.each([
    ['with a length', `Content-Length: 1000000000\r\n\r\nabc`],
    ['in chunks', `${CHUNKED}\r\n3b9aca00\r\nabc`],
  ])(
    '%s reaches the client that goes on, and nothing of the rest is taken for a request',
    async (_what, rest) => {
      heardEarly = [];
      const { text } = await sendToEnd(`POST / HTTP/1.1\r\nHost: early.localhost\r\n${rest}`, (socket) => {
        const timer = setInterval(() => socket.write(HIDDEN), 20);
        socket.once('close', () => clearInterval(timer));
      });
      expect(text).toMatch(/^HTTP\/1\.1 413 [^]*\r\nConnection: close\r\n\r\ntoo much$/);
      expect(heardEarly).toEqual(['POST / HTTP/1.1']);
    },
  );
});

test('events arrive as they are sent', async () => {
  let said: string[] = [];
  let next: () => void = () => undefined;
  onStream = (_, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    let count = 0;
    next = () => response.write(`data: ${(count += 1)}\n\n`);
    next();
  };
  await new Promise<void>((resolve, reject) => {
    const sent = httpRequestOf(
      { port: ingress.httpPort, host: '127.0.0.1', headers: { host: 'stream.localhost' } },
      (response) => {
        response.setEncoding('utf8');
        // Each is sent only when the one before has come.
        response.on('data', (chunk: string) => {
          said = [...said, chunk];
          if (said.length === 3) {
            sent.destroy();
            resolve();
          } else next();
        });
      },
    );
    sent.on('error', reject);
    sent.end();
  });
  expect(said).toEqual(['data: 1\n\n', 'data: 2\n\n', 'data: 3\n\n']);
});

const residentBytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;

test('an upload of 1 GB takes no memory', async () => {
  const size = 1_000_000_000;
  let received = 0;
  onStream = (incoming, response) => {
    incoming.on('data', (chunk: Buffer) => (received += chunk.length));
    incoming.on('end', () => response.end('done'));
  };
  const before = residentBytes(ingress.pid());
  let most = before;
  const block = Buffer.alloc(1_000_000, 'a');
  const socket = connect(ingress.httpPort, '127.0.0.1');
  socket.write(`POST / HTTP/1.1\r\nHost: stream.localhost\r\nContent-Length: ${size}\r\n\r\n`);
  const answered = new Promise<string>((resolve, reject) => {
    socket.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    socket.once('error', reject);
  });
  for (let sent = 0; sent < size; sent += block.length) {
    if (!socket.write(block)) await new Promise((resolve) => socket.once('drain', resolve));
    if (sent % 50_000_000 === 0) most = Math.max(most, residentBytes(ingress.pid()));
  }
  expect(await answered).toMatch(/^HTTP\/1\.1 200 /);
  socket.destroy();
  expect(received).toBe(size);
  expect(most - before).toBeLessThan(30_000_000);
}, 120_000);

test('clients that are slow are cut, whichever part they are slow with, and hold no replica', async () => {
  const upload = (length: number): string =>
    `POST / HTTP/1.1\r\nHost: stream.localhost\r\nContent-Length: ${length}\r\n\r\nabc`;
  let open = 0;
  onStream = (incoming) => {
    open += 1;
    incoming.on('error', () => undefined);
    incoming.on('close', () => (open -= 1));
  };
  const trickle = (socket: Socket): void => {
    const timer = setInterval(() => socket.write('a'), 500);
    socket.once('close', () => clearInterval(timer));
  };
  const [headers, ...bodies] = await Promise.all([
    sendToEnd(`GET / HTTP/1.1\r\n${HOST}A: `, trickle),
    // A server may try to read on for as little as is owed here, and wait for it.
    ...[1_000, 100_000, 1_000_000].flatMap((length) => [
      sendToEnd(upload(length)),
      sendToEnd(upload(length), trickle),
    ]),
  ]);
  expect(headers.tookMs).toBeGreaterThan(9_000);
  expect(headers.tookMs).toBeLessThan(20_000);
  for (const { tookMs, text } of bodies) {
    expect(tookMs).toBeGreaterThan(28_000);
    expect(tookMs).toBeLessThan(45_000);
    // Caddy says that the client is gone when it notices the end of the connection first.
    expect(text).toMatch(/^HTTP\/1\.1 (?:408|499) /);
  }
  await eventually(() => expect(open).toBe(0), { describe: 'the replica has no such request any more' });
}, 90_000);
