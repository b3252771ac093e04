/**
 * The cluster's own authority for private hostnames: makes its root, and certificates for servers with it.
 *
 * Invariants: the root can vouch for private names only, whoever has its key, so that a machine that trusts it is in no
 * danger of being shown a false bank; certificates are for servers, hold one hostname each, as browsers and Node.js take
 * no wildcard right below the last label, and never outlive the root; nothing here keeps a key.
 */

// The library finds its parts by decorators, which need this to be there first.
import 'reflect-metadata';

import * as x509 from '@peculiar/x509';

import type { CertificateMaterial } from '../../contracts/certificates';
import type { AuthorityMaterial } from '../../contracts/hostname-authority';
import { PRIVATE_SUFFIXES } from '../../domain/ingress/authority-for';

import { DAY_MS, SIGNATURE, generateKeys, keyPemOf, openPrivateKey, pemOf, randomSerial } from './authority';

const ROOT_DAYS = 3_650;
const CERTIFICATE_DAYS = 90;
/** For clients whose clock is behind. */
const BACKDATED_MS = DAY_MS;
/** A common name holds no more. */
const MAX_COMMON_NAME = 64;

const NAME_CONSTRAINTS = '2.5.29.30';
const SEQUENCE = 0x30;
const PERMITTED = 0xa0;
const DNS_NAME = 0x82;
const MAX_SHORT_LENGTH = 127;

/** One value of DER; all that is encoded here is short. */
const der = (tag: number, ...parts: readonly Buffer[]): Buffer => {
  const body = Buffer.concat(parts);
  if (body.length > MAX_SHORT_LENGTH) throw new RangeError('the name constraints are too long');
  return Buffer.concat([Buffer.from([tag, body.length]), body]);
};

/** RFC 5280, 4.2.1.10: a name permits itself, and all below it. */
const permittedNames = (names: readonly string[]): x509.Extension =>
  new x509.Extension(
    NAME_CONSTRAINTS,
    true,
    der(
      SEQUENCE,
      der(PERMITTED, ...names.map((name) => der(SEQUENCE, der(DNS_NAME, Buffer.from(name, 'ascii'))))),
    ),
  );

/** Makes a new root, valid for ten years. */
export const createHostnameAuthority = async ({
  clusterId,
  nowMs,
}: {
  readonly clusterId: string;
  readonly nowMs: number;
}): Promise<AuthorityMaterial> => {
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: [{ CN: [`ContainerOS hostnames of cluster ${clusterId}`] }, { O: ['ContainerOS'] }],
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(nowMs + ROOT_DAYS * DAY_MS),
    signingAlgorithm: SIGNATURE,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      permittedNames(PRIVATE_SUFFIXES),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificatePem: pemOf(certificate), keyPem: await keyPemOf(keys.privateKey) };
};

/**
 * Issues a certificate for one hostname, with a new key.
 *
 * @param hostname in lower case; one that is no private one gets a certificate that nobody takes who checks it
 */
export const issueForHostname = async ({
  authority,
  hostname,
  nowMs,
}: {
  readonly authority: AuthorityMaterial;
  readonly hostname: string;
  readonly nowMs: number;
}): Promise<CertificateMaterial> => {
  const root = new x509.X509Certificate(authority.certificatePem);
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    subject: [hostname.length > MAX_COMMON_NAME ? { O: ['ContainerOS'] } : { CN: [hostname] }],
    issuer: root.subjectName,
    notBefore: new Date(nowMs - BACKDATED_MS),
    notAfter: new Date(Math.min(nowMs + CERTIFICATE_DAYS * DAY_MS, root.notAfter.getTime())),
    signingAlgorithm: SIGNATURE,
    publicKey: keys.publicKey,
    signingKey: await openPrivateKey(authority.keyPem, false),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.SubjectAlternativeNameExtension([{ type: 'dns', value: hostname }]),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(root.publicKey),
    ],
  });
  return { chainPem: pemOf(certificate), keyPem: await keyPemOf(keys.privateKey) };
};
