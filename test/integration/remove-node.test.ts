/** Nodes are taken out of a real Consul: lost and running ones, with and without ACLs. */

import { createNodeAccess } from '../../adapters/consul/access';
import {
  createConsulClient,
  kvPath,
  type ConsulClient,
  type ConsulKvEntry,
  type ConsulRequest,
  type ConsulResponse,
} from '../../adapters/consul/consul-client';
import { createMembership } from '../../adapters/consul/membership';
import { identityKvKey } from '../../contracts/kv';
import { createConsulMember, createConsulServer, type ConsulServer } from '../support/consul';
import { eventually } from '../support/wait';

const MANAGEMENT = '11111111-2222-3333-4444-555555555555';
const LAN = 'gossip_lan { probe_interval = "500ms", probe_timeout = "250ms", suspicion_mult = 3 }';
const WITH_ACLS = `
  acl {
    enabled = true
    default_policy = "deny"
    tokens { initial_management = "${MANAGEMENT}", agent = "${MANAGEMENT}" }
  }`;

const opened: ConsulServer[] = [];
const clients: ConsulClient[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const agent of opened.splice(0)) {
    await agent.kill();
    agent.dispose();
  }
});

const clientOf = (agent: ConsulServer, token?: string): ConsulClient => {
  const client = createConsulClient({ address: agent.address, token });
  clients.push(client);
  return client;
};

const startServer = async (acls: string): Promise<{ server: ConsulServer; consul: ConsulClient }> => {
  const server = await createConsulServer(`node_name = "one"\n${LAN}\n${acls}`);
  opened.push(server);
  server.start();
  const consul = clientOf(server, acls === '' ? undefined : MANAGEMENT);
  await eventually(
    async () => {
      const { body } = await consul.request<readonly unknown[]>({ path: '/health/node/one' });
      if (body.length === 0) throw new Error('the server is not in the catalogue yet');
    },
    { timeoutMs: 30_000 },
  );
  return { server, consul };
};

const startMember = async (server: ConsulServer, nodeId: string, hcl = ''): Promise<ConsulServer> => {
  const member = await createConsulMember(server, nodeId, `${LAN}\n${hcl}`);
  opened.push(member);
  member.start();
  return member;
};

/** Its membership by number (1 alive, 4 failed), its check, and its services: undefined where it is not known. */
const stateOf = async (consul: ConsulClient, nodeId: string) => {
  const { body: members } = await consul.request<
    readonly { readonly Name: string; readonly Status: number }[]
  >({
    path: '/agent/members',
  });
  const { body: node } = await consul.request<
    { readonly Services: Readonly<Record<string, unknown>> } | null | undefined
  >({ path: `/catalog/node/${nodeId}` });
  return {
    member: members.find(({ Name }) => Name === nodeId)?.Status,
    services: node ? Object.keys(node.Services) : undefined,
  };
};

const ALIVE = 1;
const FAILED = 4;
const GONE = { member: undefined, services: undefined };
const PATIENCE = { timeoutMs: 30_000, intervalMs: 50 };

/** Of a node that has never joined. */
const free = (nodeId: string) => ({ nodeId, identityIndex: undefined });

/** As a join does it. @returns Consul's index of it */
const writeIdentity = async (consul: ConsulClient, nodeId: string, serial: string): Promise<number> => {
  const path = kvPath(identityKvKey(nodeId));
  await consul.request({ method: 'PUT', path, body: { serial } });
  const { body } = await consul.request<readonly ConsulKvEntry[]>({ path, query: { consistent: true } });
  return body[0]?.ModifyIndex ?? 0;
};

const register = (consul: ConsulClient, nodeId: string) =>
  consul.request({
    method: 'PUT',
    path: '/catalog/register',
    body: { Node: nodeId, SkipNodeUpdate: true, Service: { ID: 'web-1', Service: 'web', Port: 80 } },
  });

/** A removal during which another machine takes the name, at the moment when tokens have been listed. */
const createMembershipThat = <T>(consul: ConsulClient, take: () => Promise<T>) => ({
  removeNode: async (name: { readonly nodeId: string; readonly identityIndex: number | undefined }) => {
    let taken: T | undefined;
    const watched: ConsulClient = {
      ...consul,
      request: async <B>(request: ConsulRequest): Promise<ConsulResponse<B>> => {
        const answer = await consul.request<B>(request);
        if (request.path === '/acl/tokens' && taken === undefined) taken = await take();
        return answer;
      },
    };
    const isRemoved = await createMembership(watched).removeNode(name);
    if (taken === undefined) throw new Error('no tokens were listed');
    return { isRemoved, taken };
  },
});

test('a lost node goes with its membership and its services, and comes as a new one under its name', async () => {
  const { server, consul } = await startServer('');
  const member = await startMember(server, 'two');
  await eventually(
    async () => expect(await stateOf(consul, 'two')).toMatchObject({ member: ALIVE, services: [] }),
    PATIENCE,
  );
  await register(consul, 'two');
  await member.kill();
  await eventually(
    async () => expect(await stateOf(consul, 'two')).toEqual({ member: FAILED, services: ['web-1'] }),
    PATIENCE,
  );
  const membership = createMembership(consul);
  await membership.removeNode(free('two'));
  await eventually(async () => expect(await stateOf(consul, 'two')).toEqual(GONE), PATIENCE);
  await membership.removeNode(free('two'));
  expect(await stateOf(consul, 'one')).toMatchObject({ member: ALIVE });

  // With another address, which Consul lets take over a name half a minute after its holder was lost.
  await startMember(server, 'two');
  await eventually(
    async () => expect(await stateOf(consul, 'two')).toMatchObject({ member: ALIVE, services: [] }),
    { ...PATIENCE, timeoutMs: 150_000 },
  );
}, 240_000);

test('a running node loses its access, its membership for now and its services for good', async () => {
  const { server, consul } = await startServer(WITH_ACLS);
  const { secretId } = await createNodeAccess(consul, 'two');
  const tokens = `acl { enabled = true, default_policy = "deny", tokens { agent = "${secretId}", default = "${secretId}" } }`;
  const member = await startMember(server, 'two', tokens);
  await eventually(
    async () => expect(await stateOf(consul, 'two')).toMatchObject({ member: ALIVE, services: [] }),
    PATIENCE,
  );
  await register(consul, 'two');
  const own = clientOf(member, secretId);
  expect((await own.request<readonly unknown[]>({ path: '/catalog/nodes' })).body).toHaveLength(2);

  await createMembership(consul).removeNode(free('two'));
  await expect(own.request({ path: '/catalog/nodes' })).rejects.toThrow(/ACL not found/);
  // Its agent may be back as a member at any moment; of what it served nothing is.
  expect((await stateOf(consul, 'two')).services ?? []).toEqual([]);
}, 120_000);

test('who takes the name while the removal is under way keeps its token, its membership and its services', async () => {
  const { server, consul } = await startServer(WITH_ACLS);
  const revoked = { nodeId: 'two', identityIndex: await writeIdentity(consul, 'two', 'old') };
  const old = await createNodeAccess(consul, 'two');
  const membership = createMembership(consul);
  const first = await createMembershipThat(consul, async () => {
    await writeIdentity(consul, 'two', 'new');
    return createNodeAccess(consul, 'two');
  }).removeNode(revoked);
  expect(first.isRemoved).toBe(false);
  const { secretId } = first.taken;
  expect(secretId).not.toBe(old.secretId);

  const tokens = `acl { enabled = true, default_policy = "deny", tokens { agent = "${secretId}", default = "${secretId}" } }`;
  const member = await startMember(server, 'two', tokens);
  const own = clientOf(member, secretId);
  await eventually(
    async () => expect(await stateOf(consul, 'two')).toMatchObject({ member: ALIVE, services: [] }),
    PATIENCE,
  );
  await register(consul, 'two');
  // As by another process, or after a restart of this one: it goes on with what it knows.
  for (const late of [revoked, free('two')]) {
    expect(await membership.removeNode(late)).toBe(false);
    expect(await stateOf(consul, 'two')).toEqual({ member: ALIVE, services: ['web-1'] });
    expect((await own.request<readonly unknown[]>({ path: '/catalog/nodes' })).body).toHaveLength(2);
  }
}, 120_000);

test('a node that Consul does not know is no error, and one that cannot be asked is', async () => {
  const { server, consul } = await startServer('');
  const membership = createMembership(consul);
  await membership.removeNode(free('nobody'));
  expect(await stateOf(consul, 'one')).toMatchObject({ member: ALIVE });
  await server.kill();
  await expect(membership.removeNode(free('nobody'))).rejects.toMatchObject({ code: 'unavailable' });
}, 60_000);
