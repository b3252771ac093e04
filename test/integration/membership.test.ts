/** A node of a real Consul is lost, comes back, comes and goes, and is removed: what is told of it, and what planners see. */

import { MockActivityEnvironment } from '@temporalio/testing';

import { createClusterActivities } from '../../activities/cluster-activities';
import { createClusterView } from '../../adapters/consul/cluster-view';
import { createConsulClient } from '../../adapters/consul/consul-client';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createConsulLeaseKeys } from '../../adapters/consul/leases';
import { createMembership } from '../../adapters/consul/membership';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { createNodeRemover } from '../../api/remove-node';
import { KV_PREFIX, nodeKvKey, nodeStabilityKvKey, replicaKvKey } from '../../contracts/kv';
import { isUnstable, type NodeStability } from '../../domain/flapping';
import type { ClusterEvent } from '../../domain/model';
import { buildReplica } from '../support/builders';
import { createConsulMember, createConsulServer } from '../support/consul';
import { eventually } from '../support/wait';
import { nodeDocument } from '../unit/api/api-under-test';

const LAN = 'gossip_lan { probe_interval = "500ms", probe_timeout = "250ms", suspicion_mult = 3 }';
const PATIENCE = { timeoutMs: 60_000, intervalMs: 50 };

test('each change is told once, a second loss makes it unstable, and removal ends it all', async () => {
  const server = await createConsulServer(`node_name = "one"\n${LAN}`);
  const member = await createConsulMember(server, 'two', LAN);
  server.start();
  const consul = createConsulClient({ address: server.address });
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  const store = createKeyValueStore({ address: server.address }, warn);
  let suffix = 0;
  const randomSuffix = () => String((suffix += 1)).padStart(8, '0');

  const startWatch = () => {
    const view = createClusterView(consul, createKvStore(consul), () => undefined, warn);
    const told: string[] = [];
    const activities = createClusterActivities({
      store,
      view,
      entities: {
        signal: async (_key, { reason }) => {
          told.push(reason);
          return true;
        },
        operatingOn: async () => [],
        running: async () => new Set(),
        recover: async () => undefined,
      },
      leases: createConsulLeaseKeys(consul),
      imagesAhead: { note: () => undefined, keep: () => Promise.resolve() },
      warn,
      randomSuffix,
    });
    const environment = new MockActivityEnvironment();
    const ended = environment.run(() => activities.watchCluster()).catch(() => undefined);
    return {
      view,
      told,
      stop: async () => {
        environment.cancel();
        await ended;
        view.close();
      },
    };
  };
  const eventTypes = async () =>
    (await store.list<ClusterEvent>(KV_PREFIX.events)).map(({ value }) => value.type);
  const tells = (types: readonly string[]) =>
    eventually(async () => expect(await eventTypes()).toEqual(types), PATIENCE);
  const nodeTwo = (view: ReturnType<typeof startWatch>['view']) =>
    view.nodes().find(({ id }) => id === 'two');

  let watch: ReturnType<typeof startWatch> | undefined;
  try {
    await eventually(() => consul.request({ path: '/catalog/nodes' }), PATIENCE);
    await eventually(async () => {
      const value = nodeDocument('two')[nodeKvKey('two')];
      await store.transact([{ kind: 'set', key: nodeKvKey('two'), value }]);
    }, PATIENCE);
    const replica = buildReplica('web-1', 'two');
    await store.transact([{ kind: 'set', key: replicaKvKey(replica, replica.id), value: replica }]);
    watch = startWatch();
    member.start();
    await eventually(
      async () => expect(await store.get(nodeStabilityKvKey('two'))).toMatchObject({ value: { up: true } }),
      PATIENCE,
    );
    expect(await eventTypes()).toEqual([]);

    await member.kill();
    await tells(['node.lost']);
    expect(watch.told.at(-1)).toBe('node two is lost');
    member.start();
    await tells(['node.lost', 'node.returned']);
    await eventually(() => expect(watch?.told.at(-1)).toBe('node two is back'), PATIENCE);
    expect(nodeTwo(watch.view)?.unstableUntilMs).toBeUndefined();

    // The second loss happens while nobody watches.
    await watch.stop();
    watch = undefined;
    await member.kill();
    await eventually(async () => {
      const { body } = await consul.request<readonly { readonly Status: string }[]>({
        path: '/health/node/two',
      });
      expect(body).toMatchObject([{ Status: 'critical' }]);
    }, PATIENCE);
    watch = startWatch();
    const twice = ['node.lost', 'node.returned', 'node.lost'];
    await tells(twice);
    member.start();
    const unstable = [...twice, 'node.returned', 'node.unstable'];
    await tells(unstable);
    const stability = (await store.get<NodeStability>(nodeStabilityKvKey('two')))?.value;
    expect(stability).toMatchObject({ up: true, losses: 2 });
    await eventually(
      () => expect(nodeTwo(watch!.view)?.unstableUntilMs).toBe(stability?.unstableUntilMs),
      PATIENCE,
    );
    expect(isUnstable(nodeTwo(watch.view) ?? {}, Date.now())).toBe(true);

    await member.kill();
    await tells([...unstable, 'node.lost']);
    const remover = createNodeRemover({
      store,
      membership: createMembership(consul),
      headNodeId: 'one',
      randomSuffix,
      nowMs: Date.now,
    });
    expect(await remover.remove('two')).toBeDefined();
    await eventually(() => expect(watch?.told).toContain('replica web-1 is gone'), PATIENCE);
    expect(watch.view.nodes()).toEqual([]);
    await eventually(
      async () => expect((await consul.request({ path: '/catalog/node/two' })).body).toBeNull(),
      PATIENCE,
    );
    expect(await eventTypes()).toEqual([...unstable, 'node.lost', 'node.removed']);
    expect(await store.get(nodeStabilityKvKey('two'))).toBeUndefined();
    expect(warnings).toEqual([]);
  } finally {
    await watch?.stop();
    store.close();
    consul.close();
    for (const agent of [member, server]) {
      await agent.kill();
      agent.dispose();
    }
  }
}, 240_000);
