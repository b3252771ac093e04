/**
 * What a replica answers with 502 or 503, or breaks off, as one that dies does: with a real Caddy, another one is asked
 * when the request may be done twice; whatever else is answered goes out as it came.
 */

import { createServer, type IncomingMessage, type Server } from 'node:http';
import { connect } from 'node:http2';
import { text as readText } from 'node:stream/consumers';

import { createHostnameAuthority, issueForHostname } from '../../adapters/certificates/hostname-authority';

import { httpRequest, type HttpAnswer } from '../support/http';
import { freePort, listenOn, startIngress, type TestIngress } from '../support/ingress';
import { startLoad } from '../support/load';
import { eventually } from '../support/wait';

interface Replica {
  readonly server: Server;
  readonly address: string;
  readonly name: string;
  /** What it was sent since the test began: method and body. */
  readonly heard: string[];
}

/** In place of a status: the connection is reset when all of the request has been read. */
const BREAKS_OFF = 0;

/** How the replicas answer now, by their names. */
let statusOf: Readonly<Record<string, number>> = {};
let headersOfFailures: Readonly<Record<string, string>> = {};
let replicas: readonly Replica[] = [];
let ingress: TestIngress;

const bodyOf = async (request: IncomingMessage): Promise<string> => {
  let body = '';
  for await (const chunk of request.setEncoding('utf8')) body += String(chunk);
  return body;
};

const startReplica = async (name: string): Promise<Replica> => {
  const heard: string[] = [];
  const server = createServer((request, response) => {
    void bodyOf(request).then((body) => {
      heard.push(`${request.method ?? ''} ${body}`.trim());
      const status = statusOf[name] ?? 200;
      if (status === BREAKS_OFF) {
        request.socket.resetAndDestroy();
        return;
      }
      response.writeHead(status, { 'x-replica': name, ...(status === 200 ? {} : headersOfFailures) });
      response.end(`${name} ${status}`);
    });
  });
  return { server, address: `127.0.0.1:${await listenOn(server)}`, name, heard };
};

const ask = (
  hostname: string,
  more: { method?: string; body?: string; headers?: Record<string, string> } = {},
): Promise<HttpAnswer> => {
  const { headers, ...rest } = more;
  return httpRequest(`http://127.0.0.1:${ingress.httpPort}/`, {
    ...rest,
    headers: { host: hostname, ...headers },
  });
};

/** Until each replica has been asked first, whichever the ingress takes. */
const askOften = async (hostname: string, more: Parameters<typeof ask>[1] = {}) => {
  const answers: HttpAnswer[] = [];
  for (let request = 0; request < 24; request += 1) answers.push(await ask(hostname, more));
  return answers;
};

const heardBy = (name: string): readonly string[] => replicas.find((one) => one.name === name)?.heard ?? [];
const heardInAll = (): number => replicas.reduce((sum, { heard }) => sum + heard.length, 0);

beforeAll(async () => {
  replicas = await Promise.all(['a', 'b', 'c'].map(startReplica));
  const addresses = replicas.map(({ address }) => address);
  const nowMs = Date.now();
  const authority = await createHostnameAuthority({ clusterId: 'c1', nowMs });
  const { chainPem, keyPem } = await issueForHostname({ authority, hostname: 'two.localhost', nowMs });
  ingress = await startIngress(
    {
      'three.localhost': addresses,
      'two.localhost': addresses.slice(0, 2),
      'one.localhost': addresses.slice(0, 1),
      'gone.localhost': `127.0.0.1:${await freePort()}`,
    },
    new Map([['two.localhost', `${chainPem}${keyPem}`]]),
  );
}, 60_000);

beforeEach(() => {
  statusOf = {};
  headersOfFailures = {};
  for (const { heard } of replicas) heard.length = 0;
});

afterAll(async () => {
  await ingress?.stop();
  for (const { server } of replicas) {
    server.closeAllConnections();
    server.close();
  }
}, 30_000);

test.each([
  [502, 'GET', 'two.localhost'],
  [503, 'GET', 'two.localhost'],
  [503, 'HEAD', 'three.localhost'],
  [503, 'OPTIONS', 'three.localhost'],
  [503, 'DELETE', 'two.localhost'],
  [502, 'PUT', 'two.localhost'],
])('what one answers with %i to %s is asked of another one', async (status, method, hostname) => {
  statusOf = { a: status };
  const answers = await askOften(hostname, { method });
  expect(answers.filter((answer) => answer.status !== 200)).toEqual([]);
  expect(heardBy('a').length).toBeGreaterThan(0);
  expect(heardInAll()).toBe(answers.length + heardBy('a').length);
  for (const { headers } of answers) expect(headers.via).toBe('1.1 Caddy');
});

test('clients that ask all the time see nothing of a replica that fails', async () => {
  statusOf = { a: 503 };
  const address = `127.0.0.1:${ingress.httpPort}`;
  const load = startLoad({ address, hostname: 'three.localhost', clients: 8 });
  try {
    await eventually(() => expect(load.report().answered).toBeGreaterThan(1_000));
  } finally {
    await load.stop();
  }
  const { failures, bodies } = load.report();
  expect(failures).toEqual([]);
  expect([...bodies.keys()].sort()).toEqual(['b 200', 'c 200']);
});

test('when all of them fail, two are asked, and what the second one answers goes out', async () => {
  statusOf = { a: 503, b: 502, c: 503 };
  const answers = await askOften('three.localhost');
  for (const { status, text, headers } of answers) {
    expect(text).toBe(`${headers['x-replica'] as string} ${status}`);
    expect([502, 503]).toContain(status);
  }
  expect(heardInAll()).toBe(2 * answers.length);
});

test('the only one is asked once, and its answer goes out as it is', async () => {
  statusOf = { a: 503 };
  const answers = await askOften('one.localhost');
  expect(new Set(answers.map(({ status, text }) => `${status} ${text}`))).toEqual(new Set(['503 a 503']));
  expect(heardInAll()).toBe(answers.length);
});

test.each([
  ['POST', { method: 'POST', body: 'paid' }],
  ['PUT', { method: 'PUT', body: 'put' }],
  ['DELETE with a body', { method: 'DELETE', body: 'gone' }],
  ['GET with a body', { method: 'GET', body: 'asked', headers: { 'content-length': '5' } }],
  [
    'GET with a body in chunks',
    { method: 'GET', body: 'asked', headers: { 'transfer-encoding': 'chunked' } },
  ],
])('%s is sent once, with all of its body', async (_what, options) => {
  statusOf = { a: 503, b: 503 };
  const answers = await askOften('two.localhost', options);
  for (const { status } of answers) expect(status).toBe(503);
  expect([...heardBy('a'), ...heardBy('b')]).toEqual(
    Array(answers.length).fill(`${options.method} ${'body' in options ? options.body : ''}`.trim()),
  );
});

describe('a connection that is reset after the request was sent', () => {
  test.each(['GET', 'DELETE', 'PUT'])('is no answer to %s, and another one is asked', async (method) => {
    statusOf = { a: BREAKS_OFF };
    const answers = await askOften('two.localhost', { method });
    expect(answers.filter((answer) => answer.status !== 200)).toEqual([]);
    expect(heardBy('a').length).toBeGreaterThan(0);
    expect(heardBy('b')).toEqual(Array(answers.length).fill(method));
  });

  test.each([
    ['POST', { method: 'POST', body: 'paid' }],
    ['POST without a body', { method: 'POST' }],
    ['PATCH', { method: 'PATCH', body: 'more' }],
    ['PUT with a body', { method: 'PUT', body: 'put' }],
  ])('leaves %s unanswered, and sent once', async (_what, options) => {
    statusOf = { a: BREAKS_OFF };
    const answers = await askOften('two.localhost', options);
    const sent = `${options.method} ${'body' in options ? options.body : ''}`.trim();
    const unanswered = answers.filter(({ status }) => status === 503);
    expect(unanswered).toHaveLength(heardBy('a').length);
    for (const { text, headers } of unanswered) {
      expect(text).toMatch(
        /^A replica of two\.localhost has got this request .* may have been carried out: .*\n$/,
      );
      // Clients send again by themselves what has it.
      expect(headers['retry-after']).toBeUndefined();
    }
    expect([...heardBy('a'), ...heardBy('b')]).toEqual(Array(answers.length).fill(sent));
  });
});

test('who was not heard by anybody is told to come again, and so is who has changed nothing', async () => {
  statusOf = { a: BREAKS_OFF };
  for (const answer of await Promise.all([
    ask('gone.localhost', { method: 'POST', body: 'paid' }),
    ask('one.localhost'),
  ])) {
    expect(answer.status).toBe(503);
    expect(answer.text).toMatch(/^No replica answers for (?:gone|one)\.localhost\./);
    expect(answer.headers['retry-after']).toBe('5');
  }
}, 15_000);

describe('over HTTP/2, in which nothing but the end of the request says whether it has a body,', () => {
  const send = async (method: string, { body, ...headers }: Readonly<Record<string, string>> = {}) => {
    const session = connect(`https://127.0.0.1:${ingress.httpsPort}`, {
      rejectUnauthorized: false,
      servername: 'two.localhost',
    });
    try {
      const asked = { ':method': method, ':authority': 'two.localhost', ...headers };
      const stream = session.request(asked, { endStream: body === undefined });
      if (body !== undefined) stream.end(body);
      return await readText(stream);
    } finally {
      session.destroy();
    }
  };

  test.each([
    ['GET', {}],
    ['DELETE', { 'content-length': '0' }],
    ['PUT', { 'content-length': '0' }],
  ])('%s is asked again when it has none', async (method, headers) => {
    for (const status of [503, BREAKS_OFF]) {
      statusOf = { a: status };
      for (let request = 0; request < 12; request += 1) expect(await send(method, headers)).toBe('b 200');
    }
    expect(heardBy('a').length).toBeGreaterThan(0);
    expect(heardBy('b')).toEqual(Array(24).fill(method));
  });

  test.each(['DELETE', 'PUT', 'POST'])('%s is sent once, with all of it', async (method) => {
    for (const status of [503, BREAKS_OFF]) {
      statusOf = { a: status };
      for (let request = 0; request < 12; request += 1) await send(method, { body: 'all of it' });
    }
    expect(heardBy('a').length).toBeGreaterThan(0);
    expect([...heardBy('a'), ...heardBy('b')]).toEqual(Array(24).fill(`${method} all of it`));
  });
});

test('an answer that says when to come again is meant, and so is every other status', async () => {
  statusOf = { a: 503, b: 503 };
  headersOfFailures = { 'retry-after': '7' };
  for (const { status, headers } of await askOften('two.localhost')) {
    expect([status, headers['retry-after']]).toEqual([503, '7']);
  }
  expect(heardInAll()).toBe(24);
  for (const other of [500, 504, 429, 404]) {
    statusOf = { a: other, b: other };
    expect((await ask('two.localhost')).status).toBe(other);
  }
  expect(heardInAll()).toBe(24 + 4);
});
