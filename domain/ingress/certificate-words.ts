/** How a certificate stands, in words. Pure. */

import type { ServedCertificate } from './served-certificates';

/** `expiring`: it ends soon, and should have been renewed by now. */
export type CertificateValidity = 'valid' | 'expiring' | 'expired' | 'not_yet_valid';

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/** Of its whole time; the cluster renews what it can when a third is left. */
const SOON_SHARE = 1 / 6;

const inWords = (durationMs: number): string => {
  if (durationMs < HOUR_MS) return 'less than an hour';
  const [number, unit] =
    durationMs >= 2 * DAY_MS
      ? [Math.floor(durationMs / DAY_MS), 'day']
      : [Math.floor(durationMs / HOUR_MS), 'hour'];
  return `${number} ${unit}${number === 1 ? '' : 's'}`;
};

const WHAT_TO_DO: Readonly<Record<ServedCertificate['source'], string>> = {
  uploaded: 'Upload a new one',
  acme: 'It should have been renewed: look at the events',
  internal: 'It should have been renewed: look at the log of the control plane',
};

type Times = Pick<ServedCertificate, 'source' | 'notBeforeMs' | 'notAfterMs'>;

/**
 * @param nowMs milliseconds since the epoch
 * @param trouble what keeps it from being renewed, in sentences
 */
export const describeValidity = (
  { source, notBeforeMs, notAfterMs }: Times,
  nowMs: number,
  trouble?: string,
): { readonly state: CertificateValidity; readonly message: string } => {
  const leftMs = notAfterMs - nowMs;
  const next = trouble ?? `${WHAT_TO_DO[source]}.`;
  if (leftMs <= 0) {
    return { state: 'expired', message: `Expired ${inWords(-leftMs)} ago. ${next}` };
  }
  if (notBeforeMs > nowMs) {
    return { state: 'not_yet_valid', message: `Not valid for another ${inWords(notBeforeMs - nowMs)}.` };
  }
  const expires = `Expires in ${inWords(leftMs)}`;
  if (leftMs < (notAfterMs - notBeforeMs) * SOON_SHARE) {
    return { state: 'expiring', message: `${expires}. ${next}` };
  }
  return {
    state: 'valid',
    message:
      trouble !== undefined
        ? `${expires}. ${trouble}`
        : source === 'uploaded'
          ? `${expires}.`
          : `${expires}, and is renewed before.`,
  };
};
