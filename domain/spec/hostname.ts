/**
 * What is wrong with a hostname, said so that it can be mended. Pure.
 *
 * Names of other scripts are not converted: what is stored, shown and compared is what was written, so the ASCII form
 * (punycode) is asked for, and told.
 */

import { getPublicSuffix } from 'tldts';

import { PRIVATE_SUFFIXES } from '../ingress/authority-for';
import { isWildcard, withoutWildcard } from '../ingress/wildcard';

const MAX_LENGTH = 253;
const MAX_LABEL = 63;
const IPV4 = /^\d{1,3}(?:\.\d{1,3}){3}$/;
const IPV6 = /^\[?[0-9a-f:]*:[0-9a-f:.]*:[0-9a-f:.]*\]?$/;

/** The ASCII form; undefined when there is none. */
const asciiOf = (hostname: string): string | undefined =>
  URL.canParse(`http://${hostname}`) ? new URL(`http://${hostname}`).hostname : undefined;

const whyNoLabel = (label: string): string | undefined => {
  if (label === '') return 'must not have two dots in a row, or one at its beginning';
  if (label.length > MAX_LABEL)
    return `must have parts of ${MAX_LABEL} characters at most; "${label.slice(0, 20)}…" has ${label.length}`;
  if (label.startsWith('-') || label.endsWith('-'))
    return `must not have a part that begins or ends with a hyphen, as "${label}" does`;
  if (!/^[a-z0-9-]+$/.test(label)) return undefined;
  if (label.startsWith('xn--') && asciiOf(label) !== label)
    return `has the part "${label}", which begins with xn-- and is no valid punycode`;
  return undefined;
};

/** Whether anybody can register names right below it, so that nobody has all of them. */
const isPublicSuffix = (name: string): boolean =>
  !PRIVATE_SUFFIXES.some((suffix) => name === suffix) && getPublicSuffix(name) === name;

/** @param hostname has a star somewhere */
const whyNoWildcard = (hostname: string): string | undefined => {
  const below = withoutWildcard(hostname);
  if (hostname === '*' || below === '') return 'must name the domain of a wildcard, like *.example.com';
  if (!isWildcard(hostname) || below.includes('*'))
    return 'must have a wildcard (*) once, as its whole first part, like *.example.com';
  const why = whyNoHostname(below);
  if (why !== undefined) return why;
  return isPublicSuffix(below)
    ? `must not be a wildcard for all of "${below}", below which anybody can have names: name a domain, like *.example.${below}`
    : undefined;
};

/**
 * @param hostname in lower case; may be a wildcard
 * @returns undefined when nothing is wrong
 */
export const whyNoHostname = (hostname: string): string | undefined => {
  if (hostname === '') return 'must not be empty';
  if (/^[a-z][a-z0-9+.-]*:\/\//.test(hostname)) return 'must be a hostname alone, without "http://"';
  const name = withoutWildcard(hostname);
  if (IPV4.test(name) || IPV6.test(name)) return 'must be a name, not an IP address';
  if (/[/?#@\s]/.test(hostname)) return 'must be a hostname alone, without a path, a user or blanks';
  if (hostname.includes(':')) return 'must be a hostname alone, without a port; the ingress has its own';
  if (hostname.includes('*')) return whyNoWildcard(hostname);
  // eslint-disable-next-line no-control-regex
  if (/[^\u0000-\u007f]/.test(hostname)) {
    const ascii = asciiOf(hostname);
    return ascii === undefined
      ? 'must be written in ASCII'
      : `must be written in ASCII (punycode): "${ascii}"`;
  }
  if (hostname.length > MAX_LENGTH)
    return `must have ${MAX_LENGTH} characters at most, not ${hostname.length}`;
  if (hostname.endsWith('.')) return 'must not end with a dot';
  if (hostname.includes('_'))
    return 'must not have an underscore: hostnames have letters, digits and hyphens';
  for (const label of hostname.split('.')) {
    const why = whyNoLabel(label);
    if (why !== undefined) return why;
  }
  return /^[a-z0-9.-]+$/.test(hostname)
    ? undefined
    : 'must be a hostname: DNS labels of letters, digits and hyphens, joined by dots';
};
