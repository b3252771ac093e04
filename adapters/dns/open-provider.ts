/** DNS providers by their names, and what each wants to know. */

import type { DnsProvider } from '../../contracts/acme';

import { createCloudflareDns } from './cloudflare';
import { createDigitalOceanDns } from './digitalocean';
import { createHetznerDns } from './hetzner';
import { createRoute53Dns } from './route53';

export type DnsCredentials = Readonly<Record<string, string>>;

interface Offered {
  /** Names of the credentials, as they stand in the file, or as variables of the environment. */
  readonly credentials: readonly string[];
  readonly open: (credentials: DnsCredentials) => DnsProvider;
}

const byToken = (
  variable: string,
  create: (credentials: { readonly apiToken: string }) => DnsProvider,
): Offered => ({
  credentials: [variable],
  open: (credentials) => create({ apiToken: credentials[variable] ?? '' }),
});

/** The variables are those that other tools have for the same provider. */
export const DNS_PROVIDERS: Readonly<Record<string, Offered>> = {
  cloudflare: byToken('CLOUDFLARE_API_TOKEN', createCloudflareDns),
  digitalocean: byToken('DIGITALOCEAN_TOKEN', createDigitalOceanDns),
  hetzner: byToken('HCLOUD_TOKEN', createHetznerDns),
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
