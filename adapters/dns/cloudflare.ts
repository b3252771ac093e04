/** TXT records with Cloudflare (API v4), by a token that may edit DNS of the zone. */

import type { DnsProvider } from '../../contracts/acme';

import { askDnsJson, createZoneFinder, TTL_SECONDS, type DnsApiOptions } from './dns-api';

const NAME = 'Cloudflare';

interface Listed {
  readonly result: readonly { readonly id: string; readonly name: string; readonly content?: string }[];
}

/** Some of its answers have the text in quotes, as zone files do. */
const plain = (content: string | undefined): string => (content ?? '').replace(/^"(.*)"$/, '$1');

export const createCloudflareDns = (
  { apiToken }: { readonly apiToken: string },
  { endpoint = 'https://api.cloudflare.com/client/v4' }: DnsApiOptions = {},
): DnsProvider => {
  const ask = (what: string, path: string, method = 'GET', json?: unknown) =>
    askDnsJson({
      provider: NAME,
      what,
      url: `${endpoint}${path}`,
      method,
      headers: { authorization: `Bearer ${apiToken}` },
      // What is deleted already is.
      ...(method === 'DELETE' ? { accepts: [404] } : {}),
      ...(json === undefined ? {} : { json }),
    });

  const zones = createZoneFinder(NAME, async (zone) => {
    const { result } = (await ask('list zones', `/zones?name=${encodeURIComponent(zone)}`)) as Listed;
    return result.find(({ name }) => name === zone);
  });

  const recordsOf = async (zoneId: string, name: string, value: string) => {
    const query = new URLSearchParams({ type: 'TXT', name, per_page: '100' });
    const { result } = (await ask(
      'list TXT records',
      `/zones/${zoneId}/dns_records?${query.toString()}`,
    )) as Listed;
    return result.filter(({ content }) => plain(content) === value);
  };

  return {
    name: NAME,
    handles: zones.handles,
    addTxt: async (name, value) => {
      const { id } = await zones.zoneOf(name);
      if ((await recordsOf(id, name, value)).length > 0) return;
      const record = { type: 'TXT', name, content: value, ttl: TTL_SECONDS };
      await ask('add a TXT record', `/zones/${id}/dns_records`, 'POST', record);
    },
    removeTxt: async (name, value) => {
      const { id } = await zones.zoneOf(name);
      for (const record of await recordsOf(id, name, value)) {
        await ask('remove a TXT record', `/zones/${id}/dns_records/${record.id}`, 'DELETE');
      }
    },
  };
};
