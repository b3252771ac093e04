import { KV_PREFIX, nodeSettingsKvKey, replicasKvPrefix } from '../../../contracts/kv';
import type { NodeAvailability, SnapshotNode } from '../../../domain/model';
import { createSnapshotReader } from '../../../workers/read-snapshot';
import { buildNode, buildReplica } from '../../support/builders';

const KEY = { project: 'default', name: 'web' };

/** A view that follows Consul, once it has caught up, and what is in Consul by now. */
const read = (
  followed: readonly SnapshotNode[],
  settings: Readonly<Record<string, NodeAvailability>>,
  replicas = [buildReplica('web-1-aaaa', 'a')],
) => {
  const there: Readonly<Record<string, readonly unknown[]>> = {
    [KV_PREFIX.nodeSettings]: Object.entries(settings).map(([id, availability]) => ({
      key: nodeSettingsKvKey(id),
      value: { id, availability, setAtMs: 1 },
      index: 9,
    })),
    [replicasKvPrefix(KEY)]: replicas.map((value) => ({ key: value.id, value, index: 8 })),
  };
  const store = {
    list: async <T>(prefix: string) => {
      const found = there[prefix];
      if (found === undefined) throw new Error(`nobody needs ${prefix}`);
      return found as readonly { readonly key: string; readonly value: T; readonly index: number }[];
    },
  };
  let isBehind = true;
  const view = {
    ready: Promise.resolve(),
    catchUp: async () => {
      isBehind = false;
    },
    nodes: () => (isBehind ? [] : followed),
  };
  return createSnapshotReader({ store, view })(KEY);
};

test('a node that was cordoned a moment ago is cordoned, whatever the view has heard of', async () => {
  const { nodes } = await read([buildNode('a'), buildNode('b', { availability: 'draining' })], {
    a: 'cordoned',
  });
  expect(nodes.map(({ id, availability }) => [id, availability])).toEqual([
    ['a', 'cordoned'],
    ['b', 'active'],
  ]);
});

test('the replicas are those that are known by now', async () => {
  const replica = buildReplica('web-1-bbbb', 'a');
  expect((await read([buildNode('a')], {}, [replica])).replicas).toEqual([replica]);
});

test('without a node that is up there is nothing to plan with', async () => {
  await expect(read([buildNode('a', { up: false })], {})).rejects.toMatchObject({ code: 'unavailable' });
});
