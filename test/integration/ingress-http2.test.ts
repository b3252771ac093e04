/**
 * HTTPS and HTTP/2 through the ingress, with a real Caddy: what lasts and what goes both ways, as web sockets and gRPC
 * need it, and nothing that HTTP/1 would read in another way once it is passed on.
 */

import { once } from 'node:events';
import * as http2 from 'node:http2';
import type { Socket } from 'node:net';
import { text as readText } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';

import { createHostnameAuthority, issueForHostname } from '../../adapters/certificates/hostname-authority';
import { cuttingSlowBodiesSoon, listenOn, startIngress, type TestIngress } from '../support/ingress';
import { createRawReplica, type RawReplica } from '../support/raw-http';
import { PROTOCOL_ERROR, sendStream, type RawStreamEnd } from '../support/raw-http2';
import { eventually } from '../support/wait';

const HOSTNAME = 'two.localhost';

let ingress: TestIngress;
let root: string;
/** How the replica answers next. */
let answerWith: (request: string, socket: Socket) => string;
const replica: RawReplica = createRawReplica((request, socket) => answerWith(request, socket));

beforeAll(async () => {
  const nowMs = Date.now();
  const authority = await createHostnameAuthority({ clusterId: 'c1', nowMs });
  const { chainPem, keyPem } = await issueForHostname({ authority, hostname: HOSTNAME, nowMs });
  root = authority.certificatePem;
  const address = `127.0.0.1:${await listenOn(replica.server)}`;
  ingress = await startIngress({ [HOSTNAME]: address }, new Map([[HOSTNAME, `${chainPem}${keyPem}`]]));
}, 60_000);

beforeEach(() => {
  answerWith = () => 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
  replica.received();
});

afterAll(async () => {
  await ingress?.stop();
  replica.server.close();
}, 30_000);

const connect = (): http2.ClientHttp2Session =>
  http2.connect(`https://127.0.0.1:${ingress.httpsPort}`, { ca: root, servername: HOSTNAME });

test('a web socket opens over TLS, and carries bytes both ways', async () => {
  answerWith = (_, socket) => {
    socket.on('data', (chunk: Buffer | string) => socket.write(`echo ${chunk.toString()}`));
    return 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  };
  // As a browser, which offers HTTP/1 alone for it.
  const socket = connectTls({
    ...{ port: ingress.httpsPort, host: '127.0.0.1', servername: HOSTNAME, ca: root },
    ALPNProtocols: ['http/1.1'],
  });
  let heard = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => (heard += chunk));
  try {
    socket.write(`GET / HTTP/1.1\r\nHost: ${HOSTNAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
    await eventually(() => expect(heard).toMatch(/^HTTP\/1\.1 101 [^]*\r\n\r\n$/));
    for (const word of ['hello', 'again']) {
      socket.write(word);
      await eventually(() => expect(heard).toMatch(new RegExp(`echo ${word}$`)));
    }
  } finally {
    socket.destroy();
  }
});

test('one stream goes both ways at once, and ends with trailers', async () => {
  const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
  answerWith = () => '';
  replica.server.once('connection', (socket: Socket) => {
    let answered = false;
    socket.on('data', (bytes: Buffer | string) => {
      const text = bytes.toString();
      // Each is answered before the next one is sent.
      if (!answered) {
        answered = true;
        socket.write('HTTP/1.1 200 OK\r\nTrailer: Grpc-Status\r\nTransfer-Encoding: chunked\r\n\r\n');
      }
      for (const word of ['first', 'second']) if (text.includes(word)) socket.write(chunk(`got ${word}`));
      if (text.endsWith('0\r\n\r\n')) socket.write('0\r\nGrpc-Status: 0\r\n\r\n');
    });
  });
  const session = connect();
  try {
    const stream = session.request({
      ...{ ':method': 'POST', ':path': '/s.S/M', ':authority': HOSTNAME },
      ...{ 'content-type': 'application/grpc', te: 'trailers' },
    });
    let heard = '';
    stream.setEncoding('utf8').on('data', (text: string) => (heard += text));
    const trailers = once(stream, 'trailers') as Promise<[http2.IncomingHttpHeaders]>;
    for (const word of ['first', 'second']) {
      stream.write(word);
      await eventually(() => expect(heard).toMatch(new RegExp(`got ${word}$`)));
    }
    stream.end();
    const [{ 'grpc-status': status }] = await trailers;
    expect(status).toBe('0');
  } finally {
    session.destroy();
  }
});

describe('what HTTP/1 would read in another way', () => {
  const HIDDEN = `GET /hidden HTTP/1.1\r\nHost: ${HOSTNAME}\r\n\r\n`;
  /** All that the replica has got: what comes of one request may come late. */
  const received: string[] = [];
  let paths = 0;

  const send = async (
    headers: readonly (readonly [string, string])[],
    { body, method = 'POST' }: { readonly body?: string; readonly method?: string } = {},
  ): Promise<{ readonly end: RawStreamEnd; readonly sentOn: () => string }> => {
    paths += 1;
    const path = `/of/${paths}/`;
    const pseudo = { method, scheme: 'https', authority: HOSTNAME, path };
    const end = await sendStream({
      ...{ port: ingress.httpsPort, hostname: HOSTNAME },
      headers: [...Object.entries(pseudo).map(([name, value]) => [`:${name}`, value] as const), ...headers],
      ...(body === undefined ? {} : { body }),
    });
    const sentOn = (): string => {
      received.push(...replica.received());
      return received.filter((one) => one.includes(path)).join('');
    };
    return { end, sentOn };
  };

  test('is told from what it would not: a length that is right is passed on', async () => {
    const { end, sentOn } = await send([['content-length', '3']], { body: 'abc' });
    expect(end).toEqual({ kind: 'answered', status: 200 });
    expect(sentOn()).toMatch(/^POST \S+ HTTP\/1\.1\r\n[^]*\r\nContent-Length: 3\r\n[^]*\r\n\r\nabc$/);
  });

  test.each([
    ['is longer', '3', `abc${HIDDEN}`, { kind: 'reset', code: PROTOCOL_ERROR }],
    ['is shorter', '100', HIDDEN, { kind: 'answered', status: 400 }],
  ] as const)(
    'a body that %s than it says is refused, and hides no request',
    async (_what, length, body, how) => {
      const { end, sentOn } = await send([['content-length', length]], { body });
      expect(end).toEqual(how);
      await eventually(() => expect(replica.open()).toBe(0), { describe: 'the replica is hung up on' });
      // Its beginning may have reached the replica, and never as many bytes as are to follow.
      const [head = '', rest = ''] = sentOn().split('\r\n\r\n');
      if (head !== '') expect(head).toContain(`\r\nContent-Length: ${length}\r\n`);
      expect(rest.length).toBeLessThan(Number(length));
    },
  );

  test.each([
    ['chunks', [['transfer-encoding', 'chunked']], `0\r\n\r\n${HIDDEN}`],
    ['a connection that is named', [['connection', 'x-mine']], 'abc'],
    ['a length with a sign', [['content-length', '+3']], 'abc'],
    ['a header with lines in it', [['a', `b\r\nContent-Length: 3\r\n\r\n${HIDDEN}`]], undefined],
    ['the name of a header with lines in it', [['a: b\r\nc', 'd']], undefined],
    ['the name of a header in upper case', [['Transfer-Encoding', 'chunked']], undefined],
    ['a path after the headers', [['a', 'b'], [':path', '/hidden']], undefined], // prettier-ignore
    ['another host', [['host', 'other.localhost']], undefined],
  ] as const)('%s: nothing of it reaches a replica', async (_what, headers, body) => {
    const { end, sentOn } = await send(headers, body === undefined ? {} : { body });
    expect(end).not.toEqual({ kind: 'answered', status: 200 });
    expect(sentOn()).toBe('');
  });

  test.each([
    ['lines', 'GET / HTTP/1.1\r\nHost: a\r\n\r\nGET'],
    ['a blank', 'GET /hidden'],
  ])('a method with %s in it: nothing of it reaches a replica', async (_what, method) => {
    const { end, sentOn } = await send([], { method });
    expect(end).not.toEqual({ kind: 'answered', status: 200 });
    expect(sentOn()).toBe('');
  });
});

test('a body without a length is passed on in chunks of its own', async () => {
  const session = connect();
  try {
    const stream = session.request({ ':method': 'POST', ':authority': HOSTNAME });
    stream.end('0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n');
    expect(await readText(stream)).toBe('ok');
  } finally {
    session.destroy();
  }
  const [received = '', ...more] = replica.received();
  expect(more).toEqual([]);
  expect(received).toMatch(/\r\nTransfer-Encoding: chunked\r\n[^]*\r\n\r\n1d\r\n0\r\n\r\nGET \/hidden/);
});

test.each([
  ['of a small length', { 'content-length': 100 }],
  ['of a large length', { 'content-length': 1_000_000 }],
  ['without a length', {}],
])('a body %s that comes too slowly is cut, and the client told so', async (_what, headers) => {
  await ingress.reload(cuttingSlowBodiesSoon);
  const session = connect();
  try {
    const stream = session.request({ ':method': 'POST', ':authority': HOSTNAME, ...headers });
    stream.write('abc');
    const [answer] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
    expect([answer[':status'], await readText(stream)]).toEqual([
      408,
      'The body of the request comes too slowly.\n',
    ]);
  } finally {
    session.destroy();
  }
});
