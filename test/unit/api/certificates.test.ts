/** Certificates over HTTP: given, shown without their keys, and removed. */

import { createHostnameAuthority } from '../../../adapters/certificates/hostname-authority';
import type { CertificateStatus } from '../../../contracts/acme';
import type { Certificate } from '../../../contracts/certificates';
import {
  KV_PREFIX,
  authorityKvKey,
  certificateKvKey,
  certificateStatusKvKey,
  hostnameKvKey,
} from '../../../contracts/kv';
import type { CertificateView } from '../../../openapi/schemas';
import { createTestAuthority, type TestAuthority } from '../../support/certificates';

import { buildMicroservice, microserviceDocuments, useApi } from './api-under-test';

let authority: TestAuthority;
beforeAll(() => {
  authority = createTestAuthority('Trust');
});
afterAll(() => authority.dispose());

const retried: string[] = [];
beforeEach(() => void retried.splice(0));

const world = useApi({ retryCertificate: async (hostname) => void retried.push(hostname) });

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
  world.api.kv.put({ [hostnameKvKey('www.example.com')]: { project: 'default', name: 'shop' } });
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
  expect(listed.body).toMatchObject({ items: [given.body, { hostname: 'www.example.com' }] });
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

test.each([
  ['a..b', 'it must not have two dots in a row'],
  ['*', 'it must name the domain of a wildcard'],
  ['a b', 'it must be a hostname alone'],
  ['*.*.a', 'it must have a wildcard (*) once'],
  ['-'.repeat(300), 'it must have 253 characters at most'],
  ['a/b', 'it must be a hostname alone'],
  ['München.example', 'it must be written in ASCII (punycode): "xn--mnchen-3ya.example"'],
  ['*.münchen.example', 'it must be written in ASCII (punycode): "xn--mnchen-3ya.example"'],
  ['xn--a.example', 'it has the part "xn--a", which begins with xn-- and is no valid punycode'],
  ['10.0.0.1', 'it must be a name, not an IP address'],
  ['[::1]', 'it must be a name, not an IP address'],
  ['*.com', 'it must not be a wildcard for all of "com"'],
  ['a_b.example.com', 'it must not have an underscore'],
])('%j is no hostname, and why', async (hostname, why) => {
  const { status, body } = await put(hostname, issue('x.example.com'));
  expect(status).toBe(400);
  expect(body).toMatchObject({
    detail: expect.stringContaining(`"${hostname.toLowerCase()}" is no hostname: ${why}`) as string,
  });
  expect(world.api.store.peek('')).toEqual([]);
});

test('one for a hostname that microservices cannot have any more can be removed', async () => {
  await put('www.example.com', issue('www.example.com'));
  const [stored] = world.api.store.peek<Certificate>(certificateKvKey('www.example.com'));
  await world.api.store.transact([
    {
      kind: 'set',
      key: certificateKvKey('a_b.example.com'),
      value: { ...stored?.value, hostname: 'a_b.example.com', hostnames: ['a_b.example.com'] },
    },
  ]);
  expect((await world.api.call('DELETE', '/v1/certificates/a_b.example.com')).status).toBe(204);
  expect((await world.api.call('DELETE', '/v1/certificates/a_b.example.com')).status).toBe(404);
});

test.each([
  ['www.example.com', 'example.com'],
  ['*.example.com', 'a.b.example.com'],
  ['*.example.com', 'example.com'],
])('one for %s says that no microservice has such a hostname, until one has', async (hostname, other) => {
  const has = (claim: string) =>
    world.api.kv.put({ [hostnameKvKey(claim)]: { project: 'default', name: 'shop' } });
  const messages = async () => {
    const uploaded = (await put(hostname, issue(hostname))).body as CertificateView;
    const shown = (await world.api.call('GET', `/v1/certificates/${hostname}`)).body as CertificateView;
    return [uploaded.message, shown.message];
  };
  has(other);
  const ofNoUse =
    /^Expires in \d+ hours\. No microservice has a hostname that it is for: deploy one that does\.$/;
  for (const message of await messages()) expect(message).toMatch(ofNoUse);
  has('www.example.com/api');
  for (const message of await messages()) expect(message).toMatch(/^Expires in \d+ hours\.$/);
});

test('one that has expired says so, and what to do', async () => {
  world.api.kv.put({ [hostnameKvKey('www.example.com')]: { project: 'default', name: 'shop' } });
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

describe('how issuing stands', () => {
  const AT_MS = Date.UTC(2026, 0, 2);
  const AT = '2026-01-02T00:00:00.000Z';

  /** The microservice `shop` is known, no other. */
  const has = (claims: Readonly<Record<string, string>>) =>
    world.api.kv.put({
      ...microserviceDocuments(buildMicroservice('shop')),
      ...Object.fromEntries(
        Object.entries(claims).map(([claim, name]) => [hostnameKvKey(claim), { project: 'default', name }]),
      ),
    });

  const tell = (hostname: string, status: Partial<CertificateStatus>) =>
    world.api.kv.put({
      [certificateStatusKvKey(hostname)]: {
        hostname,
        state: 'issuing',
        message: 'It is asked for.',
        failures: 0,
        updatedAtMs: AT_MS,
        ...status,
      } satisfies CertificateStatus,
    });

  const file = async (hostname: string, source: Certificate['source'], validForMs?: number) => {
    const { certificate, privateKey } = issue(hostname, validForMs);
    await put(hostname, { certificate, privateKey });
    const key = certificateKvKey(hostname);
    const [stored] = world.api.store.peek<Certificate>(key);
    await world.api.store.transact([{ kind: 'set', key, value: { ...stored?.value, source } }]);
  };

  const shown = async (hostname: string) =>
    (await world.api.call('GET', `/v1/certificates/${hostname}`)).body;

  const FAILED = {
    state: 'failed',
    message: 'www.example.org leads to 192.0.2.1. It is tried again.',
    failures: 3,
    nextAttemptAtMs: AT_MS,
    lastError: { kind: 'pointing', message: 'www.example.org leads to 192.0.2.1.', atMs: AT_MS },
  } as const;

  test('a hostname without a certificate is shown with why, and when it is tried again', async () => {
    has({ 'www.example.org': 'shop' });
    tell('www.example.org', FAILED);
    const view = {
      hostname: 'www.example.org',
      state: 'failing',
      message: 'There is none yet. www.example.org leads to 192.0.2.1. It is tried again.',
      hostnames: [],
      issuing: {
        state: 'failing',
        message: FAILED.message,
        failedAttempts: 3,
        nextAttemptAt: AT,
        lastError: { kind: 'pointing', message: FAILED.lastError.message, at: AT },
        updatedAt: AT,
      },
    };
    expect(await shown('WWW.example.org')).toEqual(view);
    expect((await world.api.call('GET', '/v1/certificates')).body).toEqual({ items: [view] });
    expect((await world.api.call('DELETE', '/v1/certificates/www.example.org')).body).toMatchObject({
      status: 404,
      detail: expect.stringContaining('leads to 192.0.2.1') as string,
    });
  });

  test('each hostname is there once, whatever paths are held of it', async () => {
    has({
      'a.example.org': 'shop',
      'a.example.org/api': 'other',
      'b.example.org/x': 'shop',
      'b.example.org/y': 'shop',
      'c.localhost/x': 'shop',
    });
    tell('a.example.org', { state: 'waiting', message: 'A limit is used up.' });
    await put('a.example.org', issue('a.example.org'));
    const { body } = await world.api.call('GET', '/v1/certificates');
    expect((body as { items: readonly object[] }).items).toEqual([
      expect.objectContaining({ hostname: 'a.example.org', state: 'valid', source: 'uploaded' }),
      {
        hostname: 'b.example.org',
        state: 'waiting',
        message: expect.stringContaining('not been asked for yet') as string,
        hostnames: [],
      },
      {
        hostname: 'c.localhost',
        state: 'waiting',
        message: expect.stringContaining('own authority has not issued it yet') as string,
        hostnames: [],
      },
    ]);
  });

  test.each<readonly [CertificateStatus['state'], string, string]>([
    ['issuing', 'issuing', 'There is none yet. As told.'],
    ['waiting', 'waiting', 'There is none yet. As told.'],
    ['off', 'off', 'There is none yet. As told.'],
    ['issued', 'waiting', 'What there was is gone, or ends soon. Another one is asked for in a moment.'],
    ['uploaded', 'waiting', 'What there was is gone, or ends soon. Another one is asked for in a moment.'],
  ])('without a certificate, %s is shown as %s', async (state, expected, message) => {
    tell('www.example.org', { state, message: 'As told.' });
    expect(await shown('www.example.org')).toMatchObject({ state: expected, message, issuing: { state } });
  });

  test('a hostname that an uploaded wildcard is good for says so', async () => {
    await put('*.example.org', issue('*.example.org'));
    has({ 'www.example.org': 'shop' });
    expect(await shown('www.example.org')).toMatchObject({
      state: 'covered',
      message: '*.example.org is good for it.',
    });
    tell('www.example.org', { state: 'uploaded', message: 'One for *.example.org was uploaded.' });
    expect(await shown('www.example.org')).toMatchObject({
      state: 'covered',
      message: 'One for *.example.org was uploaded.',
    });
  });

  test.each([
    ['failed', /^Expires in \d+ hours\. Renewing it fails: As told\.$/],
    ['waiting', /^Expires in \d+ hours\. Renewing it has to wait: As told\.$/],
    ['off', /^Expires in \d+ hours\. It is not renewed: As told\.$/],
    ['issued', /^Expires in \d+ hours, and is renewed before\.$/],
    ['issuing', /^Expires in \d+ hours, and is renewed before\.$/],
  ] as const)('of one that is held, %s is told with it', async (state, message) => {
    await file('www.example.org', 'acme');
    tell('www.example.org', { state, message: 'As told.', renewAtMs: AT_MS });
    const view = await shown('www.example.org');
    expect(view).toMatchObject({ state: 'valid', source: 'acme', issuing: { renewAt: AT } });
    expect((view as CertificateView).message).toMatch(message);
  });

  test.each(['failed', 'waiting'] as const)(
    'of one that somebody has brought and that ends, %s is told with it, too',
    async (state) => {
      has({ 'www.example.org': 'shop' });
      await file('www.example.org', 'uploaded');
      tell('www.example.org', { state, message: 'As told.' });
      expect((await shown('www.example.org')) as CertificateView).toMatchObject({
        message: expect.stringMatching(
          /^Expires in \d+ hours\. Upload a new one; .* of a public authority yet: As told\.$/,
        ) as string,
      });
      tell('www.example.org', { state: 'uploaded', message: 'As told.' });
      expect(((await shown('www.example.org')) as CertificateView).message).not.toContain('As told.');
    },
  );

  describe('tried now', () => {
    const retry = (hostname: string) => world.api.call('POST', `/v1/certificates/${hostname}/retry`);

    test('its workflow is told, and how it stood is answered', async () => {
      has({ 'www.example.org': 'unknown', 'www.example.org/api': 'shop' });
      tell('www.example.org', FAILED);
      const { status, body } = await retry('WWW.example.org');
      expect([status, body]).toEqual([202, await shown('www.example.org')]);
      expect(retried).toEqual(['www.example.org']);
    });

    test.each([
      ['stranger.example.org', 404, 'No microservice has the hostname stranger.example.org'],
      ['example.org', 404, 'No microservice has the hostname example.org'],
      ['unknown.example.org', 404, 'No microservice has the hostname unknown.example.org'],
      ['shop.internal', 409, 'No public authority is asked for shop.internal'],
      ['own.example.org', 409, 'is answered with the certificate for own.example.org that was uploaded'],
      ['www.example.com', 409, 'DELETE /v1/certificates/*.example.com removes it'],
      ['a..b', 400, 'is no hostname'],
    ])('not for %s: %i', async (hostname, status, words) => {
      has({
        'unknown.example.org': 'unknown',
        'shop.internal/x': 'shop',
        'own.example.org': 'shop',
        'www.example.com': 'shop',
      });
      await put('own.example.org', issue('own.example.org'));
      await put('*.example.com', issue('*.example.com'));
      const answer = await retry(hostname);
      expect(answer.body).toMatchObject({ status, detail: expect.stringContaining(words) as string });
      expect(retried).toEqual([]);
    });

    test('an uploaded one that ends is in the way of nothing', async () => {
      has({ 'own.example.org': 'shop' });
      await put('own.example.org', issue('own.example.org'));
      const key = certificateKvKey('own.example.org');
      const [stored] = world.api.store.peek<Certificate>(key);
      const value = { ...stored?.value, notAfterMs: Date.now() - 1 };
      await world.api.store.transact([{ kind: 'set', key, value }]);
      expect((await retry('own.example.org')).status).toBe(202);
    });

    test('only by those who have the password', async () => {
      const answer = await world.api.call('POST', '/v1/certificates/a.example.org/retry', { password: null });
      expect(answer.status).toBe(401);
    });
  });
});
