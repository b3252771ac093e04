/**
 * Certificates and how the issuing of hostnames stands, as the API shows them. Pure.
 *
 * Invariants: field by field, so that what is sealed stays where it is; one view for each hostname that has a
 * certificate, is asked for, or is had by a microservice, by the hostname alone, whatever paths are held of it.
 */

import type { CertificateStatus } from '../contracts/acme';
import type { Certificate } from '../contracts/certificates';
import { covers, reliedOn } from '../domain/certificates/relied-on';
import { describeValidity } from '../domain/ingress/certificate-words';
import { splitClaim } from '../domain/ingress/route-options';
import type { CertificateView } from '../openapi/schemas';

export interface KnownOfCertificates {
  readonly certificates: readonly Certificate[];
  readonly statuses: readonly CertificateStatus[];
  /** Hostnames, some of them with a path. */
  readonly claims: readonly string[];
  /** Whether a public authority may be asked for it. */
  readonly isPublic: (hostname: string) => boolean;
  readonly nowMs: number;
}

const timeOf = (atMs: number): string => new Date(atMs).toISOString();

const time = <K extends string>(name: K, atMs: number | undefined): Partial<Record<K, string>> =>
  atMs === undefined ? {} : ({ [name]: timeOf(atMs) } as Record<K, string>);

const issuingView = (status: CertificateStatus): NonNullable<CertificateView['issuing']> => ({
  state: status.state === 'failed' ? 'failing' : status.state,
  message: status.message,
  failedAttempts: status.failures,
  ...time('nextAttemptAt', status.nextAttemptAtMs),
  ...time('renewAt', status.renewAtMs),
  ...(status.lastError === undefined
    ? {}
    : {
        lastError: {
          kind: status.lastError.kind,
          message: status.lastError.message,
          at: timeOf(status.lastError.atMs),
        },
      }),
  updatedAt: timeOf(status.updatedAtMs),
});

/**
 * What keeps the next certificate away: of a public authority, also in the place of one that somebody has brought and
 * that ends; undefined when nothing is known to.
 */
const troubleOf = (
  { source }: Certificate,
  status: Pick<CertificateStatus, 'state' | 'message'> | undefined,
): string | undefined => {
  if (source === 'internal' || status === undefined) return undefined;
  if (source === 'uploaded') {
    const isAskedFor = status.state === 'failed' || status.state === 'waiting';
    return isAskedFor
      ? `Upload a new one; the cluster has not got one of a public authority yet: ${status.message}`
      : undefined;
  }
  switch (status.state) {
    case 'failed':
      return `Renewing it fails: ${status.message}`;
    case 'waiting':
      return `Renewing it has to wait: ${status.message}`;
    case 'off':
      return `It is not renewed: ${status.message}`;
    case 'issuing':
    case 'issued':
    case 'uploaded':
      return undefined;
  }
};

/** Nobody else but who has uploaded it would have asked for it. */
const isOfNoUse = ({ source, hostnames }: Certificate, claims: readonly string[]): boolean =>
  source === 'uploaded' && !claims.some((claim) => covers(hostnames, splitClaim(claim).hostname));

const validityOf = (
  certificate: Certificate,
  status: CertificateStatus | undefined,
  { claims, nowMs }: Pick<KnownOfCertificates, 'claims' | 'nowMs'>,
): Pick<CertificateView, 'state' | 'message'> => {
  const { state, message } = describeValidity(certificate, nowMs, troubleOf(certificate, status));
  return isOfNoUse(certificate, claims)
    ? { state, message: `${message} No microservice has a hostname that it is for: deploy one that does.` }
    : { state, message };
};

/** @param status of its hostname, if a public authority is asked for that */
export const certificateView = (
  certificate: Certificate,
  status: CertificateStatus | undefined,
  known: Pick<KnownOfCertificates, 'claims' | 'nowMs'>,
): CertificateView => ({
  hostname: certificate.hostname,
  ...validityOf(certificate, status, known),
  hostnames: [...certificate.hostnames],
  source: certificate.source,
  issuer: certificate.issuer,
  ...(certificate.directory === undefined ? {} : { directory: certificate.directory }),
  validFrom: timeOf(certificate.notBeforeMs),
  validUntil: timeOf(certificate.notAfterMs),
  fingerprint: certificate.fingerprint,
  ...(status === undefined ? {} : { issuing: issuingView(status) }),
  updatedAt: timeOf(certificate.updatedAtMs),
});

/** Of a hostname that has none of its own. */
const lackingView = (
  hostname: string,
  status: CertificateStatus | undefined,
  { certificates, isPublic, nowMs }: KnownOfCertificates,
): CertificateView => {
  const view = (state: CertificateView['state'], message: string): CertificateView => ({
    hostname,
    state,
    message,
    hostnames: [],
    ...(status === undefined ? {} : { issuing: issuingView(status) }),
  });
  if (!isPublic(hostname)) {
    return view(
      'waiting',
      'The cluster’s own authority has not issued it yet, which takes moments. If it lasts, look at the log of the control plane.',
    );
  }
  const relied = reliedOn(certificates, hostname, nowMs);
  if (relied !== undefined) {
    return view(
      'covered',
      status?.state === 'uploaded' ? status.message : `${relied.hostname} is good for it.`,
    );
  }
  if (status === undefined) {
    return view(
      'waiting',
      'It has not been asked for yet, which takes moments. If it lasts, look at the log of the control plane.',
    );
  }
  switch (status.state) {
    // Somebody has taken it away, which its workflow hears of in a moment.
    case 'issued':
    case 'uploaded':
      return view('waiting', 'What there was is gone, or ends soon. Another one is asked for in a moment.');
    case 'failed':
      return view('failing', `There is none yet. ${status.message}`);
    case 'issuing':
    case 'waiting':
    case 'off':
      return view(status.state, `There is none yet. ${status.message}`);
  }
};

/** By hostname. */
export const certificateViews = (known: KnownOfCertificates): readonly CertificateView[] => {
  const certificates = new Map(known.certificates.map((one) => [one.hostname, one]));
  const statuses = new Map(known.statuses.map((one) => [one.hostname, one]));
  const hostnames = new Set([
    ...certificates.keys(),
    ...statuses.keys(),
    ...known.claims.map((claim) => splitClaim(claim).hostname),
  ]);
  return [...hostnames].sort().map((hostname) => {
    const [certificate, status] = [certificates.get(hostname), statuses.get(hostname)];
    return certificate === undefined
      ? lackingView(hostname, status, known)
      : certificateView(certificate, status, known);
  });
};
