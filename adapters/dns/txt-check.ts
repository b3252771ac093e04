/**
 * Waits until the authoritative servers of a zone tell a TXT record: authorities ask those, and caches of others would
 * keep for long that there was none.
 *
 * Invariant: every server of the zone that answers has to have the record.
 */

import { Resolver } from 'node:dns/promises';

import type { TxtCheck } from '../../contracts/acme';

import { pause } from '../pause';
import { hostInUrl } from '../../domain/host-port';

export interface TxtCheckOptions {
  /** Address and port of a DNS server; left out: those of the machine. */
  readonly resolver?: string;
  readonly patienceMs?: number;
  readonly everyMs?: number;
}

const PATIENCE_MS = 10 * 60_000;
const EVERY_MS = 3_000;

const resolverAt = (servers?: readonly string[]): Resolver => {
  const resolver = new Resolver({ timeout: 3_000, tries: 2 });
  if (servers !== undefined) resolver.setServers(servers);
  return resolver;
};

/** Addresses of the servers that answer for the zone in which a name stands. Empty when that cannot be found out. */
const serversOf = async (resolver: Resolver, name: string): Promise<readonly string[]> => {
  const labels = name.split('.');
  for (let from = 1; from < labels.length - 1; from += 1) {
    const zone = labels.slice(from).join('.');
    try {
      const names = await resolver.resolveNs(zone);
      const found = await Promise.allSettled(
        names.flatMap((one) => [resolver.resolve4(one), resolver.resolve6(one)]),
      );
      const addresses = found.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
      if (addresses.length > 0) return addresses;
    } catch {
      // No zone begins here; one label less may be one.
    }
  }
  return [];
};

type Told = 'yes' | 'no' | 'silent';

const tells = async (resolver: Resolver, name: string, value: string): Promise<Told> => {
  try {
    const records = await resolver.resolveTxt(name);
    return records.some((parts) => parts.join('') === value) ? 'yes' : 'no';
  } catch (error) {
    return ['ENOTFOUND', 'ENODATA'].includes((error as { readonly code: string }).code) ? 'no' : 'silent';
  }
};

export const createTxtCheck = ({
  resolver: server,
  patienceMs = PATIENCE_MS,
  everyMs = EVERY_MS,
}: TxtCheckOptions = {}): TxtCheck => {
  return async (name, value, signal) => {
    const own = resolverAt(server === undefined ? undefined : [server]);
    const servers = await serversOf(own, name);
    // IPv6 needs brackets where a port may follow.
    const asked = servers.length === 0 ? [own] : servers.map((one) => resolverAt([hostInUrl(one)]));
    const endsAtMs = Date.now() + patienceMs;
    for (;;) {
      const told = await Promise.all(asked.map((one) => tells(one, name, value)));
      const silent = told.filter((one) => one === 'silent').length;
      if (told.includes('yes') && !told.includes('no')) return undefined;
      signal.throwIfAborted();
      if (Date.now() > endsAtMs) {
        const missing = told.filter((one) => one === 'no').length;
        return `after ${Math.round(patienceMs / 60_000)} minutes ${missing} of ${asked.length} servers of the zone do not tell it, and ${silent} do not answer`;
      }
      await pause(everyMs, signal);
    }
  };
};
