/** Which load balancers before this machine are believed when they say who asks. */

import { isIP } from 'node:net';

import type { Problem } from '../domain/errors';

export interface TrustedProxiesConfig {
  /** Addresses and blocks; none: who connects is who asks. */
  readonly addresses: readonly string[];
  readonly proxyProtocol: boolean;
}

export const TRUSTED_PROXIES_FLAGS = [
  {
    name: 'trusted-proxies',
    value: 'CIDR',
    many: true,
    help: 'Address or block of a load balancer before this machine, which is believed when it says who asks. Repeat it, or separate with commas.',
  },
  {
    name: 'proxy-protocol',
    help: 'These load balancers begin connections with the PROXY protocol.',
  },
] as const;

const isBlock = (text: string): boolean => {
  const [address = '', length, ...more] = text.split('/');
  const version = isIP(address);
  if (version === 0 || more.length > 0 || address.includes('%')) return false;
  return length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= (version === 4 ? 32 : 128));
};

/** @param refuse told what cannot be used */
export const readTrustedProxies = (
  addresses: readonly string[],
  proxyProtocol: boolean,
  refuse: (problem: Problem) => void,
): TrustedProxiesConfig => {
  for (const address of addresses) {
    if (isBlock(address)) continue;
    refuse({
      path: '--trusted-proxies',
      message: `must be an address or a block like 10.0.0.0/8 or 2001:db8::/32, not "${address}"`,
    });
  }
  if (proxyProtocol && addresses.length === 0) {
    refuse({
      path: '--proxy-protocol',
      message: 'needs --trusted-proxies, or anybody could say to be anybody',
    });
  }
  return { addresses, proxyProtocol };
};
