// The cluster's root for private hostnames: what it vouches for, what it cannot, and that it stays the same one.
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer } from 'node:tls';

import { createHostnameAuthority, issueForHostname } from '../../../adapters/certificates/hostname-authority';
import {
  openHostnameAuthority,
  type AuthorityFiles,
} from '../../../adapters/certificates/open-hostname-authority';
import { createSealer, generateClusterKey } from '../../../adapters/certificates/seal';
import { checkDocument } from '../../../contracts/documents';
import type { AuthorityMaterial } from '../../../contracts/hostname-authority';
import { KV_PREFIX, authorityKvKey } from '../../../contracts/kv';
import { createMemoryStore } from '../../support/memory-store';

const DAY_MS = 86_400_000;
const NOW_MS = Date.now();

/** What a client that checks strictly makes of a server with a certificate for this hostname. */
const handshake = async (hostname: string, asked = hostname): Promise<string> => {
  const authority = await createHostnameAuthority({ clusterId: 'c1', nowMs: NOW_MS });
  const { chainPem, keyPem } = await issueForHostname({ authority, hostname, nowMs: NOW_MS });
  const server = createServer({ cert: chainPem, key: keyPem }, (socket) => socket.end());
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const socket = connect({ host: '127.0.0.1', port, servername: asked, ca: authority.certificatePem });
  try {
    return await new Promise((resolve) => {
      socket.on('secureConnect', () => resolve('trusted'));
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(`${error.code} ${error.message}`));
    });
  } finally {
    socket.destroy();
    server.close();
  }
};

test.each(['hello.localhost', 'localhost', 'a.b.localhost', 'git.internal', `${'a'.repeat(60)}.home.arpa`])(
  '%s is trusted by who trusts the root',
  async (hostname) => {
    expect(await handshake(hostname)).toBe('trusted');
  },
);

test('a certificate is for its hostname only', async () => {
  expect(await handshake('hello.localhost', 'other.localhost')).toContain('ERR_TLS_CERT_ALTNAME_INVALID');
});

test.each(['bank.example.com', 'localhost.com', 'xlocalhost'])(
  'the root cannot vouch for %s, whoever has its key',
  async (hostname) => {
    expect(await handshake(hostname)).toContain('permitted subtree violation');
  },
);

test('the root lasts ten years, a certificate ninety days, and not longer than the root', async () => {
  const authority = await createHostnameAuthority({ clusterId: 'c1', nowMs: NOW_MS });
  const root = new X509Certificate(authority.certificatePem);
  expect(Date.parse(root.validTo) - NOW_MS).toBeGreaterThan(3_649 * DAY_MS);
  const issuedAt = async (nowMs: number) =>
    new X509Certificate((await issueForHostname({ authority, hostname: 'a.localhost', nowMs })).chainPem);
  const certificate = await issuedAt(NOW_MS);
  expect(certificate.subjectAltName).toBe('DNS:a.localhost');
  expect(certificate.ca).toBe(false);
  expect(Math.round((Date.parse(certificate.validTo) - NOW_MS) / DAY_MS)).toBe(90);
  const last = await issuedAt(Date.parse(root.validTo) - DAY_MS);
  expect(last.validTo).toBe(root.validTo);
});

describe('kept', () => {
  const filesIn = (memory: { kept?: AuthorityMaterial }): AuthorityFiles => ({
    read: () => memory.kept,
    write: (material) => {
      memory.kept = material;
    },
  });
  const bed = () => {
    const store = createMemoryStore();
    const warned: string[] = [];
    const clusterKey = generateClusterKey();
    const open = (memory: { kept?: AuthorityMaterial } = {}, key = clusterKey) =>
      openHostnameAuthority({
        store,
        sealer: createSealer(key),
        files: filesIn(memory),
        clusterId: 'c1',
        nowMs: () => NOW_MS,
        warn: (message) => warned.push(message),
      });
    return { store, warned, open };
  };

  test('it is made once, whoever opens it, and its key stands in Consul only sealed', async () => {
    const { store, open, warned } = bed();
    const [one, other] = await Promise.all([open(), open()]);
    expect(other).toEqual(one);
    const [stored] = store.peek(KV_PREFIX.authorities);
    expect(JSON.stringify(stored)).not.toContain('PRIVATE KEY');
    expect(checkDocument('authorities', authorityKvKey('hostnames'), stored?.value)).toHaveProperty(
      'document',
    );
    const memory: { kept?: AuthorityMaterial } = {};
    expect(await open(memory)).toEqual(one);
    expect(memory.kept).toEqual(one);
    expect(warned).toEqual([]);
  });

  test('it is still the same one when Consul has lost it, or the key that it was sealed with is another', async () => {
    const { store, open, warned } = bed();
    const memory: { kept?: AuthorityMaterial } = {};
    const one = await open(memory);
    await store.transact([{ kind: 'deletePrefix', prefix: KV_PREFIX.authorities }]);
    expect(await open(memory)).toEqual(one);
    const newKey = generateClusterKey();
    expect(await open(memory, newKey)).toEqual(one);
    expect(await open({}, newKey)).toEqual(one);
    expect(warned).toEqual([expect.stringContaining('cannot be opened')]);
  });

  test('one that nobody can open is replaced, and that is told', async () => {
    const { open, warned } = bed();
    const one = await open();
    const other = await open({}, generateClusterKey());
    expect(other.certificatePem).not.toBe(one.certificatePem);
    expect(warned).toEqual([
      expect.stringContaining('cannot be opened'),
      expect.stringContaining('have to trust it anew'),
    ]);
  });

  test('files that do not belong together are not used', async () => {
    const { open, warned } = bed();
    const [one, other] = [
      await createHostnameAuthority({ clusterId: 'c1', nowMs: NOW_MS }),
      await createHostnameAuthority({ clusterId: 'c1', nowMs: NOW_MS }),
    ];
    const made = await open({ kept: { certificatePem: one.certificatePem, keyPem: other.keyPem } });
    expect([one.certificatePem, other.certificatePem]).not.toContain(made.certificatePem);
    expect(warned).toEqual([expect.stringContaining('the key is not that of the root')]);
  });
});
