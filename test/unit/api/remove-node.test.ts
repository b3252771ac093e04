/** Removing nodes: what is refused with what advice, what is left of one, and what a removal that failed half-way leaves. */

import { KV_PREFIX, identityKvKey, nodeSettingsKvKey, nodeStabilityKvKey } from '../../../contracts/kv';
import { ContainerOsError } from '../../../domain/errors';
import { firstSeen } from '../../../domain/flapping';
import type { NodeIdentity } from '../../../domain/identity';
import type { ClusterEvent } from '../../../domain/model';
import { removedNodeSchema, type ProblemBody } from '../../../openapi/schemas';
import { NOW_MS, buildReplica } from '../../support/builders';
import { eventually } from '../../support/wait';

import { nodeDocument, replicaDocument, useApi } from './api-under-test';

const removed: string[] = [];
let consulIsAway = false;
const use = useApi({
  removeMember: async ({ nodeId }) => {
    if (consulIsAway) throw new ContainerOsError('unavailable', 'Consul is away.');
    removed.push(nodeId);
    return true;
  },
});
beforeEach(() => {
  removed.splice(0);
  consulIsAway = false;
});

const IDENTITY: NodeIdentity = {
  nodeId: 'node-2',
  serial: '1f',
  publicKeyHash: 'a'.repeat(64),
  joinedWith: 'token',
  issuedAtMs: NOW_MS,
  expiresAtMs: NOW_MS + 1,
};

const documents = async (prefix: string) => (await use.api.kv.list(prefix)).documents;
const events = async () =>
  (await documents(KV_PREFIX.events)).map(({ text }) => JSON.parse(text) as ClusterEvent);
const remove = (path: string) => use.api.call('DELETE', `/v1/nodes/${path}`);

/** Three nodes, the second of which has joined, was drained, and has replicas. */
const thereIs = async (replicas: readonly ReturnType<typeof buildReplica>[]) => {
  use.api.kv.put({
    ...nodeDocument('node-1'),
    ...nodeDocument('node-2'),
    ...nodeDocument('node-3'),
    ...Object.assign({}, ...replicas.map(replicaDocument)),
    [identityKvKey('node-2')]: IDENTITY,
    [nodeSettingsKvKey('node-2')]: { id: 'node-2', availability: 'draining', setAtMs: NOW_MS },
    [nodeStabilityKvKey('node-2')]: firstSeen('node-2', NOW_MS),
  } as Record<string, unknown>);
  await eventually(() => expect(use.api.readModel.nodes()).toHaveLength(3));
  await eventually(() => expect(use.api.readModel.replicas()).toHaveLength(replicas.length));
};

const isGone = async () => {
  expect((await use.api.call('GET', '/v1/nodes/node-2')).status).toBe(404);
  for (const prefix of [KV_PREFIX.nodeSettings, KV_PREFIX.nodeStability]) {
    expect(await documents(prefix)).toEqual([]);
  }
  expect(
    (await documents(KV_PREFIX.replicas)).map(({ text }) => (JSON.parse(text) as { nodeId: string }).nodeId),
  ).not.toContain('node-2');
  const [identity] = await documents(identityKvKey('node-2'));
  expect(JSON.parse(identity?.text ?? '')).toHaveProperty('revokedAtMs');
};

test('a lost node goes with its replicas, its access and all that is known of it, and again does no harm', async () => {
  await thereIs([
    ...Array.from({ length: 70 }, (_, index) => buildReplica(`web-${index}`, 'node-2')),
    buildReplica('logs-1', 'node-2', { name: 'logs', daemon: true }),
    buildReplica('web-x', 'node-3'),
  ]);
  use.api.members.lose('node-2');
  await eventually(async () =>
    expect((await use.api.call('GET', '/v1/nodes/node-2')).body).toMatchObject({ health: 'lost' }),
  );
  const answer = await remove('node-2');
  expect(answer).toMatchObject({ status: 200, body: { id: 'node-2', message: 'Node node-2 is removed.' } });
  expect(removedNodeSchema.safeParse(answer.body).error).toBeUndefined();
  await isGone();
  expect(removed).toEqual(['node-2']);
  const told = {
    type: 'node.removed',
    level: 'info',
    node: 'node-2',
    message: 'node node-2 is removed: 70 replicas that were there have to start elsewhere',
  };
  expect(await events()).toMatchObject([told]);
  await eventually(() => expect(use.api.readModel.replicas().map(({ id }) => id)).toEqual(['web-x']));

  expect((await remove('node-2')).status).toBe(200);
  expect(removed).toEqual(['node-2', 'node-2']);
  expect(await events()).toHaveLength(1);
});

test('a node that is up and has replicas is refused with what to do, and goes with force', async () => {
  await thereIs([buildReplica('web-1', 'node-2'), buildReplica('job-1', 'node-2', { state: 'exited' })]);
  for (const path of ['node-2', 'node-2?force=false']) {
    const refused = await remove(path);
    expect(refused.status).toBe(409);
    const { detail } = refused.body as ProblemBody;
    expect(detail).toMatch(/^Node node-2 is up and has 1 replica\. Drain it .*node\.drained.*\?force=true/);
  }
  expect(removed).toEqual([]);
  expect(await documents(KV_PREFIX.events)).toEqual([]);
  expect((await documents(identityKvKey('node-2'))).map(({ text }) => JSON.parse(text) as unknown)).toEqual([
    IDENTITY,
  ]);

  const answer = await remove('node-2?force=true');
  expect(answer.status).toBe(200);
  expect((answer.body as { message: string }).message).toContain('stop ContainerOS there');
  await isGone();
});

test('a node that is up and has nothing but what has ended needs no force', async () => {
  await thereIs([buildReplica('job-1', 'node-2', { state: 'exited' })]);
  expect((await remove('node-2')).status).toBe(200);
  expect((await events())[0]?.message).toBe('node node-2 is removed');
  await isGone();
});

test('the head node stays, with force too', async () => {
  await thereIs([buildReplica('web-1', 'node-1')]);
  for (const path of ['node-1', 'node-1?force=true']) {
    const refused = await remove(path);
    expect(refused.status).toBe(409);
    expect((refused.body as ProblemBody).detail).toContain('runs the control plane');
  }
  expect((await use.api.call('GET', '/v1/nodes/node-1')).status).toBe(200);
  expect(removed).toEqual([]);
});

test('what failed half-way is finished by repeating, and told once', async () => {
  await thereIs([buildReplica('web-1', 'node-2')]);
  // Of the head node's kind: without an identity it is known by what is remembered of it.
  use.api.kv.delete(identityKvKey('node-2'));
  consulIsAway = true;
  expect((await remove('node-2?force=true')).status).toBe(503);
  expect((await use.api.call('GET', '/v1/nodes/node-2')).status).toBe(404);
  consulIsAway = false;
  expect((await remove('node-2')).status).toBe(200);
  expect(removed).toEqual(['node-2']);
  expect(await documents(KV_PREFIX.nodeStability)).toEqual([]);
  expect(await events()).toHaveLength(1);
  expect((await remove('node-2')).status).toBe(404);
});

test.each(['node-9', 'consul-server-1', 'NODE-2', '..%2Fevents'])(
  'what is no node (%s) is not there, and nobody is taken out of the membership',
  async (id) => {
    await thereIs([]);
    expect((await remove(id)).status).toBe(404);
    expect(removed).toEqual([]);
    expect(await documents(KV_PREFIX.nodes)).toHaveLength(3);
  },
);
