// Certificates in Consul: sealed, and described by what they say themselves.
import { createCertificateStore } from '../../../adapters/certificates/certificate-store';
import { createSealer, generateClusterKey } from '../../../adapters/certificates/seal';
import { checkDocument } from '../../../contracts/documents';
import { KV_PREFIX, certificateKvKey } from '../../../contracts/kv';
import { createTestAuthority, type TestAuthority } from '../../support/certificates';
import { createMemoryStore } from '../../support/memory-store';

let authority: TestAuthority;
beforeAll(() => {
  authority = createTestAuthority('Example Trust');
});
afterAll(() => authority.dispose());

const NOW_MS = Date.UTC(2030, 0, 1);

const bedOf = () => {
  const store = createMemoryStore();
  const told: string[] = [];
  const with_ = (clusterKey: string) =>
    createCertificateStore({
      store,
      sealer: createSealer(clusterKey),
      nowMs: () => NOW_MS,
      onUnreadable: (message) => told.push(message),
    });
  return { store, told, storeWith: with_, certificates: with_(generateClusterKey()) };
};

const issue = (...alternativeNames: string[]) => {
  const { certificatePem, keyPem } = authority.issue({
    commonName: 'web',
    organisation: 'o',
    alternativeNames,
  });
  return { chainPem: `${certificatePem}${authority.certificatePem}`, keyPem };
};

test('a certificate is kept with what it says of itself, and read with its key', async () => {
  const { store, certificates } = bedOf();
  const material = issue('DNS:www.example.com', 'DNS:Example.com', 'IP:127.0.0.1', 'DNS:*.example.com');
  const written = await certificates.write({ hostname: 'example.com', source: 'uploaded', ...material });
  expect(written).toMatchObject({
    hostname: 'example.com',
    hostnames: ['*.example.com', 'example.com', 'www.example.com'],
    source: 'uploaded',
    issuer: 'Example Trust, authority',
    updatedAtMs: NOW_MS,
  });
  expect(written.notAfterMs - written.notBeforeMs).toBeGreaterThan(86_400_000);
  expect(written.fingerprint).toMatch(/^[0-9a-f]{64}$/);
  const read = await certificates.read('example.com');
  expect(read).toMatchObject({ ...written, chainPem: material.chainPem });
  expect(read?.keyPem).toMatch(/^-----BEGIN PRIVATE KEY-----/);
  const [stored] = store.peek(KV_PREFIX.certificates);
  expect(stored?.key).toBe(certificateKvKey('example.com'));
  expect(JSON.stringify(stored)).not.toMatch(/PRIVATE|BEGIN/);
  expect(checkDocument('certificates', certificateKvKey('example.com'), stored?.value)).toHaveProperty(
    'document',
  );
  expect(await certificates.list()).toEqual([written]);
});

test('the newest one replaces what was under its name, and a removed one is gone', async () => {
  const { certificates } = bedOf();
  const write = (source: 'acme' | 'internal') =>
    certificates.write({
      hostname: '*.example.com',
      source,
      ...(source === 'acme' ? { directory: 'https://acme.example/dir' } : {}),
      ...issue('DNS:*.example.com'),
    });
  await write('internal');
  const second = await write('acme');
  expect(second.directory).toBe('https://acme.example/dir');
  expect(await certificates.read('*.example.com')).toMatchObject({
    source: 'acme',
    fingerprint: second.fingerprint,
  });
  await certificates.remove('*.example.com');
  await certificates.remove('*.example.com');
  expect(await certificates.read('*.example.com')).toBeUndefined();
  expect(await certificates.list()).toEqual([]);
});

test('a key of another certificate is not kept', async () => {
  const { store, certificates } = bedOf();
  const { chainPem } = issue('DNS:example.com');
  const { keyPem } = issue('DNS:example.com');
  await expect(
    certificates.write({ hostname: 'example.com', source: 'uploaded', chainPem, keyPem }),
  ).rejects.toThrow('the key for example.com is not that of its certificate');
  await expect(
    certificates.write({ hostname: 'example.com', source: 'uploaded', chainPem: 'rubbish', keyPem }),
  ).rejects.toThrow('there is no certificate in PEM');
  expect(store.peek('')).toEqual([]);
});

test('what was sealed with another key, or stands under another name, is told and is none', async () => {
  const { store, told, certificates, storeWith } = bedOf();
  const written = await storeWith(generateClusterKey()).write({
    hostname: 'old.example.com',
    source: 'uploaded',
    ...issue('DNS:old.example.com'),
  });
  expect(await certificates.read('old.example.com')).toBeUndefined();
  expect(told).toEqual([
    expect.stringMatching(/^What is sealed for old.example.com .* sealed with the cluster key/),
  ]);
  expect(await certificates.list()).toEqual([written]);
  const own = await certificates.write({
    hostname: 'a.example.com',
    source: 'uploaded',
    ...issue('DNS:a.example.com'),
  });
  await store.transact([
    { kind: 'set', key: certificateKvKey('b.example.com'), value: { ...own, hostname: 'b.example.com' } },
  ]);
  expect(await certificates.read('b.example.com')).toBeUndefined();
  expect(told[1]).toMatch(/b.example.com cannot be opened: it was changed/);
});
