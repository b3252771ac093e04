/**
 * Keeps within the limits of an authority, as token buckets: so many at once, and one more every so often. Pure.
 *
 * Invariant: a bucket is one number, the moment at which it is full again; what is refused takes nothing out of it.
 */

export interface Limit {
  /** What a full bucket has. */
  readonly burst: number;
  /** How long one takes to come back, milliseconds. */
  readonly everyMs: number;
}

/** Of orders: all of the account, and of each registered domain. */
export interface OrderLimits {
  readonly perAccount: Limit;
  readonly perDomain: Limit;
}

const HOUR_MS = 3_600_000;

/**
 * As documented at letsencrypt.org/docs/rate-limits (12 June 2025): 300 orders of an account in 3 hours, refilled by one
 * every 36 s; 50 certificates of a registered domain in 7 days, refilled by one every 202 minutes. Renewals that name
 * what they replace (RFC 9773) are exempt.
 */
export const LETS_ENCRYPT_LIMITS: OrderLimits = {
  perAccount: { burst: 300, everyMs: (3 * HOUR_MS) / 300 },
  perDomain: { burst: 50, everyMs: (7 * 24 * HOUR_MS) / 50 },
};

/** Limits of a directory, where they are known; elsewhere the authority tells them when they are reached. */
export const limitsOf = (directory: string): OrderLimits | undefined =>
  new URL(directory).hostname.endsWith('.api.letsencrypt.org') ? LETS_ENCRYPT_LIMITS : undefined;

export type Taken =
  | { readonly kind: 'taken'; readonly fullAtMs: number }
  | { readonly kind: 'refused'; readonly untilMs: number };

/** @param fullAtMs when the bucket is full again; undefined: it is */
export const take = ({ burst, everyMs }: Limit, fullAtMs: number | undefined, nowMs: number): Taken => {
  const next = Math.max(fullAtMs ?? nowMs, nowMs) + everyMs;
  const untilMs = next - burst * everyMs;
  return untilMs > nowMs ? { kind: 'refused', untilMs } : { kind: 'taken', fullAtMs: next };
};
