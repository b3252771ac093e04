/**
 * Leases of nodes whose tokens write nothing, through a real cluster port into a real Consul; and of the first node,
 * straight to Consul.
 */

import { createClusterPortLeases } from '../../adapters/cluster-port/leases';
import { createNodeAccess } from '../../adapters/consul/access';
import { createHousekeeping } from '../../activities/housekeeping';
import { createConsulLeaseKeys, createConsulLeases } from '../../adapters/consul/leases';
import { createKeyValueStore } from '../../adapters/consul/kv-store';
import { createNodeLeases } from '../../api/cluster-port/node-leases';
import { leaseKvKey, microserviceKvKey } from '../../contracts/kv';
import {
  LEASE_FREE_AFTER_MS,
  LEASE_LASTS_MS,
  LEASE_LOCK_DELAY_MS,
  nodeLeasesPath,
  type Lease,
  type LeaseGrant,
  type Leases,
} from '../../contracts/leases';
import { microserviceId, type Microservice } from '../../domain/model';
import { buildRelease } from '../support/builders';
import { startGuardedConsul, type GuardedConsul } from '../support/consul';
import { eventually } from '../support/wait';
import { ask, dial, startTestPort, type TestPort } from './cluster-port';

const CONTROL = '33333333-4444-5555-6666-777777777777';
/** As README.md says for the control plane. */
const RULES = `
  key_prefix "containeros/" { policy = "write" }
  service_prefix "" { policy = "write" }
  session_prefix "" { policy = "write" }
  node_prefix "" { policy = "read" }
  agent_prefix "" { policy = "read" }`;

/** Of leases for each node, and fewer than nodes have otherwise. */
const LIMIT = 20;
/** Everything else is there. */
const removed = new Set<string>();

let consul: GuardedConsul;
let target: TestPort;
let first: Omit<Leases, 'close'>;
let a: Leases;
let b: Leases;
const opened: Leases[] = [];
const ending: (() => Promise<void>)[] = [];

const throughPort = (nodeId: string, path = nodeId): Leases => {
  const holder = target.certificateOf(nodeId);
  const leases = createClusterPortLeases({
    url: `https://${target.port.address}`,
    nodeId: path,
    credentials: () => ({ ...holder, authorityPem: target.authority.certificatePem }),
  });
  opened.push(leases);
  return leases;
};

beforeAll(async () => {
  consul = await startGuardedConsul('first');
  await consul.grant('containeros', CONTROL, RULES);
  const control = consul.clientOf(CONTROL);
  first = createConsulLeases(control, 'first');
  target = await startTestPort({
    leases: createNodeLeases({
      leasesOf: (id) => createConsulLeases(control, id),
      isMicroservice: (key) => Promise.resolve(!removed.has(microserviceId(key))),
      limit: LIMIT,
    }),
  });
  a = throughPort('a');
  b = throughPort('b');
  for (const id of ['a', 'b', 'c']) {
    const { secretId } = await createNodeAccess(consul.management, id);
    const agent = await consul.startAgent(id, secretId);
    ending.push(() => agent.kill());
  }
  for (const id of ['first', 'a', 'b', 'c']) {
    await eventually(
      async () => {
        const { body } = await consul.management.request<readonly { readonly CheckID: string }[]>({
          path: `/health/node/${id}`,
        });
        expect(body.map(({ CheckID }) => CheckID)).toContain('serfHealth');
      },
      { timeoutMs: 60_000 },
    );
  }
}, 120_000);

afterAll(async () => {
  for (const leases of opened) leases.close();
  await target.close();
  await consul.close();
});

let microservices = 0;
/** Of a microservice of its own. */
const leaseOf = (replicaId: string): Lease => {
  microservices += 1;
  return { project: 'default', name: `Clock-${microservices}`, replicaId };
};
const HELD = { kind: 'held', lastsMs: LEASE_LASTS_MS };

const sessionsOf = async (nodeId: string): Promise<readonly string[]> => {
  const { body } = await consul.management.request<readonly { readonly ID: string }[]>({
    path: `/session/node/${nodeId}`,
  });
  return body.map(({ ID }) => ID);
};

/** Asks until the lease is had. @returns when it was asked for that had it, on the monotonic clock */
const untilHeld = async (leases: Pick<Leases, 'acquire'>, lease: Lease): Promise<number> => {
  let askedAt = 0;
  const seen: LeaseGrant[] = [];
  await eventually(
    async () => {
      askedAt = performance.now();
      const grant = await leases.acquire(lease);
      seen.push(grant);
      expect(grant.kind).toBe('held');
    },
    { timeoutMs: 60_000, intervalMs: 100 },
  );
  expect(seen[0]?.kind).toBe('taken');
  return askedAt;
};

test('one replica has the lease, until it gives it back; then another one has it at once', async () => {
  const ours = leaseOf('clock-1');
  const theirs = { ...ours, name: ours.name.toLowerCase(), replicaId: 'clock-2' };
  expect(await first.acquire(ours)).toEqual(HELD);
  expect(await first.acquire(ours)).toEqual(HELD);
  const taken = await a.acquire(theirs);
  expect(taken).toEqual({ kind: 'taken', holder: { ...ours, nodeId: 'first' }, forAtMostMs: 45_000 });
  // Nobody gives back what another one has, be it another node or another replica.
  await a.release(theirs);
  await a.release(ours);
  await first.release(theirs);
  expect(await a.acquire(theirs)).toEqual(taken);
  await first.release(ours);
  expect(await a.acquire(theirs)).toEqual(HELD);
  expect(await first.acquire(ours)).toMatchObject({ kind: 'taken', holder: { replicaId: 'clock-2' } });
  await a.release(theirs);
  const { status } = await consul.management.request({ path: `/kv/${leaseKvKey(ours)}` });
  expect(status).toBe(404);
});

test('two replicas of one node do not have it together, asking at the same time again and again', async () => {
  const leases = [throughPort('b'), throughPort('b'), b, b];
  for (let turn = 0; turn < 10; turn += 1) {
    const base = leaseOf('');
    const asked = leases.map((_, index) => ({ ...base, replicaId: `clock-${index}` }));
    const grants = await Promise.all(leases.map((one, index) => one.acquire(asked[index] as Lease)));
    expect(grants.filter(({ kind }) => kind === 'held')).toHaveLength(1);
    const held = await b.held();
    expect(held).toHaveLength(1);
    for (const lease of held) await b.release(lease);
  }
  expect(await sessionsOf('b')).toHaveLength(1);
});

test('a new worker goes on with the leases of the one before, and knows those that it has to give back', async () => {
  const [kept, gone] = [leaseOf('clock-1'), leaseOf('gone-1')];
  for (const lease of [kept, gone]) expect(await first.acquire(lease)).toEqual(HELD);
  const sessions = await sessionsOf('first');
  const next = createConsulLeases(consul.clientOf(CONTROL), 'first');
  expect(await next.renew([kept, gone])).toEqual({ lastsMs: LEASE_LASTS_MS, lost: [] });
  expect(await next.held()).toEqual(expect.arrayContaining([kept, gone]));
  await next.release(gone);
  expect(await sessionsOf('first')).toEqual(sessions);
  expect(await a.acquire({ ...gone, replicaId: 'gone-2' })).toEqual(HELD);
  expect(await a.acquire({ ...kept, replicaId: 'clock-2' })).toMatchObject({ kind: 'taken' });
  await next.release(kept);
});

test('a renewal tells which leases are lost, also those that an operator took away alone', async () => {
  const [one, other] = [leaseOf('one-1'), leaseOf('other-1')];
  for (const lease of [one, other]) expect(await a.acquire(lease)).toEqual(HELD);
  await consul.management.request({ method: 'DELETE', path: `/kv/${leaseKvKey(other)}` });
  expect(await a.renew([one, other])).toEqual({ lastsMs: LEASE_LASTS_MS, lost: ['other-1'] });
  await a.release(one);
});

test('a lease whose session was taken out is nobody else’s before its holder has stopped', async () => {
  const ours = leaseOf('clock-1');
  expect(await a.acquire(ours)).toEqual(HELD);
  const [session = ''] = await sessionsOf('a');
  const askedAt = performance.now();
  expect(await a.renew([ours])).toMatchObject({ lost: [] });
  await consul.management.request({ method: 'PUT', path: `/session/destroy/${session}` });
  const heldAt = await untilHeld(b, { ...ours, replicaId: 'clock-2' });
  expect(heldAt - askedAt).toBeGreaterThan(LEASE_LASTS_MS);
  expect(heldAt - askedAt).toBeLessThan(LEASE_LOCK_DELAY_MS + 5_000);
  expect(await a.renew([ours])).toEqual({ lastsMs: 0, lost: ['clock-1'] });
  expect(await a.acquire(ours)).toMatchObject({ kind: 'taken', holder: { nodeId: 'b' } });
}, 60_000);

test('a lease of a node that is lost goes to another one when its holder has stopped', async () => {
  const c = throughPort('c');
  const ours = leaseOf('clock-1');
  expect(await c.acquire(ours)).toEqual(HELD);
  const askedAt = performance.now();
  expect(await c.renew([ours])).toMatchObject({ lost: [] });
  await ending[2]?.();
  const heldAt = await untilHeld(b, { ...ours, replicaId: 'clock-2' });
  expect(heldAt - askedAt).toBeGreaterThan(LEASE_LASTS_MS);
  // It cannot have another session while it counts as lost.
  await expect(c.acquire(ours)).rejects.toMatchObject({ code: 'unavailable' });
}, 90_000);

test('a lease that nobody renews is had by another one in the time that was said', async () => {
  const ours = leaseOf('clock-1');
  expect(await first.acquire(ours)).toEqual(HELD);
  const askedAt = performance.now();
  expect(await first.renew([ours])).toMatchObject({ lost: [] });
  const heldAt = await untilHeld(b, { ...ours, replicaId: 'clock-2' });
  expect(heldAt - askedAt).toBeGreaterThan(LEASE_LASTS_MS);
  expect(heldAt - askedAt).toBeLessThan(LEASE_FREE_AFTER_MS + 2_000);
}, 90_000);

test('a node asks for itself alone, and in the form that there is', async () => {
  const ours = leaseOf('clock-1');
  expect(await b.acquire(ours)).toEqual(HELD);
  for (const question of [
    () => throughPort('a', 'b').release(ours),
    () => throughPort('a', 'b').acquire(ours),
    () => throughPort('a', 'b').held(),
  ]) {
    await expect(question()).rejects.toMatchObject({ code: 'forbidden' });
  }
  expect(await b.renew([ours])).toEqual({ lastsMs: LEASE_LASTS_MS, lost: [] });
  const session = await dial(target, target.certificateOf('b'));
  const send = (method: string, body: string) =>
    ask(session, { ':method': method, ':path': nodeLeasesPath('b') }, body);
  for (const lease of [{ ...ours, name: '../x' }, { ...ours, session: 'x' }, {}]) {
    const { headers, body } = await send('POST', JSON.stringify({ kind: 'acquire', lease }));
    expect(headers[':status']).toBe(400);
    expect(body.toString()).toContain('The body must be');
  }
  expect((await send('PUT', '{}')).headers[':status']).toBe(405);
  session.destroy();
  await b.release(ours);
});

test('while Consul is away nobody hears that it has a lease', async () => {
  consul.server.signal('SIGSTOP');
  try {
    await expect(first.acquire(leaseOf('clock-1'))).rejects.toMatchObject({ code: 'unavailable' });
    await expect(a.renew([leaseOf('clock-1')])).rejects.toMatchObject({ code: 'unavailable' });
  } finally {
    consul.server.signal('SIGCONT');
  }
}, 30_000);

test('a node has no lease of what is no microservice, and keeps what it has of one that is removed', async () => {
  const lease = leaseOf('clock-1');
  const stranger = leaseOf('clock-2');
  expect(await a.acquire(lease)).toEqual(HELD);
  removed.add(microserviceId(lease)).add(microserviceId(stranger));
  try {
    await expect(a.acquire(stranger)).rejects.toMatchObject({
      code: 'not_found',
      message: expect.stringContaining(`no microservice ${stranger.name} in the project default`) as string,
    });
    expect(await a.renew([lease])).toEqual({ lastsMs: LEASE_LASTS_MS, lost: [] });
    await a.release(lease);
    await expect(a.acquire(lease)).rejects.toMatchObject({ code: 'not_found' });
  } finally {
    removed.clear();
  }
}, 30_000);

test('a node has as many leases as it may, also when it asks for many at once, and others have the rest', async () => {
  for (const lease of await a.held()) await a.release(lease);
  const all = Array.from({ length: LIMIT + 5 }, (_, at) => leaseOf(`clock-${at}`));
  const asked = await Promise.allSettled(all.map((lease) => a.acquire(lease)));
  const refused = asked.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []));
  expect(refused).toHaveLength(5);
  for (const reason of refused) expect(reason).toMatchObject({ code: 'forbidden' });
  const held = await a.held();
  expect(held).toHaveLength(LIMIT);
  // One that it has may be asked for again.
  const [own] = held;
  if (own === undefined) throw new Error('no lease is held');
  expect(await a.acquire(all.find(({ replicaId }) => replicaId === own.replicaId) ?? own)).toEqual(HELD);
  const left = all.find(({ replicaId }) => !held.some((one) => one.replicaId === replicaId));
  if (left === undefined) throw new Error('no lease is left');
  expect(await b.acquire(left)).toEqual(HELD);
  await b.release(left);
  await a.release(own);
  expect(await a.acquire(left)).toEqual(HELD);
  for (const lease of await a.held()) await a.release(lease);
}, 60_000);

test('keys of microservices that are gone go, unless somebody holds them', async () => {
  const control = consul.clientOf(CONTROL);
  const store = createKeyValueStore({ address: control.address, token: CONTROL }, (message) => {
    throw new Error(message);
  });
  const keys = createConsulLeaseKeys(control);
  const [gone, held, living] = [leaseOf('clock-1'), leaseOf('clock-2'), leaseOf('clock-3')];
  const freeOf = async () => (await keys.free()).map(({ microservice }) => microservice);
  try {
    for (const lease of [gone, living]) {
      await control.request({
        method: 'PUT',
        path: `/kv/${leaseKvKey(lease)}`,
        body: { ...lease, nodeId: 'x' },
      });
    }
    expect(await first.acquire(held)).toEqual(HELD);
    const document: Microservice = {
      project: living.project,
      name: living.name,
      generation: 1,
      scale: 1,
      release: buildRelease(),
      releaseNumbers: [1],
      state: 'steady',
      message: '',
      operation: 'operation-1',
      createdAtMs: 1,
      updatedAtMs: 1,
    };
    await store.transact([{ kind: 'set', key: microserviceKvKey(living), value: document }]);
    const free = await keys.free();
    expect(free.map(({ microservice }) => microservice)).toEqual(
      expect.arrayContaining([gone, living].map(microserviceId)),
    );

    // Taken after it was looked at.
    const seen = free.find(({ microservice }) => microservice === microserviceId(gone));
    if (seen === undefined) throw new Error('the key is not free');
    expect(await first.acquire(gone)).toEqual(HELD);
    await keys.forget(seen);
    expect((await first.renew([gone])).lost).toEqual([]);
    await first.release(gone);
    await control.request({ method: 'PUT', path: `/kv/${leaseKvKey(gone)}`, body: { ...gone, nodeId: 'x' } });

    const keepHouse = createHousekeeping({
      store,
      leases: keys,
      view: { nodes: () => [], replicas: () => [] },
      removeAgain: () => Promise.reject(new Error('nothing is removed again')),
    });
    for (const _ of [1, 2]) {
      await keepHouse();
      expect(await freeOf()).toEqual([microserviceId(living)]);
      expect((await first.renew([held])).lost).toEqual([]);
    }
  } finally {
    await first.release(held);
    store.close();
  }
}, 30_000);
