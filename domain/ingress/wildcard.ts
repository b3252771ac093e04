/**
 * Wildcards: hostnames like `*.example.com`, which stand for one label in place of the star. Pure.
 *
 * Invariant: no two wildcards stand for the same name, so a name has one at most.
 */

const WILDCARD = '*.';

export const isWildcard = (hostname: string): boolean => hostname.startsWith(WILDCARD);

/** What follows the `*.` of a wildcard; another hostname as it is. */
export const withoutWildcard = (hostname: string): string =>
  isWildcard(hostname) ? hostname.slice(WILDCARD.length) : hostname;

/** The wildcard that stands for a hostname; undefined: none does, as it is one itself, or has one label. */
export const wildcardFor = (hostname: string): string | undefined => {
  const dot = hostname.indexOf('.');
  return dot < 0 || isWildcard(hostname) ? undefined : `${WILDCARD}${hostname.slice(dot + 1)}`;
};
