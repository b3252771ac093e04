/** Who has a hostname. */

import { knownOwnerOf } from '../../../contracts/hostname-owners';
import { hostnameKvKey, microserviceKvKey } from '../../../contracts/kv';
import { createMemoryStore } from '../../support/memory-store';

const keyOf = (name: string) => ({ project: 'default', name });

const storeWith = async (known: readonly string[], claims: Readonly<Record<string, string>>) => {
  const store = createMemoryStore();
  await store.transact([
    ...known.map((name) => ({
      kind: 'set' as const,
      key: microserviceKvKey(keyOf(name)),
      value: keyOf(name),
    })),
    ...Object.entries(claims).map(([claim, name]) => ({
      kind: 'set' as const,
      key: hostnameKvKey(claim),
      value: keyOf(name),
    })),
  ]);
  return store;
};

test.each([
  ['the hostname itself', { 'a.org': 'shop', 'a.org/api': 'other' }, 'shop'],
  ['a path of it', { 'a.org/api': 'shop' }, 'shop'],
  ['a path, while who has the hostname is not known', { 'a.org': 'unknown', 'a.org/x': 'shop' }, 'shop'],
  ['a path, while who has another is not known', { 'a.org/a': 'unknown', 'a.org/b': 'shop' }, 'shop'],
  ['nothing that is known', { 'a.org': 'unknown', 'a.org/x': 'unknown' }, undefined],
  ['other hostnames', { 'a.org.uk': 'shop', 'b.a.org/x': 'shop', org: 'shop' }, undefined],
])('who has %s', async (_what, claims, expected) => {
  const store = await storeWith(['shop', 'other'], claims);
  expect((await knownOwnerOf(store, 'a.org'))?.name).toBe(expected);
});
