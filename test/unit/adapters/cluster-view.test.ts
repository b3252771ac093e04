/** The control plane's view of the cluster, over a store in memory. */

import { createClusterView } from '../../../adapters/consul/cluster-view';
import type { ConsulClient } from '../../../adapters/consul/consul-client';
import { nodeKvKey, replicaKvKey } from '../../../contracts/kv';
import { buildReplica } from '../../support/builders';
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
