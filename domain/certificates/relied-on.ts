/** Which certificate that people have brought stands in for one of a public authority. Pure. */

import { wildcardFor } from '../ingress/wildcard';

import { reliesUntilMs } from './renewal';

/** Whether a certificate for these names is good for the hostname; a wildcard is for one label more. */
export const covers = (names: readonly string[], hostname: string): boolean =>
  names.includes(hostname) || names.includes(wildcardFor(hostname) ?? hostname);

interface Brought {
  readonly hostnames: readonly string[];
  readonly source: 'internal' | 'acme' | 'uploaded';
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/**
 * @param nowMs milliseconds since the epoch
 * @returns the one that lasts longest; undefined when the hostname needs one of an authority
 */
export const reliedOn = <C extends Brought>(
  certificates: readonly C[],
  hostname: string,
  nowMs: number,
): C | undefined =>
  certificates
    .filter(
      (one) =>
        one.source === 'uploaded' &&
        covers(one.hostnames, hostname) &&
        one.notBeforeMs <= nowMs &&
        nowMs < one.notAfterMs &&
        reliesUntilMs(one) > nowMs,
    )
    .sort((a, b) => b.notAfterMs - a.notAfterMs)[0];
