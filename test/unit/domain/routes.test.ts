/** Routes with options: what is written, what a release holds of it, and what is refused. */

import fc from 'fast-check';

import { parseMicroserviceSpec } from '../../../domain/spec/parse';
import { diffRelease } from '../../../domain/spec/release-diff';
import { specToUser } from '../../../domain/spec/to-user';

const HASH = `$2b$10$${'a'.repeat(53)}`;
const policy = { allowHostAccess: false };

const document = (httpPorts: unknown, more: object = {}) => ({
  name: 'web',
  containers: { app: { image: 'nginx:1', httpPorts }, ...more },
});

const parsed = (httpPorts: unknown) => {
  const outcome = parseMicroserviceSpec(document(httpPorts), policy);
  if (outcome.kind === 'invalid') throw new Error(JSON.stringify(outcome.problems));
  return outcome.spec;
};

const portOf = (httpPorts: unknown) => parsed(httpPorts).release.containers[0]?.ports[0];

const problemsOf = (httpPorts: unknown, more: object = {}) => {
  const outcome = parseMicroserviceSpec(document(httpPorts, more), policy);
  return outcome.kind === 'ok'
    ? []
    : outcome.problems.map(({ path, message }) => `${path.replace('/containers/', '')} ${message}`);
};

test('a route without options is a plain hostname', () => {
  const plain = portOf({ 80: ['b.example.com', 'a.example.com'] });
  expect(plain).toEqual({ port: 80, protocol: 'tcp', hostnames: ['a.example.com', 'b.example.com'] });
  expect(portOf({ 80: { hostnames: ['b.example.com', 'A.example.com'] } })).toEqual(plain);
  const spelled = { hostnames: 'b.example.com', stripPath: false, protocol: 'http', sticky: false };
  expect(portOf({ 80: ['a.example.com', spelled] })).toEqual(plain);
});

test('every option stands in the release, and comes back as it was written', () => {
  const written = {
    80: [
      'plain.example.com',
      {
        hostnames: ['example.com', 'also.example.com'],
        redirectFrom: ['www.example.com'],
        errorPage: '<h1>{sorry}</h1>',
      },
      {
        hostnames: 'example.com',
        path: '/admin',
        stripPath: true,
        protocol: 'h2c',
        basicAuth: { alice: HASH },
        allow: ['10.0.0.0/8', '2001:db8::/32'],
        sticky: true,
        rateLimit: { requests: 100, seconds: 60 },
        maxBodyBytes: 1_000,
        responseTimeoutSeconds: 1.5,
      },
    ],
  };
  const port = portOf({
    80: [written[80][2], written[80][0], { ...(written[80][1] as object) }].map((one) =>
      typeof one === 'object' && 'path' in one
        ? { ...one, path: '/Admin/', allow: ['2001:DB8::/32', '10.0.0.0/8', '10.0.0.0/8'] }
        : one,
    ),
  });
  expect(port?.hostnames).toEqual(['plain.example.com']);
  expect(port?.routes).toEqual([
    {
      hostnames: ['example.com'],
      path: '/admin',
      stripPath: true,
      protocol: 'h2c',
      basicAuth: { alice: HASH },
      allow: ['10.0.0.0/8', '2001:db8::/32'],
      sticky: true,
      rateLimit: { requests: 100, perMs: 60_000 },
      maxBodyBytes: 1_000,
      responseTimeoutMs: 1_500,
    },
    {
      hostnames: ['example.com', 'also.example.com'],
      redirectFrom: ['www.example.com'],
      errorPage: '<h1>{sorry}</h1>',
    },
  ]);
  const spec = parsed(written);
  const user = specToUser({ ...spec, scaleGiven: false });
  expect(parseMicroserviceSpec(user, policy)).toEqual({ kind: 'ok', spec: { ...spec, scaleGiven: false } });
  expect(user.containers['app']?.httpPorts?.['80']).toEqual([written[80][0], written[80][2], written[80][1]]);
});

test.each<readonly [unknown, readonly string[]]>([
  [
    { 80: {} },
    [
      'app/httpPorts/80/hostnames is missing; expected a hostname like "hello.example.com" or a list of hostnames',
    ],
  ],
  [
    { 80: { hostnames: 'a.b', paths: '/x' } },
    ['app/httpPorts/80/paths is not a known key; did you mean "path"?'],
  ],
  [
    { 80: { hostnames: 'a.b', path: 'api' } },
    [expect.stringMatching(/^app\/httpPorts\/80\/path must be a path like \/api/)],
  ],
  [
    { 80: { hostnames: 'a.b', path: '/' } },
    [expect.stringMatching(/^app\/httpPorts\/80\/path must be a path/)],
  ],
  [
    { 80: { hostnames: 'a.b', path: '/a/../b' } },
    [expect.stringMatching(/^app\/httpPorts\/80\/path must be a path/)],
  ],
  [
    { 80: { hostnames: 'a.b', path: '/{file./etc/shadow}' } },
    [expect.stringMatching(/^app\/httpPorts\/80\/path must/)],
  ],
  [
    { 80: { hostnames: 'a.b', stripPath: true } },
    ['app/httpPorts/80/stripPath must be given with "path", which says what is stripped'],
  ],
  [
    { 80: { hostnames: 'a.b', path: '/x', redirectFrom: ['c.d'] } },
    [expect.stringMatching(/^app\/httpPorts\/80\/redirectFrom must not be given with "path"/)],
  ],
  [
    { 80: { hostnames: 'a.b', protocol: 'h3' } },
    ['app/httpPorts/80/protocol must be one of "http", "h2c", "https", not text ("h3")'],
  ],
  [
    { 80: { hostnames: 'a.b', basicAuth: { 'a:b': 'x' } } },
    [expect.stringMatching(/^app\/httpPorts\/80\/basicAuth\/a:b has a key that must be of letters/)],
  ],
  [{ 80: { hostnames: 'a.b', basicAuth: {} } }, ['app/httpPorts/80/basicAuth must have one user at least']],
  [
    { 80: { hostnames: 'a.b', basicAuth: { a: '$apr1$x$y' } } },
    [expect.stringMatching(/must be a password, or a bcrypt hash/)],
  ],
  [
    { 80: { hostnames: 'a.b', basicAuth: { a: 'ü'.repeat(37) } } },
    ['app/httpPorts/80/basicAuth/a must have 72 bytes at most'],
  ],
  [
    { 80: { hostnames: 'a.b', allow: ['10.0.0.0/33'] } },
    [expect.stringMatching(/^app\/httpPorts\/80\/allow\/0 must be an address or a block/)],
  ],
  [
    { 80: { hostnames: 'a.b', rateLimit: { requests: 0, seconds: 3_601, burst: 5 } } },
    [
      'app/httpPorts/80/rateLimit/requests must be 1 or more, not 0',
      'app/httpPorts/80/rateLimit/seconds must be 3600 at most, not 3601',
      'app/httpPorts/80/rateLimit/burst is not a known key; known here: requests, seconds',
    ],
  ],
  [
    { 80: { hostnames: 'a.b', rateLimit: { requests: 1.5 } } },
    [
      'app/httpPorts/80/rateLimit/requests must be a whole number, not 1.5',
      'app/httpPorts/80/rateLimit/seconds is missing',
    ],
  ],
  [
    { 80: ['c.d', { hostnames: 'a.b', rateLimit: 100 }] },
    ['app/httpPorts/80/1/rateLimit must be an object, not 100'],
  ],
  [{ 80: { hostnames: 'a.b', maxBodyBytes: 0 } }, ['app/httpPorts/80/maxBodyBytes must be 1 or more, not 0']],
  [
    { 80: ['a.b', { hostnames: ['a.b', 'c.d'], allow: ['::1'] }] },
    [
      'app/httpPorts/80/1/hostnames/0 is the hostname "a.b" again: /containers/app/httpPorts/80/0 has it already',
    ],
  ],
  [
    {
      80: [
        { hostnames: 'a.b', path: '/x' },
        { hostnames: 'a.b', path: '/X/' },
      ],
    },
    [
      'app/httpPorts/80/1/hostnames is the hostname and path "a.b/x" again: /containers/app/httpPorts/80/0/hostnames has it already',
    ],
  ],
  [
    { 80: { hostnames: ['*.a.example', 'b.example'], redirectFrom: ['c.example'] } },
    [
      'app/httpPorts/80/redirectFrom must lead to one host: the first of "hostnames", "*.a.example", is a wildcard. Put another one first',
    ],
  ],
  [
    { 80: { hostnames: 'a.b', redirectFrom: ['a.b'] } },
    [
      'app/httpPorts/80/redirectFrom/0 is the hostname "a.b" again: /containers/app/httpPorts/80/hostnames has it already',
    ],
  ],
])('%j is refused', (httpPorts, problems) => {
  expect(problemsOf(httpPorts)).toEqual(problems);
});

test('a wildcard may stand beside names below it, and be redirected to one', () => {
  expect(problemsOf({ 80: ['*.example.com', 'a.example.com'] })).toEqual([]);
  expect(problemsOf({ 80: { hostnames: 'www.example.com', redirectFrom: ['*.example.com'] } })).toEqual([]);
  expect(problemsOf({ 80: ['*.example.com', '*.example.com'] })).toHaveLength(1);
});

test('two containers share a hostname with different paths', () => {
  const more = { api: { image: 'nginx:1', httpPorts: { 81: { hostnames: 'a.b', path: '/api' } } } };
  expect(problemsOf({ 80: 'a.b' }, more)).toEqual([]);
});

test('what has changed tells that a password has, and no hash', () => {
  const [before, after] = [HASH, HASH.replace('aaa', 'bbb')].map(
    (alice) => parsed({ 80: { hostnames: 'a.b', basicAuth: { alice } } }).release,
  );
  const lines = diffRelease(before as NonNullable<typeof before>, after as NonNullable<typeof after>);
  expect(lines).toEqual(['containers.app.httpPorts.80.basicAuth.alice: (hidden) → (hidden)']);
});

test('what has changed of a limit is told', () => {
  const [before, after] = [100, 200].map(
    (requests) => parsed({ 80: { hostnames: 'a.b', rateLimit: { requests, seconds: 60 } } }).release,
  );
  const lines = diffRelease(before as NonNullable<typeof before>, after as NonNullable<typeof after>);
  expect(lines).toEqual(['containers.app.httpPorts.80.rateLimit.requests: 100 → 200']);
});

test('whatever is written: it is refused, or what comes back is the same release', () => {
  const route = fc.record(
    {
      hostnames: fc.uniqueArray(fc.constantFrom('a.b', 'C.d', 'e.f'), { minLength: 1 }),
      path: fc.constantFrom('/x', '/X/y', '/z/'),
      stripPath: fc.boolean(),
      redirectFrom: fc.uniqueArray(fc.constantFrom('www.a.b', 'g.h'), { minLength: 1 }),
      protocol: fc.constantFrom('http', 'h2c', 'https'),
      basicAuth: fc.constantFrom({ alice: HASH, Bob: HASH }),
      allow: fc.uniqueArray(fc.oneof(fc.ipV4(), fc.constant('fd00::/8')), { minLength: 1 }),
      sticky: fc.boolean(),
      rateLimit: fc.record({
        requests: fc.integer({ min: 1, max: 1_000_000 }),
        seconds: fc.integer({ min: 1, max: 3_600 }),
      }),
      maxBodyBytes: fc.integer({ min: 1 }),
      responseTimeoutSeconds: fc.integer({ min: 1, max: 900 }).map((tenths) => tenths / 10),
      errorPage: fc.string({ minLength: 1 }),
    },
    { requiredKeys: ['hostnames'] },
  );
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.constantFrom('a.b', 'i.j'), route), { minLength: 1, maxLength: 4 }),
      (items) => {
        const outcome = parseMicroserviceSpec(document({ 80: items }), policy);
        if (outcome.kind === 'invalid') {
          expect(outcome.problems.length).toBeGreaterThan(0);
          return;
        }
        expect(parseMicroserviceSpec(specToUser(outcome.spec), policy)).toEqual(outcome);
      },
    ),
  );
});
