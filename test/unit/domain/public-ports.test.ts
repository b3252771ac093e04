/** Public ports: what is written, what a release holds of it, and what is refused. */

import { withoutClaims, claimsOfPort } from '../../../domain/ingress/route-options';
import { parseMicroserviceSpec, type ParsePolicy } from '../../../domain/spec/parse';
import { diffRelease } from '../../../domain/spec/release-diff';
import { specToUser } from '../../../domain/spec/to-user';

const policy: ParsePolicy = {
  allowHostAccess: false,
  reservedPorts: [{ port: 8000, protocol: 'tcp', what: 'the API' }],
};

const document = (publicPorts: unknown, more: object = {}) => ({
  name: 'gate',
  containers: { app: { image: 'postgres:17', publicPorts } },
  ...more,
});

const parsed = (publicPorts: unknown) => {
  const outcome = parseMicroserviceSpec(document(publicPorts), policy);
  if (outcome.kind === 'invalid') throw new Error(JSON.stringify(outcome.problems));
  return outcome.spec;
};

const portsOf = (publicPorts: unknown) => parsed(publicPorts).release.containers[0]?.ports;

const problemsOf = (publicPorts: unknown, more: object = {}, allowHostAccess = false) => {
  const outcome = parseMicroserviceSpec(document(publicPorts, more), { ...policy, allowHostAccess });
  return outcome.kind === 'ok'
    ? []
    : outcome.problems.map(({ path, message }) => `${path.replace('/containers/app/', '')} ${message}`);
};

test('the short form leads one port of every node to a port of the container', () => {
  expect(portsOf({ 5432: 15_432 })).toEqual([
    { port: 5_432, protocol: 'tcp', hostnames: [], publicPorts: [15_432] },
  ]);
  expect(portsOf({ '53/udp': 53, '53/tcp': 53 })).toEqual([
    { port: 53, protocol: 'tcp', hostnames: [], publicPorts: [53] },
    { port: 53, protocol: 'udp', hostnames: [], publicPorts: [53] },
  ]);
});

test('the port is checked like every other TCP port, and can be named by a check', () => {
  const { checks = [] } = parsed({ 5432: 5432, '53/udp': 53 }).release.containers[0] ?? {};
  expect(checks.map((check) => check.kind !== 'command' && check.port)).toEqual([5432]);
  const container = { image: 'a', publicPorts: { 5432: 5432 }, check: { tcp: { port: 5432 } } };
  expect(problemsOf({}, { containers: { app: container } })).toEqual([]);
});

test.each([
  [{ 25: [587, 25] }, { 25: [25, 587] }],
  [{ '25/tcp': { port: 25 } }, { 25: 25 }],
  [{ 25: { port: [25], proxyProtocol: 'v2' } }, { 25: { port: 25, proxyProtocol: 'v2' } }],
  [{ 25: { port: [587, 25], proxyProtocol: 'v1' } }, { 25: { port: [25, 587], proxyProtocol: 'v1' } }],
  [{ '53/udp': { port: 53 } }, { '53/udp': 53 }],
])('%j comes back as %j, and means the same again', (written, back) => {
  const spec = parsed(written);
  const user = specToUser(spec);
  expect(user.containers['app']?.publicPorts).toEqual(back);
  const again = parseMicroserviceSpec(user, policy);
  expect(again.kind === 'ok' && again.spec.release).toEqual(spec.release);
});

test.each([
  [{ 5432: 0 }, ['publicPorts/5432 must be a port from 1 to 65535']],
  [{ 5432: 70_000 }, ['publicPorts/5432 must be a port from 1 to 65535']],
  [{ 70_000: 80 }, ['publicPorts/70000 must be a port from 1 to 65535, not 70000']],
  [
    { http: 80 },
    ['publicPorts/http has a key that must be a port of the container like 5432, 5432/tcp or 53/udp'],
  ],
  [
    { 5432: '5432' },
    [
      'publicPorts/5432 must be a port like 5432, a list of ports, or an object like { "port": 5432, "proxyProtocol": "v2" }, not text ("5432")',
    ],
  ],
  [
    { 25: 2525, 26: [2526, 2525] },
    ['publicPorts/26/1 is port 2525/tcp again: /containers/app/publicPorts/25 has it already'],
  ],
  [{ 80: 8000 }, ['publicPorts/80 is port 8000/tcp, which ContainerOS uses for the API; choose another one']],
  [
    { '53/udp': { port: 53, proxyProtocol: 'v2' } },
    ['publicPorts/53~1udp/proxyProtocol must be given with a TCP port only'],
  ],
  [
    { 80: [1, 2, 3, 4, 5, 6], 81: [7, 8, 9, 10, 11] },
    ['/containers must have 10 public ports at most, not 11'],
  ],
  [
    { 25: { ports: 25 } },
    [
      'publicPorts/25/port is missing; expected a port like 5432, or a list of ports',
      'publicPorts/25/ports is not a known key; did you mean "port"?',
    ],
  ],
])('%j is refused', (written, problems) => {
  expect(problemsOf(written)).toEqual(problems);
});

test('another protocol is another port, also where one is reserved', () => {
  expect(problemsOf({ '80/udp': 8000, '53/tcp': 53, '53/udp': 53 })).toEqual([]);
});

test('a container port is asked for once, whatever it is for', () => {
  const containers = { app: { image: 'a', ports: [80], publicPorts: { 80: 8080 } } };
  expect(problemsOf({}, { containers })).toEqual([
    'publicPorts/80 is port 80/tcp again: /containers/app/ports/0 has it already',
  ]);
});

test('what hostnames lead to is no public port, and is told of its clients otherwise', () => {
  const app = { image: 'a', httpPorts: { 80: 'a.localhost' } };
  const twice =
    'publicPorts/80 is port 80/tcp again: /containers/app/httpPorts/80 has it already; a port is either for hostnames ("httpPorts") or for connections as they are ("publicPorts")';
  expect(problemsOf({}, { containers: { app: { ...app, publicPorts: { 80: 8080 } } } })).toEqual([twice]);
  const publicPorts = { 80: { port: 8080, proxyProtocol: 'v2' }, 81: { port: 8081, proxyProtocol: 'v2' } };
  expect(problemsOf({}, { containers: { app: { ...app, publicPorts } } })).toEqual([
    twice,
    'publicPorts/80/proxyProtocol must not be given with a port that stands in "httpPorts": what comes by a hostname has the client\'s address in X-Forwarded-For',
  ]);
});

test('with the network of the machine, the container has its port itself', () => {
  expect(problemsOf({ 5432: 5432 }, { hostNetwork: true }, true)).toEqual([
    'publicPorts/5432 is port 5432/tcp, on which the container itself listens with "hostNetwork"; choose another one',
  ]);
  expect(problemsOf({ 5432: 5433 }, { hostNetwork: true }, true)).toEqual([]);
});

test('a change of a public port makes a release, and is told in words', () => {
  expect(diffRelease(parsed({ 25: 25 }).release, parsed({ 25: [25, 587] }).release)).toEqual([
    'containers.app.publicPorts.25: 25 → [25,587]',
  ]);
});

test('what was taken over by somebody else is asked for no more', () => {
  const [port] = portsOf({ 25: { port: [25, 587], proxyProtocol: 'v2' } }) ?? [];
  if (port === undefined) throw new Error('it has a port');
  expect(claimsOfPort(port)).toEqual(['tcp:25', 'tcp:587']);
  const left = withoutClaims(port, ['tcp:25']);
  expect(left).toMatchObject({ publicPorts: [587], proxyProtocol: 'v2' });
  expect(withoutClaims(left, ['tcp:587'])).toEqual({ port: 25, protocol: 'tcp', hostnames: [] });
});
