/**
 * The cluster's own certificate authority: makes it, opens it, and signs certificates of nodes and servers with it.
 *
 * Invariants: every key is ECDSA P-256; what a certificate says is decided here, and of a signing request nothing is
 * taken but the public key, whose owner has proved to hold it; a certificate never outlives the authority; nothing
 * here keeps a private key anywhere.
 */

// The library finds its parts by decorators, which need this to be there first.
import 'reflect-metadata';

import { X509Certificate, createHash, createPublicKey, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';

import * as x509 from '@peculiar/x509';

import {
  SERVER_NAME,
  type Authority,
  type IssuedCertificate,
  type SigningRequest,
} from '../../contracts/authority';
import { ContainerOsError } from '../../domain/errors';
import { isNodeId } from '../../domain/identity';

x509.cryptoProvider.set(webcrypto);

const KEY = { name: 'ECDSA', namedCurve: 'P-256' } as const;
export const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;
export const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 3_650;
const CERTIFICATE_DAYS = 365;
/** For machines without a clock of their own, which start with the time of their last stop until the network tells it. */
const BACKDATED_MS = 30 * DAY_MS;
const SERIAL_BYTES = 16;
/** A request for a P-256 key has some 500 characters. */
const MAX_REQUEST_CHARACTERS = 8_192;
const REQUEST_PEM =
  /^\s*-----BEGIN CERTIFICATE REQUEST-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE REQUEST-----\s*$/;
/** What Consul's clients are called in TLS. */
const CONSUL_CLIENT = 'client.dc1.consul';

const sha256 = (bytes: ArrayBuffer | Uint8Array): string =>
  createHash('sha256').update(new Uint8Array(bytes)).digest('hex');

/** 128 bits of chance; the first byte keeps it positive and its length the same. */
export const randomSerial = (): string => {
  const bytes = randomBytes(SERIAL_BYTES + 1);
  bytes[0] = 1;
  return bytes.toString('hex');
};

export const generateKeys = () => webcrypto.subtle.generateKey(KEY, true, ['sign', 'verify']);

export const keyPemOf = async (key: webcrypto.CryptoKey): Promise<string> =>
  x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY') + '\n';

export const pemOf = (data: { toString(format: 'pem'): string }): string => `${data.toString('pem')}\n`;

/** The SHA-256 of a certificate's DER, in lower-case hex. */
export const fingerprintOf = (certificatePem: string): string =>
  sha256(new X509Certificate(certificatePem).raw);

/** The serial number of a certificate in the form that identities hold. */
export const serialOf = (certificate: X509Certificate): string => certificate.serialNumber.toLowerCase();

/**
 * Makes a new authority, valid for ten years.
 *
 * @param nowMs milliseconds since the epoch
 */
export const createAuthority = async ({
  clusterId,
  nowMs,
}: {
  readonly clusterId: string;
  readonly nowMs: number;
}): Promise<{ readonly certificatePem: string; readonly keyPem: string }> => {
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: [{ CN: ['ContainerOS authority'] }, { O: [clusterId] }],
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(nowMs + AUTHORITY_DAYS * DAY_MS),
    signingAlgorithm: SIGNATURE,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificatePem: pemOf(certificate), keyPem: await keyPemOf(keys.privateKey) };
};

/** Makes a key for a node and the request to have it certified. The key is for the node alone to keep. */
export const createSigningRequest = async (
  nodeId: string,
  keyPem?: string,
): Promise<{ readonly keyPem: string; readonly signingRequestPem: string }> => {
  const keys = keyPem === undefined ? await generateKeys() : await openKeys(keyPem);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [nodeId] }],
    keys,
    signingAlgorithm: SIGNATURE,
  });
  return { keyPem: keyPem ?? (await keyPemOf(keys.privateKey)), signingRequestPem: pemOf(request) };
};

const openKeys = async (keyPem: string) => {
  const der = createPublicKey(keyPem).export({ type: 'spki', format: 'der' });
  const publicKey = await webcrypto.subtle.importKey('spki', der, KEY, true, ['verify']);
  return { privateKey: await openPrivateKey(keyPem, true), publicKey };
};

export const openPrivateKey = (keyPem: string, extractable: boolean) =>
  webcrypto.subtle.importKey('pkcs8', x509.PemConverter.decodeFirst(keyPem), KEY, extractable, ['sign']);

const refuse = (why: string, cause?: unknown): never => {
  throw new ContainerOsError(
    'invalid',
    `No certificate is issued for this signing request: ${why}. Have the node make a new key and a new request.`,
    [],
    { cause },
  );
};

const isP256 = (publicKey: x509.PublicKey): boolean => {
  const key = createPublicKey({ key: Buffer.from(publicKey.rawData), format: 'der', type: 'spki' });
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
};

/** @returns the public key of a request that is sound and for this node */
const openRequest = async ({ signingRequestPem, nodeId }: SigningRequest): Promise<x509.PublicKey> => {
  if (signingRequestPem.length > MAX_REQUEST_CHARACTERS) return refuse('it is too long');
  if (!REQUEST_PEM.test(signingRequestPem)) return refuse('it is no PKCS #10 request in PEM');
  let request: x509.Pkcs10CertificateRequest;
  let ids: readonly string[];
  let isAccepted: boolean;
  let isProved = false;
  try {
    request = new x509.Pkcs10CertificateRequest(signingRequestPem);
    ids = request.subjectName.getField('CN');
    isAccepted = isP256(request.publicKey);
    if (isAccepted) isProved = await request.verify();
  } catch (error) {
    return refuse('it cannot be read', error);
  }
  if (!isAccepted) return refuse('its key is not ECDSA P-256');
  if (!isProved) return refuse('its signature is not that of its key');
  if (ids.length !== 1 || ids[0] !== nodeId) return refuse(`its subject is not CN=${nodeId}`);
  return request.publicKey;
};

/**
 * Opens an authority that createAuthority made.
 *
 * @throws {Error} when the two do not belong together or cannot be read
 */
export const openAuthority = async ({
  certificatePem,
  keyPem,
}: {
  readonly certificatePem: string;
  readonly keyPem: string;
}): Promise<Authority> => {
  const own = new X509Certificate(certificatePem);
  const publicDer = createPublicKey(keyPem).export({ type: 'spki', format: 'der' });
  if (!own.publicKey.export({ type: 'spki', format: 'der' }).equals(publicDer)) {
    throw new Error('the key of the authority is not that of its certificate');
  }
  const issuer = new x509.X509Certificate(certificatePem);
  const signingKey = await openPrivateKey(keyPem, false);
  const keyIdentifier = await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey);

  const issue = async (
    subject: { readonly commonName: string; readonly clusterId: string },
    publicKey: x509.PublicKey,
    names: readonly string[],
    nowMs: number,
  ): Promise<IssuedCertificate> => {
    const expiresAtMs = Math.min(nowMs + CERTIFICATE_DAYS * DAY_MS, issuer.notAfter.getTime());
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: randomSerial(),
      subject: [{ CN: [subject.commonName] }, { O: [subject.clusterId] }],
      issuer: issuer.subjectName,
      notBefore: new Date(nowMs - BACKDATED_MS),
      notAfter: new Date(expiresAtMs),
      signingAlgorithm: SIGNATURE,
      publicKey,
      signingKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([
          x509.ExtendedKeyUsage.clientAuth,
          x509.ExtendedKeyUsage.serverAuth,
        ]),
        new x509.SubjectAlternativeNameExtension(
          [...new Set(names)].map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value })),
        ),
        await x509.SubjectKeyIdentifierExtension.create(publicKey),
        keyIdentifier,
      ],
    });
    const pem = pemOf(certificate);
    return {
      certificatePem: pem,
      serial: serialOf(new X509Certificate(pem)),
      publicKeyHash: sha256(publicKey.rawData),
      expiresAtMs,
    };
  };

  return {
    certificatePem,
    fingerprint: sha256(own.raw),

    readSigningRequest: async (request) => ({
      publicKeyHash: sha256((await openRequest(request)).rawData),
    }),

    issueNodeCertificate: async ({ clusterId, nowMs, ...request }) => {
      const { nodeId } = request;
      if (!isNodeId(nodeId)) return refuse('the id of the node is no DNS label in lower case');
      const publicKey = await openRequest(request);
      const names = [nodeId, 'localhost', CONSUL_CLIENT, '127.0.0.1'];
      return issue({ commonName: nodeId, clusterId }, publicKey, names, nowMs);
    },

    issueServerCertificate: async ({ hosts, commonName, clusterId, nowMs }) => {
      const keys = await generateKeys();
      const publicKey = await x509.PublicKey.create(keys.publicKey);
      const names = ['localhost', '127.0.0.1', CONSUL_CLIENT, SERVER_NAME, ...hosts];
      const issued = await issue({ commonName, clusterId }, publicKey, names, nowMs);
      return { certificatePem: issued.certificatePem, keyPem: await keyPemOf(keys.privateKey) };
    },
  };
};
