/** When it is told that a certificate that somebody has brought ends, and nothing has taken its place. Pure. */

import { timeText } from './acme-problem';
import { covers } from './relied-on';
import { reliesUntilMs, type Lifetime } from './renewal';

export interface EndingNotice {
  readonly type: 'certificate.expiring' | 'certificate.expired';
  readonly atMs: number;
  readonly message: string;
}

interface Brought extends Lifetime {
  readonly hostname: string;
  readonly hostnames: readonly string[];
  readonly updatedAtMs: number;
}

/**
 * Half of the time in which the cluster gets one of a public authority in its place is left then: what that is possible for
 * has one.
 */
const soonAtMs = (certificate: Lifetime): number => (reliesUntilMs(certificate) + certificate.notAfterMs) / 2;

/**
 * @param certificate that was uploaded, and is still the one that its hostname has
 * @param others that there are
 * @returns what is told of it, in order; nothing when another one is good for all of its names, and for longer
 */
export const endingNotices = (
  certificate: Brought,
  others: readonly Pick<Brought, 'hostnames' | 'notAfterMs'>[],
): readonly EndingNotice[] => {
  const { hostname, notAfterMs, updatedAtMs } = certificate;
  const isReplaced = others.some(
    (other) =>
      other.notAfterMs > notAfterMs && certificate.hostnames.every((name) => covers(other.hostnames, name)),
  );
  if (isReplaced) return [];
  const which = `the certificate that was uploaded for ${hostname}`;
  return [
    {
      type: 'certificate.expiring',
      atMs: Math.max(updatedAtMs, Math.floor(soonAtMs(certificate))),
      message: `${which} ends at ${timeText(notAfterMs)}, and nothing has taken its place: upload a new one`,
    },
    {
      type: 'certificate.expired',
      atMs: notAfterMs,
      message: `${which} has ended: clients refuse it. Upload a new one, or delete it`,
    },
  ];
};
