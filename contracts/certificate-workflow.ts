/**
 * The workflow that gets and renews the certificate of one hostname, and what it asks of the control plane.
 *
 * Invariants: nothing of it holds a key or a credential; every activity may be run again after it was cut off anywhere,
 * and goes on from what is there; what an authority, DNS or the network refuse is a return value.
 */

import type { IssueFailure } from '../domain/certificates/acme-problem';

import type { ChallengeType } from './acme';

export const CERTIFICATE_WORKFLOW = 'certificate';

/** One for each hostname: two never ask for the same. */
export const certificateWorkflowId = (hostname: string): string => `certificate:${hostname}`;

export const CERTIFICATE_SIGNAL = {
  /** A microservice has the hostname; starts the workflow, too. */
  hostnameWanted: 'hostnameWanted',
  /** Nobody has it any more: nothing is asked for it, and what was begun is undone. */
  hostnameGone: 'hostnameGone',
  /** Look, and try, now: somebody has mended something, or has brought a certificate or taken it away. */
  retryNow: 'retryNow',
} as const;

/** An order that is under way. */
export interface OrderUnderWay {
  readonly directory: string;
  readonly url: string;
}

/** What one run leaves to the next. */
export interface CarriedCertificate {
  readonly failures: number;
  readonly order?: OrderUnderWay;
  /** What was told last, so that it is not told again. */
  readonly told?: string;
}

export interface CertificateInput {
  readonly hostname: string;
  readonly carried?: CarriedCertificate;
}

/** What there is to do for a hostname. */
export type CertificateLook =
  /** No microservice that is known has it. */
  | { readonly kind: 'nobody' }
  /** No authority is asked; why, for people. */
  | { readonly kind: 'off'; readonly reason: string }
  /** Somebody has brought one, which is relied on until then. */
  | { readonly kind: 'uploaded'; readonly untilMs: number; readonly message: string }
  | {
      readonly kind: 'held';
      readonly message: string;
      readonly renewAtMs: number;
      /** When the authority is to be asked again whether that still holds; not after `renewAtMs`. */
      readonly lookAgainAtMs: number;
    }
  | {
      readonly kind: 'due';
      /** For people: `there is none yet`. */
      readonly reason: string;
      readonly challenge: ChallengeType;
      /** Authorities in the order in which they are asked. */
      readonly directories: readonly string[];
    };

export type OrderOutcome =
  | { readonly kind: 'ordered'; readonly url: string }
  /** Not asked, to keep within the authority's limits. */
  | { readonly kind: 'limited'; readonly failure: IssueFailure }
  | { readonly kind: 'failed'; readonly failure: IssueFailure };

export type ProofOutcome =
  | { readonly kind: 'proved' }
  | {
      readonly kind: 'failed';
      readonly failure: IssueFailure;
      /** Whether the authority counts it as a failed validation. */
      readonly isCounted: boolean;
    };

export type FinishOutcome =
  | { readonly kind: 'issued'; readonly issuer: string; readonly notAfterMs: number }
  | { readonly kind: 'failed'; readonly failure: IssueFailure };

export interface HostnameOrder {
  readonly hostname: string;
  readonly directory: string;
  readonly url: string;
  readonly challenge: ChallengeType;
}

export interface ToldState {
  readonly hostname: string;
  readonly state: 'issuing' | 'issued' | 'uploaded' | 'off';
  readonly message: string;
  readonly renewAtMs?: number;
  readonly failures: number;
}

export interface ToldFailure {
  readonly hostname: string;
  readonly failure: IssueFailure;
  /** With this one. */
  readonly failures: number;
  readonly isCounted: boolean;
  /** It only waits for its turn: that is no failure. */
  readonly isWaiting: boolean;
}

export interface ToldIssue {
  readonly hostname: string;
  readonly issuer: string;
  readonly notAfterMs: number;
  /** How many attempts had failed before. */
  readonly failures: number;
}

/** Run by the control-plane worker, as normal activities, each of them one line in the Temporal Web UI. */
export interface CertificateActivities {
  lookAtCertificate(input: { readonly hostname: string }): Promise<CertificateLook>;
  /** Whether the hostname leads to this cluster, as far as can be seen from here. @returns what is wrong, in words */
  checkPointing(input: { readonly hostname: string }): Promise<{ readonly problem?: string }>;
  orderCertificate(input: { readonly hostname: string; readonly directory: string }): Promise<OrderOutcome>;
  /** Publishes the answer to a challenge, has the authority look, waits for it, and takes the answer back. */
  proveHostname(input: HostnameOrder): Promise<ProofOutcome>;
  /** Has the key certified, and keeps the certificate. */
  finishCertificate(input: HostnameOrder): Promise<FinishOutcome>;
  /** Takes back what is left of an order: answers, records in DNS, the key that was made for it. */
  withdrawOrder(input: { readonly hostname: string }): Promise<void>;
  tellCertificateState(input: ToldState): Promise<void>;
  /** @returns when it is tried again */
  tellCertificateFailure(input: ToldFailure): Promise<{ readonly nextAttemptAtMs: number }>;
  tellCertificateIssued(input: ToldIssue): Promise<void>;
  /** Deletes the state of a hostname that nobody has any more. */
  forgetCertificateState(input: { readonly hostname: string }): Promise<void>;
}
