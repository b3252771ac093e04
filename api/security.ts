/**
 * Who may ask: the password, the token of nodes, and the headers by which a web page betrays itself.
 *
 * Invariants: secrets are compared in constant time, by their hashes, and never logged; a request for a name that is
 * not ours (DNS rebinding) or from a page that is not ours (Origin) is refused before anything else is looked at.
 */

import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';

import type { Request } from 'express';

import { ContainerOsError } from '../domain/errors';

import type { AttemptLimiter } from './attempt-limiter';
import { ProblemError } from './problem';

/** Set on every answer. Nothing of the API is for frames, for sniffing, for other pages or for caches. */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'cache-control': 'no-store',
};

const LOCAL_NAMES = ['localhost', '127.0.0.1', '::1'];

/** The host of a Host header, in lower case, without port and brackets. */
export const hostnameOf = (host: string): string | undefined => {
  const match = /^(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::[0-9]{1,5})?$/.exec(host.trim().toLowerCase());
  return match?.[1] ?? match?.[2]?.replace(/\.$/, '');
};

/** Without the zone, and without the wrapping of an IPv4 address that came to an IPv6 socket. */
const plainAddress = (address: string | undefined): string =>
  (address ?? '').replace(/%.*$/, '').replace(/^::ffff:(?=[0-9.]+$)/i, '');

/**
 * Refuses requests that a foreign web page may have made a browser send.
 *
 * @param allowedHosts names and addresses of this API, beside those of loopback and the address that was dialled
 * @throws {ContainerOsError} `forbidden`
 */
export const assertOwnPage = (req: Request, allowedHosts: ReadonlySet<string>): void => {
  const host = req.headers.host;
  const hostname = host === undefined ? undefined : hostnameOf(host);
  if (hostname === undefined) {
    throw new ContainerOsError('forbidden', 'The Host header is missing or malformed.');
  }
  // An address is no name that somebody else's DNS could have pointed here.
  const isDialled = isIP(hostname) !== 0 && hostname === plainAddress(req.socket.localAddress);
  if (!LOCAL_NAMES.includes(hostname) && !allowedHosts.has(hostname) && !isDialled) {
    throw new ContainerOsError(
      'forbidden',
      `This API does not answer for the host ${hostname}. If it should, start ContainerOS with --allowed-host ${hostname}.`,
    );
  }
  const { origin } = req.headers;
  if (origin !== undefined && !isSameOrigin(origin, host ?? '')) {
    throw new ContainerOsError('forbidden', 'This API takes no requests from web pages of another origin.');
  }
  const site = req.headers['sec-fetch-site'];
  const isNavigation = req.method === 'GET' && req.headers['sec-fetch-mode'] === 'navigate';
  if ((site === 'cross-site' || site === 'same-site') && !isNavigation) {
    throw new ContainerOsError('forbidden', 'This API takes no requests from web pages of another origin.');
  }
};

const isSameOrigin = (origin: string, host: string): boolean => {
  if (!/^https?:\/\//i.test(origin) || !URL.canParse(origin)) return false;
  const { protocol, host: originHost } = new URL(origin);
  return URL.canParse(`${protocol}//${host}`) && new URL(`${protocol}//${host}`).host === originHost;
};

const digest = (text: string): Buffer => createHash('sha256').update(text, 'utf8').digest();

export interface Secret {
  matches(candidate: string): boolean;
}

export const createSecret = (text: string): Secret => {
  if (text === '') throw new Error('a secret must not be empty');
  const expected = digest(text);
  return { matches: (candidate) => timingSafeEqual(digest(candidate), expected) };
};

/** A WebSocket's subprotocol that carries the password: pages can set no header for one. */
const BEARER_PROTOCOL = /^base64url\.bearer\.containeros\.([A-Za-z0-9_-]+)$/;

const passwordsOffered = ({ headers }: Request): string[] =>
  (headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .flatMap((name) => BEARER_PROTOCOL.exec(name.trim())?.[1] ?? [])
    .slice(0, 1)
    .map((text) => Buffer.from(text, 'base64url').toString('utf8'));

/** What a request shows: `?password=`, `Authorization: Bearer` or `Basic` (with any user), or a WebSocket's subprotocol. */
const candidatesOf = (req: Request, query: URLSearchParams): string[] => {
  const candidates = [...query.getAll('password').slice(0, 2), ...passwordsOffered(req)];
  const [, scheme, value] = /^(bearer|basic)\s+(\S.*)$/i.exec(req.headers.authorization ?? '') ?? [];
  if (scheme === undefined || value === undefined) return candidates;
  if (scheme.toLowerCase() === 'bearer') return [...candidates, value.trim()];
  const userAndPassword = Buffer.from(value, 'base64').toString('utf8');
  const colon = userAndPassword.indexOf(':');
  return colon === -1 ? candidates : [...candidates, userAndPassword.slice(colon + 1)];
};

/**
 * Lets a request pass that shows the secret.
 *
 * @throws {ContainerOsError} `unauthenticated`, or `rate_limited` when its address has failed too often
 */
export const assertSecret = (
  req: Request,
  query: URLSearchParams,
  secret: Secret,
  limiter: AttemptLimiter,
  nowMs: number,
): void => {
  const address = req.socket.remoteAddress ?? 'unknown';
  const waitMs = limiter.waitMs(address, nowMs);
  if (waitMs > 0) {
    const seconds = Math.ceil(waitMs / 1_000);
    throw new ProblemError(
      'rate_limited',
      `Too many wrong passwords came from ${plainAddress(address)}. Try again in ${seconds} s.`,
      { headers: { 'retry-after': String(seconds) } },
    );
  }
  const candidates = candidatesOf(req, query);
  if (candidates.some((candidate) => secret.matches(candidate))) return;
  // Browsers ask without a password first; that is no guess.
  if (candidates.length > 0) limiter.failed(address, nowMs);
  throw new ContainerOsError(
    'unauthenticated',
    candidates.length > 0
      ? 'The password is wrong.'
      : 'A password is needed: as Authorization: Bearer <password>, as Basic with any user, or as ?password=<password>.',
  );
};
