// What people bring as a certificate: taken when clients would take it, and refused in words that help otherwise.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { checkMaterial } from '../../../adapters/certificates/check-material';
import { splitChain } from '../../../adapters/certificates/read-chain';
import { ContainerOsError } from '../../../domain/errors';
import { createTestAuthority, type TestAuthority } from '../../support/certificates';

const HOUR_MS = 3_600_000;
const HOSTNAME = 'www.example.com';

let authority: TestAuthority;
let other: TestAuthority;
let folder: string;
beforeAll(() => {
  authority = createTestAuthority('Trust');
  other = createTestAuthority('Other');
  folder = mkdtempSync(join(tmpdir(), 'containeros-material-'));
});
afterAll(() => {
  authority.dispose();
  other.dispose();
  rmSync(folder, { recursive: true });
});

const issue = (names: readonly string[] = [HOSTNAME], validForMs?: number, by = authority) => {
  const { certificatePem, keyPem } = by.issue({
    commonName: HOSTNAME,
    organisation: 'o',
    alternativeNames: names.map((name) => `DNS:${name}`),
    ...(validForMs === undefined ? {} : { validForMs }),
  });
  return { certificate: certificatePem, privateKey: keyPem };
};

const openssl = (...args: readonly string[]): string => {
  execFileSync('openssl', [...args], { stdio: 'pipe', cwd: folder });
  return folder;
};

const selfSigned = (...key: readonly string[]) => {
  openssl(
    ...[
      'req',
      '-x509',
      '-nodes',
      '-days',
      '30',
      '-subj',
      '/CN=self',
      '-addext',
      `subjectAltName=DNS:${HOSTNAME}`,
    ],
    ...['-newkey', ...key, '-keyout', 'self.key', '-out', 'self.pem'],
  );
  return {
    certificate: readFileSync(join(folder, 'self.pem'), 'utf8'),
    privateKey: readFileSync(join(folder, 'self.key'), 'utf8'),
  };
};

const check = (given: { certificate: string; privateKey: string }, hostname = HOSTNAME, nowMs = Date.now()) =>
  checkMaterial({ hostname, nowMs, ...given });

const refusal = (...given: Parameters<typeof check>): ContainerOsError => {
  try {
    check(...given);
  } catch (error) {
    if (error instanceof ContainerOsError) return error;
    throw error;
  }
  throw new Error('it was taken');
};

test('a good one is taken, with its chain but without the root, whatever stands around it', () => {
  const { certificate, privateKey } = issue();
  const taken = check({
    certificate: `subject=CN = x\n${certificate.trim()}\r\n${authority.certificatePem}`,
    privateKey,
  });
  expect(splitChain(taken.chainPem)).toHaveLength(1);
  expect(taken.keyPem).toMatch(/^-----BEGIN PRIVATE KEY-----/);
  expect(check(selfSigned('rsa:2048')).chainPem).toContain('CERTIFICATE');
});

test('a wildcard is for one label, and for itself', () => {
  const given = issue(['*.example.com', 'example.com']);
  for (const hostname of ['a.example.com', 'example.com', '*.example.com']) {
    expect(check(given, hostname).chainPem).toContain('CERTIFICATE');
  }
  expect(refusal(given, 'a.b.example.com').message).toContain(
    'is for *.example.com, example.com, not for a.b.example.com',
  );
  expect(refusal(issue(), '*.example.com').code).toBe('invalid');
});

test('one that is not of the key, or that the key is missing of', () => {
  const given = { certificate: issue().certificate, privateKey: issue().privateKey };
  expect(refusal(given)).toMatchObject({
    code: 'invalid',
    message: `The certificate for ${HOSTNAME} is not taken, and what is there stays: the certificate is not that of the private key: they do not belong together.`,
    problems: [{ path: '/certificate' }],
  });
});

test('times that do not count now, with what to do', () => {
  expect(refusal(issue([HOSTNAME], -HOUR_MS)).message).toMatch(
    /the certificate has expired on \d{4}-\d\d-\d\d; have it renewed/,
  );
  expect(refusal(issue(), HOSTNAME, Date.now() - 30 * 24 * HOUR_MS).message).toMatch(
    /is not valid before \d{4}-\d\d-\d\d; wait/,
  );
});

test('a chain in the wrong order, or of somebody else', () => {
  const { certificate, privateKey } = issue();
  expect(refusal({ certificate: `${authority.certificatePem}${certificate}`, privateKey }).message).toContain(
    'is in the wrong order: the certificate of the key is at place 2. Put it first',
  );
  expect(refusal({ certificate: `${certificate}${other.certificatePem}`, privateKey }).message).toContain(
    'has at place 2 a certificate that did not sign the one before it',
  );
  const mixed = `${certificate}${other.certificatePem}${authority.certificatePem}`;
  expect(refusal({ certificate: mixed, privateKey }).message).toContain(
    'the issuer of the certificate at place 1 is at place 3',
  );
});

test('keys that clients do not take, and those that nobody can read', () => {
  const { certificate, privateKey } = issue();
  expect(refusal(selfSigned('rsa:1024')).message).toContain(
    'the private key is weak: RSA with 1024 bits; use ECDSA',
  );
  expect(refusal(selfSigned('ec', '-pkeyopt', 'ec_paramgen_curve:secp256k1')).message).toContain(
    'is of the curve secp256k1, which clients do not take',
  );
  expect(refusal(selfSigned('ed25519')).message).toContain('of a kind that clients do not take (ed25519)');
  openssl('genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:P-256', '-out', 'plain.key');
  openssl('pkey', '-in', 'plain.key', '-aes256', '-passout', 'pass:secret', '-out', 'encrypted.key');
  expect(
    refusal({ certificate, privateKey: readFileSync(join(folder, 'encrypted.key'), 'utf8') }).message,
  ).toContain('the private key is encrypted; decrypt it first, with openssl pkey');
  const spoiled = privateKey.replace(/\n[A-Za-z0-9+/]{8}/, '\nAAAAAAAA');
  const refused = refusal({ certificate, privateKey: spoiled });
  expect(refused.message).toContain('has a private key that cannot be read');
  expect(JSON.stringify([refused.message, refused.problems])).not.toContain(privateKey.split('\n')[2]);
});

test.each(['', 'rubbish', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----', '{}'])(
  'PEM that is none (%j) is told of both at once',
  (text) => {
    const { problems } = refusal({ certificate: text, privateKey: text });
    expect(problems.map(({ path }) => path)).toEqual(['/privateKey', '/certificate']);
  },
);

test('a certificate for nobody, for clients only, and one with a key beside it', () => {
  const { privateKey, certificate } = issue([]);
  expect(refusal({ certificate, privateKey }).message).toContain('names no hostname that clients look at');
  expect(refusal({ certificate: `${certificate}${privateKey}`, privateKey }).message).toContain(
    'has a private key in it',
  );
  openssl(
    ...[
      'req',
      '-x509',
      '-nodes',
      '-days',
      '30',
      '-subj',
      '/CN=c',
      '-addext',
      `subjectAltName=DNS:${HOSTNAME}`,
    ],
    ...['-addext', 'extendedKeyUsage=clientAuth', '-newkey', 'rsa:2048', '-keyout', 'c.key', '-out', 'c.pem'],
  );
  const forClients = {
    certificate: readFileSync(join(folder, 'c.pem'), 'utf8'),
    privateKey: readFileSync(join(folder, 'c.key'), 'utf8'),
  };
  expect(refusal(forClients).message).toContain('is not for servers');
});

test('too much of it', () => {
  const { privateKey, certificate } = issue();
  expect(refusal({ certificate: 'x'.repeat(70_000), privateKey }).code).toBe('too_large');
  expect(refusal({ certificate, privateKey: 'x'.repeat(20_000) }).code).toBe('too_large');
  expect(refusal({ certificate: certificate.repeat(11), privateKey }).message).toContain(
    'more than 10 certificates',
  );
});
