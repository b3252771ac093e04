/**
 * Authorities that issue certificates (ACME, RFC 8555): what is asked of them, what Consul KV holds on the way to a
 * certificate, and what else it takes to prove a hostname.
 *
 * Invariants: keys stand in KV only sealed; neither they nor credentials of DNS providers are in the history of a
 * workflow; whatever can be expected to be refused is an IssueError, with what to do next in its words.
 */

import type { AcmeProblem, IssueFailureKind } from '../domain/certificates/acme-problem';
import type { RenewalWindow } from '../domain/certificates/renewal';
import { withoutWildcard } from '../domain/ingress/wildcard';

/** The key of an account with an authority, made once for each directory and kept (`containeros/acme-accounts/ID`). */
export interface AcmeAccount {
  /** Stands for the directory. */
  readonly id: string;
  readonly directory: string;
  /** PKCS #8 in PEM, sealed for `acme-account ID`. */
  readonly sealedKey: string;
  /** Once the authority knows it. */
  readonly url?: string;
  readonly createdAtMs: number;
}

/** What was begun for a hostname and has to be ended, or undone (`containeros/acme-orders/HOSTNAME`). */
export interface AcmeOrder {
  readonly hostname: string;
  readonly directory: string;
  readonly url: string;
  /** Of the certificate: PKCS #8 in PEM, sealed for `acme-order HOSTNAME`. */
  readonly sealedKey: string;
  /** Tokens of HTTP challenges that are answered. */
  readonly tokens: readonly string[];
  /** Values of the TXT record that stand in DNS. */
  readonly txtValues: readonly string[];
  readonly createdAtMs: number;
}

/** How far an authority's limits are used up (`containeros/acme-limits/ID`): domain/certificates/rate-limit. */
export interface AcmeLimits {
  readonly id: string;
  readonly accountFullAtMs: number;
  /** By registered domain; without those that are full. */
  readonly domainsFullAtMs: Readonly<Record<string, number>>;
}

/**
 * `issuing`: under way; `issued`: there is one; `uploaded`: there is somebody's own; `waiting`: for something that comes
 * by itself; `failed`: it could not be got, and is tried again; `off`: this cluster asks no authority, or cannot for
 * this hostname.
 */
export type CertificateState = 'issuing' | 'issued' | 'uploaded' | 'waiting' | 'failed' | 'off';

/** How the certificate of a public hostname stands (`containeros/certificate-status/HOSTNAME`). */
export interface CertificateStatus {
  readonly hostname: string;
  readonly state: CertificateState;
  /** For people, in one sentence: what is, why, and what comes next. */
  readonly message: string;
  /** When it is renewed. */
  readonly renewAtMs?: number;
  /** When it is tried again. */
  readonly nextAttemptAtMs?: number;
  /** How many attempts have failed since one has not. */
  readonly failures: number;
  readonly lastError?: {
    readonly kind: IssueFailureKind;
    readonly message: string;
    readonly atMs: number;
  };
  readonly updatedAtMs: number;
}

export type ChallengeType = 'http-01' | 'dns-01';

export interface AuthorityChallenge {
  readonly type: string;
  readonly url: string;
  readonly token: string;
  readonly status: 'pending' | 'processing' | 'valid' | 'invalid';
  /** Why it failed. */
  readonly error?: AcmeProblem;
}

export interface AuthorityOrder {
  readonly status: 'pending' | 'ready' | 'processing' | 'valid' | 'invalid';
  readonly authorizations: readonly {
    readonly url: string;
    readonly hostname: string;
    readonly status: string;
    readonly challenges: readonly AuthorityChallenge[];
  }[];
  readonly error?: AcmeProblem;
}

/** What is answered to a challenge. */
export interface ChallengeAnswer {
  /** The body of the answer over HTTP. */
  readonly keyAuthorization: string;
  /** The value of the TXT record. */
  readonly txtValue: string;
}

/** One ACME server, with the cluster's account there. Every method throws IssueError for whatever the server refuses. */
export interface CertificateAuthority {
  readonly directory: string;
  /** What people call it: the host of its directory. */
  readonly name: string;
  /** @param replaces the certificate that it is to replace, in PEM @returns the URL of the order */
  order(hostname: string, replaces?: string): Promise<string>;
  readOrder(url: string): Promise<AuthorityOrder>;
  answerTo(challenge: AuthorityChallenge): Promise<ChallengeAnswer>;
  /** Has the authority look whether the challenge is answered. */
  begin(challenge: AuthorityChallenge): Promise<void>;
  /** Hands in the certificate's key, whose private half stays here. */
  finalise(url: string, hostname: string, keyPem: string): Promise<void>;
  /** @returns the chain in PEM @throws IssueError `order` when the order is not valid */
  download(url: string): Promise<string>;
  /** @returns undefined when the authority does not suggest when to renew, or not for this certificate */
  renewalInfo(certificatePem: string): Promise<RenewalInfo | undefined>;
}

export interface RenewalInfo {
  readonly window: RenewalWindow;
  /** Why, where the authority says so. */
  readonly explanationUrl?: string;
  /** When to ask again. */
  readonly askAgainAtMs: number;
}

/** Records in the DNS of whoever has the domain. Every method throws IssueError `dns_provider`. */
export interface DnsProvider {
  /** What people call it: `Cloudflare`. */
  readonly name: string;
  /** Whether it has the zone of this name. */
  handles(name: string): Promise<boolean>;
  /** Adds a TXT record beside those that are there. Twice is once. @param name without the last dot */
  addTxt(name: string, value: string): Promise<void>;
  /** Removes this one; it may be gone already. */
  removeTxt(name: string, value: string): Promise<void>;
}

/** Keeps within the limits of authorities, over all control planes. */
export interface OrderLimiter {
  /** @returns undefined when it may be ordered now, which is counted then; else until when not, and why */
  take(
    directory: string,
    hostname: string,
  ): Promise<{ readonly untilMs: number; readonly message: string } | undefined>;
}

/** Seals keys for KV. */
export interface KeySealer {
  seal(text: string, purpose: string): string;
  /** @throws ContainerOsError `internal` when it cannot be opened */
  open(sealed: string, purpose: string): string;
}

/** @returns undefined when it is answered; else what is wrong, in words */
export type SelfCheck = (challenge: {
  readonly hostname: string;
  readonly token: string;
  readonly keyAuthorization: string;
}) => Promise<string | undefined>;

/** Waits until every authoritative server of the zone has the record. @returns what is wrong, in words */
export type TxtCheck = (name: string, value: string, signal: AbortSignal) => Promise<string | undefined>;

export const acmeAccountPurpose = (id: string): string => `acme-account ${id}`;
export const acmeOrderPurpose = (hostname: string): string => `acme-order ${hostname}`;

/** Where the TXT record of a hostname's challenge stands (RFC 8555, 8.4); of a wildcard, without its star. */
export const challengeRecordOf = (hostname: string): string => `_acme-challenge.${withoutWildcard(hostname)}`;
