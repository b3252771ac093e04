/**
 * What a certificate in PEM says, as far as others have to know it.
 *
 * Invariant: nothing is checked here but that it can be read (check-material.ts checks what people bring).
 */

import { X509Certificate, createHash } from 'node:crypto';

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----/g;

/** The certificates of a PEM text, in their order. */
export const splitChain = (chainPem: string): readonly string[] => chainPem.match(CERTIFICATE) ?? [];

/** The names of hosts that a certificate is valid for, in lower case and sorted. */
export const hostnamesOf = (certificate: X509Certificate): readonly string[] =>
  [
    ...new Set(
      (certificate.subjectAltName ?? '').split(', ').flatMap((name) => {
        const [, hostname] = /^DNS:([A-Za-z0-9*._-]+)$/.exec(name) ?? [];
        return hostname === undefined ? [] : [hostname.toLowerCase()];
      }),
    ),
  ].sort();

/** Whose name is in it, for people: what the issuer calls itself, and who that is. */
const issuerOf = ({ issuer }: X509Certificate): string => {
  const field = (name: string) => new RegExp(`^${name}=(.+)$`, 'm').exec(issuer)?.[1];
  return [field('O'), field('CN')].filter((part) => part !== undefined).join(', ') || 'an unnamed issuer';
};

export interface ReadCertificate {
  readonly hostnames: readonly string[];
  readonly issuer: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SHA-256 of the DER, in lower-case hex. */
  readonly fingerprint: string;
}

export const describeCertificate = (certificate: X509Certificate): ReadCertificate => ({
  hostnames: hostnamesOf(certificate),
  issuer: issuerOf(certificate),
  notBeforeMs: Date.parse(certificate.validFrom),
  notAfterMs: Date.parse(certificate.validTo),
  fingerprint: createHash('sha256').update(certificate.raw).digest('hex'),
});

/**
 * Reads the first certificate of a chain.
 *
 * @throws {Error} when there is none, or it cannot be read
 */
export const readChain = (chainPem: string): X509Certificate => {
  const [first] = splitChain(chainPem);
  if (first === undefined) throw new Error('there is no certificate in PEM');
  return new X509Certificate(first);
};
