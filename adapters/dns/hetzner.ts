/** TXT records with Hetzner (the DNS of the Cloud API), by a token of the project that has the zone. */

import type { DnsProvider } from '../../contracts/acme';

import { askDns, askDnsJson, createZoneFinder, nameWithin, TTL_SECONDS, type DnsApiOptions } from './dns-api';

const NAME = 'Hetzner';

interface Shown {
  readonly rrset: { readonly records: readonly { readonly value: string }[] };
}

/** It takes and gives texts in quotes, as zone files do. */
const quoted = (value: string): string => `"${value}"`;

export const createHetznerDns = (
  { apiToken }: { readonly apiToken: string },
  { endpoint = 'https://api.hetzner.cloud/v1' }: DnsApiOptions = {},
): DnsProvider => {
  const headers = { authorization: `Bearer ${apiToken}` };

  const zones = createZoneFinder(NAME, async (zone) => {
    const url = `${endpoint}/zones/${encodeURIComponent(zone)}`;
    const { status } = await askDns({ provider: NAME, what: 'show a zone', url, headers, accepts: [404] });
    return status === 404 ? undefined : { id: zone, name: zone };
  });

  const setOf = async (name: string): Promise<string> => {
    const zone = (await zones.zoneOf(name)).name;
    return `${endpoint}/zones/${encodeURIComponent(zone)}/rrsets/${encodeURIComponent(nameWithin(name, zone))}/TXT`;
  };

  const has = async (url: string, value: string): Promise<boolean> => {
    const what = 'list TXT records';
    const { status, text } = await askDns({ provider: NAME, what, url, headers, accepts: [404] });
    if (status === 404) return false;
    return (JSON.parse(text) as Shown).rrset.records.some((one) => one.value === quoted(value));
  };

  const change = (what: string, url: string, json: unknown) =>
    askDnsJson({ provider: NAME, what, url, method: 'POST', headers, json });

  return {
    name: NAME,
    handles: zones.handles,
    addTxt: async (name, value) => {
      const url = await setOf(name);
      if (await has(url, value)) return;
      const records = [{ value: quoted(value) }];
      await change('add a TXT record', `${url}/actions/add_records`, { records, ttl: TTL_SECONDS });
    },
    removeTxt: async (name, value) => {
      const url = await setOf(name);
      if (!(await has(url, value))) return;
      const records = [{ value: quoted(value) }];
      await change('remove a TXT record', `${url}/actions/remove_records`, { records });
    },
  };
};
