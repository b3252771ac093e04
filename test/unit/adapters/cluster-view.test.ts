/** The control plane's view of the cluster, over a store in memory. */

import { createClusterView } from '../../../adapters/consul/cluster-view';
import type { ConsulClient } from '../../../adapters/consul/consul-client';
import { nodeKvKey, nodeStabilityKvKey, replicaKvKey } from '../../../contracts/kv';
import { DOUBT_MS, LOST_FOR_A_WHILE_MS } from '../../../domain/doubted-losses';
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

/** Says what the members are, and then what they become. */
const changingMembers = () => {
  let index = 0;
  let body: readonly unknown[] = [];
  let answer: (() => void) | undefined;
  const consul: ConsulClient = {
    address: 'http://consul',
    request: async <T>({ wait }: { readonly wait?: { readonly index: number } }) => {
      if (index === 0 || wait?.index === index) await new Promise<void>((resolve) => (answer = resolve));
      return { status: 200, index, body: body as T };
    },
    close: () => undefined,
  };
  const say = (members: Readonly<Record<string, boolean>>) => {
    index += 1;
    body = Object.entries(members).map(([Node, up]) => ({ Node, Status: up ? 'passing' : 'critical' }));
    answer?.();
  };
  return { consul, say };
};

test('a node that is lost while another one is away is told to be lost only when it stays so', async () => {
  const { consul, say } = changingMembers();
  const unexpected = (what: unknown) => {
    throw new Error(String(what));
  };
  let skippedMs = 0;
  const nowMs = () => performance.now() + skippedMs;
  const view = createClusterView(consul, createFakeKv(), unexpected, unexpected, nowMs);
  const told: string[] = [];
  view.subscribe((change) => {
    if (change.kind === 'membership') told.push(`${change.nodeId} ${change.up ? 'is there' : 'is lost'}`);
  });
  const tells = async (...words: readonly string[]) => {
    await eventually(() => expect(told).toEqual(words));
    told.length = 0;
  };
  try {
    say({ a: true, b: true, c: true });
    await view.ready;
    await tells('a is there', 'b is there', 'c is there');
    say({ a: true, b: true, c: false });
    await tells('c is lost');
    skippedMs += LOST_FOR_A_WHILE_MS;
    // The one comes back and says that another is lost, which contradicts; then that one is lost.
    say({ a: true, b: false, c: true });
    await tells('c is there');
    say({ a: true, b: true, c: true, d: true });
    await tells('d is there');
    const lostAtMs = performance.now();
    say({ a: true, b: false, c: true, d: true });
    await tells('b is lost');
    expect(performance.now() - lostAtMs).toBeGreaterThanOrEqual(DOUBT_MS - 5);
  } finally {
    view.close();
  }
});
