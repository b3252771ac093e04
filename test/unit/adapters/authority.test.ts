/** The cluster authority, by the eyes of those who have to accept what it signs: Node's TLS and OpenSSL. */

import { execFileSync } from 'node:child_process';
import { X509Certificate, createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';

import 'reflect-metadata';
import * as x509 from '@peculiar/x509';

import {
  createAuthority,
  createSigningRequest,
  fingerprintOf,
  openAuthority,
  serialOf,
} from '../../../adapters/certificates/authority';
import type { Authority } from '../../../contracts/authority';

const CLUSTER = 'c0ffee';
const DAY_MS = 86_400_000;

let authority: Authority;
let other: Authority;
let folder: string;

beforeAll(async () => {
  authority = await openAuthority(await createAuthority({ clusterId: CLUSTER, nowMs: Date.now() }));
  other = await openAuthority(await createAuthority({ clusterId: CLUSTER, nowMs: Date.now() }));
  folder = mkdtempSync(join(tmpdir(), 'containeros-authority-'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Credentials {
  readonly cert: string;
  readonly key: string;
}

const nodeCredentials = async (by: Authority, nodeId = 'node-1'): Promise<Credentials> => {
  const { keyPem, signingRequestPem } = await createSigningRequest(nodeId);
  const { certificatePem } = await by.issueNodeCertificate({
    nodeId,
    signingRequestPem,
    clusterId: CLUSTER,
    nowMs: Date.now(),
  });
  return { cert: certificatePem, key: keyPem };
};

const serverCredentials = async (by: Authority, hosts: readonly string[] = []): Promise<Credentials> => {
  const { certificatePem, keyPem } = await by.issueServerCertificate({
    hosts,
    commonName: 'main',
    clusterId: CLUSTER,
    nowMs: Date.now(),
  });
  return { cert: certificatePem, key: keyPem };
};

/** Connects over TLS 1.3, and says whom the server saw, or what went wrong on either side. */
const shake = async (
  server: Credentials,
  client: Partial<Credentials>,
  { servername = 'localhost', trusted = authority }: { servername?: string; trusted?: Authority } = {},
): Promise<string> => {
  const listener = createServer(
    {
      ...server,
      ca: authority.certificatePem,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
    },
    (socket: TLSSocket) => {
      const { subject } = socket.getPeerCertificate();
      socket.end(`${String(subject.CN)} of ${String(subject.O)}`);
    },
  );
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  try {
    return await new Promise<string>((resolve) => {
      const { port } = listener.address() as AddressInfo;
      const socket = connect({ port, host: '127.0.0.1', servername, ca: trusted.certificatePem, ...client });
      let text = '';
      socket.on('data', (chunk: Buffer) => (text += chunk.toString()));
      // With TLS 1.3 a client may be through before the server has looked at its certificate.
      listener.once('tlsClientError', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      socket.on('end', () => {
        if (text !== '') resolve(text);
      });
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
  } finally {
    await new Promise((resolve) => listener.close(resolve));
  }
};

test('TLS with certificates on both sides says who the node is', async () => {
  expect(await shake(await serverCredentials(authority), await nodeCredentials(authority))).toBe(
    'node-1 of c0ffee',
  );
});

test('a node can be a server too, under its own name and that of Consul clients', async () => {
  const server = await nodeCredentials(authority, 'node-2');
  const client = await nodeCredentials(authority);
  for (const servername of ['node-2', 'localhost', 'client.dc1.consul']) {
    expect(await shake(server, client, { servername })).toBe('node-1 of c0ffee');
  }
  for (const servername of ['node-1', 'server.dc1.consul']) {
    expect(await shake(server, client, { servername })).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
  }
});

test('a server has the names and addresses that it was given, and that of Consul servers', async () => {
  const server = await serverCredentials(authority, ['control.example.com', '192.0.2.7', '2001:db8::7']);
  const client = await nodeCredentials(authority);
  for (const servername of ['control.example.com', 'server.dc1.consul']) {
    expect(await shake(server, client, { servername })).toBe('node-1 of c0ffee');
  }
  const certificate = new X509Certificate(server.cert);
  expect(certificate.checkIP('192.0.2.7')).toBe('192.0.2.7');
  expect(certificate.checkIP('2001:db8::7')).toBe('2001:db8::7');
  expect(certificate.checkIP('192.0.2.8')).toBeUndefined();
});

test('certificates of another authority, and none, are refused, on both sides', async () => {
  const server = await serverCredentials(authority);
  const client = await nodeCredentials(authority);
  expect(await shake(server, await nodeCredentials(other))).toMatch(
    /SELF_SIGNED|UNABLE_TO|SIGNATURE|ECONNRESET/,
  );
  expect(await shake(server, {})).toMatch(/PEER_DID_NOT_RETURN_A_CERTIFICATE|ECONNRESET/);
  expect(await shake(server, client, { trusted: other })).toMatch(/SELF_SIGNED|UNABLE_TO|SIGNATURE/);
});

const verify = (ca: string, certificatePem: string, purpose: string, at = new Date()): string => {
  const authorityFile = join(folder, 'ca.pem');
  const file = join(folder, 'cert.pem');
  writeFileSync(authorityFile, ca);
  writeFileSync(file, certificatePem);
  const time = String(Math.floor(at.getTime() / 1_000));
  try {
    return execFileSync(
      'openssl',
      ['verify', '-x509_strict', '-attime', time, '-purpose', purpose, '-CAfile', authorityFile, file],
      { encoding: 'utf8', stdio: 'pipe' },
    );
  } catch (error) {
    return (error as { readonly stderr: string }).stderr;
  }
};

test('openssl verify accepts them for clients and servers, within their time, under this authority only', async () => {
  const { cert } = await nodeCredentials(authority);
  const server = await serverCredentials(authority);
  for (const purpose of ['sslclient', 'sslserver']) {
    expect(verify(authority.certificatePem, cert, purpose)).toMatch(/: OK/);
    expect(verify(authority.certificatePem, server.cert, purpose)).toMatch(/: OK/);
  }
  expect(verify(other.certificatePem, cert, 'sslclient')).toMatch(/verification failed/);
  const daysAgo = (count: number) => new Date(Date.now() - count * DAY_MS);
  expect(verify(authority.certificatePem, cert, 'sslclient', daysAgo(29))).toMatch(/: OK/);
  expect(verify(authority.certificatePem, cert, 'sslclient', daysAgo(31))).toMatch(/not yet valid/);
  expect(verify(authority.certificatePem, cert, 'sslclient', new Date(Date.now() + 366 * DAY_MS))).toMatch(
    /expired/,
  );
});

test('a node cannot sign certificates with its own', async () => {
  const { cert } = await nodeCredentials(authority);
  expect(new X509Certificate(cert).ca).toBe(false);
  const own = new X509Certificate(authority.certificatePem);
  expect(own.ca).toBe(true);
  expect((Date.parse(own.validTo) - Date.now()) / DAY_MS).toBeGreaterThan(3_640);
  expect(authority.fingerprint).toBe(own.fingerprint256.replaceAll(':', '').toLowerCase());
  expect(fingerprintOf(authority.certificatePem)).toBe(authority.fingerprint);
});

test('renewal with the same key and with another one gives a certificate of its own each time', async () => {
  const nowMs = Date.now();
  const first = await createSigningRequest('node-1');
  const again = await createSigningRequest('node-1', first.keyPem);
  const fresh = await createSigningRequest('node-1');
  const issue = (signingRequestPem: string, atMs: number) =>
    authority.issueNodeCertificate({ nodeId: 'node-1', signingRequestPem, clusterId: CLUSTER, nowMs: atMs });
  const one = await issue(first.signingRequestPem, nowMs);
  const two = await issue(again.signingRequestPem, nowMs);
  const three = await issue(fresh.signingRequestPem, nowMs + 240 * DAY_MS);
  expect(two.publicKeyHash).toBe(one.publicKeyHash);
  expect(three.publicKeyHash).not.toBe(one.publicKeyHash);
  expect(new Set([one.serial, two.serial, three.serial]).size).toBe(3);
  expect(serialOf(new X509Certificate(one.certificatePem))).toBe(one.serial);
  expect(one.serial.length).toBeGreaterThanOrEqual(32);
  expect(new X509Certificate(two.certificatePem).checkPrivateKey(createPrivateKey(first.keyPem))).toBe(true);
  expect(
    await shake(await serverCredentials(authority), { cert: two.certificatePem, key: first.keyPem }),
  ).toBe('node-1 of c0ffee');
  expect(
    verify(authority.certificatePem, three.certificatePem, 'sslclient', new Date(nowMs + 500 * DAY_MS)),
  ).toMatch(/: OK/);
});

test('a certificate does not outlive its authority', async () => {
  const nowMs = Date.now() + 3_500 * DAY_MS;
  const { signingRequestPem } = await createSigningRequest('node-1');
  const issued = await authority.issueNodeCertificate({
    nodeId: 'node-1',
    signingRequestPem,
    clusterId: CLUSTER,
    nowMs,
  });
  expect(issued.expiresAtMs).toBe(Date.parse(new X509Certificate(authority.certificatePem).validTo));
});

test('what a request asks for beside its key is not given', async () => {
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, [
    'sign',
    'verify',
  ]);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=node-1, O=another-cluster',
    keys,
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    extensions: [
      new x509.BasicConstraintsExtension(true, 2, true),
      new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: 'server.dc1.consul' }]),
    ],
  });
  const { certificatePem } = await authority.issueNodeCertificate({
    nodeId: 'node-1',
    signingRequestPem: request.toString('pem'),
    clusterId: CLUSTER,
    nowMs: Date.now(),
  });
  const certificate = new X509Certificate(certificatePem);
  expect(certificate.ca).toBe(false);
  expect(certificate.subject).toBe('CN=node-1\nO=c0ffee');
  expect(certificate.subjectAltName).toBe(
    'DNS:node-1, DNS:localhost, DNS:client.dc1.consul, IP Address:127.0.0.1',
  );
});

const openSslRequest = (...options: readonly string[]): string => {
  const key = join(folder, 'key.pem');
  return execFileSync('openssl', ['req', '-new', '-nodes', '-keyout', key, ...options], {
    encoding: 'utf8',
    stdio: 'pipe',
  });
};

/** The request with its signature replaced by another valid one: that of other bytes. */
const withForeignSignature = async (): Promise<string> => {
  const mine = new x509.Pkcs10CertificateRequest((await createSigningRequest('node-1')).signingRequestPem);
  const der = Buffer.from(mine.rawData);
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  // The last bytes are those of the signature's second number.
  sign('sha256', der, privateKey)
    .subarray(-16)
    .copy(der, der.length - 16);
  return x509.PemConverter.encode(der, 'CERTIFICATE REQUEST');
};

test.each([
  ['a signature that is not of its key', withForeignSignature, /signature is not that of its key/],
  [
    'the id of another node',
    async () => (await createSigningRequest('node-2')).signingRequestPem,
    /CN=node-1/,
  ],
  [
    'two ids',
    async () =>
      openSslRequest('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-subj', '/CN=node-1/CN=node-2'),
    /CN=node-1/,
  ],
  ['an RSA key', async () => openSslRequest('-newkey', 'rsa:2048', '-subj', '/CN=node-1'), /not ECDSA P-256/],
  [
    'a key on another curve',
    async () => openSslRequest('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384', '-subj', '/CN=node-1'),
    /not ECDSA P-256/,
  ],
  [
    'an Ed25519 key',
    async () => openSslRequest('-newkey', 'ed25519', '-subj', '/CN=node-1'),
    /not ECDSA P-256/,
  ],
  ['no request', async () => 'hello', /no PKCS #10 request/],
  [
    'nonsense in PEM',
    async () => '-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----',
    /cannot be read/,
  ],
  ['a book', async () => 'x'.repeat(100_000), /too long/],
])('a request with %s is refused', async (_what, make, message) => {
  const request = {
    nodeId: 'node-1',
    signingRequestPem: await make(),
    clusterId: CLUSTER,
    nowMs: Date.now(),
  };
  const refusal = { code: 'invalid', message: expect.stringMatching(message) as string };
  await expect(authority.issueNodeCertificate(request)).rejects.toMatchObject(refusal);
  await expect(authority.readSigningRequest(request)).rejects.toMatchObject(refusal);
});

test('a request of OpenSSL is as good as ours', async () => {
  const signingRequestPem = openSslRequest(
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-subj',
    '/CN=node-1',
  );
  const request = { nodeId: 'node-1', signingRequestPem, clusterId: CLUSTER, nowMs: Date.now() };
  await expect(authority.issueNodeCertificate(request)).resolves.toMatchObject({
    serial: expect.any(String) as string,
  });
});

test('an id that is no host name gets no certificate', async () => {
  const nodeId = 'server.dc1.consul';
  const { signingRequestPem } = await createSigningRequest(nodeId);
  await expect(
    authority.issueNodeCertificate({ nodeId, signingRequestPem, clusterId: CLUSTER, nowMs: Date.now() }),
  ).rejects.toMatchObject({ code: 'invalid' });
});

test('the key of another authority does not open this one', async () => {
  const { keyPem } = await createAuthority({ clusterId: CLUSTER, nowMs: Date.now() });
  await expect(openAuthority({ certificatePem: authority.certificatePem, keyPem })).rejects.toThrow(
    'not that of its certificate',
  );
});
