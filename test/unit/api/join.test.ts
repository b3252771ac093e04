/** Joining over a store in memory and a real authority: who is let in, who is not, and what is said. */

import { X509Certificate } from 'node:crypto';

import {
  createAuthority,
  createSigningRequest,
  openAuthority,
  serialOf,
} from '../../../adapters/certificates/authority';
import { createAttemptLimiter } from '../../../api/attempt-limiter';
import { createIdentities, followRevocations } from '../../../api/join/identities';
import { createJoinNode } from '../../../api/join/join-node';
import { createJoinTokens } from '../../../api/join/join-tokens';
import { GivenUp, createRefusedJoins } from '../../../api/join/refused-joins';
import { createNodeRemover } from '../../../api/remove-node';
import type { Authority } from '../../../contracts/authority';
import type { JoinRequest } from '../../../contracts/join';
import {
  KV_PREFIX,
  identityKvKey,
  joinTokenKvKey,
  nodeKvKey,
  nodeSettingsKvKey,
  nodeStabilityKvKey,
  replicaKvKey,
} from '../../../contracts/kv';
import type { Membership } from '../../../contracts/membership';
import { ContainerOsError } from '../../../domain/errors';
import type { JoinToken, NodeIdentity } from '../../../domain/identity';
import { parseJoinToken } from '../../../domain/join-token';
import type { ClusterEvent } from '../../../domain/model';
import { buildReplica } from '../../support/builders';
import { createMemoryStore } from '../../support/memory-store';
import { eventually } from '../../support/wait';

import { createFakeKv } from './fake-kv';

const START_MS = Date.UTC(2026, 0, 1);
const CLUSTER = 'c0ffee';
let authority: Authority;

beforeAll(async () => {
  authority = await openAuthority(await createAuthority({ clusterId: CLUSTER, nowMs: START_MS }));
});

const createWorld = () => {
  const clock = { ms: START_MS };
  const store = createMemoryStore();
  const nowMs = () => clock.ms;
  const tokens = createJoinTokens({
    store,
    clusterAddress: '192.0.2.1:7443',
    authorityFingerprint: authority.fingerprint,
    nowMs,
  });
  const joinFrom = createJoinNode({
    store,
    authority,
    clusterId: CLUSTER,
    headNodeId: 'node-1',
    limiter: createAttemptLimiter(),
    refusedJoins: createRefusedJoins(),
    nowMs,
    onEventLost: (error) => {
      throw error;
    },
  });
  const request = async (token: string, overrides: Partial<JoinRequest> = {}): Promise<JoinRequest> => {
    const { id, secret } = parseJoinToken(token);
    const nodeId = overrides.nodeId ?? 'node-2';
    return {
      tokenId: id,
      secret,
      nodeId,
      signingRequestPem: (await createSigningRequest(nodeId)).signingRequestPem,
      nowMs: clock.ms,
      dockerVersion: '27.3.1',
      architecture: 'amd64',
      containerosVersion: '1.0.0',
      ...overrides,
    };
  };
  const events = () => store.peek<ClusterEvent>(KV_PREFIX.events).map(({ value }) => value);
  const identity = (nodeId = 'node-2') => store.peek<NodeIdentity>(identityKvKey(nodeId))[0]?.value;
  const token = (id: string) => store.peek<JoinToken>(joinTokenKvKey(id))[0]?.value;
  const join = (one: JoinRequest, source = '192.0.2.9') => joinFrom(() => one, source);
  const identities = createIdentities({ store, authority, clusterId: CLUSTER, nowMs });
  return { clock, store, tokens, join, joinFrom, request, events, identity, token, identities };
};

test('a machine with a good token becomes a node', async () => {
  const { tokens, join, request, events, identity, token } = createWorld();
  const made = await tokens.create({});
  expect(made.command).toBe(`containeros join 192.0.2.1:7443 --token ${made.token}`);
  const answer = await join(await request(made.token));
  const certificate = new X509Certificate(answer.certificatePem);
  expect(certificate.subject).toBe('CN=node-2\nO=c0ffee');
  expect(answer).toMatchObject({ authorityPem: authority.certificatePem, clusterId: CLUSTER });
  expect(identity()).toMatchObject({ nodeId: 'node-2', serial: serialOf(certificate), issuedAtMs: START_MS });
  expect(token(made.id)).toMatchObject({ usesLeft: 0, usedBy: ['node-2'] });
  expect(events()).toMatchObject([{ type: 'node.joined', node: 'node-2' }]);
});

test('neither the store nor a list holds the secret', async () => {
  const { tokens, store } = createWorld();
  const { token } = await tokens.create({ uses: 3 });
  const { secret } = parseJoinToken(token);
  expect(JSON.stringify([store.peek(''), await tokens.list()])).not.toContain(secret);
});

type World = ReturnType<typeof createWorld>;

const REFUSED: readonly [
  string,
  (world: World, id: string) => void | Promise<void>,
  Partial<JoinRequest>,
  string,
  RegExp,
][] = [
  [
    'an unknown token',
    () => undefined,
    { tokenId: 'aaaaaaaa' },
    'unauthenticated',
    /not one of this cluster/,
  ],
  [
    'a wrong secret',
    () => undefined,
    { secret: 'x'.repeat(32) },
    'unauthenticated',
    /not one of this cluster/,
  ],
  [
    'an id that leads elsewhere',
    () => undefined,
    { tokenId: '../nodes' },
    'unauthenticated',
    /not one of this/,
  ],
  ['an expired token', ({ clock }) => void (clock.ms += 3_600_000), {}, 'unauthenticated', /expired at/],
  ['a revoked token', ({ tokens }, id) => tokens.revoke(id), {}, 'unauthenticated', /was revoked/],
  [
    'a used token',
    async ({ store }, id) => {
      // Another node uses it first.
      const stored = store.peek<JoinToken>(joinTokenKvKey(id))[0];
      if (stored === undefined) throw new Error('no token');
      await store.transact([
        { kind: 'set', key: stored.key, value: { ...stored.value, usesLeft: 0, usedBy: ['node-9'] } },
      ]);
    },
    {},
    'unauthenticated',
    /used as often/,
  ],
  ['a clock that is behind', () => undefined, { nowMs: START_MS - 420_000 }, 'invalid', /7 minutes behind/],
  [
    'a clock that is ahead',
    () => undefined,
    { nowMs: START_MS + 86_400_000 },
    'invalid',
    /24 hours ahead of/,
  ],
  ['a clock that says nothing', () => undefined, { nowMs: NaN }, 'invalid', /not readable/],
  ['an old Docker', () => undefined, { dockerVersion: '19.03.15' }, 'invalid', /20\.10 or newer.*19\.03/],
  ['no Docker', () => undefined, { dockerVersion: 'none' }, 'invalid', /20\.10 or newer/],
  ['a name that is none', () => undefined, { nodeId: '../x' }, 'invalid', /DNS label/],
  ['the name localhost', () => undefined, { nodeId: 'localhost' }, 'invalid', /localhost/],
  [
    'the name of the head node, before that has said anything',
    () => undefined,
    { nodeId: 'node-1' },
    'conflict',
    /machine with the control plane.*--node-name/,
  ],
  [
    'a name that a document has',
    ({ store }) => void store.transact([{ kind: 'set', key: nodeKvKey('node-2'), value: {} }]),
    {},
    'conflict',
    /Remove that node.*--node-name/,
  ],
  [
    'the name of another node',
    async ({ tokens, join, request }) => void (await join(await request((await tokens.create({})).token))),
    {},
    'conflict',
    /Remove that node.*--node-name/,
  ],
];

test.each(REFUSED)('%s is refused, and told once a minute', async (_what, prepare, change, code, words) => {
  const world = createWorld();
  const { tokens, join, request, events, token, clock } = world;
  const made = await tokens.create({});
  await prepare(world, made.id);
  const before = token(made.id);
  const one = await request(made.token, change);
  const refusal = { code, message: expect.stringMatching(words) as string };
  await expect(join(one)).rejects.toMatchObject(refusal);
  await expect(join(one)).rejects.toMatchObject(refusal);
  const refusals = () => events().filter(({ type }) => type === 'node.join_refused');
  expect(refusals()).toHaveLength(1);
  expect(JSON.stringify(events())).not.toContain(parseJoinToken(made.token).secret);
  expect(token(made.id)).toEqual(before);
  clock.ms += 60_000;
  await join({ ...one, nowMs: one.nowMs + 60_000 }).catch(() => undefined);
  expect(refusals()).toHaveLength(2);
});

test('a join whose answer was lost gets a certificate again, and uses the token once', async () => {
  const { tokens, join, request, token, identity } = createWorld();
  const made = await tokens.create({ uses: 2 });
  const one = await request(made.token);
  const first = await join(one);
  const again = await join(one);
  expect(again.certificatePem).not.toBe(first.certificatePem);
  expect(token(made.id)).toMatchObject({ usesLeft: 1, usedBy: ['node-2'] });
  expect(identity()?.previousSerial).toBe(serialOf(new X509Certificate(first.certificatePem)));
});

test('a join that is replayed when its node has been at work changes nothing', async () => {
  for (const [uses, code] of [
    [1, 'unauthenticated'],
    [2, 'conflict'],
  ] as const) {
    const { tokens, join, request, identity, store, token } = createWorld();
    const made = await tokens.create({ uses });
    const one = await request(made.token);
    await join(one);
    await store.transact([{ kind: 'create', key: nodeKvKey('node-2'), value: {} }]);
    const before = [identity(), token(made.id)];
    await expect(join(one)).rejects.toMatchObject({ code });
    expect([identity(), token(made.id)]).toEqual(before);
    // A machine that has lost all but its key.
    await expect(
      join({
        ...one,
        ...(await tokens
          .create({})
          .then(({ token: other }) => request(other))
          .then(({ tokenId, secret }) => ({ tokenId, secret }))),
      }),
    ).resolves.toBeDefined();
  }
});

test('a replayed join with another key is refused, with a token that has uses left and with one that has none', async () => {
  for (const [uses, code] of [
    [1, 'unauthenticated'],
    [2, 'conflict'],
  ] as const) {
    const { tokens, join, request, identity } = createWorld();
    const made = await tokens.create({ uses });
    await join(await request(made.token));
    const before = identity();
    await expect(join(await request(made.token))).rejects.toMatchObject({ code });
    expect(identity()).toEqual(before);
  }
});

test('a revoked token gives nothing again either, nor does a revoked node', async () => {
  const { tokens, join, request, identities } = createWorld();
  const made = await tokens.create({});
  const one = await request(made.token);
  await join(one);
  await identities.revokeNode('node-2');
  await expect(join(one)).rejects.toMatchObject({
    message: expect.stringMatching(/used as often/) as string,
  });
  const other = await tokens.create({});
  const two = await request(other.token);
  await join(two);
  await tokens.revoke(other.id);
  await expect(join(two)).rejects.toMatchObject({ message: expect.stringMatching(/was revoked/) as string });
});

test('who fails too often waits, whatever else is at the address; not with a token that counts', async () => {
  const { tokens, join, request, events, clock, token } = createWorld();
  const short = await tokens.create({ expiresInMs: 1 });
  clock.ms += 1;
  const made = await tokens.create({});
  const wrong = await request(made.token, { secret: 'y'.repeat(32) });
  for (let count = 0; count < 10; count += 1) {
    await expect(join(wrong)).rejects.toMatchObject({ code: 'unauthenticated' });
  }
  await expect(join(wrong)).rejects.toMatchObject({ code: 'rate_limited' });
  await expect(join(await request(short.token))).rejects.toMatchObject({ code: 'rate_limited' });
  expect(events().map(({ message }) => message)).toContainEqual(
    expect.stringMatching(/192\.0\.2\.9 was not let in as a node: Too many joins/),
  );
  // What else is wrong is told to who has a token that counts.
  await expect(join(await request(made.token, { dockerVersion: '19.03.15' }))).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(/20\.10 or newer/) as string,
  });
  const right = await request(made.token);
  await expect(join(right)).resolves.toBeDefined();
  expect(token(made.id)).toMatchObject({ usesLeft: 0 });
  // Its answer was lost; and another machine has the token, too late.
  await expect(join(right)).resolves.toBeDefined();
  const late = await request(made.token, { nodeId: 'node-3' });
  await expect(join(late)).rejects.toMatchObject({ code: 'rate_limited' });
  await expect(join(late, '192.0.2.10')).rejects.toMatchObject({ code: 'unauthenticated' });
});

test('waiting does not become longer by what is sent meanwhile, nor begins by machines that give up', async () => {
  const { tokens, join, joinFrom, request, clock } = createWorld();
  const made = await tokens.create({});
  const wrong = await request(made.token, { secret: 'y'.repeat(32) });
  const giveUp = () => {
    throw new GivenUp('invalid', 'clock', 'Its clock is wrong.');
  };
  for (let count = 0; count < 100; count += 1) {
    await expect(joinFrom(giveUp, '192.0.2.9')).rejects.toMatchObject({ code: 'invalid' });
  }
  for (let count = 0; count < 10; count += 1) {
    await expect(join(wrong)).rejects.toMatchObject({ code: 'unauthenticated' });
  }
  for (let count = 0; count < 100; count += 1) {
    await expect(join(wrong)).rejects.toMatchObject({ code: 'rate_limited' });
  }
  const old = await request(made.token, { dockerVersion: '19.03.15' });
  for (let count = 0; count < 100; count += 1) {
    await expect(join(old)).rejects.toMatchObject({ code: 'invalid' });
  }
  clock.ms += 6_000;
  await expect(join(wrong)).rejects.toMatchObject({ code: 'unauthenticated' });
});

test('many sources do not flood the events', async () => {
  const refusedJoins = createRefusedJoins();
  const told = Array.from({ length: 500 }, (_, at) => refusedJoins.isNews('token', `source-${at}`, 0));
  expect(told.filter(Boolean)).toHaveLength(60);
  expect(refusedJoins.isNews('token', 'source-499', 60_000)).toBe(true);
});

test('renewal, and what is revoked by it and by removal', async () => {
  const { tokens, join, request, identities, identity } = createWorld();
  const kv = createFakeKv();
  const view = followRevocations(kv, () => undefined);
  const gone = (serial: string) =>
    eventually(() => expect(view.isRevoked('node-2', serial)).toBe(true), { timeoutMs: 5_000 });
  const publish = async () => {
    kv.put({ [identityKvKey('node-2')]: identity() });
    await view.refresh();
  };
  try {
    const { certificatePem } = await join(await request((await tokens.create({})).token));
    const first = serialOf(new X509Certificate(certificatePem));
    expect(view.isRevoked('node-2', first)).toBe(true);
    await publish();
    expect(view.isRevoked('node-2', first)).toBe(false);
    expect(view.isRevoked('node-3', first)).toBe(true);

    const { signingRequestPem } = await createSigningRequest('node-2');
    const renew = async (serial: string) =>
      serialOf(
        new X509Certificate(
          (await identities.renewCertificate({ nodeId: 'node-2', serial }, signingRequestPem)).certificatePem,
        ),
      );
    await renew(first); // its answer is lost
    const second = await renew(first);
    await publish();
    expect(view.isRevoked('node-2', first)).toBe(false);
    expect(view.isRevoked('node-2', second)).toBe(false);
    const third = await renew(second);
    await publish();
    await gone(first);
    await expect(renew(first)).rejects.toMatchObject({ code: 'unauthenticated' });

    await identities.revokeNode('node-2');
    await identities.revokeNode('node-2');
    await publish();
    await gone(third);
    await expect(renew(third)).rejects.toMatchObject({ code: 'unauthenticated' });
    await expect(identities.revokeNode('node-7')).rejects.toMatchObject({ code: 'not_found' });

    // Another machine may take the name; the certificates of the one before stay revoked.
    const next = await join(await request((await tokens.create({})).token));
    await publish();
    expect(view.isRevoked('node-2', serialOf(new X509Certificate(next.certificatePem)))).toBe(false);
    await gone(third);
    kv.away(true);
    await expect(view.refresh()).rejects.toMatchObject({ code: 'unavailable' });
    expect(view.isRevoked('node-2', third)).toBe(true);
  } finally {
    view.close();
  }
});

test('the name of a removed node is free again, and its certificate is good for nothing', async () => {
  const { tokens, join, request, store, identity, clock, identities } = createWorld();
  const made = await tokens.create({ uses: 3 });
  await join(await request(made.token));
  const first = identity()?.serial ?? '';
  await store.transact([{ kind: 'create', key: nodeKvKey('node-2'), value: {} }]);
  await expect(join(await request(made.token))).rejects.toMatchObject({ code: 'conflict' });
  const removed: string[] = [];
  const remover = createNodeRemover({
    store,
    membership: {
      removeNode: async ({ nodeId }) => {
        removed.push(nodeId);
        return true;
      },
    },
    headNodeId: 'node-1',
    randomSuffix: () => 'suffix00',
    nowMs: () => clock.ms,
  });
  expect(await remover.remove('node-2')).toBeDefined();
  expect(removed).toEqual(['node-2']);
  expect(identity()).toMatchObject({ revokedAtMs: START_MS });
  await expect(
    identities.renewCertificate(
      { nodeId: 'node-2', serial: first },
      (await request(made.token)).signingRequestPem,
    ),
  ).rejects.toMatchObject({ code: 'unauthenticated' });

  await join(await request(made.token));
  expect(identity()).not.toHaveProperty('revokedAtMs');
  expect(identity()?.serial).not.toBe(first);
});

/** A node with documents that is removed; another machine takes its name when `hold` of the removal is reached. */
const createOvertaken = async (world: World) => {
  const { tokens, join, request, store, clock } = world;
  const made = await tokens.create({ uses: 3 });
  await join(await request(made.token));
  const ofMachine = (who: string) => {
    const replica = buildReplica(`web-${who}`, 'node-2');
    return [
      { kind: 'set', key: nodeKvKey('node-2'), value: { who } },
      { kind: 'set', key: nodeSettingsKvKey('node-2'), value: { who } },
      { kind: 'set', key: nodeStabilityKvKey('node-2'), value: { who } },
      { kind: 'set', key: replicaKvKey(replica, replica.id), value: replica },
    ] as const;
  };
  await store.transact(ofMachine('old'));
  const known = () => [
    ...[nodeKvKey, nodeSettingsKvKey, nodeStabilityKvKey].flatMap((keyOf) =>
      store.peek<{ readonly who: string }>(keyOf('node-2')).map(({ value }) => value.who),
    ),
    ...store.peek<{ readonly id: string }>(KV_PREFIX.replicas).map(({ value }) => value.id),
  ];
  return {
    known,
    removerWith: (removeNode: Membership['removeNode']) =>
      createNodeRemover({
        store,
        membership: { removeNode },
        headNodeId: 'node-1',
        randomSuffix: () => 'suffix00',
        nowMs: () => clock.ms,
      }),
    take: async () => join(await request(made.token)),
    publish: () => store.transact(ofMachine('new')),
  };
};

test('a machine that takes the name while its node is taken out of Consul keeps what it has written', async () => {
  const world = createWorld();
  const { known, removerWith, take, publish } = await createOvertaken(world);
  const revoked: (number | undefined)[] = [];
  const remover = removerWith(async ({ identityIndex }) => {
    revoked.push(identityIndex);
    await take();
    await publish();
    // As when the process that asks has not looked again.
    return true;
  });
  expect(await remover.remove('node-2')).toBeDefined();
  expect(revoked).toEqual([expect.any(Number)]);
  expect(known()).toEqual(['new', 'new', 'new', 'web-new']);
  expect(world.identity()).not.toHaveProperty('revokedAtMs');
});

test('a machine that takes the name before anything else is done finds nothing said of it, and is left alone', async () => {
  const world = createWorld();
  const { known, removerWith, take, publish } = await createOvertaken(world);
  const hold = world.store.holdWrites((operations) => operations.some(({ kind }) => kind === 'unchanged'));
  const removed: unknown[] = [];
  const remover = removerWith(async (name) => {
    removed.push(name);
    return true;
  });
  const removal = remover.remove('node-2');
  await eventually(() => expect(hold.waiting).toBe(1));
  const { identityIndex } = await take();
  expect(world.store.peek(identityKvKey('node-2'))[0]?.index).toBe(identityIndex);
  expect(known()).toEqual(['old', 'web-old']);
  await publish();
  hold.release();
  expect(await removal).toBeLessThan(identityIndex);
  expect(removed).toEqual([]);
  expect(known()).toEqual(['new', 'new', 'new', 'web-new', 'web-old']);
});

test('a removal that ended half-way goes on where it was, also of a node whose identity cannot be read', async () => {
  const world = createWorld();
  const { known, removerWith, take } = await createOvertaken(world);
  await world.store.transact([{ kind: 'set', key: identityKvKey('node-2'), value: null }]);
  const seen: unknown[] = [];
  const killed = removerWith(async (name) => {
    seen.push(name);
    throw new ContainerOsError('unavailable', 'the process was killed');
  });
  await expect(killed.remove('node-2')).rejects.toMatchObject({ code: 'unavailable' });
  const again = removerWith(async (name) => {
    seen.push(name);
    return true;
  });
  await again.remove('node-2');
  expect(seen[1]).toEqual(seen[0]);
  expect(known()).toEqual([]);
  await take();
  expect(world.identity()).not.toHaveProperty('revokedAtMs');
});

test('a machine that asks to leave is removed, and not the one that has taken its name while it waited', async () => {
  const world = createWorld();
  const { known, removerWith, take, publish } = await createOvertaken(world);
  const remover = removerWith(async () => true);
  const serial = world.identity()?.serial ?? '';
  expect(await remover.remove('node-2', serial.toUpperCase())).toBeDefined();
  // Its answer was lost.
  expect(await remover.remove('node-2', serial.toUpperCase())).toBeDefined();
  expect(known()).toEqual([]);
  await take();
  await publish();
  await expect(remover.remove('node-2', serial.toUpperCase())).rejects.toMatchObject({
    code: 'unauthenticated',
    message: expect.stringContaining('another machine now') as string,
  });
  expect(known()).toEqual(['new', 'new', 'new', 'web-new']);
  expect(world.identity()).not.toHaveProperty('revokedAtMs');
});
