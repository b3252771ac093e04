// Bad input: a clear problem+json, and nothing changed.
import { connect } from 'node:net';
import { ERROR_TABLE, type ErrorCode } from '../../domain/errors';
import { assertConverged } from '../support/checker';
import type { HttpAnswer } from '../support/http';
import {
  apply,
  applyAsync,
  change,
  ended,
  microservice,
  microservices,
  removeAllBut,
  scenario,
  startTestBed,
  webSpec,
  type TestBed,
} from '../support/product';
import { eventually } from '../support/wait';

const SERVICE = 'calm';

let bed: TestBed;
let image = '';

beforeAll(async () => {
  bed = await startTestBed();
  image = await bed.web('v1');
  await apply(bed.instance, webSpec(SERVICE, image));
}, 120_000);

afterEach(() => removeAllBut(bed.instance, SERVICE), 60_000);
afterAll(() => bed?.dispose(), 60_000);

interface Problem {
  readonly code: ErrorCode;
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly problems?: readonly { readonly path: string; readonly message: string }[];
}

/** Every error has this form, whatever caused it. */
function problemOf(answer: HttpAnswer): Problem {
  expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
  const problem = answer.body as Problem;
  expect(problem.status).toBe(answer.status);
  expect(ERROR_TABLE[problem.code].status).toBe(answer.status);
  expect(problem.title).not.toBe('');
  expect(problem.detail).not.toBe('');
  return problem;
}

const post = (body: unknown, headers: Record<string, string> = {}): Promise<HttpAnswer> =>
  bed.instance.api('POST', '/v1/microservices', { body, headers });

const container = (more: object): object => ({
  name: 'wrong',
  containers: { main: { image: 'web:v1', ports: [80], ...more } },
});

const deep = (levels: number): string => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;

const documents: readonly (readonly [what: string, body: unknown, code: ErrorCode, told: RegExp])[] = [
  ['malformed JSON', '{"name": "x', 'invalid', /JSON/],
  ['no JSON at all', 'name=x', 'invalid', /JSON/],
  ['an empty body', '', 'invalid', /./],
  ['a list', [], 'invalid', /object/i],
  ['null', 'null', 'invalid', /object/i],
  ['a body of more than 1 MB', { ...container({}), padding: 'x'.repeat(1_100_000) }, 'too_large', /1/],
  ['deep nesting', deep(5_000), 'invalid', /deep|nest/i],
  ['the key __proto__', '{"name":"wrong","__proto__":{"scale":3},"containers":{}}', 'invalid', /__proto__/],
  [
    'the key constructor',
    '{"name":"wrong","constructor":{"prototype":{}},"containers":{}}',
    'invalid',
    /constructor/,
  ],
  ['a key twice in meaning', { ...container({}), Scale: 2 }, 'invalid', /scale/],
  ['an unknown key, with the one meant', { ...container({}), sclae: 2 }, 'invalid', /sclae.*scale/s],
  ['an unknown key in a container', container({ memlimit: 5 }), 'invalid', /memLimit/],
  ['no name', { containers: { main: { image: 'web:v1' } } }, 'invalid', /name/],
  ['no container', { name: 'wrong', containers: {} }, 'invalid', /container/],
  ['no image', { name: 'wrong', containers: { main: {} } }, 'invalid', /image/],
  ['a negative scale', { ...container({}), scale: -1 }, 'invalid', /0 or more/],
  ['a fraction of a scale', { ...container({}), scale: 1.5 }, 'invalid', /whole/],
  ['a huge scale', { ...container({}), scale: 1e9 }, 'invalid', /10000/],
  ['a scale in words', { ...container({}), scale: 'two' }, 'invalid', /number/],
  ['port 0', container({ ports: [0] }), 'invalid', /65535/],
  ['port 65536', container({ ports: [65_536] }), 'invalid', /65535/],
  ['a port twice', container({ ports: [80], httpPorts: { '80': 'a.localhost' } }), 'invalid', /80/],
  [
    'a hostname twice',
    container({ ports: [], httpPorts: { '80': 'a.localhost', '81': 'a.localhost' } }),
    'invalid',
    /a\.localhost/,
  ],
  [
    'a hostname that is none',
    container({ ports: [], httpPorts: { '80': 'not a host!' } }),
    'invalid',
    /hostname/,
  ],
  ['an image that is none', container({ image: 'no/../image::' }), 'invalid', /image/],
  ["memory below the engine's minimum", container({ memLimit: 1000 }), 'invalid', /6/],
  ['a variable without =', container({ env: ['NO_VALUE'] }), 'invalid', /KEY=value/],
  ['a check of a port that is not there', container({ check: { tcp: { port: 81 } } }), 'invalid', /81/],
  ['a NUL in a value', container({ env: ['A=b\u0000c'] }), 'invalid', /NUL/],
  ['a privileged container', container({ privileged: true }), 'forbidden', /allow-host-access/],
  [
    'a path of the host',
    container({ volumes: [{ hostPath: '/etc', path: '/x' }] }),
    'forbidden',
    /allow-host-access/,
  ],
  [
    'the Docker socket',
    container({ volumes: [{ hostPath: '/var/run/docker.sock', path: '/x' }] }),
    'forbidden',
    /socket/,
  ],
  ['the host network', { ...container({}), hostNetwork: true }, 'forbidden', /allow-host-access/],
  ['a dangerous capability', container({ addCapabilities: ['SYS_ADMIN'] }), 'forbidden', /SYS_ADMIN/],
];

describe('a document with', () => {
  for (const [what, body, code, told] of documents) {
    scenario(
      what,
      () => bed,
      async () => {
        const answer = await post(body, body === '' ? { 'content-type': 'application/json' } : {});
        const problem = problemOf(answer);
        expect([problem.code, answer.text]).toEqual([code, expect.stringMatching(told)]);
      },
    );
  }

  for (const name of [
    'ab',
    '1abc',
    '-abc',
    'abc-',
    'a_b',
    'a.b',
    'ümlaut',
    'a b',
    'x'.repeat(64),
    '',
    5,
    null,
  ]) {
    scenario(
      `the name ${JSON.stringify(name)}`,
      () => bed,
      async () => {
        const problem = problemOf(await post({ ...container({}), name }));
        expect(problem.code).toBe('invalid');
        expect(problem.problems?.map(({ path }) => path)).toContain('/name');
      },
    );
  }

  scenario(
    'several mistakes: all of them are told at once, each with its place',
    () => bed,
    async () => {
      const body = {
        name: 'x',
        scale: -1,
        containers: { main: { image: 'web:v1', ports: [0], cpus: 'many' } },
      };
      const { problems } = problemOf(await post(body));
      expect(problems?.map(({ path }) => path)).toEqual(
        expect.arrayContaining(['/name', '/scale', '/containers/main/ports/0', '/containers/main/cpus']),
      );
    },
  );
});

scenario(
  'nothing of all that has changed anything',
  () => bed,
  async (running) => {
    expect((await microservices(running.instance)).map(({ name }) => name)).toEqual([SERVICE]);
    await assertConverged(running);
  },
);

scenario(
  'two microservices with one hostname: the second is refused, and gets it when the first is gone',
  () => bed,
  async ({ instance }) => {
    const spec = (name: string): object => ({
      name,
      containers: { main: { image, httpPorts: { '80': 'one.localhost' } } },
    });
    await apply(instance, spec('first'));
    const problem = problemOf(await post(spec('second')));
    expect([problem.code, problem.detail]).toEqual([
      'conflict',
      expect.stringMatching(/one\.localhost.*first/s),
    ]);
    expect((await instance.api('GET', '/v1/microservices/second')).status).toBe(404);
    await change(instance, 'DELETE', '/v1/microservices/first');
    await apply(instance, spec('second'));
  },
);

scenario(
  'an image without the port that is asked for never becomes healthy, and says so',
  () => bed,
  async ({ instance }) => {
    const spec = webSpec('portless', image, { container: { ports: [4444], startupGraceSeconds: 2 } });
    const answer = await instance.api('POST', '/v1/microservices?wait=60s', {
      body: spec,
      timeoutMs: 70_000,
    });
    const problem = problemOf(answer);
    expect([problem.code, problem.detail]).toEqual(['unhealthy', expect.stringContaining('4444')]);
  },
);

scenario(
  'what is not there is 404, and a mistyped name gets a hint',
  () => bed,
  async ({ instance }) => {
    for (const [method, path] of [
      ['GET', '/v1/microservices/calmm'],
      ['PATCH', '/v1/microservices/calmm'],
      ['DELETE', '/v1/microservices/calmm'],
      ['GET', '/v1/operations/deploy.default.calm.000000000000'],
      ['GET', '/v1/operations/nonsense'],
      ['GET', '/v1/replicas/calm-zzzzzz'],
      ['GET', '/v1/nodes/nowhere'],
      ['GET', '/v1/nonsense'],
    ] as const) {
      const answer = await instance.api(method, path, method === 'PATCH' ? { body: { scale: 1 } } : {});
      expect([path, problemOf(answer).code]).toEqual([path, 'not_found']);
    }
    expect(problemOf(await instance.api('GET', '/v1/microservices/calmm')).detail).toContain(SERVICE);
    expect(problemOf(await instance.api('PUT', '/v1/nodes')).code).toBe('method_not_allowed');
  },
);

scenario(
  'another content type than JSON is refused',
  () => bed,
  async () => {
    const answer = await post('<xml/>', { 'content-type': 'text/xml' });
    expect(problemOf(answer).code).toBe('unsupported_media_type');
  },
);

describe('of changes at the same time', () => {
  scenario(
    'that both name the state they saw, one is refused',
    () => bed,
    async ({ instance }) => {
      const { headers } = await instance.api('GET', `/v1/microservices/${SERVICE}`);
      const etag = headers.etag ?? '';
      expect(etag).toMatch(/^(W\/)?"/);
      const both = await Promise.all(
        [2, 3].map((scale) =>
          instance.api('PATCH', `/v1/microservices/${SERVICE}`, {
            body: { scale },
            headers: { 'if-match': etag },
          }),
        ),
      );
      expect(both.map(({ status }) => status).sort()).toEqual([202, 412]);
      await change(instance, 'PATCH', `/v1/microservices/${SERVICE}`, { scale: 1 });
    },
  );

  scenario(
    'a repeated request with one Idempotency-Key is one change',
    () => bed,
    async ({ instance }) => {
      const headers = { 'idempotency-key': 'once-and-for-all' };
      const ask = () =>
        instance.api('POST', '/v1/microservices', { body: webSpec('single', image), headers });
      const answers = await Promise.all([ask(), ask(), ask()]);
      expect(new Set(answers.map(({ body }) => (body as { id: string }).id)).size).toBe(1);
      await ended(instance, (answers[0]?.body as { id: string }).id);
      expect((await microservice(instance, 'single')).generation).toBe(1);
      const other = await instance.api('POST', '/v1/microservices', {
        body: webSpec('single', image, { scale: 2 }),
        headers,
      });
      expect(problemOf(other).code).toBe('conflict');
    },
  );

  scenario(
    'a removal in the middle of a deploy wins',
    () => bed,
    async (running) => {
      const { instance } = running;
      const { id } = await applyAsync(instance, webSpec('fleeting', image, { scale: 3 }));
      await change(instance, 'DELETE', '/v1/microservices/fleeting');
      expect((await instance.api('GET', '/v1/microservices/fleeting')).status).toBe(404);
      await assertConverged(running);
      const { status } = await instance.api('GET', `/v1/operations/${id}`);
      expect([200, 404]).toContain(status);
      // And its name can be taken again.
      await apply(instance, webSpec('fleeting', image));
      await assertConverged(running);
    },
  );
});

describe('of strangers', () => {
  scenario(
    'web pages of other origins, and other host names, are refused',
    () => bed,
    async ({ instance }) => {
      for (const headers of [
        { host: 'evil.example' },
        { origin: 'http://evil.example' },
        { 'sec-fetch-site': 'cross-site' },
      ]) {
        const answer = await instance.api('GET', '/v1/microservices', { headers });
        expect(problemOf(answer).code).toBe('forbidden');
      }
    },
  );

  scenario(
    'no password is 401; the right one is taken in three forms',
    () => bed,
    async ({ instance }) => {
      const none = await instance.api('GET', '/v1/microservices', { password: null });
      expect(problemOf(none).code).toBe('unauthenticated');
      const basic = Buffer.from('admin:dev').toString('base64');
      const forms = await Promise.all([
        instance.api('GET', '/v1/microservices?password=dev', { password: null }),
        instance.api('GET', '/v1/microservices', {
          password: null,
          headers: { authorization: `Basic ${basic}` },
        }),
        instance.api('GET', '/v1/microservices', { password: 'dev' }),
      ]);
      expect(forms.map(({ status }) => status)).toEqual([200, 200, 200]);
    },
  );

  scenario(
    'bytes that are no HTTP do no harm',
    () => bed,
    async ({ instance, engine }) => {
      for (const bytes of [
        '\0\0\0\0',
        'GET\n\n',
        `GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(100_000)}\r\n\r\n`,
      ]) {
        await new Promise<void>((resolve) => {
          const socket = connect(
            { host: engine.loopbackAddress, port: instance.apiPort, timeout: 5_000 },
            () => socket.write(bytes),
          );
          socket.on('data', () => socket.end()).on('error', () => resolve());
          socket.on('timeout', () => socket.destroy()).on('close', () => resolve());
        });
      }
      expect((await instance.api('GET', '/healthz')).status).toBe(200);
    },
  );

  // The last one, because it shuts this address out for a while.
  scenario(
    'wrong passwords are slowed down',
    () => bed,
    async ({ instance }) => {
      const codes = new Set<string>();
      await eventually(async () => {
        const answer = await instance.api('GET', '/v1/microservices', { password: 'wrong' });
        codes.add(problemOf(answer).code);
        expect([...codes]).toEqual(['unauthenticated', 'rate_limited']);
        expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      });
      // And the right one is let in again after that time.
      await eventually(async () => {
        expect((await instance.api('GET', '/v1/microservices')).status).toBe(200);
      });
    },
  );
});
