/** What the control plane's activities do with documents that cannot be read. */

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
