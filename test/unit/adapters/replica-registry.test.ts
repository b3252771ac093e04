/** Who publishes again what stands there already hears under which index. */

import type { ConsulAgent } from '../../../adapters/consul/consul-agent';
import { createReplicaRegistry } from '../../../adapters/consul/replica-registry';
import { buildReplica } from '../../support/builders';

test('what is published again is not written again, and has the index of its write', async () => {
  let index = 6;
  const registry = createReplicaRegistry({} as ConsulAgent, {
    put: async () => ({ index: (index += 1) }),
    remove: () => {
      throw new Error('nothing is removed here');
    },
  });
  const stopping = buildReplica('web-1', 'n1', { state: 'stopping' });
  expect(await registry.publish(stopping)).toBe(7);
  expect(await registry.publish({ ...stopping, updatedAtMs: 1 })).toBe(7);
  expect(await registry.publish({ ...stopping, reason: 'again' })).toBe(8);
});
