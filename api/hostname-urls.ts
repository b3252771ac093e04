/** Addresses under which people reach the hostnames of microservices. Pure. */

import { splitClaim } from '../domain/ingress/route-options';

export interface IngressAddresses {
  /** Left out: hostnames answer where the user has them answer. */
  readonly httpPort?: number | undefined;
  /** Left out: there is no HTTPS. */
  readonly httpsPort?: number | undefined;
  /** Whether a hostname has a certificate, or gets one. */
  readonly hasCertificate: (hostname: string) => boolean;
}

const withPort = (scheme: string, hostname: string, port: number, usual: number): string =>
  `${scheme}://${hostname}${port === usual ? '' : `:${port}`}`;

/** @param claim a hostname, or a hostname and a path */
export const urlOf = (claim: string, addresses: IngressAddresses): string => {
  const { hostname, path = '' } = splitClaim(claim);
  const { httpPort = 80, httpsPort } = addresses;
  return httpsPort !== undefined && addresses.hasCertificate(hostname)
    ? `${withPort('https', hostname, httpsPort, 443)}${path}`
    : `${withPort('http', hostname, httpPort, 80)}${path}`;
};
