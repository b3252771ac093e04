import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseMicroserviceSpec, type ParsedSpec } from '../../../domain/spec/parse';
import type { ContainerSpec } from '../../../domain/spec/schema';
import { specToUser } from '../../../domain/spec/to-user';

const parse = (input: unknown, allowHostAccess = false) => parseMicroserviceSpec(input, { allowHostAccess });

const parseOk = (input: unknown, allowHostAccess = false): ParsedSpec => {
  const outcome = parse(input, allowHostAccess);
  if (outcome.kind === 'invalid') throw new Error(JSON.stringify(outcome.problems, null, 1));
  return outcome.spec;
};

/** "<path> <message>" of each problem. */
const problemsOf = (input: unknown, allowHostAccess = false): readonly string[] => {
  const outcome = parse(input, allowHostAccess);
  return outcome.kind === 'ok' ? [] : outcome.problems.map(({ path, message }) => `${path} ${message}`);
};

const web = (container: object, rest: object = {}) => ({
  name: 'web',
  containers: { app: { image: 'nginx:1.27', ...container } },
  ...rest,
});

const containerOf = (container: object): ContainerSpec => {
  const [first] = parseOk(web(container), true).release.containers;
  if (first === undefined) throw new Error('no container');
  return first;
};

describe('defaults', () => {
  test("of the first users' request", () => {
    const spec = parseOk({
      name: 'test-server',
      scale: 2,
      containers: {
        reg: { image: 'quay.io/bitnami/nginx:latest', httpPorts: { '80': 'Hello.Localhost' } },
      },
    });
    expect(spec).toEqual({
      name: 'test-server',
      scale: 2,
      scaleGiven: true,
      release: {
        containers: [
          {
            name: 'reg',
            image: 'quay.io/bitnami/nginx:latest',
            pull: 'always',
            command: null,
            args: null,
            env: [],
            ports: [{ port: 80, protocol: 'tcp', hostnames: ['hello.localhost'] }],
            volumes: [],
            cpus: 1,
            memoryLimitBytes: 1_000_000_000,
            cpusReserved: 0,
            memoryReservedBytes: 0,
            pidsLimit: null,
            user: null,
            workingDirectory: null,
            readOnly: false,
            dropCapabilities: [],
            addCapabilities: [],
            privileged: false,
            labels: {},
            checks: [{ kind: 'tcp', port: 80, intervalMs: 5_000, timeoutMs: 2_000, failures: 3 }],
            startupGraceMs: 60_000,
            stopSignal: null,
            stopGraceMs: 10_000,
          },
        ],
        restart: { policy: 'always', backoffMs: 100, maxBackoffMs: 60_000 },
        update: {
          strategy: 'rolling',
          maxSurge: { kind: 'percent', percent: 25 },
          maxUnavailable: { kind: 'count', count: 0 },
          minHealthyMs: 0,
        },
        constraints: {},
        hostNetwork: false,
      },
    });
  });

  test('of the scale: 1, and known not to be given', () => {
    expect(parseOk(web({}))).toMatchObject({ scale: 1, scaleGiven: false });
    expect(parseOk(web({}, { scale: 0 }))).toMatchObject({ scale: 0, scaleGiven: true });
  });

  test.each([
    ['nginx', 'always'],
    ['nginx:latest', 'always'],
    ['registry.example.com:5000/team/app', 'always'],
    ['registry.example.com:5000/team/app:latest', 'always'],
    ['registry.example.com:5000/team/app:v1', 'missing'],
    ['nginx:1.27', 'missing'],
    [`nginx@sha256:${'a'.repeat(64)}`, 'missing'],
    [`nginx:latest@sha256:${'a'.repeat(64)}`, 'missing'],
  ])('of the pull policy of %s: %s', (image, pull) => {
    expect(containerOf({ image }).pull).toBe(pull);
  });

  test('of the minimum healthy time: only without a check does time have to tell', () => {
    const minHealthyMs = (container: object) => parseOk(web(container)).release.update.minHealthyMs;
    expect(minHealthyMs({ ports: [80] })).toBe(0);
    expect(minHealthyMs({ ports: ['53/udp'] })).toBe(1_000);
    expect(minHealthyMs({ check: { command: ['true'] } })).toBe(0);
    expect(parseOk(web({}, { update: { minHealthySeconds: 2.5 } })).release.update.minHealthyMs).toBe(2_500);
  });

  test('of what is exclusive: its old replica stops before the new one starts, whatever else is said', () => {
    expect(parseOk(web({}, { exclusive: false })).release).toEqual(parseOk(web({})).release);
    for (const update of [{}, { maxSurge: 0 }, { strategy: 'recreate' }]) {
      const { release } = parseOk(web({}, { exclusive: true, scale: 0, update }));
      expect(release).toMatchObject({ exclusive: true, update: { strategy: 'recreate' } });
      const written = specToUser({ name: 'web', scale: 3, release });
      expect(written).toMatchObject({ exclusive: true, scale: 1 });
      expect(written.update ?? {}).not.toHaveProperty('strategy');
      expect(parseOk(written).release).toEqual(release);
    }
  });
});

describe('normal form', () => {
  test('is the same for an environment as list and as map', () => {
    const expected = ['A=1', 'B=x=y', 'C=true', 'D='];
    expect(containerOf({ env: ['C=true', 'B=x=y', 'A=1', 'D='] }).env).toEqual(expected);
    expect(containerOf({ env: { C: true, B: 'x=y', D: '', A: 1 } }).env).toEqual(expected);
  });

  test('has ports in order, each with its protocol and hostnames', () => {
    const { ports } = containerOf({
      ports: ['9000/tcp', 53, '53/udp', '22'],
      httpPorts: { '8080': ['b.example.com', 'a.example.com'], '80': 'WWW.example.com' },
    });
    expect(ports.map(({ port, protocol, hostnames }) => [port, protocol, ...hostnames])).toEqual([
      [22, 'tcp'],
      [53, 'tcp'],
      [53, 'udp'],
      [80, 'tcp', 'www.example.com'],
      [8080, 'tcp', 'a.example.com', 'b.example.com'],
      [9000, 'tcp'],
    ]);
  });

  test('has one spelling of a path, and of a capability', () => {
    const container = containerOf({
      volumes: [
        { name: 'data', path: '/var//lib/./data/' },
        { tmpfs: true, path: '/tmp' },
      ],
      dropCapabilities: ['CAP_NET_RAW', 'NET_RAW', 'CHOWN'],
    });
    expect(container.volumes.map(({ path }) => path)).toEqual(['/tmp', '/var/lib/data']);
    expect(container.dropCapabilities).toEqual(['CHOWN', 'NET_RAW']);
  });

  test('has containers in the order of their names', () => {
    const image = 'nginx:1.27';
    const { release } = parseOk({ name: 'web', containers: { b: { image }, a: { image }, '1': { image } } });
    expect(release.containers.map(({ name }) => name)).toEqual(['1', 'a', 'b']);
  });

  test('knows no negative zero, which JSON does', () => {
    const document: unknown = JSON.parse(
      `{"name":"web","scale":-0,"containers":{"app":{"image":"nginx:1.27","stopGraceSeconds":-0,
        "reserve":{"cpus":-0,"memory":-0}}},"update":{"maxUnavailable":-0,"minHealthySeconds":-0}}`,
    );
    const spec = parseOk(document);
    expect(spec).toEqual(JSON.parse(JSON.stringify(spec)));
  });

  test('has milliseconds for seconds, and all forms of checks', () => {
    expect(containerOf({ ports: [80], check: { http: { port: 80 }, intervalSeconds: 1.5 } }).checks).toEqual([
      { kind: 'http', port: 80, path: '/', intervalMs: 1_500, timeoutMs: 2_000, failures: 3 },
    ]);
    expect(
      containerOf({ check: { command: ['pg_isready'], timeoutSeconds: 9, failures: 1 } }).checks,
    ).toEqual([
      { kind: 'command', command: ['pg_isready'], intervalMs: 5_000, timeoutMs: 9_000, failures: 1 },
    ]);
  });
});

describe('problems', () => {
  test.each<[title: string, input: unknown, problems: readonly string[]]>([
    ['null', null, [' must be an object, not null']],
    ['a list', [], [' must be an object, not a list']],
    ['text', 'web', [' must be an object, not text ("web")']],
    [
      'nothing',
      {},
      [
        '/name is missing; expected a name like "hello"',
        '/containers is missing; expected an object like { "web": { "image": "nginx:1.27" } }',
      ],
    ],
    ['no container', { name: 'web', containers: {} }, ['/containers must have one container at least']],
    [
      'a container without an image',
      { name: 'web', containers: { app: {} } },
      ['/containers/app/image is missing; expected an image reference like "nginx:1.27"'],
    ],
    [
      'a bad image',
      web({ image: 'Nginx Latest' }),
      [
        '/containers/app/image must be an image reference like nginx:1.27 or registry.example.com/team/app:v1',
      ],
    ],
    ['a negative scale', web({}, { scale: -1 }), ['/scale must be 0 or more']],
    ['a huge scale', web({}, { scale: 10_001 }), ['/scale must be 10000 at most']],
    ['half a replica', web({}, { scale: 1.5 }), ['/scale must be a whole number']],
    [
      'a name that is no DNS label',
      web({}, { name: 'web_server' }),
      ['/name must be a letter, then letters, digits and hyphens, and must not end with a hyphen'],
    ],
    [
      'a name of a container that is no DNS label',
      { name: 'web', containers: { 'a/b': { image: 'nginx:1.27' } } },
      ['/containers/a~1b has a key that must be a DNS label'],
    ],
    [
      'an unknown value',
      web({ pull: 'sometimes' }),
      ['/containers/app/pull must be one of "always", "missing", "never", not text ("sometimes")'],
    ],
    [
      'a small memory limit',
      web({ memLimit: 512 }),
      ['/containers/app/memLimit must be 6291456 bytes (6 MiB) at least'],
    ],
    ['text for a number', web({ cpus: '2' }), ['/containers/app/cpus must be a number, not text ("2")']],
    ['no CPU', web({ cpus: 0 }), ['/containers/app/cpus must be 0.01 or more, not 0']],
  ])('%s', (_title, input, problems) => {
    expect(problemsOf(input)).toEqual(problems);
  });

  test('are all told at once, also what contradicts itself beside what is malformed', () => {
    const problems = problemsOf({
      name: 'x',
      replicas: 2,
      containers: {
        a: { image: 'Bad Image', ports: [80, 80] },
        b: { image: 'nginx:1.27', privileged: true, cpus: 'many', labels: { 'containeros.node': 'a' } },
      },
      update: { maxSurge: 0, maxUnavailable: 0 },
    });
    expect(problems.map((problem) => problem.split(' ')[0])).toEqual([
      '/name',
      '/name',
      '/containers/a/image',
      '/containers/b/cpus',
      '/replicas',
      '/containers/b/labels/containeros.node',
      '/containers/b/privileged',
      '/containers/a/ports/1',
      '/update',
    ]);
  });

  test('are told at once of a rule that is broken beside what is malformed in the same part', () => {
    const outcome = parseMicroserviceSpec(
      {
        name: 'web',
        containers: {
          a: {
            image: 'nginx:1.27',
            env: ['no-equals-sign', 'A=1', 'A=2'],
            volumes: [{ name: 'data' }, { name: 'a', path: '/' }, { tmpfs: true, path: '/d/../e' }],
            httpPorts: {
              80: [
                '-bad',
                'ok.example.com',
                { hostnames: ['x_y', 'ok.example.com'], sticky: 1, stripPath: true },
                { hostnames: 'ok.example.com', path: 'no slash' },
              ],
            },
            publicPorts: { 25: 'smtp', 26: { port: [0, 8000], proxyProtocol: 'v3' } },
            check: { http: { port: 8080 }, failures: 0 },
            reserve: { cpus: 2, memory: 'lots' },
            addCapabilities: ['net raw', 'NET_RAWE'],
          },
        },
        near: [{ microservice: 'a_b' }, 'web'],
        update: { maxSurge: 0, maxUnavailable: '0%', minHealthySeconds: -1, steps: [{ weight: 5 }] },
      },
      { allowHostAccess: true, reservedPorts: [{ port: 8000, protocol: 'tcp', what: 'the API' }] },
    );
    if (outcome.kind === 'ok') throw new Error('was taken');
    const told = outcome.problems.map(
      ({ path, message }) => `${path.replace('/containers/a/', '')} ${message}`,
    );
    expect(told.slice(0, 15).map((problem) => problem.split(' ')[0])).toEqual([
      'env/0',
      'httpPorts/80/0',
      'httpPorts/80/2/hostnames/0',
      'httpPorts/80/2/sticky',
      'httpPorts/80/3/path',
      'publicPorts/25',
      'publicPorts/26/port/0',
      'publicPorts/26/proxyProtocol',
      'volumes/0/path',
      'reserve/memory',
      'addCapabilities/0',
      'check/failures',
      '/update/minHealthySeconds',
      '/update/steps/0/seconds',
      '/near/0/microservice',
    ]);
    expect(told.slice(15)).toEqual([
      'env/2 sets A again: /containers/a/env/1 sets it already',
      'volumes/1/path must not be /, which would hide the image',
      'volumes/2/path must not contain ..',
      'reserve/cpus must not be above the limit, which is 1 CPUs ("cpus", by default)',
      'check/http/port is 8080, which is no TCP port of this container; add it to "ports"',
      'addCapabilities/1 must be a Linux capability; did you mean NET_RAW?',
      'httpPorts/80/2/hostnames/1 is the hostname "ok.example.com" again: /containers/a/httpPorts/80/1 has it already',
      'httpPorts/80/2/stripPath must be given with "path", which says what is stripped',
      'publicPorts/26/port/1 is port 8000/tcp, which ContainerOS uses for the API; choose another one',
      '/update must leave room for a change: "maxSurge" and "maxUnavailable" must not both be 0',
      '/near/1 must name another microservice; replicas of one are spread anyway',
    ]);
  });

  test('are cut after a hundred', () => {
    const outcome = parse(web({ env: Array.from({ length: 5_000 }, () => 'no-equals-sign') }));
    if (outcome.kind === 'ok') throw new Error('was taken');
    expect(outcome.problems).toHaveLength(101);
    expect(outcome.problems.at(-1)?.message).toBe('has 4900 more problems');
  });

  test('of a key that is cut out cause no other problems', () => {
    expect(problemsOf(web({ httpPorts: { '80': '-bad' }, check: { tcp: { port: 80 } } }))).toHaveLength(1);
    expect(problemsOf(web({ publicPorts: { http: 80 }, check: { tcp: { port: 80 } } }))).toHaveLength(1);
    const room = { maxSurge: 0, maxUnavailable: 0 };
    expect(problemsOf(web({}, { update: { ...room, strategy: 'recreat' } }))).toHaveLength(1);
    expect(problemsOf(web({}, { update: { ...room, maxUnavailable: -1 } }))).toHaveLength(1);
    expect(problemsOf(web({}, { update: room, exclusive: 'yes' }))).toHaveLength(1);
    expect(problemsOf(web({}, { update: { strategy: 'canari', judge: false } }))).toHaveLength(1);
    const redirect = { hostnames: ['-bad', '*.a.example.com'], redirectFrom: ['b.example.com'] };
    expect(problemsOf(web({ httpPorts: { '80': redirect } }))).toHaveLength(1);
    const routes = [{ hostnames: 'a.example.com', path: '-' }, 'a.example.com'];
    expect(problemsOf(web({ httpPorts: { '80': routes } }))).toHaveLength(1);
    expect(problemsOf(web({ ports: ['http'], check: { tcp: { port: 80 } } }))).toEqual([
      '/containers/app/ports/0 must be a port like 5432, 5432/tcp or 53/udp',
    ]);
    expect(problemsOf(web({ memLimit: 'lots', reserve: { memory: 2e9 } }))).toEqual([
      '/containers/app/memLimit must be a number, not text ("lots")',
    ]);
  });
});

describe('values of several forms', () => {
  test.each<[container: object, problems: readonly string[]]>([
    [
      { env: 'A=1' },
      ['env must be a list like ["KEY=value"] or a map like { "KEY": "value" }, not text ("A=1")'],
    ],
    [
      { env: ['A=1', 'B'] },
      [
        'env/1 must have the form KEY=value, and KEY must begin with a letter or _, and go on with letters, digits, _, . and -',
      ],
    ],
    [{ env: { A: null } }, ['env/A must be text, a number, true or false, not null']],
    [
      { env: { '1A': 'x' } },
      ['env/1A has a key that must begin with a letter or _, and go on with letters, digits, _, . and -'],
    ],
    [{ ports: [0] }, ['ports/0 must be a port from 1 to 65535']],
    [{ ports: ['80:80'] }, ['ports/0 must be a port like 5432, 5432/tcp or 53/udp']],
    [{ ports: [true] }, ['ports/0 must be a port like 5432, "5432/tcp" or "53/udp", not true']],
    [{ ports: ['70000'] }, ['ports/0 must be a port from 1 to 65535, not 70000']],
    [
      { httpPorts: { '70000': 'a.example.com' } },
      ['httpPorts/70000 must be a port from 1 to 65535, not 70000'],
    ],
    [
      { httpPorts: { http: 'a.example.com' } },
      ['httpPorts/http has a key that must be a port from 1 to 65535'],
    ],
    [
      { httpPorts: { '80': ['ok.example.com', '-bad'] } },
      ['httpPorts/80/1 must not have a part that begins or ends with a hyphen, as "-bad" does'],
    ],
    [
      { httpPorts: { '80': true } },
      [
        'httpPorts/80 must be a hostname like "hello.example.com", a list of hostnames, or an object like { "hostnames": "example.com", "path": "/api" }, not true',
      ],
    ],
    [
      { volumes: ['data:/data'] },
      [
        'volumes/0 must be an object like { "name": "data", "path": "/var/lib/data" }, not text ("data:/data")',
      ],
    ],
    [{ volumes: [{ path: '/data' }] }, ['volumes/0 must have one of the keys "name", "tmpfs" or "hostPath"']],
    [
      { volumes: [{ name: 'data', target: '/d' }] },
      ['volumes/0/path is missing', 'volumes/0/target is not a known key; did you mean "path"?'],
    ],
    [{ volumes: [{ name: 'data', path: 'data' }] }, ['volumes/0/path must be an absolute path']],
    [
      { volumes: [{ name: 'data', tmpfs: true, path: '/d' }] },
      ['volumes/0/tmpfs cannot be combined with "name"'],
    ],
    [
      { volumes: [{ tmpfs: true, path: '/d', readOnly: true }] },
      ['volumes/0/readOnly cannot be combined with "tmpfs"'],
    ],
    [{ check: {} }, ['check must have one of the keys "http", "tcp" or "command"']],
    [
      { check: 'curl' },
      ['check must be an object like { "http": { "port": 80, "path": "/" } }, not text ("curl")'],
    ],
    [{ check: { htp: { port: 80 } } }, ['check/htp is not a known key; did you mean "http"?']],
    [{ check: { http: {} } }, ['check/http/port is missing; expected a port from 1 to 65535']],
    [
      { ports: [80], check: { http: { port: 80 }, tcp: { port: 80 } } },
      ['check/tcp cannot be combined with "http"'],
    ],
    [
      { ports: [80], check: { http: { port: 80, path: 'health' } } },
      ['check/http/path must be a path that begins with / and has no spaces; encode them as %20'],
    ],
  ])('%j', (container, problems) => {
    expect(problemsOf(web(container), true)).toEqual(problems.map((problem) => `/containers/app/${problem}`));
  });
});

describe('unknown keys', () => {
  test.each<[path: string, written: string, meant: string]>([
    ['', 'replicas', 'scale'],
    ['', 'Scale', 'scale'],
    ['', 'contaners', 'containers'],
    ['', 'service_name', 'name'],
    ['', 'nodeSelector', 'constraints'],
    ['', 'restartPolicy', 'restart'],
    ['', 'network_mode', 'hostNetwork'],
    ['/containers/app', 'imag', 'image'],
    ['/containers/app', 'image_name', 'image'],
    ['/containers/app', 'environment', 'env'],
    ['/containers/app', 'cmd', 'command'],
    ['/containers/app', 'entrypoint', 'command'],
    ['/containers/app', 'memory', 'memLimit'],
    ['/containers/app', 'mem_limit', 'memLimit'],
    ['/containers/app', 'cpu', 'cpus'],
    ['/containers/app', 'healthcheck', 'check'],
    ['/containers/app', 'livenessProbe', 'check'],
    ['/containers/app', 'httpPort', 'httpPorts'],
    ['/containers/app', 'http-ports', 'httpPorts'],
    ['/containers/app', 'volumeMounts', 'volumes'],
    ['/containers/app', 'working_dir', 'workingDirectory'],
    ['/containers/app', 'cap_add', 'addCapabilities'],
    ['/containers/app', 'cap_drop', 'dropCapabilities'],
    ['/containers/app', 'stop_grace_period', 'stopGraceSeconds'],
    ['/containers/app', 'resources', 'reserve'],
    ['/containers/app/reserve', 'mem', 'memory'],
    ['/update', 'max_surge', 'maxSurge'],
    ['/restart', 'condition', 'policy'],
  ])('at %p, %s suggests %s', (path, written, meant) => {
    const unknown = { [written]: 1 };
    const input = web({
      ...(path === '/containers/app' ? unknown : {}),
      ...(path === '/containers/app/reserve' ? { reserve: unknown } : {}),
    });
    const rest =
      path === ''
        ? unknown
        : path === '/update'
          ? { update: unknown }
          : path === '/restart'
            ? { restart: unknown }
            : {};
    expect(problemsOf({ ...input, ...rest })).toContain(
      `${path}/${written} is not a known key; did you mean "${meant}"?`,
    );
  });

  test('that belong elsewhere are told where', () => {
    expect(problemsOf({ ...web({}), image: 'nginx', environment: {} })).toEqual([
      '/image belongs into a container: "containers": { "main": { "image": … } }',
      '/environment belongs into a container: "containers": { "main": { "env": … } }',
    ]);
    expect(problemsOf(web({ replicas: 2 }))).toEqual([
      '/containers/app/replicas belongs beside "containers", as "scale"',
    ]);
  });

  test('that nobody could mean are told what is known there', () => {
    expect(problemsOf(web({ reserve: { gadgets: 1 } }))).toEqual([
      '/containers/app/reserve/gadgets is not a known key; known here: cpus, memory',
    ]);
  });
});

describe('rules', () => {
  const two = (a: object, b: object) => ({
    name: 'web',
    containers: { a: { image: 'nginx:1.27', ...a }, b: { image: 'nginx:1.27', ...b } },
  });

  test.each<[title: string, input: unknown, path: string, message: RegExp]>([
    [
      'names that differ in case only',
      { name: 'web', containers: { app: { image: 'nginx:1.27' }, App: { image: 'nginx:1.27' } } },
      '/containers/App',
      /differs from "app" in upper and lower case only/,
    ],
    [
      'a port twice',
      web({ ports: [80, '80/tcp'] }),
      '/containers/app/ports/1',
      /again: \/containers\/app\/ports\/0/,
    ],
    [
      'a port and HTTP port',
      web({ ports: [80], httpPorts: { '80': 'a.b' } }),
      '/containers/app/httpPorts/80',
      /again/,
    ],
    [
      'a port in two containers',
      two({ ports: [80] }, { httpPorts: { '80': 'a.b' } }),
      '/containers/b/httpPorts/80',
      /which container "a" has too.*share one network/,
    ],
    [
      'a hostname twice',
      web({ httpPorts: { '80': 'a.b', '81': ['c.d', 'A.B'] } }),
      '/containers/app/httpPorts/81/1',
      /hostname "a\.b" again/,
    ],
    [
      'a hostname in two containers',
      two({ httpPorts: { '80': 'a.b' } }, { httpPorts: { '81': 'a.b' } }),
      '/containers/b/httpPorts/81',
      /again: \/containers\/a\/httpPorts\/80/,
    ],
    [
      'too many ports',
      web({
        ports: Array.from({ length: 60 }, (_, i) => 1000 + i),
        httpPorts: Object.fromEntries(Array.from({ length: 41 }, (_, i) => [i + 1, `h${i}.example.com`])),
      }),
      '/containers/app',
      /100 ports at most/,
    ],
    [
      'too many hostnames',
      web({
        httpPorts: Object.fromEntries(Array.from({ length: 51 }, (_, i) => [i + 1, `h${i}.example.com`])),
      }),
      '/containers',
      /50 hostnames at most, not 51/,
    ],
    ['a variable twice', web({ env: ['A=1', 'A=2'] }), '/containers/app/env/1', /sets A again/],
    [
      'a mount path twice',
      web({
        volumes: [
          { name: 'a', path: '/d' },
          { tmpfs: true, path: '/d/' },
        ],
      }),
      '/containers/app/volumes/1/path',
      /\/d again/,
    ],
    [
      'a mount over the image',
      web({ volumes: [{ name: 'a', path: '//' }] }),
      '/containers/app/volumes/0/path',
      /must not be \//,
    ],
    [
      'a mount path that climbs',
      web({ volumes: [{ name: 'a', path: '/d/../etc' }] }),
      '/containers/app/volumes/0/path',
      /\.\./,
    ],
    [
      'a check of no port',
      web({ ports: ['80/udp'], check: { tcp: { port: 80 } } }),
      '/containers/app/check/tcp/port',
      /no TCP port of this container; add it to "ports"/,
    ],
    [
      'more CPUs reserved than the limit',
      web({ reserve: { cpus: 2 } }),
      '/containers/app/reserve/cpus',
      /above the limit, which is 1 CPUs \("cpus", by default\)/,
    ],
    [
      'more memory reserved than the limit',
      web({ memLimit: 1e8, reserve: { memory: 2e8 } }),
      '/containers/app/reserve/memory',
      /100000000 bytes \("memLimit"\)/,
    ],
    ['no room for a change', web({}, { update: { maxSurge: '0%' } }), '/update', /must not both be 0/],
    [
      'back-off above its maximum',
      web({}, { restart: { backoffSeconds: 9, maxBackoffSeconds: 3 } }),
      '/restart/maxBackoffSeconds',
      /must not be below "backoffSeconds", which is 9/,
    ],
    [
      'a daemon of a given scale',
      web({}, { daemon: true, scale: 2 }),
      '/scale',
      /must not be given with "daemon"/,
    ],
    [
      'what is exclusive twice',
      web({}, { exclusive: true, scale: 2 }),
      '/scale',
      /must be 0 or 1 with "exclusive", not 2/,
    ],
    [
      'an exclusive daemon',
      web({}, { exclusive: true, daemon: true }),
      '/daemon',
      /must not be given with "exclusive": a daemon runs on every node/,
    ],
    [
      'steps of what takes no steps',
      web({}, { update: { steps: [{ weight: 5, seconds: 1 }] } }),
      '/update/steps',
      /must be given with "strategy" "canary" only, not "rolling"/,
    ],
    [
      'a promotion of what is not promoted',
      web({}, { update: { strategy: 'recreate', promote: 'manual' } }),
      '/update/promote',
      /must be given with "strategy" "blue-green" or "canary" only, not "recreate"/,
    ],
    [
      'old replicas kept by a canary',
      web({}, { update: { strategy: 'canary', keepOldSeconds: 5 } }),
      '/update/keepOldSeconds',
      /"blue-green" only, not "canary"/,
    ],
    [
      'steps that do not grow',
      web(
        {},
        {
          update: {
            strategy: 'canary',
            steps: [
              { weight: 10, seconds: 1 },
              { weight: 10, seconds: 1 },
            ],
          },
        },
      ),
      '/update/steps/1/weight',
      /must be more than 10, the one before/,
    ],
    [
      'a daemon that takes over in stages',
      web({}, { daemon: true, update: { strategy: 'canary' } }),
      '/update/strategy',
      /must be "rolling" or "recreate" with "daemon"/,
    ],
    [
      'what is exclusive to take over in stages',
      web({}, { exclusive: true, update: { strategy: 'blue-green' } }),
      '/update/strategy',
      /must be "recreate" with "exclusive"/,
    ],
    [
      'what is exclusive to be rolled out side by side',
      web({}, { exclusive: true, update: { strategy: 'rolling' } }),
      '/update/strategy',
      /must be "recreate" with "exclusive", or be left out/,
    ],
    [
      'a daemon that needs a neighbour',
      web({}, { daemon: true, near: ['cache', { microservice: 'data', required: true }] }),
      '/near/1/required',
      /must not be given with "daemon": say with "constraints"/,
    ],
    ['to be near itself', web({}, { near: ['WEB'] }), '/near/0', /must name another microservice/],
    [
      'a neighbour twice',
      web({}, { near: ['data'], apart: [{ microservice: 'DATA' }] }),
      '/apart/0/microservice',
      /names DATA again: \/near\/0 names it already/,
    ],
    [
      'a reserved label',
      web({ labels: { 'ContainerOS.node': 'a' } }),
      '/containers/app/labels/ContainerOS.node',
      /reserved/,
    ],
    [
      'no such capability',
      web({ dropCapabilities: ['NETRAW'] }),
      '/containers/app/dropCapabilities/0',
      /did you mean NET_RAW/,
    ],
    [
      'a capability added and dropped',
      web({ addCapabilities: ['CHOWN'], dropCapabilities: ['CAP_CHOWN'] }),
      '/containers/app/addCapabilities/0',
      /both added and dropped/,
    ],
    [
      'no such signal',
      web({ stopSignal: 'SIGFOO' }),
      '/containers/app/stopSignal',
      /^must be a Linux signal like SIGTERM$/,
    ],
    [
      'a mistyped signal',
      web({ stopSignal: 'SIGTREM' }),
      '/containers/app/stopSignal',
      /; did you mean SIGTERM\?$/,
    ],
    [
      'a real-time signal that there is not',
      web({ stopSignal: 'SIGRTMIN+16' }),
      '/containers/app/stopSignal',
      /^must be a Linux signal; did you mean SIGRTMIN\+1/,
    ],
  ])('%s', (_title, input, path, message) => {
    const outcome = parse(input);
    if (outcome.kind === 'ok') throw new Error('was taken');
    expect(outcome.code).toBe('invalid');
    expect(outcome.problems).toEqual([{ path, message: expect.stringMatching(message) as string }]);
  });

  test.each<[title: string, input: unknown]>([
    ['the same port as TCP and UDP', web({ ports: ['53/tcp', '53/udp'] })],
    ['different ports in two containers', two({ ports: [80] }, { ports: [81] })],
    [
      'one volume in two containers',
      two({ volumes: [{ name: 'v', path: '/a' }] }, { volumes: [{ name: 'v', path: '/a' }] }),
    ],
    ['a timeout above the interval', web({ ports: [80], check: { tcp: { port: 80 }, timeoutSeconds: 60 } })],
    ...['SIGTERM', 'SIGQUIT', 'SIGWINCH', 'SIGRTMIN', 'SIGRTMIN+15', 'SIGRTMAX-14', 'SIGRTMAX'].map(
      (stopSignal): [string, unknown] => [`the signal ${stopSignal}`, web({ stopSignal })],
    ),
    ['recreate without surge', web({}, { update: { strategy: 'recreate', maxSurge: 0 } })],
    [
      'all dropped and one of the default ones added',
      web({ dropCapabilities: ['ALL'], addCapabilities: ['NET_BIND_SERVICE'] }),
    ],
  ])('%s is fine', (_title, input) => {
    expect(problemsOf(input)).toEqual([]);
  });
});

describe('access to the host', () => {
  test.each<[input: unknown, path: string, what: RegExp]>([
    [web({ privileged: true }), '/containers/app/privileged', /is set/],
    [
      web({ volumes: [{ hostPath: '/etc', path: '/e' }] }),
      '/containers/app/volumes/0/hostPath',
      /path of the host/,
    ],
    [
      web({ volumes: [{ hostPath: '/run//docker.sock', path: '/s' }] }),
      '/containers/app/volumes/0/hostPath',
      /Docker socket/,
    ],
    [web({ addCapabilities: ['CAP_SYS_ADMIN'] }), '/containers/app/addCapabilities/0', /SYS_ADMIN/],
    [web({ addCapabilities: ['ALL'] }), '/containers/app/addCapabilities/0', /ALL/],
    [web({}, { hostNetwork: true }), '/hostNetwork', /network of the host/],
  ])('%j is refused unless the operator allows it', (input, path, what) => {
    const outcome = parse(input);
    if (outcome.kind === 'ok') throw new Error('was taken');
    expect(outcome.code).toBe('forbidden');
    expect(outcome.problems).toEqual([{ path, message: expect.stringMatching(what) as string }]);
    expect(outcome.problems[0]?.message).toContain('--allow-host-access');
    expect(parse(input, true).kind).toBe('ok');
  });

  test('that is asked for in a malformed document is invalid', () => {
    expect(parse(web({ privileged: true, cpus: 'x' }))).toMatchObject({ code: 'invalid' });
  });
});

describe('hostile documents', () => {
  test.each(['__proto__', 'constructor', 'prototype'])('the key %s is refused everywhere', (key) => {
    const text = `{"name":"web","${key}":{"polluted":true},"containers":{"${key}":{"image":"x"},
      "app":{"image":"nginx:1.27","${key}":1,"env":{"${key}":"x"},"labels":{"${key}":"x"}}},"constraints":{"${key}":"x"}}`;
    const expected = [
      '',
      '/containers',
      '/containers/app',
      '/containers/app/env',
      '/containers/app/labels',
      '/constraints',
    ];
    const outcome = parse(JSON.parse(text));
    if (outcome.kind === 'ok') throw new Error('was taken');
    expect(outcome.problems.map(({ path }) => path)).toEqual(expected.map((path) => `${path}/${key}`));
    expect(outcome.problems.every(({ message }) => message.startsWith('must not be used as a key'))).toBe(
      true,
    );
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  test('deep nesting is bounded', () => {
    const deep = JSON.parse('{"a":'.repeat(5_000) + '1' + '}'.repeat(5_000)) as unknown;
    expect(problemsOf(deep)).toEqual([
      expect.stringMatching(/is nested too deeply; the limit is 16 levels$/),
    ]);
    const circle: Record<string, unknown> = {};
    circle['a'] = circle;
    expect(problemsOf(circle)).toEqual([expect.stringMatching(/nested too deeply/)]);
  });

  test('size is bounded', () => {
    const wide = web({ args: Array.from({ length: 200_000 }, () => 0) });
    expect(problemsOf(wide)).toEqual([' has too many values; the limit is 100000']);
    const long = (count: number) => web({ args: Array.from({ length: count }, () => 'é'.repeat(10_000)) });
    expect(problemsOf(long(6))).toEqual([]);
    expect(problemsOf(long(7))).toEqual([
      expect.stringMatching(
        /^ is too large: with its defaults it has 14\d{4} bytes, of which 131072 are allowed; /,
      ),
    ]);
  });

  test('a long key or value does not make a long answer', () => {
    expect(problemsOf(web({ ['x'.repeat(500_000)]: 1 }))).toEqual([
      '/containers/app has a key of 500000 characters; the limit is 1000',
    ]);
    const outcome = JSON.stringify(parse(web({ cpus: 'x'.repeat(500_000) })));
    expect(outcome.length).toBeLessThan(500);
  });
});

test('docs/specification.md shows specifications that are valid', () => {
  const text = readFileSync(join(__dirname, '../../../docs/specification.md'), 'utf8');
  const examples = [...text.matchAll(/```json\n([\s\S]*?)```/g)].map(
    ([, json]) => JSON.parse(json ?? '') as unknown,
  );
  expect(examples.length).toBeGreaterThan(0);
  for (const example of examples) expect(problemsOf(example, true)).toEqual([]);
});
