/** Round-trip times of a real Consul, with a member that may read only. */

import { createNodeAccess } from '../../adapters/consul/access';
import { createConsulClient } from '../../adapters/consul/consul-client';
import {
  measureFarthest,
  measureRoundTrips,
  ownCoordinate,
  writeCoordinate,
} from '../../adapters/consul/round-trips';
import { LAN_BELOW_MS } from '../../domain/gossip-profile';
import { createConsulMember, createConsulServer } from '../support/consul';
import { eventually } from '../support/wait';

const MANAGEMENT = '11111111-2222-3333-4444-555555555555';
const PATIENCE = { timeoutMs: 60_000, intervalMs: 100 };
const aclOf = (tokens: string) => `acl { enabled = true, default_policy = "deny", tokens { ${tokens} } }`;

test('a reader knows its coordinate, may not tell it, and is measured when the control plane does', async () => {
  const server = await createConsulServer(
    `node_name = "one"\n${aclOf(`initial_management = "${MANAGEMENT}", agent = "${MANAGEMENT}"`)}`,
  );
  server.start();
  const consul = createConsulClient({ address: server.address, token: MANAGEMENT });
  const agents = [server];
  const clients = [consul];
  try {
    await eventually(() => consul.request({ path: '/acl/token/self' }), PATIENCE);
    const { secretId } = await createNodeAccess(consul, 'two');
    const tokens = aclOf(`agent = "${secretId}", default = "${secretId}"`);
    const member = await createConsulMember(server, 'two', tokens);
    agents.unshift(member);
    member.start();
    const own = createConsulClient({ address: member.address, token: secretId });
    clients.push(own);
    await eventually(async () => {
      const { body } = await consul.request<readonly unknown[]>({ path: '/health/node/two' });
      expect(body).toHaveLength(1);
    }, PATIENCE);

    const coordinate = await ownCoordinate(own);
    if (coordinate === undefined) throw new Error('the agent has no coordinate');
    await expect(writeCoordinate(own, 'two', coordinate)).rejects.toThrow(/Permission denied/);
    expect(await measureRoundTrips(consul, 'two')).toEqual([]);

    await writeCoordinate(consul, 'two', coordinate);
    const trips = await eventually(async () => {
      const found = await measureRoundTrips(consul, 'two');
      expect(found.map(({ from, to }) => [from, to])).toEqual([['two', 'one']]);
      return found;
    }, PATIENCE);
    const [trip] = trips;
    expect(trip?.roundTripMs).toBeGreaterThan(0);
    expect(trip?.roundTripMs).toBeLessThan(LAN_BELOW_MS);
    expect((await measureFarthest(consul)).map(({ from, to }) => [from, to])).toEqual([
      ['one', 'two'],
      ['two', 'one'],
    ]);
  } finally {
    for (const client of clients) client.close();
    for (const agent of agents) {
      await agent.kill();
      agent.dispose();
    }
  }
}, 180_000);
