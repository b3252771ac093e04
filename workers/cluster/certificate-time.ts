/** When a certificate is to be renewed. */

import { X509Certificate } from 'node:crypto';

/** Of a certificate's time, beyond which it is renewed: a third is left to try again. */
const RENEW_AFTER = 2 / 3;

/**
 * Whether two thirds of a certificate's time are over.
 *
 * @param certificatePem of several certificates the first one counts
 * @param nowMs milliseconds since the epoch
 */
export const isDueForRenewal = (certificatePem: string, nowMs: number): boolean => {
  const { validFrom, validTo } = new X509Certificate(certificatePem);
  const fromMs = Date.parse(validFrom);
  return nowMs >= fromMs + (Date.parse(validTo) - fromMs) * RENEW_AFTER;
};
