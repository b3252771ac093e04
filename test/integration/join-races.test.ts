/** Many joins at one moment, over a real Consul and from processes that share nothing else. */

import { createAuthority, createSigningRequest, openAuthority } from '../../adapters/certificates/authority';
import { createConsulClient } from '../../adapters/consul/consul-client';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { createAttemptLimiter } from '../../api/attempt-limiter';
import { createIdentities, followRevocations } from '../../api/join/identities';
import { createJoinNode } from '../../api/join/join-node';
import { createJoinTokens } from '../../api/join/join-tokens';
import { createRefusedJoins } from '../../api/join/refused-joins';
import { KV_PREFIX } from '../../contracts/kv';
import type { NodeIdentity } from '../../domain/identity';
import { parseJoinToken } from '../../domain/join-token';
import { createConsulServer, type ConsulServer } from '../support/consul';
import { eventually } from '../support/wait';

const CLUSTER = 'c0ffee';
const JOINS = 50;

let server: ConsulServer;

beforeAll(async () => {
  server = await createConsulServer();
  server.start();
  const store = createKeyValueStore({ address: server.address }, () => undefined);
  // It answers consistently once it has a leader.
  await eventually(() => store.list(KV_PREFIX.joinTokens), { timeoutMs: 30_000 });
  store.close();
}, 60_000);

afterAll(async () => {
  await server.kill();
  server.dispose();
});

test('of many joins at once as many succeed as the token has uses, and the view follows', async () => {
  const authority = await openAuthority(await createAuthority({ clusterId: CLUSTER, nowMs: Date.now() }));
  const openStore = () => createKeyValueStore({ address: server.address }, () => undefined);
  const stores = [openStore(), openStore(), openStore()];
  const client = createConsulClient({ address: server.address });
  const view = followRevocations(createKvStore(client), () => undefined);
  try {
    const [store = openStore()] = stores;
    const tokens = createJoinTokens({
      store,
      clusterAddress: '192.0.2.1:7443',
      authorityFingerprint: authority.fingerprint,
      nowMs: Date.now,
    });
    const joins = stores.map((one) =>
      createJoinNode({
        store: one,
        authority,
        clusterId: CLUSTER,
        headNodeId: 'first',
        limiter: createAttemptLimiter(),
        refusedJoins: createRefusedJoins(),
        nowMs: Date.now,
        onEventLost: () => undefined,
      }),
    );
    for (const [uses, prefix] of [
      [1, 'a'],
      [3, 'b'],
    ] as const) {
      const made = await tokens.create({ uses });
      const { id: tokenId, secret } = parseJoinToken(made.token);
      const requests = await Promise.all(
        Array.from({ length: JOINS }, async (_, at) => ({
          tokenId,
          secret,
          nodeId: `${prefix}-${at}`,
          signingRequestPem: (await createSigningRequest(`${prefix}-${at}`)).signingRequestPem,
          nowMs: Date.now(),
          dockerVersion: '27.3.1',
          architecture: 'amd64',
          containerosVersion: '1.0.0',
        })),
      );
      const outcomes = await Promise.allSettled(
        requests.map(async (request, at) => joins[at % joins.length]?.(() => request, `192.0.2.${at}`)),
      );
      const refused = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
      expect(refused).toHaveLength(JOINS - uses);
      for (const reason of refused) {
        expect(reason).toMatchObject({ message: expect.stringMatching(/used as often/) as string });
      }
      const identities = (await store.list<NodeIdentity>(KV_PREFIX.identities)).map(({ value }) => value);
      const admitted = identities.filter(({ joinedWith }) => joinedWith === tokenId);
      expect(admitted).toHaveLength(uses);
      const token = (await tokens.list()).find(({ id }) => id === tokenId);
      expect(token?.usesLeft).toBe(0);
      expect([...(token?.usedBy ?? [])].sort()).toEqual(admitted.map(({ nodeId }) => nodeId).sort());
      for (const { nodeId, serial } of admitted) {
        await view.refresh();
        expect(view.isRevoked(nodeId, serial)).toBe(false);
        await createIdentities({ store, authority, clusterId: CLUSTER, nowMs: Date.now }).revokeNode(nodeId);
        await eventually(() => expect(view.isRevoked(nodeId, serial)).toBe(true), {
          timeoutMs: 10_000,
        });
      }
    }
  } finally {
    view.close();
    client.close();
    for (const store of stores) store.close();
  }
}, 60_000);
