/** DNS providers by their names, and what each wants to know. */

import { readFileSync } from 'node:fs';

import type { DnsProvider } from '../../contracts/acme';

import { createCloudflareDns } from './cloudflare';
import { createDigitalOceanDns } from './digitalocean';
import { createGoogleDns, readServiceAccount } from './google';
import { createHetznerDns } from './hetzner';
import { createRfc2136Dns, whyNoRfc2136, type Rfc2136Credentials } from './rfc2136';
import { createRoute53Dns } from './route53';

export type DnsCredentials = Readonly<Record<string, string>>;

interface Offered {
  /** Names of the credentials, as they stand in the file, or as variables of the environment. */
  readonly credentials: readonly string[];
  /** @returns what is wrong with them, in words that tell no secret; left out: nothing is known before they are used */
  readonly check?: (credentials: DnsCredentials) => string | undefined;
  readonly open: (credentials: DnsCredentials) => DnsProvider;
}

const byToken = (
  variable: string,
  create: (credentials: { readonly apiToken: string }) => DnsProvider,
): Offered => ({
  credentials: [variable],
  open: (credentials) => create({ apiToken: credentials[variable] ?? '' }),
});

const GOOGLE_FILE = 'GCE_SERVICE_ACCOUNT_FILE';

const googleAccount = (credentials: DnsCredentials) =>
  readServiceAccount(readFileSync(credentials[GOOGLE_FILE] ?? '', 'utf8'));

const rfc2136Of = (credentials: DnsCredentials): Rfc2136Credentials => ({
  nameserver: credentials['RFC2136_NAMESERVER'] ?? '',
  keyName: credentials['RFC2136_TSIG_KEY'] ?? '',
  keySecret: credentials['RFC2136_TSIG_SECRET'] ?? '',
});

/** The variables are those that other tools have for the same provider. */
export const DNS_PROVIDERS: Readonly<Record<string, Offered>> = {
  cloudflare: byToken('CLOUDFLARE_API_TOKEN', createCloudflareDns),
  digitalocean: byToken('DIGITALOCEAN_TOKEN', createDigitalOceanDns),
  google: {
    credentials: [GOOGLE_FILE],
    check: (credentials) => {
      try {
        googleAccount(credentials);
        return undefined;
      } catch (error) {
        return `wants in ${GOOGLE_FILE} the path of the key of a service account; ${credentials[GOOGLE_FILE] ?? ''} ${error instanceof RangeError ? error.message : `cannot be read: ${(error as Error).message}`}`;
      }
    },
    open: (credentials) => createGoogleDns(googleAccount(credentials)),
  },
  hetzner: byToken('HCLOUD_TOKEN', createHetznerDns),
  rfc2136: {
    credentials: ['RFC2136_NAMESERVER', 'RFC2136_TSIG_KEY', 'RFC2136_TSIG_SECRET'],
    check: (credentials) => whyNoRfc2136(rfc2136Of(credentials)),
    open: (credentials) => createRfc2136Dns(rfc2136Of(credentials)),
  },
  route53: {
    credentials: ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'],
    open: (credentials) =>
      createRoute53Dns({
        accessKeyId: credentials['AWS_ACCESS_KEY_ID'] ?? '',
        secretAccessKey: credentials['AWS_SECRET_ACCESS_KEY'] ?? '',
      }),
  },
};

/** @throws {RangeError} when there is no such provider */
export const openDnsProvider = (name: string, credentials: DnsCredentials): DnsProvider => {
  const offered = DNS_PROVIDERS[name];
  if (offered === undefined) throw new RangeError(`there is no DNS provider ${name}`);
  return offered.open(credentials);
};
