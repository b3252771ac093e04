/** TXT records with DigitalOcean (API v2), by a token that may write domains. */

import type { DnsProvider } from '../../contracts/acme';

import { askDns, askDnsJson, createZoneFinder, nameWithin, TTL_SECONDS, type DnsApiOptions } from './dns-api';

const NAME = 'DigitalOcean';

interface Listed {
  readonly domain_records: readonly { readonly id: number; readonly type: string; readonly data: string }[];
}

export const createDigitalOceanDns = (
  { apiToken }: { readonly apiToken: string },
  { endpoint = 'https://api.digitalocean.com/v2' }: DnsApiOptions = {},
): DnsProvider => {
  const headers = { authorization: `Bearer ${apiToken}` };
  const ask = (what: string, path: string, method = 'GET', json?: unknown) =>
    askDnsJson({
      provider: NAME,
      what,
      url: `${endpoint}${path}`,
      method,
      headers,
      // What is deleted already is.
      ...(method === 'DELETE' ? { accepts: [404] } : {}),
      ...(json === undefined ? {} : { json }),
    });

  const zones = createZoneFinder(NAME, async (zone) => {
    const url = `${endpoint}/domains/${encodeURIComponent(zone)}`;
    const { status } = await askDns({ provider: NAME, what: 'show a domain', url, headers, accepts: [404] });
    return status === 404 ? undefined : { id: zone, name: zone };
  });

  const recordsOf = async (zone: string, name: string, value: string) => {
    const query = new URLSearchParams({ type: 'TXT', name, per_page: '200' });
    const { domain_records: records } = (await ask(
      'list TXT records',
      `/domains/${zone}/records?${query.toString()}`,
    )) as Listed;
    return records.filter(({ type, data }) => type === 'TXT' && data === value);
  };

  return {
    name: NAME,
    handles: zones.handles,
    addTxt: async (name, value) => {
      const zone = (await zones.zoneOf(name)).name;
      if ((await recordsOf(zone, name, value)).length > 0) return;
      const record = { type: 'TXT', name: nameWithin(name, zone), data: value, ttl: TTL_SECONDS };
      await ask('add a TXT record', `/domains/${zone}/records`, 'POST', record);
    },
    removeTxt: async (name, value) => {
      const zone = (await zones.zoneOf(name)).name;
      for (const { id } of await recordsOf(zone, name, value)) {
        await ask('remove a TXT record', `/domains/${zone}/records/${id}`, 'DELETE');
      }
    },
  };
};
