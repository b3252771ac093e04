/**
 * Join tokens: what a machine shows to become a node, as text. Pure.
 *
 * Invariants: `cos1.<id>.<secret>.<SHA-256 of the authority's certificate, in hex>`, and nothing else, is a token; what
 * was formatted is parsed to the same parts; no message of an error holds a part of the secret.
 */

import { ContainerOsError } from './errors';
import type { JoinToken } from './identity';

export interface JoinTokenParts {
  /** Not secret: names the token in lists and in logs. */
  readonly id: string;
  readonly secret: string;
  /** SHA-256 of the DER of the authority's certificate, in lower-case hex. */
  readonly authorityFingerprint: string;
}

const PREFIX = 'cos1';
export const TOKEN_ID_LENGTH = 8;
export const MIN_SECRET_LENGTH = 32;
const MAX_SECRET_LENGTH = 128;
const FINGERPRINT_LENGTH = 64;

const ID = new RegExp(`^[a-z0-9]{${TOKEN_ID_LENGTH}}$`);
const SECRET = /^[A-Za-z0-9_-]*$/;
const HEX = /^[0-9a-f]*$/;

const MAKE_ANOTHER = 'Copy the whole token again, or make another one.';

const refuse = (what: string): never => {
  throw new ContainerOsError('invalid', `The join token cannot be used: ${what} ${MAKE_ANOTHER}`);
};

/** Whether the text can be the id of a token. */
export const isJoinTokenId = (text: string): boolean => ID.test(text);

/** @throws {Error} when a part is not what a token is made of: a defect */
export const formatJoinToken = ({ id, secret, authorityFingerprint }: JoinTokenParts): string => {
  const text = [PREFIX, id, secret, authorityFingerprint].join('.');
  parseJoinToken(text);
  return text;
};

/**
 * @param text as somebody pasted it; blanks around it do not matter
 * @throws {ContainerOsError} `invalid`, with what is wrong in words
 */
export const parseJoinToken = (text: string): JoinTokenParts => {
  const trimmed = text.trim();
  if (trimmed === '') return refuse('it is empty.');
  if (/\s/.test(trimmed)) return refuse('there is a blank or a line break in it.');
  const [prefix = '', id = '', secret, authorityFingerprint, ...rest] = trimmed.split('.');
  const version = /^cos([0-9]+)$/.exec(prefix)?.[1];
  if (version === undefined) return refuse(`it does not begin with ${PREFIX}.`);
  if (prefix !== PREFIX) {
    throw new ContainerOsError(
      'invalid',
      `The join token is of version ${version.slice(0, 9)}, and this ContainerOS knows version 1. Install the version of ContainerOS that the cluster has.`,
    );
  }
  if (secret === undefined) return refuse('it is cut off.');
  if (!isJoinTokenId(id)) return refuse(`its id is not ${TOKEN_ID_LENGTH} characters of a-z and 0-9.`);
  if (!SECRET.test(secret)) return refuse('its secret has a character that none can have.');
  if (authorityFingerprint === undefined) return refuse('it is cut off.');
  if (secret.length < MIN_SECRET_LENGTH) return refuse('its secret is too short.');
  if (secret.length > MAX_SECRET_LENGTH) return refuse('its secret is too long.');
  if (!HEX.test(authorityFingerprint)) {
    return refuse('its last part is not the fingerprint of an authority.');
  }
  if (authorityFingerprint.length < FINGERPRINT_LENGTH) return refuse('it is cut off.');
  if (authorityFingerprint.length > FINGERPRINT_LENGTH || rest.length > 0) {
    return refuse('there is something after its end.');
  }
  return { id, secret, authorityFingerprint };
};

export type UnusableReason = 'revoked' | 'expired' | 'used_up';

export interface Unusable {
  readonly reason: UnusableReason;
  /** What is the matter and what to do, as whole sentences. */
  readonly message: string;
}

const isoOf = (atMs: number): string => new Date(atMs).toISOString();
const AGAIN = 'Make a new one with POST /v1/join-tokens.';

/**
 * Why a token lets nobody in; undefined when it does.
 *
 * @param nowMs milliseconds since the epoch
 */
export const whyUnusable = (
  token: Pick<JoinToken, 'id' | 'expiresAtMs' | 'usesLeft' | 'revokedAtMs'>,
  nowMs: number,
): Unusable | undefined => {
  if (nowMs >= token.expiresAtMs) {
    return {
      reason: 'expired',
      message: `The join token ${token.id} expired at ${isoOf(token.expiresAtMs)}. ${AGAIN}`,
    };
  }
  if (token.usesLeft <= 0) {
    return {
      reason: 'used_up',
      message: `The join token ${token.id} has been used as often as it may be. ${AGAIN}`,
    };
  }
  if (token.revokedAtMs !== undefined) {
    return {
      reason: 'revoked',
      message: `The join token ${token.id} was revoked at ${isoOf(token.revokedAtMs)}. ${AGAIN}`,
    };
  }
  return undefined;
};
