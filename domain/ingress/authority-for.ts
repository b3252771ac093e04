/**
 * Who vouches for a hostname: a public authority, or the cluster's own for names that none would. Pure.
 *
 * Invariant: a private name is one that nobody can own on the internet, so that no public authority knows it.
 */

import { withoutWildcard } from './wildcard';

/** Of names that are reserved for private use: RFC 2606, 6761, 6762, 8375, ICANN's `internal`, and what routers use. */
export const PRIVATE_SUFFIXES = [
  'example',
  'home.arpa',
  'internal',
  'invalid',
  'lan',
  'local',
  'localhost',
  'test',
] as const;

const IPV4 = /^\d{1,3}(?:\.\d{1,3}){3}$/;

/** @param hostname in lower case; may be a wildcard */
export const isPrivateHostname = (hostname: string): boolean => {
  const name = withoutWildcard(hostname).replace(/\.$/, '');
  if (IPV4.test(name) || name.includes(':')) return true;
  return (
    !name.includes('.') || PRIVATE_SUFFIXES.some((suffix) => name === suffix || name.endsWith(`.${suffix}`))
  );
};

/**
 * @param hostname in lower case; may be a wildcard
 * @param isInternalOnly for development: no public authority is asked for anything
 */
export const authorityFor = (hostname: string, isInternalOnly = false): 'internal' | 'public' =>
  isInternalOnly || isPrivateHostname(hostname) ? 'internal' : 'public';
