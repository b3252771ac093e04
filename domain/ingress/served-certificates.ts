/**
 * Which certificate a hostname is answered with, and whether plain HTTP leads to it. Pure.
 *
 * Invariants: one that is valid now comes before one that is not, one that people gave before one of an authority, that of
 * a public authority before the cluster's own, and then that of the very name before a wildcard; the same input gives the
 * same answer. Plain HTTP is redirected only to what clients can be expected to trust, and not for private names, whose
 * authority is not trusted everywhere.
 */

import { isPrivateHostname } from './authority-for';
import { isWildcard, wildcardFor, withoutWildcard } from './wildcard';

/** What of a certificate (contracts/certificates) decides. */
export interface ServedCertificate {
  readonly hostname: string;
  readonly hostnames: readonly string[];
  readonly source: 'internal' | 'acme' | 'uploaded';
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly updatedAtMs: number;
  readonly fingerprint: string;
}

export interface Served<C extends ServedCertificate> {
  /** By hostname; those that a wildcard is better for are not in it. */
  readonly exact: ReadonlyMap<string, C>;
  /** By what follows the `*.`. */
  readonly wildcard: ReadonlyMap<string, C>;
  readonly redirectedExact: ReadonlySet<string>;
  readonly redirectedWildcard: ReadonlySet<string>;
  /** When this has to be decided again; undefined: not before something changes. */
  readonly untilMs: number | undefined;
}

/** As it stands in the name of a file, and in the configuration of the proxy. */
const HOSTNAME = /^(?=.{1,253}$)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/;

export const isPlainHostname = (text: string): boolean => HOSTNAME.test(text);

const SOURCES = { uploaded: 0, acme: 1, internal: 2 } as const;

const isValidAt = ({ notBeforeMs, notAfterMs }: ServedCertificate, nowMs: number): boolean =>
  notBeforeMs <= nowMs && nowMs < notAfterMs;

/** @returns less than 0 when `a` is the better one for `name` */
const compare = (a: ServedCertificate, b: ServedCertificate, name: string, nowMs: number): number =>
  Number(isValidAt(b, nowMs)) - Number(isValidAt(a, nowMs)) ||
  SOURCES[a.source] - SOURCES[b.source] ||
  Number(b.hostnames.includes(name)) - Number(a.hostnames.includes(name)) ||
  Number(b.hostname === name) - Number(a.hostname === name) ||
  b.notAfterMs - a.notAfterMs ||
  b.updatedAtMs - a.updatedAtMs ||
  (a.fingerprint < b.fingerprint ? -1 : 1);

/** @param nowMs milliseconds since the epoch */
export const servedCertificates = <C extends ServedCertificate>(
  certificates: readonly C[],
  nowMs: number,
): Served<C> => {
  const candidates = new Map<string, C[]>();
  for (const certificate of certificates) {
    for (const name of certificate.hostnames) {
      if (!isPlainHostname(withoutWildcard(name))) continue;
      candidates.set(name, [...(candidates.get(name) ?? []), certificate]);
    }
  }
  const exact = new Map<string, C>();
  const wildcard = new Map<string, C>();
  const redirectedExact = new Set<string>();
  const redirectedWildcard = new Set<string>();
  const isRedirected = (name: string, certificate: C): boolean =>
    certificate.source !== 'internal' && isValidAt(certificate, nowMs) && !isPrivateHostname(name);

  for (const [name, own] of [...candidates].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const wider = candidates.get(wildcardFor(name) ?? '') ?? [];
    const [best] = [...own, ...wider].sort((a, b) => compare(a, b, name, nowMs));
    if (best === undefined || !best.hostnames.includes(name)) continue;
    (isWildcard(name) ? wildcard : exact).set(withoutWildcard(name), best);
    if (!isRedirected(name, best)) continue;
    (isWildcard(name) ? redirectedWildcard : redirectedExact).add(withoutWildcard(name));
  }
  const changes = certificates
    .flatMap(({ notBeforeMs, notAfterMs }) => [notBeforeMs, notAfterMs])
    .filter((atMs) => atMs > nowMs);
  const untilMs = changes.length === 0 ? undefined : changes.reduce((a, b) => Math.min(a, b));
  return { exact, wildcard, redirectedExact, redirectedWildcard, untilMs };
};
