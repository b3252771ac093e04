/**
 * Certificates of hostnames: what Consul KV holds of each, who may keep and read them, and what a challenge of an ACME
 * server is answered with.
 *
 * Invariants: a private key stands in KV only sealed (`sealed`), and is told by no answer of the API; a document is
 * filed under the name that it was made for (`*.example.com` for a wildcard), and the newest one replaces the others.
 */

/**
 * Who vouches: `internal`: the cluster's own authority for hostnames, for private names; `acme`: a public authority;
 * `uploaded`: whoever gave the certificate.
 */
export type CertificateSource = 'internal' | 'acme' | 'uploaded';

export interface Certificate {
  /** The name that it is filed under: a hostname, or `*.` and a hostname. */
  readonly hostname: string;
  /** Everything it is valid for, sorted. */
  readonly hostnames: readonly string[];
  readonly source: CertificateSource;
  /** Name of the issuer, for people. */
  readonly issuer: string;
  /** The ACME directory that it is from; only of `acme`. */
  readonly directory?: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SHA-256 of the certificate's DER in lower-case hex. */
  readonly fingerprint: string;
  /** Chain and key, encrypted with the cluster's key (adapters/certificates/seal). */
  readonly sealed: string;
  readonly updatedAtMs: number;
}

export interface CertificateMaterial {
  /** The certificate first, then what it was signed with; without the root. */
  readonly chainPem: string;
  /** PKCS #8. */
  readonly keyPem: string;
}

export interface CertificateStore {
  /** @param hostname as it is filed; undefined when there is none, or it cannot be opened */
  read(hostname: string): Promise<(Certificate & CertificateMaterial) | undefined>;
  list(): Promise<readonly Certificate[]>;
  /** Seals and keeps it, in place of what was under its name. */
  write(
    certificate: Pick<Certificate, 'hostname' | 'source' | 'directory'> & CertificateMaterial,
  ): Promise<Certificate>;
  remove(hostname: string): Promise<void>;
}

/** The answer to `GET http://HOSTNAME/.well-known/acme-challenge/TOKEN` (RFC 8555, 8.3), whichever node is asked. */
export interface HttpChallenge {
  readonly token: string;
  readonly hostname: string;
  readonly keyAuthorization: string;
  /** When nobody asks any more. */
  readonly expiresAtMs: number;
}
