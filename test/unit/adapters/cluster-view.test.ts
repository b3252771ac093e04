/** The control plane's view of the cluster, over a store in memory. */

import { createClusterView } from '../../../adapters/consul/cluster-view';
import type { ConsulClient } from '../../../adapters/consul/consul-client';
import { nodeKvKey, nodeStabilityKvKey, replicaKvKey } from '../../../contracts/kv';
import { afterPeriod, firstSeen } from '../../../domain/flapping';
import type { ObservedNode } from '../../../domain/model';
import { NOW_MS, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';
import { nodeDocument, replicaDocument } from '../api/api-under-test';
import { createFakeKv } from '../api/fake-kv';

/** Knows one member, and answers no second time. */
const oneMember = (name: string): ConsulClient => {
  let isAsked = false;
  return {
    address: 'http://consul',
    request: <T>() => {
      if (isAsked) return new Promise<never>(() => undefined);
      isAsked = true;
      return Promise.resolve({ status: 200, index: 7, body: [{ Node: name, Status: 'passing' }] as T });
    },
    close: () => undefined,
  };
};

test.each(['', '[]', 'null', '"x"', '{}', '{"id": 7}'])(
  'documents that are %j are told of, and the others are there',
  async (text) => {
    const kv = createFakeKv();
    const told: string[] = [];
    const badReplica = replicaKvKey({ project: 'default', name: 'web' }, 'web-2');
    kv.put({ ...nodeDocument('node-1'), ...replicaDocument(buildReplica('web-1', 'node-1')) });
    kv.putText(nodeKvKey('node-2'), text);
    kv.putText(badReplica, text);
    const failures: unknown[] = [];
    const view = createClusterView(
      oneMember('node-1'),
      kv,
      (error) => failures.push(error),
      (message) => told.push(message.split(' ')[0] ?? ''),
    );
    try {
      await view.ready;
      expect(view.nodes().map(({ id, up, replicaCount }) => ({ id, up, replicaCount }))).toEqual([
        { id: 'node-1', up: true, replicaCount: 1 },
      ]);
      expect(view.replicas().map(({ id }) => id)).toEqual(['web-1']);
      expect(told.sort()).toEqual([nodeKvKey('node-2'), badReplica]);
      expect(failures).toEqual([]);
    } finally {
      view.close();
    }
  },
);

test('until when a node comes and goes is a part of it, for as long as it stands in the store', async () => {
  const kv = createFakeKv();
  const stability = { ...firstSeen('node-1', NOW_MS), losses: 2, unstableUntilMs: NOW_MS + 1 };
  kv.put({ ...nodeDocument('node-1'), ...nodeDocument('node-2'), [nodeStabilityKvKey('node-1')]: stability });
  const unexpected = (what: unknown) => {
    throw new Error(String(what));
  };
  const view = createClusterView(oneMember('node-1'), kv, unexpected, unexpected);
  const seen = () => view.nodes().map((node) => node.unstableUntilMs);
  try {
    await view.ready;
    expect(seen()).toEqual([NOW_MS + 1, undefined]);
    kv.put({ [nodeStabilityKvKey('node-1')]: afterPeriod(stability) });
    await eventually(() => expect(seen()).toEqual([undefined, undefined]));
    kv.put({ [nodeStabilityKvKey('node-1')]: stability });
    await eventually(() => expect(seen()).toEqual([NOW_MS + 1, undefined]));
    kv.delete(nodeStabilityKvKey('node-1'));
    await eventually(() => expect(seen()).toEqual([undefined, undefined]));
  } finally {
    view.close();
  }
});

test('it is told when the engine of a node does not answer for long, and when it answers again', async () => {
  const kv = createFakeKv();
  const lost = { ...(nodeDocument('node-1')[nodeKvKey('node-1')] as ObservedNode), engineLostAtMs: NOW_MS };
  kv.put(nodeDocument('node-1'));
  const unexpected = (what: unknown) => {
    throw new Error(String(what));
  };
  const view = createClusterView(oneMember('node-1'), kv, unexpected, unexpected);
  const told: unknown[] = [];
  try {
    await view.ready;
    view.subscribe((change) => told.push(change.kind === 'node' ? (change.engine ?? 'same') : change.kind));
    kv.put({ [nodeKvKey('node-1')]: lost });
    await eventually(() => expect(told).toEqual(['lost']));
    expect(view.nodes()).toMatchObject([{ id: 'node-1', engineLostAtMs: NOW_MS }]);
    kv.put({ [nodeKvKey('node-1')]: { ...lost, cpuPercent: 99 } });
    await eventually(() => expect(told).toEqual(['lost', 'same']));
    kv.put(nodeDocument('node-1'));
    await eventually(() => expect(told).toEqual(['lost', 'same', 'back']));
  } finally {
    view.close();
  }
});
