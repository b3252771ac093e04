/** Certificates over HTTP: given, shown without their keys, and removed. */

import { createHostnameAuthority } from '../../../adapters/certificates/hostname-authority';
import type { Certificate } from '../../../contracts/certificates';
import { KV_PREFIX, authorityKvKey, certificateKvKey } from '../../../contracts/kv';
import { createTestAuthority, type TestAuthority } from '../../support/certificates';

import { useApi } from './api-under-test';

let authority: TestAuthority;
beforeAll(() => {
  authority = createTestAuthority('Trust');
});
afterAll(() => authority.dispose());

const world = useApi();

const issue = (name: string, validForMs?: number) => {
  const { certificatePem, keyPem } = authority.issue({
    commonName: 'x',
    organisation: 'o',
    alternativeNames: [`DNS:${name}`],
    ...(validForMs === undefined ? {} : { validForMs }),
  });
  return { certificate: certificatePem, privateKey: keyPem };
};

const put = (hostname: string, body: unknown) =>
  world.api.call('PUT', `/v1/certificates/${encodeURIComponent(hostname)}`, { body });

const filed = () =>
  world.api.store.peek<Certificate>(KV_PREFIX.certificates).map(({ value }) => value.fingerprint);

test('one is given, shown without its key, replaced at once, and removed', async () => {
  const first = issue('*.example.com');
  const given = await put('*.EXAMPLE.com', first);
  expect([given.status, given.body]).toEqual([
    200,
    expect.objectContaining({
      hostname: '*.example.com',
      hostnames: ['*.example.com'],
      source: 'uploaded',
      issuer: 'Trust, authority',
      state: 'valid',
      message: expect.stringMatching(/^Expires in \d+ hours\.$/) as string,
    }),
  ]);
  const listed = await world.api.call('GET', '/v1/certificates');
  expect(listed.body).toEqual({ items: [given.body] });
  const shown = await world.api.call('GET', '/v1/certificates/*.example.com');
  expect(shown.body).toEqual(given.body);
  const everything = [given.text, listed.text, shown.text, ...world.api.logged].join('');
  expect(everything).not.toMatch(/PRIVATE|sealed/);
  expect(everything).not.toContain(first.privateKey.split('\n')[1]);
  const [before] = filed();
  expect((await put('*.example.com', issue('*.example.com'))).status).toBe(200);
  expect(filed()).toHaveLength(1);
  expect(filed()).not.toContain(before);
  expect((await world.api.call('DELETE', '/v1/certificates/*.example.com')).status).toBe(204);
  expect((await world.api.call('DELETE', '/v1/certificates/*.example.com')).status).toBe(404);
  expect((await world.api.call('GET', '/v1/certificates/*.example.com')).status).toBe(404);
});

test('a bad one touches nothing, and all that is wrong is told', async () => {
  await put('www.example.com', issue('www.example.com'));
  const [before] = filed();
  const answer = await put('www.example.com', { ...issue('www.example.com', -1_000), privateKey: 'rubbish' });
  expect([answer.status, answer.body]).toEqual([
    400,
    expect.objectContaining({
      code: 'invalid',
      detail: expect.stringContaining(
        'and what is there stays: the private key has no private key in PEM',
      ) as string,
      problems: [
        expect.objectContaining({ path: '/privateKey' }),
        expect.objectContaining({ path: '/certificate' }),
      ],
    }),
  ]);
  expect((await put('www.example.com', { certificate: 'x'.repeat(70_000), privateKey: '' })).status).toBe(
    413,
  );
  expect(filed()).toEqual([before]);
});

test.each([
  {},
  { certificate: 'x' },
  { certificate: 1, privateKey: 'x' },
  { certificate: '', privateKey: '', chain: '' },
])('the body %j is refused', async (body) => {
  expect((await put('www.example.com', body)).status).toBe(400);
  expect(filed()).toEqual([]);
});

test.each(['a..b', '*', 'a b', '*.*.a', '-'.repeat(300), 'a/b'])('%j is no hostname', async (hostname) => {
  expect((await put(hostname, issue('x.example.com'))).status).toBe(400);
  expect(world.api.store.peek('')).toEqual([]);
});

test('one that has expired says so, and what to do', async () => {
  await put('www.example.com', issue('www.example.com'));
  const key = certificateKvKey('www.example.com');
  const [stored] = world.api.store.peek<Certificate>(key);
  await world.api.store.transact([
    { kind: 'set', key, value: { ...stored?.value, notAfterMs: Date.now() - 3 * 86_400_000 } },
  ]);
  expect((await world.api.call('GET', '/v1/certificates/www.example.com')).body).toMatchObject({
    state: 'expired',
    message: 'Expired 3 days ago. Upload a new one.',
  });
});

test('the root for private hostnames is shown once it is made, and its key never', async () => {
  expect((await world.api.call('GET', '/v1/authority')).status).toBe(503);
  const { certificatePem } = await createHostnameAuthority({ clusterId: 'c1', nowMs: Date.now() });
  const value = { name: 'hostnames', certificatePem, sealedKey: 'sealed1.x', createdAtMs: 0 };
  await world.api.store.transact([{ kind: 'set', key: authorityKvKey('hostnames'), value }]);
  const { status, body, text } = await world.api.call('GET', '/v1/authority');
  expect(status).toBe(200);
  expect(body).toEqual({
    certificate: certificatePem,
    fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    subject: 'CN=ContainerOS hostnames of cluster c1, O=ContainerOS',
    validUntil: expect.stringMatching(/Z$/) as string,
  });
  expect(text).not.toContain('sealed');
  expect((await world.api.call('GET', '/v1/authority', { password: null })).status).toBe(401);
});
