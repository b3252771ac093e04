import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ContainerOsError } from '../../../../domain/errors';
import { LETS_ENCRYPT } from '../../../../workers/acme/acme-settings';
import { parseConfig } from '../../../../workers/config';

const parse = (argv: readonly string[], environment: Record<string, string> = {}) =>
  parseConfig(argv, environment, true, () => undefined).acme;

const problemsOf = (argv: readonly string[], environment: Record<string, string> = {}): string => {
  try {
    parse(argv, environment);
  } catch (error) {
    if (error instanceof ContainerOsError && error.code === 'invalid') return error.message;
    throw error;
  }
  throw new Error('the configuration was accepted');
};

const folder = mkdtempSync(join(tmpdir(), 'containeros-settings-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

test('Let’s Encrypt is asked, and nobody for development or when that is not wanted', () => {
  expect(parse([])).toEqual({ authorities: [{ directory: LETS_ENCRYPT }] });
  expect(parse(['--dev']).authorities).toEqual([]);
  expect(parse(['--no-acme']).authorities).toEqual([]);
});

test('authorities are asked in their order, with what binds their accounts', () => {
  const caPem = '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n';
  expect(
    parse(
      [
        ...[
          '--acme-directory',
          'https://first.example/dir',
          '--acme-fallback-directory',
          'https://second.example/dir',
        ],
        ...['--acme-email', 'me@example.com', '--acme-ca-file', file('ca.pem', caPem)],
      ],
      { CONTAINEROS_ACME_FALLBACK_EAB: 'kid-1:c2VjcmV0', CONTAINEROS_ACME_RESOLVER: '127.0.0.1:8053' },
    ),
  ).toEqual({
    authorities: [
      { directory: 'https://first.example/dir' },
      { directory: 'https://second.example/dir', eab: { kid: 'kid-1', hmacKey: 'c2VjcmV0' } },
    ],
    email: 'me@example.com',
    caPem,
    resolver: '127.0.0.1:8053',
  });
  expect(parse(['--acme-directory', 'http://127.0.0.1:14000/dir']).authorities).toHaveLength(1);
});

test.each([
  [['--acme-directory', 'http://ca.example/dir'], '--acme-directory must be a URL like https://'],
  [['--acme-directory', 'letsencrypt'], '--acme-directory must be a URL like https://'],
  [['--acme-fallback-directory', LETS_ENCRYPT], 'must be another one than --acme-directory'],
  [['--acme-email', 'me'], '--acme-email must be an address like'],
  [['--acme-ca-file', '/nonexistent'], '--acme-ca-file cannot be read'],
  [['--no-acme', '--acme-directory', 'https://a.example/dir'], '--no-acme and a directory are both given'],
])('%j is refused', (argv, problem) => {
  expect(problemsOf(argv)).toContain(problem);
});

test('what is no root, and no binding, is refused', () => {
  expect(problemsOf(['--acme-ca-file', file('empty', '')])).toContain('must hold a certificate in PEM');
  expect(problemsOf([], { CONTAINEROS_ACME_EAB: 'secret' })).toContain(
    'CONTAINEROS_ACME_EAB must be KID:HMAC-KEY',
  );
  expect(() => problemsOf([], { CONTAINEROS_ACME_EAB: 'hunter2' })).not.toThrow('hunter2');
});

test('a DNS provider gets its credentials from a file, or from variables of their names', () => {
  const credentials = file('dns', '# mine\n\nCLOUDFLARE_API_TOKEN = "token"\n');
  expect(parse(['--dns-provider', 'cloudflare', '--dns-credentials-file', credentials]).dns).toEqual({
    provider: 'cloudflare',
    credentials: { CLOUDFLARE_API_TOKEN: 'token' },
  });
  expect(parse(['--dns-provider', 'hetzner'], { HCLOUD_TOKEN: 'token' }).dns).toEqual({
    provider: 'hetzner',
    credentials: { HCLOUD_TOKEN: 'token' },
  });
});

test('what is wrong with a DNS provider is said without its secrets', () => {
  expect(problemsOf(['--dns-provider', 'toString'])).toContain(
    '--dns-provider must be one of cloudflare, digitalocean, google, hetzner, rfc2136, route53, not toString',
  );
  expect(problemsOf(['--dns-provider', 'hetzner'])).toContain('hetzner wants HCLOUD_TOKEN');
  expect(problemsOf(['--dns-credentials-file', '/nonexistent'])).toContain(
    'is of use with --dns-provider only',
  );
  const account = file('account', '{"client_email":"hunter2"}');
  const google = (path: string) =>
    problemsOf(['--dns-provider', 'google'], { GCE_SERVICE_ACCOUNT_FILE: path });
  expect(google(account)).toContain(
    `${account} is no key of a service account: look at project_id, private_key`,
  );
  expect(google(account)).not.toContain('hunter2');
  expect(google('/nonexistent')).toContain('/nonexistent cannot be read');
  const update = {
    RFC2136_NAMESERVER: '10.0.0.1',
    RFC2136_TSIG_KEY: 'acme',
    RFC2136_TSIG_SECRET: 'hunter 2',
  };
  expect(problemsOf(['--dns-provider', 'rfc2136'], update)).toContain('RFC2136_TSIG_SECRET in base64');
  expect(problemsOf(['--dns-provider', 'rfc2136'], update)).not.toContain('hunter');
  const spoiled = file('spoiled', 'hunter2\n');
  const problems = problemsOf(['--dns-provider', 'hetzner', '--dns-credentials-file', spoiled]);
  expect(problems).toContain('--dns-credentials-file must have NAME=VALUE in line 1');
  expect(problems).not.toContain('hunter2');
});
