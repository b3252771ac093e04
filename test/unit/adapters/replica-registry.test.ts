/** Who publishes again what stands there already hears under which index; checks of before say nothing. */

import type { AgentServiceDefinition, ConsulAgent } from '../../../adapters/consul/consul-agent';
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

test('only the checks of a service that was registered since Consul is back are its own', async () => {
  const asked: (readonly [string, () => void])[] = [];
  const agent = {
    register: ({ Checks }: AgentServiceDefinition) =>
      new Promise<void>((resolve) => asked.push([Checks[0]?.CheckID ?? '', resolve])),
  } as ConsulAgent;
  const registry = createReplicaRegistry(agent, {
    put: async () => ({ index: 1 }),
    remove: async () => ({ index: 1 }),
  });
  const service = {
    ID: 'web-1-main-80',
    Checks: [{ CheckID: 'web-1-main-80:0' }],
  } as unknown as AgentServiceDefinition;
  const register = async (): Promise<string> => {
    const registered = registry.register([service]);
    await Promise.resolve();
    const [checkId, done] = asked.at(-1) ?? ['', () => undefined];
    done();
    await registered;
    return checkId;
  };
  const early = await register();
  expect(registry.isOwnCheck('web-1-main-80', early)).toBe(true);
  expect(registry.isOwnCheck('web-2-main-80', early)).toBe(false);

  registry.forgetWhatIsKnown();
  registry.assumeRegistered(['web-1-main-80']);
  expect(registry.isRegisteredAnew('web-1-main-80')).toBe(false);
  expect(registry.isOwnCheck('web-1-main-80', early)).toBe(false);
  const late = await register();
  expect(registry.isOwnCheck('web-1-main-80', early)).toBe(false);
  expect(registry.isOwnCheck('web-1-main-80', late)).toBe(true);

  // Consul was away while the service was registered.
  registry.forgetWhatIsKnown();
  const registered = registry.register([service]);
  await Promise.resolve();
  registry.forgetWhatIsKnown();
  asked.at(-1)?.[1]();
  await registered;
  expect(registry.isRegistered('web-1-main-80')).toBe(true);
  expect(registry.isRegisteredAnew('web-1-main-80')).toBe(false);
});
