/**
 * Keeps within the limits of authorities, where they are known: buckets in Consul KV, for all control planes together.
 *
 * Invariants: what is counted is counted once, by a write that fails when somebody else has counted meanwhile; domains
 * whose bucket is full are not kept.
 */

import type { AcmeLimits, OrderLimiter } from '../../contracts/acme';
import type { KeyValueStore } from '../../contracts/key-value-store';
import { acmeLimitsKvKey } from '../../contracts/kv';
import { timeText } from '../../domain/certificates/acme-problem';
import { limitsOf, take, type OrderLimits } from '../../domain/certificates/rate-limit';
import { ContainerOsError } from '../../domain/errors';
import { withoutWildcard } from '../../domain/ingress/wildcard';

import { directoryId } from './account-store';

export interface OrderLimiterDeps {
  readonly store: Pick<KeyValueStore, 'get' | 'transact'>;
  readonly nowMs: () => number;
  readonly limits?: (directory: string) => OrderLimits | undefined;
}

const RACES = 20;

/** What was bought of a registrar, as the Public Suffix List has it: `example.co.uk`. */
const registeredDomain = async (hostname: string): Promise<string> => {
  const { getDomain } = await import('tldts');
  const name = withoutWildcard(hostname);
  return getDomain(name, { allowPrivateDomains: true }) ?? name;
};

export const createOrderLimiter = ({ store, nowMs, limits = limitsOf }: OrderLimiterDeps): OrderLimiter => ({
  take: async (directory, hostname) => {
    const known = limits(directory);
    if (known === undefined) return undefined;
    const id = directoryId(directory);
    const key = acmeLimitsKvKey(id);
    const domain = await registeredDomain(hostname);
    const waiting = (whose: string, untilMs: number) => ({
      untilMs,
      message: `It waits for its turn: ${new URL(directory).host} issues no more certificates for ${whose} before ${timeText(untilMs)}, so it is not asked.`,
    });
    for (let race = 0; race < RACES; race += 1) {
      const found = await store.get<AcmeLimits>(key);
      const now = nowMs();
      const account = take(known.perAccount, found?.value?.accountFullAtMs, now);
      const ofDomain = take(known.perDomain, found?.value?.domainsFullAtMs[domain], now);
      if (account.kind === 'refused') return waiting('the account of this cluster', account.untilMs);
      if (ofDomain.kind === 'refused') return waiting(domain, ofDomain.untilMs);
      const kept = Object.entries(found?.value?.domainsFullAtMs ?? {}).filter(([, atMs]) => atMs > now);
      const value: AcmeLimits = {
        id,
        accountFullAtMs: account.fullAtMs,
        domainsFullAtMs: { ...Object.fromEntries(kept), [domain]: ofDomain.fullAtMs },
      };
      const written = await store.transact([
        found === undefined
          ? { kind: 'create', key, value }
          : { kind: 'replace', key, value, ifIndex: found.index },
      ]);
      if (written.kind === 'written') return undefined;
    }
    throw new ContainerOsError('unavailable', `Too many orders are counted at the same time; try again.`);
  },
});
