/** Certificates on the command line. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { CertificateStatus } from '../../../contracts/acme';
import { certificateStatusKvKey, hostnameKvKey } from '../../../contracts/kv';
import { createTestAuthority, type TestAuthority } from '../../support/certificates';
import { buildMicroservice, microserviceDocuments, useApi } from '../api/api-under-test';

import { at, startCli } from './cli-under-test';

let authority: TestAuthority;
let folder: string;
beforeAll(() => {
  authority = createTestAuthority('Trust');
  folder = mkdtempSync(join(tmpdir(), 'containeros-cli-'));
  const { certificatePem, keyPem } = authority.issue({
    commonName: 'x',
    organisation: 'o',
    alternativeNames: ['DNS:*.example.com'],
    validForMs: 30 * 86_400_000 + 60_000,
  });
  writeFileSync(join(folder, 'chain.pem'), certificatePem);
  writeFileSync(join(folder, 'key.pem'), keyPem);
});
afterAll(() => {
  authority.dispose();
  rmSync(folder, { recursive: true });
});

const retried: string[] = [];
const use = useApi({ retryCertificate: async (hostname) => void retried.push(hostname) });
const run = (...argv: string[]) => startCli(['certificates', ...argv], at(use.api.url)).ended;
const files = () => ['--certificate', join(folder, 'chain.pem'), '--key', join(folder, 'key.pem')];

test('one is uploaded, listed, shown and removed', async () => {
  const unused = 'No microservice has a hostname that it is for: deploy one that does.';
  expect((await run('list')).out).toMatch(/^There are no certificates\./);
  expect(await run('upload', '*.example.com', ...files())).toEqual({
    out: `*.example.com is answered with this certificate from now on. Expires in 30 days. ${unused}\n`,
    err: '',
    end: 0,
  });
  use.api.kv.put({ [hostnameKvKey('a.example.com')]: { project: 'default', name: 'shop' } });
  expect((await run('list')).out).toMatch(
    /^HOSTNAME {7}STATE {4}FROM {2}UNTIL {7}WHAT IS SO\n\*\.example\.com {2}valid {4}you {3}\d{4}-\d\d-\d\d {2}Expires in 30 days\.\na\.example\.com .*\n$/,
  );
  const { out } = await run('show', '*.example.com');
  expect(out).toContain('  From         you (Trust, authority)\n  Hostnames    *.example.com\n');
  expect((await run('remove', '*.example.com')).out).toBe('The certificate for *.example.com is removed.\n');
  expect((await run('show', '*.example.com')).end).toBe('not_found');
});

test('of one that is held, it is shown how renewing it goes', async () => {
  await run('upload', '*.example.com', ...files());
  use.api.kv.put({
    [certificateStatusKvKey('*.example.com')]: {
      hostname: '*.example.com',
      state: 'uploaded',
      message: 'One was uploaded.',
      failures: 0,
      renewAtMs: Date.UTC(2026, 0, 2),
      updatedAtMs: Date.UTC(2026, 0, 1),
    } satisfies CertificateStatus,
  });
  expect((await run('show', '*.example.com')).out).toMatch(
    /\n {2}Fingerprint {2}[0-9a-f]{64}\n {2}Issuing {6}uploaded: One was uploaded\.\n {2}Renewed {6}2026-01-02 00:00:00 UTC\n$/,
  );
});

test('what is wrong is said, with its exit code', async () => {
  const wrong = await run('upload', 'www.example.org', ...files());
  expect(wrong.end).toBe('invalid');
  expect(wrong.err).toContain('is for *.example.com, not for www.example.org');
  expect(await run('upload', '*.example.com')).toMatchObject({
    end: 'invalid',
    err: 'containeros: --certificate is missing: name the file, in PEM.\n',
  });
  const missing = await run(
    'upload',
    '*.example.com',
    '--certificate',
    join(folder, 'none'),
    ...files().slice(2),
  );
  expect(missing.err).toMatch(/--certificate .*none cannot be read: it does not exist\./);
  expect(use.api.store.peek('')).toEqual([]);
});

test('a hostname without one is shown with why, and is tried again when told so', async () => {
  use.api.kv.put({
    ...microserviceDocuments(buildMicroservice('shop')),
    [hostnameKvKey('www.example.org')]: { project: 'default', name: 'shop' },
    [certificateStatusKvKey('www.example.org')]: {
      hostname: 'www.example.org',
      state: 'failed',
      message: 'It leads elsewhere. It is tried again.',
      failures: 2,
      nextAttemptAtMs: Date.UTC(2026, 0, 2),
      lastError: { kind: 'pointing', message: 'It leads elsewhere.', atMs: Date.UTC(2026, 0, 1) },
      updatedAtMs: Date.UTC(2026, 0, 1),
    } satisfies CertificateStatus,
  });
  expect((await run('list')).out).toBe(
    `HOSTNAME         STATE    FROM  UNTIL  WHAT IS SO
www.example.org  failing  -     -      There is none yet. It leads elsewhere. It is tried again.
`,
  );
  expect((await run('show', 'www.example.org')).out).toBe(`\
Certificate for www.example.org

  State            failing: There is none yet. It leads elsewhere. It is tried again.
  Failed attempts  2
  Last error       pointing, 2026-01-01 00:00:00 UTC: It leads elsewhere.
  Next attempt     2026-01-02 00:00:00 UTC
`);
  expect(await run('retry', 'www.example.org')).toEqual({
    out: 'The certificate for www.example.org is tried now: containeros certificates show www.example.org says how it goes.\n',
    err: '',
    end: 0,
  });
  expect(retried).toEqual(['www.example.org']);
  expect(await run('retry', 'other.example.org')).toMatchObject({
    end: 'not_found',
    err: expect.stringContaining('No microservice has the hostname other.example.org') as string,
  });
});
