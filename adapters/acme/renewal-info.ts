/**
 * When an authority suggests to renew a certificate (ACME Renewal Information, RFC 9773), which acme-client does not
 * ask. A revoked certificate, or one that will be, has a window in the past.
 */

// The library finds its parts by decorators, which need this to be there first.
import 'reflect-metadata';

import { X509Certificate } from 'node:crypto';

import type { RenewalInfo } from '../../contracts/acme';

import { ask, retryAtMs } from './transport';

/** The least and the most that an answer is taken for good (RFC 9773, 4.3.2), and what holds when it says nothing. */
const LEAST_MS = 60_000;
const MOST_MS = 24 * 3_600_000;
const USUAL_MS = 6 * 3_600_000;

const bytesOf = (hex: string): Buffer => Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');

/**
 * @param keyIdentifier of the authority, in hex
 * @param serial in hex
 * @returns what names a certificate (RFC 9773, 4.1)
 */
export const renewalId = (keyIdentifier: string, serial: string): string => {
  const number = bytesOf(serial);
  // DER has a zero in front where the number would be negative otherwise.
  const der = (number[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), number]) : number;
  return `${bytesOf(keyIdentifier).toString('base64url')}.${der.toString('base64url')}`;
};

/** @returns undefined when the certificate does not say whose key has signed it */
export const renewalIdOf = async (certificatePem: string): Promise<string | undefined> => {
  const x509 = await import('@peculiar/x509');
  const certificate = new x509.X509Certificate(certificatePem);
  const keyIdentifier = certificate.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId;
  if (keyIdentifier === undefined) return undefined;
  return renewalId(keyIdentifier, new X509Certificate(certificatePem).serialNumber);
};

/**
 * @param url what the directory calls `renewalInfo`
 * @returns undefined when the authority knows nothing of the certificate, or tells no window that can be
 * @throws {IssueError} `authority` when it does not answer
 */
export const askRenewalInfo = async (
  url: string,
  id: string,
  nowMs: number,
  caPem?: string,
): Promise<RenewalInfo | undefined> => {
  const answer = await ask({
    method: 'GET',
    url: `${url.replace(/\/$/, '')}/${id}`,
    ...(caPem === undefined ? {} : { caPem }),
  });
  if (answer.status !== 200) return undefined;
  const { suggestedWindow, explanationURL } = readJson(answer.text) as {
    readonly suggestedWindow?: { readonly start?: unknown; readonly end?: unknown };
    readonly explanationURL?: unknown;
  };
  const startMs = Date.parse(String(suggestedWindow?.start));
  const endMs = Date.parse(String(suggestedWindow?.end));
  if (!(startMs < endMs)) return undefined;
  const toldMs = retryAtMs(answer.headers, nowMs) ?? nowMs + USUAL_MS;
  return {
    window: { startMs, endMs },
    ...(typeof explanationURL === 'string' ? { explanationUrl: explanationURL } : {}),
    askAgainAtMs: Math.min(nowMs + MOST_MS, Math.max(nowMs + LEAST_MS, toldMs)),
  };
};

const readJson = (text: string): object => {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    return {};
  }
};
