import { authorityFor } from '../../../../domain/ingress/authority-for';

test.each([
  'localhost',
  'hello.localhost',
  'a.b.localhost',
  '*.localhost',
  'printer.local',
  'git.internal',
  'a.test',
  'nas.home.arpa',
  'router.lan',
  'shop.example',
  'wiki',
  '*.wiki',
  '192.168.1.10',
  '::1',
])('the cluster itself vouches for %s', (hostname) => {
  expect(authorityFor(hostname)).toBe('internal');
});

test.each([
  'example.com',
  'www.example.com',
  '*.example.com',
  'localhost.example.com',
  'notlocalhost.com',
  'mylocal.net',
  'home.arpa.example.org',
  'arpa.com',
])('a public authority vouches for %s, but for development', (hostname) => {
  expect(authorityFor(hostname)).toBe('public');
  expect(authorityFor(hostname, true)).toBe('internal');
});
