/** Certificates on the command line. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { createTestAuthority, type TestAuthority } from '../../support/certificates';
import { useApi } from '../api/api-under-test';

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

const use = useApi();
const run = (...argv: string[]) => startCli(['certificates', ...argv], at(use.api.url)).ended;
const files = () => ['--certificate', join(folder, 'chain.pem'), '--key', join(folder, 'key.pem')];

test('one is uploaded, listed, shown and removed', async () => {
  expect((await run('list')).out).toMatch(/^There are no certificates\./);
  expect(await run('upload', '*.example.com', ...files())).toEqual({
    out: '*.example.com is answered with this certificate from now on. Expires in 30 days.\n',
    err: '',
    end: 0,
  });
  expect((await run('list')).out).toMatch(
    /^HOSTNAME {7}STATE {2}FROM {2}UNTIL {7}WHAT IS SO\n\*\.example\.com {2}valid {2}you {3}\d{4}-\d\d-\d\d {2}Expires in 30 days\.\n$/,
  );
  const { out } = await run('show', '*.example.com');
  expect(out).toContain('  From         you (Trust, authority)\n  Hostnames    *.example.com\n');
  expect((await run('remove', '*.example.com')).out).toBe('The certificate for *.example.com is removed.\n');
  expect((await run('show', '*.example.com')).end).toBe('not_found');
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
  expect(missing.err).toMatch(/--certificate .*none cannot be read: ENOENT/);
  expect(use.api.store.peek('')).toEqual([]);
});
