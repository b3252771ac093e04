/** What holds for every document: parsing never throws, changes nothing, and can be undone. */

import fc from 'fast-check';
import { sameRelease } from '../../../domain/spec/diff';
import { parseMicroserviceSpec, type ParsedSpec } from '../../../domain/spec/parse';
import { diffRelease, diffReleases } from '../../../domain/spec/release-diff';
import { specToUser } from '../../../domain/spec/to-user';

const RUNS = Number(process.env['PROPERTY_RUNS'] ?? 300);
const policy = { allowHostAccess: true };

const parseOk = (input: unknown): ParsedSpec => {
  const outcome = parseMicroserviceSpec(input, policy);
  if (outcome.kind === 'invalid') throw new Error(JSON.stringify([input, outcome.problems]));
  return outcome.spec;
};

const optional = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined, freq: 2 });

const textArbitrary = fc.string({ maxLength: 12 }).map((text) => text.replaceAll('\0', ''));
const labelArbitrary = fc.stringMatching(/^[a-z][a-z0-9-]{0,10}[a-z0-9]$/);
const pathArbitrary = fc
  .array(labelArbitrary, { minLength: 1, maxLength: 3 })
  .map((parts) => `/${parts.join('//')}`);
const secondsArbitrary = (min: number, max: number) =>
  fc.oneof(fc.integer({ min: Math.ceil(min), max }), fc.double({ min, max, noNaN: true }));
const countArbitrary = fc.oneof(
  fc.integer({ min: 1, max: 20 }),
  fc.integer({ min: 1, max: 100 }).map((percent) => `${percent}%`),
);
const envKeyArbitrary = fc.stringMatching(/^[A-Z_][A-Z0-9_]{0,8}$/);

const timing = {
  intervalSeconds: optional(secondsArbitrary(1, 3_600)),
  timeoutSeconds: optional(secondsArbitrary(0.1, 600)),
  failures: optional(fc.integer({ min: 1, max: 100 })),
};

/** Ports are handed out by the container's number, so that no two containers have the same. */
const containerArbitrary = (index: number) => {
  const port = 1_000 + index * 10;
  return fc.record({
    image: fc.constantFrom(
      'nginx',
      'nginx:1.27',
      'registry.example.com:5000/team/app:v1',
      `app@sha256:${'0'.repeat(64)}`,
    ),
    pull: optional(fc.constantFrom('always', 'missing', 'never')),
    command: optional(fc.array(textArbitrary, { minLength: 1, maxLength: 3 })),
    args: optional(fc.array(textArbitrary, { maxLength: 3 })),
    env: optional(
      fc.oneof(
        fc.dictionary(envKeyArbitrary, fc.oneof(textArbitrary, fc.integer(), fc.boolean()), { maxKeys: 4 }),
        fc
          .uniqueArray(fc.tuple(envKeyArbitrary, textArbitrary), { maxLength: 4, selector: ([key]) => key })
          .map((entries) => entries.map(([key, value]) => `${key}=${value}`)),
      ),
    ),
    ports: fc.subarray([port, `${port + 1}/tcp`, `${port + 2}/udp`, `${port + 3}`]),
    httpPorts: optional(
      fc.constantFrom<Record<string, unknown>>(
        { [port + 4]: `h${index}.example.com` },
        {
          [port + 4]: [`B${index}.example.com`, `a${index}.example.com`],
          [port + 5]: `c${index}.example.com`,
        },
      ),
    ),
    volumes: optional(
      fc.uniqueArray(
        fc.oneof(
          fc.record({ name: labelArbitrary, path: pathArbitrary, readOnly: fc.boolean() }),
          fc.record({ tmpfs: fc.constant(true), path: pathArbitrary, sizeBytes: fc.integer({ min: 4_096 }) }),
          fc.record({ hostPath: pathArbitrary, path: pathArbitrary }),
        ),
        { maxLength: 3, selector: ({ path }) => path.replaceAll('//', '/') },
      ),
    ),
    cpus: optional(fc.double({ min: 2, max: 1_024, noNaN: true })),
    memLimit: optional(fc.integer({ min: 1e9, max: 1e12 })),
    reserve: optional(
      fc.record(
        { cpus: fc.constantFrom(0, -0, 0.5, 1), memory: fc.integer({ min: 0, max: 1e9 }) },
        { requiredKeys: [] },
      ),
    ),
    pidsLimit: optional(fc.integer({ min: 1, max: 1_000 })),
    user: optional(fc.constantFrom('root', '1000:1000')),
    workingDirectory: optional(pathArbitrary),
    readOnly: optional(fc.boolean()),
    dropCapabilities: optional(fc.constantFrom(['ALL'], ['CAP_NET_RAW', 'CHOWN'])),
    addCapabilities: optional(fc.constantFrom(['SYS_TIME'], [])),
    privileged: optional(fc.boolean()),
    labels: optional(fc.dictionary(labelArbitrary, textArbitrary, { maxKeys: 3 })),
    check: optional(
      fc.oneof(
        fc.record({ command: fc.array(textArbitrary, { minLength: 1, maxLength: 2 }), ...timing }),
        fc.record({ command: fc.constant(['true']) }),
      ),
    ),
    startupGraceSeconds: optional(secondsArbitrary(1, 3_600)),
    stopSignal: optional(fc.constantFrom('SIGTERM', 'SIGRTMIN+3')),
    stopGraceSeconds: optional(secondsArbitrary(0, 3_600)),
  });
};

const limitsArbitrary = {
  maxSurge: countArbitrary,
  maxUnavailable: countArbitrary,
  minHealthySeconds: secondsArbitrary(0, 3_600),
  deadlineSeconds: secondsArbitrary(1, 86_400),
};

const stepsArbitrary = fc
  .uniqueArray(fc.record({ weight: fc.integer({ min: 1, max: 99 }), seconds: secondsArbitrary(0, 86_400) }), {
    minLength: 1,
    maxLength: 10,
    selector: ({ weight }) => weight,
  })
  .map((steps) => [...steps].sort((left, right) => left.weight - right.weight));

const judgeArbitrary = fc.record(
  {
    maxErrorPercent: fc.constantFrom(0, -0, 0.5, 1, 100),
    maxLatencyFactor: fc.constantFrom(0, 1, 2, 3.5),
    minRequests: fc.integer({ min: 1, max: 1_000 }),
  },
  { requiredKeys: [] },
);

const documentArbitrary = fc
  .uniqueArray(labelArbitrary, { minLength: 1, maxLength: 3 })
  .chain((names) =>
    fc.record({
      name: fc.constantFrom('web', 'My-Service'),
      scale: optional(fc.integer({ min: 0, max: 10_000 })),
      containers: fc
        .tuple(...names.map((_, index) => containerArbitrary(index)))
        .map((containers) => Object.fromEntries(containers.map((one, index) => [names[index] ?? '', one]))),
      restart: optional(
        fc.record(
          {
            policy: fc.constantFrom('always', 'on-failure', 'never'),
            backoffSeconds: secondsArbitrary(0.1, 100),
            maxBackoffSeconds: secondsArbitrary(100, 86_400),
          },
          { requiredKeys: [] },
        ),
      ),
      update: optional(
        fc.oneof(
          fc.record(
            { ...limitsArbitrary, strategy: fc.constantFrom('rolling', 'recreate') },
            { requiredKeys: [] },
          ),
          fc.record(
            {
              ...limitsArbitrary,
              strategy: fc.constant('blue-green'),
              keepOldSeconds: secondsArbitrary(0, 86_400),
              promote: fc.constantFrom('automatic', 'manual'),
            },
            { requiredKeys: ['strategy'] },
          ),
          fc.record(
            {
              ...limitsArbitrary,
              strategy: fc.constant('canary'),
              promote: fc.constantFrom('automatic', 'manual'),
              steps: stepsArbitrary,
              judge: fc.oneof(fc.constant(false), judgeArbitrary),
            },
            { requiredKeys: ['strategy'] },
          ),
        ),
      ),
      constraints: optional(fc.dictionary(labelArbitrary, textArbitrary, { maxKeys: 3 })),
      hostNetwork: optional(fc.boolean()),
    }),
  )
  // As it comes over the wire: without what is undefined.
  .map((document) => JSON.parse(JSON.stringify(document)) as Record<string, unknown>);

const keyArbitrary = fc.oneof(
  fc.string(),
  fc.constantFrom(
    'name',
    'scale',
    'containers',
    'image',
    'env',
    'check',
    'http',
    'volumes',
    '__proto__',
    'constructor',
  ),
);
const jsonArbitrary = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'medium', withCrossShrink: true },
    fc.jsonValue({ maxDepth: 1 }),
    fc.array(tie('value'), { maxLength: 4 }),
    fc
      .array(fc.tuple(keyArbitrary, tie('value')), { maxLength: 6 })
      .map(
        (entries) =>
          JSON.parse(
            `{${entries.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`,
          ) as unknown,
      ),
  ),
})).value;

/** A valid document in which one value is replaced by any JSON. */
const spoiledArbitrary = fc
  .tuple(documentArbitrary, jsonArbitrary, fc.infiniteStream(fc.nat()))
  .map(([document, junk, choices]) => {
    const copy = JSON.parse(JSON.stringify(document)) as Record<string, unknown>;
    let target: Record<string, unknown> = copy;
    for (;;) {
      const keys = Object.keys(target);
      const key = keys[Number(choices.next().value) % Math.max(1, keys.length)];
      if (key === undefined) return copy;
      const below = target[key];
      if (typeof below === 'object' && below !== null && Number(choices.next().value) % 3 > 0) {
        target = below as Record<string, unknown>;
        continue;
      }
      target[key] = junk;
      return copy;
    }
  });

test('no document makes parsing throw, change its input or touch a prototype', () => {
  const before = [Object.getOwnPropertyNames(Object.prototype), Object.getOwnPropertyNames(Array.prototype)];
  fc.assert(
    fc.property(fc.oneof(jsonArbitrary, spoiledArbitrary), (input) => {
      const text = JSON.stringify(input);
      const outcome = parseMicroserviceSpec(input, { allowHostAccess: false });
      expect(JSON.stringify(input)).toBe(text);
      if (outcome.kind === 'ok') return;
      expect(outcome.problems.length).toBeGreaterThan(0);
      for (const { path, message } of outcome.problems) {
        expect(path).toMatch(/^(\/|$)/);
        expect(message).toMatch(/^[a-z]/);
        expect(message).not.toMatch(/invalid input/i);
      }
    }),
    { numRuns: RUNS * 2 },
  );
  expect([Object.getOwnPropertyNames(Object.prototype), Object.getOwnPropertyNames(Array.prototype)]).toEqual(
    before,
  );
});

test('what is written back means the same, also as JSON', () => {
  fc.assert(
    fc.property(documentArbitrary, (document) => {
      const spec = parseOk(document);
      expect(JSON.parse(JSON.stringify(spec))).toEqual(spec);
      expect(parseOk(JSON.parse(JSON.stringify(specToUser(spec))))).toEqual(spec);
    }),
    { numRuns: RUNS },
  );
});

test('what is written back has nothing that parsing would add', () => {
  const minimal = { name: 'web', scale: 1, containers: { app: { image: 'nginx:1.27', ports: [80] } } };
  expect(specToUser(parseOk(minimal))).toEqual(minimal);
  expect(specToUser(parseOk({ name: 'web', containers: minimal.containers }))).not.toHaveProperty('scale');
});

test('two releases are the same exactly when there is no difference to tell', () => {
  fc.assert(
    fc.property(documentArbitrary, documentArbitrary, (left, right) => {
      const [before, after] = [parseOk(left).release, parseOk(right).release];
      expect(sameRelease(before, JSON.parse(JSON.stringify(before)) as typeof before)).toBe(true);
      expect(diffRelease(before, before)).toEqual([]);
      expect(diffRelease(before, after).length === 0).toBe(sameRelease(before, after));
    }),
    { numRuns: RUNS },
  );
});

describe('differences', () => {
  const diff = (before: object, after: object, rest: object = {}) =>
    diffRelease(
      parseOk({ name: 'web', containers: { web: { image: 'nginx:1.27', ...before } } }).release,
      parseOk({ name: 'web', containers: { web: { image: 'nginx:1.27', ...after } }, ...rest }).release,
    );

  test('are lines for people', () => {
    expect(
      diff({ env: ['A=1', 'B=2'] }, { image: 'nginx:1.28', env: ['A=1', 'B=3', 'C='], cpus: 2 }),
    ).toEqual([
      'containers.web.cpus: 1 → 2',
      'containers.web.image: nginx:1.27 → nginx:1.28',
      'containers.web.env.B: changed (values are not shown)',
      'containers.web.env.C: added',
    ]);
    expect(
      diff({}, {}, { update: { strategy: 'recreate' }, hostNetwork: true, constraints: { a: 'b' } }),
    ).toEqual([
      'constraints.a: (none) → b',
      'hostNetwork: false → true',
      'update.strategy: rolling → recreate',
    ]);
  });

  test('are in the words of the specification, with the defaults', () => {
    expect(
      diff(
        { httpPorts: { 80: 'a.localhost' }, memLimit: 2e9 },
        {
          httpPorts: { 80: ['a.localhost', 'b.localhost'] },
          reserve: { memory: 1e8 },
          startupGraceSeconds: 5,
          check: { http: { port: 80, path: '/up' }, intervalSeconds: 2 },
        },
        { update: { maxSurge: '50%' } },
      ),
    ).toEqual([
      'containers.web.check.http.path: (none) → /up',
      'containers.web.check.http.port: (none) → 80',
      expect.stringMatching(/^containers\.web\.check\.intervalSeconds: [\d.]+ → 2$/),
      'containers.web.check.tcp.port: 80 → (none)',
      'containers.web.httpPorts.80: a.localhost → ["a.localhost","b.localhost"]',
      'containers.web.memLimit: 2000000000 → 1000000000',
      'containers.web.reserve.memory: 0 → 100000000',
      expect.stringMatching(/^containers\.web\.startupGraceSeconds: \d+ → 5$/),
      expect.stringMatching(/^update\.maxSurge: .+ → 50%$/),
    ]);
  });

  test('name containers that come and go', () => {
    const release = (names: readonly string[]) =>
      parseOk({
        name: 'web',
        containers: Object.fromEntries(names.map((name) => [name, { image: `${name}:1` }])),
      }).release;
    expect(diffRelease(release(['a', 'b']), release(['b', 'c']))).toEqual([
      'containers.a: a:1 → (none)',
      'containers.c: (none) → c:1',
    ]);
  });

  test.each(['DATABASE_URL', 'LOG_LEVEL', 'secretKeyBase'])('never show the value of %s', (key) => {
    const path = `containers.web.env.${key}`;
    const [none, one, two] = [{}, { env: { [key]: 'hunter2' } }, { env: { [key]: 'hunter3' } }];
    expect(diff(one, two)).toEqual([`${path}: changed (values are not shown)`]);
    expect(diff(none, one)).toEqual([`${path}: added`]);
    expect(diff(one, none)).toEqual([`${path}: removed`]);
  });

  test('tell where a tag has gone', () => {
    const { release: spec } = parseOk({ name: 'web', containers: { web: { image: 'nginx:1.27' } } });
    const found = (letter: string) => ({ spec, images: { 'nginx:1.27': `sha256:${letter.repeat(64)}` } });
    expect(diffReleases(found('a'), found('b'))).toEqual([
      'image nginx:1.27: sha256:aaaaaaaaaaaa → sha256:bbbbbbbbbbbb',
    ]);
    expect(diffReleases(found('a'), found('a'))).toEqual([]);
    expect(diffReleases({ spec }, found('a'))).toEqual([]);
  });
});
