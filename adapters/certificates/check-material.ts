/**
 * Looks at a certificate and a key that people bring, before they are kept.
 *
 * Invariants: what is wrong is said so that people can mend it, and everything that can be told at once is; no message
 * holds any of a key; what passes can be shown to clients as it is.
 */

import { X509Certificate, createPrivateKey, type KeyObject } from 'node:crypto';

import type { CertificateMaterial } from '../../contracts/certificates';
import { ContainerOsError, type Problem } from '../../domain/errors';
import { covers } from '../../domain/certificates/relied-on';

import { hostnamesOf, splitChain } from './read-chain';

const MAX_CHAIN_BYTES = 65_536;
const MAX_KEY_BYTES = 16_384;
const MAX_CHAIN_LENGTH = 10;
const RSA_BITS = { least: 2_048, most: 8_192 } as const;
/** P-256, P-384 and P-521. */
const CURVES: readonly string[] = ['prime256v1', 'secp384r1', 'secp521r1'];
const FOR_SERVERS = '1.3.6.1.5.5.7.3.1';
const FOR_ANYTHING = '2.5.29.37.0';

/** Where they stand in the body of a request. */
const CHAIN = '/certificate';
const KEY = '/privateKey';

export interface GivenMaterial {
  /** As it is to be filed: a hostname, or `*.` and a hostname; in lower case. */
  readonly hostname: string;
  readonly certificate: string;
  readonly privateKey: string;
  readonly nowMs: number;
}

const dayOf = (text: string): string => new Date(Date.parse(text)).toISOString().slice(0, 10);

/** A problem, thrown to be told with the others. */
class Refused extends Error {}

const refuse = (message: string): never => {
  throw new Refused(message);
};

const readCertificates = (text: string): readonly X509Certificate[] => {
  if (/-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/.test(text)) {
    refuse('has a private key in it; give that as the private key, and only certificates here');
  }
  const blocks = splitChain(text);
  if (blocks.length === 0) refuse('has no certificate in PEM (-----BEGIN CERTIFICATE-----)');
  if (blocks.length > MAX_CHAIN_LENGTH) refuse(`has more than ${MAX_CHAIN_LENGTH} certificates`);
  return blocks.map((block, index) => {
    try {
      return new X509Certificate(block);
    } catch {
      return refuse(`has no readable certificate at place ${index + 1}`);
    }
  });
};

const readKey = (text: string): KeyObject => {
  if (/ENCRYPTED/.test(text)) {
    refuse('is encrypted; decrypt it first, with openssl pkey -in KEY -out PLAIN-KEY');
  }
  if (!/-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/.test(text)) {
    refuse('has no private key in PEM (-----BEGIN PRIVATE KEY-----)');
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    return refuse('has a private key that cannot be read');
  }
  const { modulusLength = 0, namedCurve = '' } = key.asymmetricKeyDetails ?? {};
  const take = `use ECDSA with P-256, or RSA with ${RSA_BITS.least} bits`;
  const kind = key.asymmetricKeyType;
  if (kind === 'rsa') {
    if (modulusLength < RSA_BITS.least) refuse(`is weak: RSA with ${modulusLength} bits; ${take}`);
    if (modulusLength > RSA_BITS.most) refuse(`has ${modulusLength} bits, which takes too long; ${take}`);
    return key;
  }
  if (kind !== 'ec') refuse(`is of a kind that clients do not take (${kind ?? 'unknown'}); ${take}`);
  if (CURVES.includes(namedCurve)) return key;
  return refuse(`is of the curve ${namedCurve}, which clients do not take; ${take}`);
};

const isIssuedBy = (certificate: X509Certificate, issuer: X509Certificate): boolean =>
  certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);

const checkTimes = (certificate: X509Certificate, what: string, nowMs: number): void => {
  const { validFrom, validTo } = certificate;
  if (Date.parse(validTo) <= nowMs) refuse(`${what} has expired on ${dayOf(validTo)}; have it renewed`);
  if (Date.parse(validFrom) > nowMs) {
    refuse(
      `${what} is not valid before ${dayOf(validFrom)}; wait until then, or set the clock of this machine`,
    );
  }
};

/** @returns the chain without the root, which clients have */
const checkChain = (
  certificates: readonly X509Certificate[],
  key: KeyObject | undefined,
): readonly X509Certificate[] => {
  const [first] = certificates;
  if (first === undefined) return refuse('has no certificate in PEM');
  if (key !== undefined && !first.checkPrivateKey(key)) {
    const place = certificates.findIndex((one) => one.checkPrivateKey(key));
    refuse(
      place > 0
        ? `is in the wrong order: the certificate of the key is at place ${place + 1}. Put it first, then that of its issuer, and so on`
        : 'is not that of the private key: they do not belong together',
    );
  }
  certificates.forEach((certificate, index) => {
    const issuer = certificates[index + 1];
    if (issuer === undefined || isIssuedBy(certificate, issuer)) return;
    const place = certificates.findIndex((one, at) => at !== index && isIssuedBy(certificate, one));
    refuse(
      place < 0
        ? `has at place ${index + 2} a certificate that did not sign the one before it; leave out what does not belong to it`
        : `is in the wrong order: the issuer of the certificate at place ${index + 1} is at place ${place + 1}, and has to come right after it`,
    );
  });
  const last = certificates.at(-1);
  const endsInRoot = certificates.length > 1 && last !== undefined && isIssuedBy(last, last);
  return endsInRoot ? certificates.slice(0, -1) : certificates;
};

const checkLeaf = (leaf: X509Certificate, hostname: string, nowMs: number): void => {
  checkTimes(leaf, 'it', nowMs);
  const names = hostnamesOf(leaf);
  if (!covers(names, hostname)) {
    refuse(
      names.length === 0
        ? `names no hostname that clients look at (subjectAltName); have it issued for ${hostname}`
        : `is for ${names.slice(0, 5).join(', ')}${names.length > 5 ? ' and others' : ''}, not for ${hostname}`,
    );
  }
  const uses: readonly string[] | undefined = leaf.keyUsage;
  if (uses !== undefined && !uses.includes(FOR_SERVERS) && !uses.includes(FOR_ANYTHING)) {
    refuse('is not for servers (its extended key usage lacks TLS web server authentication)');
  }
};

/**
 * @returns what is kept
 * @throws {ContainerOsError} `invalid`, with every problem; `too_large`
 */
export const checkMaterial = ({
  hostname,
  certificate,
  privateKey,
  nowMs,
}: GivenMaterial): CertificateMaterial => {
  for (const [text, most, what] of [
    [certificate, MAX_CHAIN_BYTES, 'certificate'],
    [privateKey, MAX_KEY_BYTES, 'private key'],
  ] as const) {
    if (Buffer.byteLength(text) <= most) continue;
    throw new ContainerOsError(
      'too_large',
      `The ${what} may have ${most} bytes at most. Send only the certificate, those that it was signed with, and its key.`,
    );
  }
  const problems: Problem[] = [];
  const tried = <T>(path: string, what: () => T): T | undefined => {
    try {
      return what();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problems.push({ path, message: error.message });
      return undefined;
    }
  };
  const key = tried(KEY, () => readKey(privateKey));
  const certificates = tried(CHAIN, () => readCertificates(certificate));
  const chain = certificates && tried(CHAIN, () => checkChain(certificates, key));
  // What is said of the first one is only true once it is known to be that of the key.
  const [leaf, ...issuers] = chain ?? [];
  if (leaf !== undefined) {
    tried(CHAIN, () => checkLeaf(leaf, hostname, nowMs));
    issuers.forEach((one, index) => {
      tried(CHAIN, () => checkTimes(one, `the certificate at place ${index + 2}`, nowMs));
    });
  }
  const [problem] = problems;
  if (problem === undefined && key !== undefined && chain !== undefined) {
    return {
      chainPem: chain.map((one) => one.toString()).join(''),
      keyPem: key.export({ type: 'pkcs8', format: 'pem' }) as string,
    };
  }
  const said = problems.map(
    ({ path, message }) =>
      `the ${path === KEY ? 'private key' : 'certificate'} ${message.replace(/^it /, '')}`,
  );
  throw new ContainerOsError(
    'invalid',
    `The certificate for ${hostname} is not taken, and what is there stays: ${said.join('; ')}.`,
    problems,
  );
};
