/**
 * When a certificate is renewed, and when it is tried again after a failure. Pure.
 *
 * Invariants: certificates of many hostnames that were issued together are not renewed together, and each has its own
 * moment, which every worker and every replay computes alike; a certificate is renewed before it ends.
 */

import { hashText } from '../hash';

import type { IssueFailureKind } from './acme-problem';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

export interface Lifetime {
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** When the authority suggests to renew (RFC 9773). */
export interface RenewalWindow {
  readonly startMs: number;
  readonly endMs: number;
}

/** @returns a number from 0 to 1 that stands for the text */
const fraction = (text: string): number => hashText(text) / 2 ** 52;

/** However late the authority suggests to renew: its clock, or what it knows of the certificate, may be wrong. */
const LATEST = 11 / 12;

/**
 * A moment of the authority's window, but not in the last twelfth of the lifetime; without a window, when two thirds of it
 * are over, and up to a twelfth of it later, so that most of the last third is left to try again.
 *
 * @param hostname decides over the moment
 */
export const renewAtMs = (
  hostname: string,
  { notBeforeMs, notAfterMs }: Lifetime,
  window?: RenewalWindow,
): number => {
  const lifetimeMs = notAfterMs - notBeforeMs;
  if (window !== undefined) {
    const momentMs = window.startMs + Math.max(0, window.endMs - window.startMs) * fraction(hostname);
    return Math.min(momentMs, notBeforeMs + lifetimeMs * LATEST);
  }
  return notBeforeMs + lifetimeMs * (2 / 3 + fraction(hostname) / 12);
};

/** Somebody's own certificate is relied on until so long before its end; then the cluster gets one, in time. */
export const UPLOADED_MARGIN_MS = 7 * DAY_MS;

/** From when a certificate that somebody has brought is not relied on any more. Short ones: from their last tenth. */
export const reliesUntilMs = ({ notBeforeMs, notAfterMs }: Lifetime): number =>
  notAfterMs - Math.min(UPLOADED_MARGIN_MS, (notAfterMs - notBeforeMs) / 10);

interface Backoff {
  readonly firstMs: number;
  readonly maxMs: number;
}

/**
 * An authority lets five validations of a hostname fail in an hour, and then one in twelve minutes (Let's Encrypt,
 * docs/decisions/acme.md). What is found out without asking it may be tried sooner.
 */
const BACKOFF: Readonly<Record<IssueFailureKind, Backoff>> = {
  pointing: { firstMs: MINUTE_MS, maxMs: HOUR_MS },
  dns_provider: { firstMs: MINUTE_MS, maxMs: 2 * HOUR_MS },
  authority: { firstMs: MINUTE_MS, maxMs: 4 * HOUR_MS },
  rate_limited: { firstMs: HOUR_MS, maxMs: DAY_MS },
  caa: { firstMs: 15 * MINUTE_MS, maxMs: DAY_MS },
  account: { firstMs: 15 * MINUTE_MS, maxMs: DAY_MS },
  refused: { firstMs: HOUR_MS, maxMs: DAY_MS },
  order: { firstMs: MINUTE_MS, maxMs: 4 * HOUR_MS },
  internal: { firstMs: MINUTE_MS, maxMs: DAY_MS },
};

export interface FailedAttempt {
  readonly hostname: string;
  readonly kind: IssueFailureKind;
  /** How many attempts have failed without one between that did not, this one too. */
  readonly failures: number;
  /** Whether the authority has tried, and counts it. */
  readonly isCounted: boolean;
  readonly nowMs: number;
  /** Not before this, as the authority says. */
  readonly notBeforeMs?: number;
}

/** What is counted is not tried more often than this. */
const COUNTED_EVERY_MS = 15 * MINUTE_MS;
/** An authority that asks for more is not believed: its clock, or ours, is wrong. */
const MAX_WAIT_MS = 8 * DAY_MS;

/** When it is tried again: doubled with each failure, and up to a tenth later for some hostnames than for others. */
export const nextAttemptAtMs = ({
  hostname,
  kind,
  failures,
  isCounted,
  nowMs,
  notBeforeMs,
}: FailedAttempt): number => {
  const { firstMs, maxMs } = BACKOFF[kind];
  const leastMs = isCounted ? Math.max(firstMs, COUNTED_EVERY_MS) : firstMs;
  const waitMs = Math.min(Math.max(maxMs, leastMs), leastMs * 2 ** Math.min(20, Math.max(0, failures - 1)));
  const spreadMs = waitMs * 0.1 * fraction(`${hostname} ${failures}`);
  const ownMs = nowMs + waitMs + spreadMs;
  if (notBeforeMs === undefined || notBeforeMs <= nowMs) return ownMs;
  const toldMs = Math.min(notBeforeMs, nowMs + MAX_WAIT_MS);
  // All hostnames are told the same moment.
  const spreadOfToldMs = Math.min(10 * MINUTE_MS, (toldMs - nowMs) * 0.1) * fraction(hostname);
  return kind === 'rate_limited' ? toldMs + spreadOfToldMs : Math.max(ownMs, toldMs + spreadOfToldMs);
};

/**
 * Whether the authority is asked although the hostname was not found to lead here: from inside a network, its public
 * address may not be reachable, or lead elsewhere. Each fourth time, as it counts.
 */
export const asksAnyway = (failures: number): boolean => failures % 4 === 3;
