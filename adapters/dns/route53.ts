/**
 * TXT records with AWS Route 53 (API 2013-04-01), by the key of a user who may list zones and change their records.
 *
 * It keeps all values of a name as one set, which is written whole: two that change the same set at the same moment may
 * undo what the other did, and then the proof fails and is tried again.
 */

import type { DnsProvider } from '../../contracts/acme';

import { signAws, type AwsKeys } from './aws-signature';
import { askDns, createZoneFinder, TTL_SECONDS, type DnsApiOptions } from './dns-api';

const NAME = 'Route 53';
/** It is one service for all regions, and signed for this one. */
const REGION = 'us-east-1';

const plain = (xml: string): string =>
  xml.replaceAll('&quot;', '"').replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');

const partsOf = (xml: string, element: string): readonly string[] =>
  [...xml.matchAll(new RegExp(`<${element}>(.*?)</${element}>`, 'gs'))].map(([, text = '']) => text);

const textOf = (xml: string, element: string): string => plain(partsOf(xml, element)[0] ?? '');

interface TxtSet {
  readonly values: readonly string[];
  readonly ttl: number;
}

const changeOf = (action: 'UPSERT' | 'DELETE', name: string, { values, ttl }: TxtSet): string =>
  `<?xml version="1.0" encoding="UTF-8"?>
<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch><Changes><Change><Action>${action}</Action><ResourceRecordSet><Name>${name}.</Name><Type>TXT</Type><TTL>${ttl}</TTL><ResourceRecords>${values
    .map((value) => `<ResourceRecord><Value>"${value}"</Value></ResourceRecord>`)
    .join(
      '',
    )}</ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`;

/** Of what is compared with names: without the last dot, in lower case, a star as itself. */
const nameOf = (xml: string): string => xml.replace(/\.$/, '').replaceAll('\\052', '*').toLowerCase();

export const createRoute53Dns = (
  keys: AwsKeys,
  { endpoint = 'https://route53.amazonaws.com' }: DnsApiOptions = {},
): DnsProvider => {
  const ask = async (what: string, path: string, method = 'GET', body = ''): Promise<string> => {
    const url = new URL(`${endpoint}/2013-04-01${path}`);
    const date = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
    const { text } = await askDns({
      provider: NAME,
      what,
      url: url.toString(),
      method,
      headers: {
        ...signAws(keys, { method, url, body, date, region: REGION, service: 'route53' }),
        ...(body === '' ? {} : { 'content-type': 'application/xml' }),
      },
      ...(body === '' ? {} : { body }),
    });
    return text;
  };

  const zones = createZoneFinder(NAME, async (zone) => {
    const query = new URLSearchParams({ dnsname: zone, maxitems: '10' });
    const xml = await ask('list zones', `/hostedzonesbyname?${query.toString()}`);
    // One that is private is seen by nobody outside.
    const found = partsOf(xml, 'HostedZone').find(
      (one) => nameOf(textOf(one, 'Name')) === zone && textOf(one, 'PrivateZone') !== 'true',
    );
    return found === undefined
      ? undefined
      : { id: textOf(found, 'Id').replace(/^\/hostedzone\//, ''), name: zone };
  });

  const setOf = async (zone: string, name: string): Promise<TxtSet> => {
    const query = new URLSearchParams({ name, type: 'TXT', maxitems: '1' });
    const xml = await ask('list TXT records', `/hostedzone/${zone}/rrset?${query.toString()}`);
    const found = partsOf(xml, 'ResourceRecordSet').find(
      (one) => nameOf(textOf(one, 'Name')) === name && textOf(one, 'Type') === 'TXT',
    );
    if (found === undefined) return { values: [], ttl: TTL_SECONDS };
    return {
      values: partsOf(found, 'Value').map((value) => plain(value).replace(/^"(.*)"$/, '$1')),
      ttl: Number(textOf(found, 'TTL')),
    };
  };

  const change = (what: string, zone: string, body: string) =>
    ask(what, `/hostedzone/${zone}/rrset/`, 'POST', body);

  return {
    name: NAME,
    handles: zones.handles,
    addTxt: async (name, value) => {
      const { id } = await zones.zoneOf(name);
      const { values } = await setOf(id, name);
      if (values.includes(value)) return;
      const all = { values: [...values, value], ttl: TTL_SECONDS };
      await change('add a TXT record', id, changeOf('UPSERT', name, all));
    },
    removeTxt: async (name, value) => {
      const { id } = await zones.zoneOf(name);
      const set = await setOf(id, name);
      if (!set.values.includes(value)) return;
      const kept = set.values.filter((one) => one !== value);
      const body =
        kept.length === 0
          ? changeOf('DELETE', name, set)
          : changeOf('UPSERT', name, { values: kept, ttl: set.ttl });
      await change('remove a TXT record', id, body);
    },
  };
};
