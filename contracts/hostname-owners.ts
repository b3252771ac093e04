/** Who has a hostname: itself, or paths of it, which may be those of several microservices. */

import type { Microservice, MicroserviceKey } from '../domain/model';

import type { KeyValueStore } from './key-value-store';
import { hostnameKvKey, microserviceKvKey } from './kv';

/**
 * @param hostname in lower case
 * @returns the first microservice that is known and has the hostname, or a path of it; undefined when none does
 */
export const knownOwnerOf = async (
  store: Pick<KeyValueStore, 'get' | 'list'>,
  hostname: string,
): Promise<Microservice | undefined> => {
  const key = hostnameKvKey(hostname);
  const whole = (await store.get<MicroserviceKey>(key))?.value;
  const ofPaths = await store.list<MicroserviceKey>(`${key}/`);
  const claims = [...(whole === undefined ? [] : [whole]), ...ofPaths.map(({ value }) => value)];
  for (const owner of new Set(claims.map(microserviceKvKey))) {
    const found = (await store.get<Microservice>(owner))?.value;
    if (found !== undefined) return found;
  }
  return undefined;
};
