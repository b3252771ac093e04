/**
 * From a hostname to its certificate: the activities against Pebble and its DNS, with a small server that answers
 * challenges from KV, as every node's ingress does. Every activity runs twice.
 */

import { X509Certificate } from 'node:crypto';

import { MockActivityEnvironment } from '@temporalio/testing';

import {
  createCertificateActivities,
  type CertificateActivitiesDependencies,
} from '../../activities/certificate-activities';
import { createAccountStore, generateKeyPem } from '../../adapters/acme/account-store';
import { createAcmeAuthority } from '../../adapters/acme/acme-authority';
import { createOrderLimiter } from '../../adapters/acme/order-limiter';
import { createSelfCheck } from '../../adapters/acme/self-check';
import { createCertificateStore } from '../../adapters/certificates/certificate-store';
import { createSealer, generateClusterKey } from '../../adapters/certificates/seal';
import { createTxtCheck } from '../../adapters/dns/txt-check';
import type { AcmeOrder, CertificateStatus, DnsProvider } from '../../contracts/acme';
import type { HttpChallenge } from '../../contracts/certificates';
import type {
  CertificateActivities,
  CertificateLook,
  HostnameOrder,
} from '../../contracts/certificate-workflow';
import { KV_PREFIX, hostnameKvKey, microserviceKvKey } from '../../contracts/kv';
import type { ClusterEvent } from '../../domain/model';
import { isPrivateHostname } from '../../domain/ingress/authority-for';
import { createMemoryStore } from '../support/memory-store';
import { startChallengeServer, startPebble, type ChallengeServer, type Pebble } from '../support/pebble';

jest.setTimeout(120_000);

let pebble: Pebble;
beforeAll(async () => {
  pebble = await startPebble();
});
afterAll(() => pebble.close());

const servers: ChallengeServer[] = [];
afterEach(async () => {
  pebble.answer(undefined);
  pebble.suggestRenewal(undefined);
  for (const server of servers.splice(0)) await server.close();
});

/** Records in the DNS of the tests, as a provider keeps them. */
const testDns = (): DnsProvider & { readonly records: Set<string> } => {
  const records = new Set<string>();
  return {
    records,
    name: 'Test DNS',
    handles: async () => true,
    addTxt: async (name, value) => {
      if (records.has(`${name} ${value}`)) return;
      records.add(`${name} ${value}`);
      await pebble.dns('set-txt', { host: `${name}.`, value });
    },
    removeTxt: async (name, value) => {
      records.delete(`${name} ${value}`);
      await pebble.dns('clear-txt', { host: `${name}.` });
    },
  };
};

let count = 0;

/** Runs one once. */
const once = <K extends keyof CertificateActivities>(
  activities: CertificateActivities,
  name: K,
  input: Parameters<CertificateActivities[K]>[0],
) => {
  const run = activities[name] as (
    input: Parameters<CertificateActivities[K]>[0],
  ) => ReturnType<CertificateActivities[K]>;
  return new MockActivityEnvironment().run(run as (input: unknown) => Promise<unknown>, input);
};

const createSubject = async (changed: Partial<CertificateActivitiesDependencies> = {}) => {
  count += 1;
  const hostname = `h${count}.example.org`;
  const store = createMemoryStore();
  const sealer = createSealer(generateClusterKey());
  let aheadMs = 0;
  const clock = () => Date.now() + aheadMs;
  const certificates = createCertificateStore({
    store,
    sealer,
    nowMs: clock,
    onUnreadable: (message) => {
      throw new Error(message);
    },
  });
  const accounts = createAccountStore({
    store,
    sealer,
    nowMs: clock,
    warn: (message) => {
      throw new Error(message);
    },
  });
  const authority = createAcmeAuthority(
    { directory: pebble.directory, caPem: pebble.caPem },
    { accounts, nowMs: clock },
  );
  const warnings: string[] = [];
  const activities = createCertificateActivities({
    store,
    certificates,
    authorities: [authority],
    limiter: createOrderLimiter({ store, nowMs: clock }),
    sealer,
    generateKeyPem,
    challengeFor: async (name) => (name.startsWith('*.') ? undefined : 'http-01'),
    dns: undefined,
    selfCheck: createSelfCheck({ resolver: pebble.resolver, httpPort: pebble.httpPort }),
    txtCheck: createTxtCheck({ resolver: pebble.resolver, everyMs: 100, patienceMs: 5_000 }),
    isPublic: (name) => !isPrivateHostname(name),
    warn: (message) => warnings.push(message),
    nowMs: clock,
    randomSuffix: () => `${count}-${Math.random().toString(36).slice(2, 12)}`,
    ...changed,
  });
  const twice = Object.fromEntries(
    (Object.keys(activities) as (keyof CertificateActivities)[]).map((name) => [
      name,
      async (input: never): Promise<unknown> => {
        await once(activities, name, input);
        return once(activities, name, input);
      },
    ]),
  ) as unknown as CertificateActivities;
  const own = async (name: string) => {
    await store.transact([
      { kind: 'set', key: hostnameKvKey(name), value: { project: 'default', name: 'shop' } },
      {
        kind: 'set',
        key: microserviceKvKey({ project: 'default', name: 'shop' }),
        value: { project: 'default', name: 'shop' },
      },
    ]);
  };
  await own(hostname);
  return {
    hostname,
    store,
    certificates,
    authority,
    activities,
    twice,
    own,
    warnings,
    pass: (ms: number) => {
      aheadMs += ms;
    },
    serve: async () => {
      const server = await startChallengeServer(
        pebble.httpPort,
        (token) =>
          store.peek<HttpChallenge>(KV_PREFIX.httpChallenges).find(({ value }) => value.token === token)
            ?.value.keyAuthorization,
      );
      servers.push(server);
      return server;
    },
    status: () => store.peek<CertificateStatus>(KV_PREFIX.certificateStatus)[0]?.value,
    events: () => store.peek<ClusterEvent>(KV_PREFIX.events).map(({ value }) => value),
  };
};

type Subject = Awaited<ReturnType<typeof createSubject>>;

const dueOf = (look: CertificateLook) => {
  if (look.kind !== 'due') throw new Error(`nothing is due: ${JSON.stringify(look)}`);
  return look;
};

const ordered = async (subject: Subject, hostname = subject.hostname): Promise<HostnameOrder> => {
  const { challenge, directories } = dueOf(await subject.twice.lookAtCertificate({ hostname }));
  const directory = directories[0] ?? '';
  const order = await subject.twice.orderCertificate({ hostname, directory });
  if (order.kind !== 'ordered') throw new Error(JSON.stringify(order));
  return { hostname, directory, url: order.url, challenge };
};

const obtain = async (subject: Subject, hostname = subject.hostname) => {
  const order = await ordered(subject, hostname);
  expect(await subject.twice.proveHostname(order)).toEqual({ kind: 'proved' });
  expect(await subject.twice.finishCertificate(order)).toMatchObject({ kind: 'issued' });
  await subject.twice.withdrawOrder({ hostname });
};

const nothingLeft = ({ store }: Subject) => {
  expect(store.peek(KV_PREFIX.httpChallenges)).toEqual([]);
  expect(store.peek(KV_PREFIX.acmeOrders)).toEqual([]);
};

test('by HTTP: checked, ordered once, proved, kept, and nothing is left of the way', async () => {
  const subject = await createSubject();
  const { hostname, certificates } = subject;
  const server = await subject.serve();
  expect(await subject.twice.checkPointing({ hostname })).toEqual({});
  pebble.takeRequests();
  await obtain(subject);
  expect(pebble.takeRequests().filter((line) => line === 'POST /order-plz')).toHaveLength(1);
  expect(server.asked.every((line) => line.startsWith(hostname))).toBe(true);
  const written = await certificates.read(hostname);
  expect(written).toMatchObject({
    hostname,
    source: 'acme',
    directory: pebble.directory,
    hostnames: [hostname],
  });
  nothingLeft(subject);
  expect(await subject.activities.lookAtCertificate({ hostname })).toMatchObject({ kind: 'held' });
});

test('a worker that is lost after any step is gone on for, with the same order and the same key', async () => {
  const subject = await createSubject();
  await subject.serve();
  const order = await ordered(subject);
  const before = subject.store.peek<AcmeOrder>(KV_PREFIX.acmeOrders)[0]?.value.sealedKey;
  await subject.twice.proveHostname(order);
  // It had asked for the certificate, and was lost before it had it.
  const { sealedKey } = subject.store.peek<AcmeOrder>(KV_PREFIX.acmeOrders)[0]?.value ?? { sealedKey: '' };
  expect(sealedKey).toBe(before);
  pebble.takeRequests();
  pebble.answer(({ path }) => (path.startsWith('/certZ/') ? { status: 503, body: {} } : undefined));
  expect(await once(subject.activities, 'finishCertificate', order)).toMatchObject({
    kind: 'failed',
    failure: { kind: 'authority' },
  });
  pebble.answer(undefined);
  expect(await subject.twice.finishCertificate(order)).toMatchObject({ kind: 'issued' });
  const asked = pebble.takeRequests();
  expect(asked.filter((line) => line.startsWith('POST /finalize-order'))).toHaveLength(1);
});

test('a renewal is due in time, names what it replaces, and replaces it', async () => {
  const subject = await createSubject();
  const { hostname } = subject;
  await subject.serve();
  await obtain(subject);
  const first = (await subject.certificates.read(hostname))?.fingerprint;
  const held = await subject.activities.lookAtCertificate({ hostname });
  if (held.kind !== 'held') throw new Error('it is not held');
  expect(held.renewAtMs - Date.now()).toBeGreaterThan(59 * 86_400_000);
  subject.pass(held.renewAtMs - Date.now() + 1_000);
  await obtain(subject);
  expect((await subject.certificates.read(hostname))?.fingerprint).not.toBe(first);
});

test('one that is revoked is replaced: the authority wants it renewed at once', async () => {
  pebble.suggestRenewal('by revocation');
  const subject = await createSubject();
  const { hostname } = subject;
  await subject.serve();
  await obtain(subject);
  const look = () => subject.activities.lookAtCertificate({ hostname });
  const held = await look();
  if (held.kind !== 'held') throw new Error('it is not held');
  // It is asked again by itself, as often as the authority says.
  expect(held.lookAgainAtMs - Date.now()).toBeLessThanOrEqual(21_600_000);
  const first = await subject.certificates.read(hostname);
  if (first === undefined) throw new Error('there is none');
  await pebble.revoke(first.chainPem, first.keyPem);
  expect(dueOf(await look()).reason).toMatch(/wants it renewed, as when it is revoked$/);
  await obtain(subject);
  expect((await subject.certificates.read(hostname))?.fingerprint).not.toBe(first.fingerprint);
  expect(await look()).toMatchObject({ kind: 'held' });
});

test('a hostname without an address, one that leads elsewhere, and one behind a closed port', async () => {
  const subject = await createSubject();
  const { hostname, activities } = subject;
  const check = () => once(activities, 'checkPointing', { hostname });
  const host = `${hostname}.`;
  expect(await check()).toEqual({
    problem: expect.stringMatching(
      /127\.0\.0\.1 does not answer on port \d+: nobody listens there/,
    ) as string,
  });
  servers.push(await startChallengeServer(pebble.httpPort, () => 'something else'));
  expect(await check()).toEqual({
    problem: expect.stringContaining(
      'is not of this cluster, or does not know the challenge (it answers 200)',
    ) as string,
  });
  await pebble.dns('set-default-ipv4', { ip: '' });
  try {
    await pebble.dns('clear-a', { host });
    expect(await check()).toEqual({
      problem: expect.stringContaining('has no A or AAAA record in DNS') as string,
    });
  } finally {
    await pebble.dns('set-default-ipv4', { ip: '127.0.0.1' });
  }
});

test('what the authority found wrong is told in its words, and the order is of no use any more', async () => {
  const subject = await createSubject();
  servers.push(await startChallengeServer(pebble.httpPort, () => 'something else'));
  const order = await ordered(subject);
  const failed = await once(subject.activities, 'proveHostname', order);
  expect(failed).toMatchObject({
    kind: 'failed',
    isCounted: true,
    failure: {
      kind: 'pointing',
      message: expect.stringMatching(
        /\(challenge http-01\): unauthorized: .*Something else answers/,
      ) as string,
    },
  });
  expect(subject.store.peek(KV_PREFIX.httpChallenges)).toEqual([]);
  const again = await ordered(subject);
  expect(again.url).not.toBe(order.url);
});

test('a wildcard is proved by a record in DNS, which is taken away in any case', async () => {
  const dns = testDns();
  const subject = await createSubject({ dns, challengeFor: async () => 'dns-01' });
  const hostname = `*.w${count}.example.org`;
  await subject.own(hostname);
  await obtain(subject, hostname);
  const written = await subject.certificates.read(hostname);
  expect(new X509Certificate(written?.chainPem ?? '').subjectAltName).toBe(`DNS:${hostname}`);
  expect(dns.records).toEqual(new Set());

  const broken = await createSubject({
    dns: { ...dns, addTxt: async (name, value) => void dns.records.add(`${name} ${value}`) },
    challengeFor: async () => 'dns-01',
  });
  const order = await ordered(broken);
  expect(await once(broken.activities, 'proveHostname', order)).toMatchObject({
    kind: 'failed',
    isCounted: false,
    failure: {
      kind: 'dns_provider',
      message: expect.stringContaining('Test DNS has taken the TXT record') as string,
    },
  });
  expect(dns.records).toEqual(new Set());
});

test('a wildcard without a provider, a private name, a stranger and an uploaded certificate are not asked for', async () => {
  const subject = await createSubject();
  const look = (hostname: string) => subject.activities.lookAtCertificate({ hostname });
  await subject.own('*.example.org');
  expect(await look('*.example.org')).toMatchObject({
    kind: 'off',
    reason: expect.stringContaining('--dns-provider') as string,
  });
  const off = { hostname: '*.example.org', state: 'off', message: 'Give it.', failures: 0 } as const;
  for (let time = 0; time < 2; time += 1) await subject.activities.tellCertificateState(off);
  expect((await subject.store.list<ClusterEvent>(KV_PREFIX.events)).map(({ value }) => value)).toMatchObject([
    { level: 'warning', type: 'certificate.off', message: 'no certificate for *.example.org. Give it.' },
  ]);
  await subject.own('shop.internal');
  expect(await look('shop.internal')).toEqual({ kind: 'nobody' });
  expect(await look('stranger.example.org')).toEqual({ kind: 'nobody' });
  // Of paths, too, only those of known microservices count.
  const unknown = { project: 'default', name: 'unknown' };
  await subject.store.transact([{ kind: 'set', key: hostnameKvKey('paths.example.org/a'), value: unknown }]);
  expect(await look('paths.example.org')).toEqual({ kind: 'nobody' });
  await subject.own('paths.example.org/b');
  expect(await look('paths.example.org')).toMatchObject({ kind: 'due' });

  await subject.serve();
  await obtain(subject);
  const acme = await subject.certificates.read(subject.hostname);
  if (acme === undefined) throw new Error('there is none');
  const { chainPem, keyPem, notAfterMs } = acme;
  await subject.certificates.write({ hostname: subject.hostname, source: 'uploaded', chainPem, keyPem });
  expect(await look(subject.hostname)).toMatchObject({
    kind: 'uploaded',
    untilMs: notAfterMs - 7 * 86_400_000,
  });
  subject.pass(notAfterMs - Date.now() - 6 * 86_400_000);
  expect(await look(subject.hostname)).toMatchObject({ kind: 'due' });
});

test('limits of the authority are kept to, for the account and for each domain, but for renewals', async () => {
  const store = createMemoryStore();
  const nowMs = Date.now();
  const limits = { perAccount: { burst: 3, everyMs: 1_000 }, perDomain: { burst: 2, everyMs: 60_000 } };
  const limiter = createOrderLimiter({ store, nowMs: () => nowMs, limits: () => limits });
  const subject = await createSubject({ limiter });
  for (const name of ['a.example.co.uk', '*.b.example.co.uk']) {
    expect(await limiter.take(pebble.directory, name)).toBeUndefined();
  }
  expect(await limiter.take(pebble.directory, 'c.example.co.uk')).toEqual({
    untilMs: nowMs + 60_000,
    message: expect.stringContaining('issues no more certificates for example.co.uk before') as string,
  });
  await subject.serve();
  await obtain(subject);
  expect(await limiter.take(pebble.directory, 'other.example.net')).toMatchObject({ untilMs: nowMs + 1_000 });
  const { hostname } = subject;
  subject.pass(80 * 86_400_000);
  expect(await subject.activities.lookAtCertificate({ hostname })).toMatchObject({ kind: 'due' });
  expect(
    await once(subject.activities, 'orderCertificate', { hostname, directory: pebble.directory }),
  ).toMatchObject({ kind: 'ordered' });
});

test('how it stands is published, and the first failure and the recovery are told, once', async () => {
  const subject = await createSubject();
  const { hostname, twice } = subject;
  const told = {
    hostname,
    isCounted: false,
    isWaiting: false,
    failure: { kind: 'pointing', message: 'elsewhere' },
  } as const;
  const { nextAttemptAtMs } = await twice.tellCertificateFailure({ ...told, failures: 1 });
  expect(subject.status()).toMatchObject({
    state: 'failed',
    message: 'elsewhere',
    failures: 1,
    nextAttemptAtMs: expect.any(Number) as number,
    lastError: { kind: 'pointing', message: 'elsewhere' },
  });
  expect(nextAttemptAtMs - Date.now()).toBeGreaterThan(50_000);
  await twice.tellCertificateFailure({ ...told, failures: 2 });
  await twice.tellCertificateFailure({
    ...told,
    failures: 2,
    isWaiting: true,
    failure: { kind: 'rate_limited', message: 'its turn', notBeforeMs: Date.now() + 1_000 },
  });
  expect(subject.status()?.state).toBe('waiting');
  await twice.tellCertificateIssued({ hostname, issuer: 'Authority', notAfterMs: Date.now(), failures: 2 });
  await twice.tellCertificateState({ hostname, state: 'issued', message: 'all is well', failures: 0 });
  expect(subject.status()).toEqual({
    hostname,
    state: 'issued',
    message: 'all is well',
    failures: 0,
    updatedAtMs: expect.any(Number) as number,
  });
  expect(subject.events()).toEqual([
    expect.objectContaining({
      level: 'warning',
      type: 'certificate.failed',
      project: 'default',
      microservice: 'shop',
    }),
    expect.objectContaining({
      level: 'info',
      type: 'certificate.issued',
      message: expect.stringContaining('after 2 failed attempts') as string,
    }),
  ]);
  await twice.forgetCertificateState({ hostname });
  expect(subject.status()).toBeUndefined();
});
