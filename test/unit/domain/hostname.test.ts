/** What is said of hostnames that are none. */

import { parseMicroserviceSpec } from '../../../domain/spec/parse';

const parse = (hostname: string) =>
  parseMicroserviceSpec(
    { name: 'web', containers: { app: { image: 'nginx', httpPorts: { 80: ['ok.example.com', hostname] } } } },
    { allowHostAccess: false },
  );

test.each([
  ['a.example.com', 'a.example.com'],
  ['A.Example.COM', 'a.example.com'],
  ['hello.localhost', 'hello.localhost'],
  ['xn--mnchen-3ya.example', 'xn--mnchen-3ya.example'],
  ['*.example.com', '*.example.com'],
  ['*.Shop.Example.co.uk', '*.shop.example.co.uk'],
  ['*.xn--mnchen-3ya.example', '*.xn--mnchen-3ya.example'],
  ['*.localhost', '*.localhost'],
  ['*.internal', '*.internal'],
  // Its names are their users', but it belongs to somebody.
  ['*.github.io', '*.github.io'],
  ['1.2.3', '1.2.3'],
  [`${'a'.repeat(63)}.example`, `${'a'.repeat(63)}.example`],
])('%s is one', (hostname, kept) => {
  const outcome = parse(hostname);
  if (outcome.kind !== 'ok') throw new Error(JSON.stringify(outcome));
  expect(outcome.spec.release.containers[0]?.ports[0]?.hostnames).toContain(kept);
});

test.each([
  ['', 'must not be empty'],
  ['http://a.example.com', 'must be a hostname alone, without "http://"'],
  ['a.example.com/path', 'must be a hostname alone, without a path, a user or blanks'],
  ['a.example.com:8080', 'must be a hostname alone, without a port; the ingress has its own'],
  ['10.0.0.1', 'must be a name, not an IP address'],
  ['::1', 'must be a name, not an IP address'],
  ['[fe80::1]', 'must be a name, not an IP address'],
  ['*', 'must name the domain of a wildcard, like *.example.com'],
  ['*.', 'must name the domain of a wildcard, like *.example.com'],
  ['a.*.example.com', 'must have a wildcard (*) once, as its whole first part, like *.example.com'],
  ['*.*.example.com', 'must have a wildcard (*) once, as its whole first part, like *.example.com'],
  ['*x.example.com', 'must have a wildcard (*) once, as its whole first part, like *.example.com'],
  ['x*.example.com', 'must have a wildcard (*) once, as its whole first part, like *.example.com'],
  ['example.*', 'must have a wildcard (*) once, as its whole first part, like *.example.com'],
  ['*.10.0.0.1', 'must be a name, not an IP address'],
  ['*.::1', 'must be a name, not an IP address'],
  ['*.a_b.example.com', 'must not have an underscore: hostnames have letters, digits and hyphens'],
  [
    '*.com',
    'must not be a wildcard for all of "com", below which anybody can have names: name a domain, like *.example.com',
  ],
  [
    '*.co.uk',
    'must not be a wildcard for all of "co.uk", below which anybody can have names: name a domain, like *.example.co.uk',
  ],
  [
    '*.corp',
    'must not be a wildcard for all of "corp", below which anybody can have names: name a domain, like *.example.corp',
  ],
  ['münchen.example', 'must be written in ASCII (punycode): "xn--mnchen-3ya.example"'],
  ['xn--a.example', 'has the part "xn--a", which begins with xn-- and is no valid punycode'],
  ['a.example.com.', 'must not end with a dot'],
  ['my_app.example.com', 'must not have an underscore: hostnames have letters, digits and hyphens'],
  ['a..example.com', 'must not have two dots in a row, or one at its beginning'],
  ['.example.com', 'must not have two dots in a row, or one at its beginning'],
  ['-a.example.com', 'must not have a part that begins or ends with a hyphen, as "-a" does'],
  ['a-.example.com', 'must not have a part that begins or ends with a hyphen, as "a-" does'],
  ['a!.example.com', 'must be a hostname: DNS labels of letters, digits and hyphens, joined by dots'],
  [`${'a'.repeat(64)}.example`, 'must have parts of 63 characters at most; "aaaaaaaaaaaaaaaaaaaa…" has 64'],
  [`${'a.'.repeat(130)}example`, 'must have 253 characters at most, not 267'],
])('%s is none, and why', (hostname, message) => {
  expect(parse(hostname)).toMatchObject({
    kind: 'invalid',
    problems: [{ path: '/containers/app/httpPorts/80/1', message }],
  });
});
