/** How hostnames and public ports are claimed, and what becomes of documents that cannot be read. */

import { createControlPlaneActivities } from '../../../activities/control-plane-activities';
import { hostnameKvKey } from '../../../contracts/kv';
import { createMemoryStore } from '../../support/memory-store';
import { eventually } from '../../support/wait';

test('a hostname whose record cannot be read belongs to whoever asks for it next', async () => {
  const memory = createMemoryStore();
  const key = hostnameKvKey('a.example.com');
  await memory.transact([{ kind: 'set', key, value: 'nobody can read this' }]);
  const activities = createControlPlaneActivities({
    confirmTraffic: () => Promise.resolve([]),
    // As the store of Consul has it: what cannot be read is in no list, and has no value.
    store: {
      ...memory,
      list: async (prefix) =>
        (await memory.list<never>(prefix)).filter(({ value }) => typeof value === 'object'),
      get: async <T>(name: string) => {
        const found = await memory.get<T>(name);
        return found && { ...found, value: typeof found.value === 'object' ? found.value : undefined };
      },
    },
    readSnapshot: () => Promise.reject(new Error('nothing is planned here')),
    randomSuffix: () => 'suffix00',
  });
  const claim = { project: 'default', name: 'web', hostnames: ['a.example.com'] };
  await eventually(async () => expect(await activities.claimHostnames(claim)).toEqual({ kind: 'claimed' }));
  const other = { ...claim, name: 'other' };
  expect(await activities.claimHostnames(other)).toMatchObject({ kind: 'conflict', owner: 'web' });
});

test('a public port is claimed together with hostnames, held by one, moved in one step, and given back', async () => {
  const store = createMemoryStore();
  const activities = createControlPlaneActivities({
    confirmTraffic: () => Promise.resolve([]),
    store,
    readSnapshot: () => Promise.reject(new Error('nothing is planned here')),
    randomSuffix: () => 'suffix00',
  });
  const ownerOf = async (claim: string) =>
    (await store.get<{ readonly name: string }>(hostnameKvKey(claim)))?.value?.name;
  const [first, second] = ['first', 'second'].map((name) => ({ project: 'default', name }));
  if (first === undefined || second === undefined) throw new Error('there are two');
  const claims = { hostnames: ['a.example.com', 'tcp:5432'] };
  expect(await activities.claimHostnames({ ...first, ...claims })).toEqual({ kind: 'claimed' });
  // All of what somebody asks for, or nothing of it.
  expect(await activities.claimHostnames({ ...second, hostnames: ['tcp:5432', 'udp:5432'] })).toEqual({
    kind: 'conflict',
    hostname: 'tcp:5432',
    owner: 'first',
  });
  expect(
    await activities.claimHostnames({ ...second, hostnames: ['b.example.com', ...claims.hostnames] }),
  ).toEqual({
    kind: 'conflict',
    hostname: 'a.example.com',
    owner: 'first',
    others: [{ hostname: 'tcp:5432', owner: 'first' }],
  });
  expect(await ownerOf('udp:5432')).toBeUndefined();
  expect(
    await activities.claimHostnames({ ...second, hostnames: ['tcp:5432', 'udp:5432'], moves: true }),
  ).toEqual({ kind: 'claimed', moving: [{ hostname: 'tcp:5432', owner: 'first' }] });
  expect(await ownerOf('tcp:5432')).toBe('first');
  await activities.moveHostnames({ ...second, hostnames: ['tcp:5432'] });
  expect(await ownerOf('tcp:5432')).toBe('second');
  await activities.releaseHostnames({ ...second, keep: ['tcp:5432'] });
  expect([await ownerOf('tcp:5432'), await ownerOf('udp:5432')]).toEqual(['second', undefined]);
  await activities.releaseHostnames({ ...second, keep: [] });
  expect([await ownerOf('tcp:5432'), await ownerOf('a.example.com')]).toEqual([undefined, 'first']);
});
