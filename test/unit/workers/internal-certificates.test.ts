// Private hostnames of known microservices get certificates of the cluster's own authority, and in time new ones.
import pino from 'pino';

import { createCertificateStore } from '../../../adapters/certificates/certificate-store';
import { createHostnameAuthority, issueForHostname } from '../../../adapters/certificates/hostname-authority';
import { createSealer, generateClusterKey } from '../../../adapters/certificates/seal';
import type { Certificate } from '../../../contracts/certificates';
import type { AuthorityMaterial } from '../../../contracts/hostname-authority';
import { KV_PREFIX, certificateKvKey, hostnameKvKey } from '../../../contracts/kv';
import {
  createInternalCertificates,
  type InternalCertificates,
} from '../../../workers/internal-certificates';
import { watchableStore } from '../../support/watchable-store';
import { eventually } from '../../support/wait';

const DAY_MS = 86_400_000;
let keeper: InternalCertificates | undefined;
afterEach(() => keeper?.stop());

let root: AuthorityMaterial;
beforeAll(async () => {
  root = await createHostnameAuthority({ clusterId: 'c1', nowMs: Date.now() });
});

const bedOf = (options: { readonly isInternalOnly?: boolean } = {}) => {
  const { store, kv, told } = watchableStore();
  const clock = { nowMs: Date.now() };
  const authority = { current: root };
  let issued = 0;
  const storeWith = (clusterKey: string) =>
    createCertificateStore({
      store,
      sealer: createSealer(clusterKey),
      nowMs: () => clock.nowMs,
      onUnreadable: () => undefined,
    });
  const certificates = storeWith(generateClusterKey());
  const start = (): void => {
    keeper?.stop();
    keeper = createInternalCertificates({
      kv,
      certificates,
      openAuthority: () => Promise.resolve(authority.current),
      issue: (request) => {
        issued += 1;
        return issueForHostname(request);
      },
      isInternalOnly: options.isInternalOnly ?? false,
      nowMs: () => clock.nowMs,
      logger: pino({ level: 'silent' }),
    });
    keeper.start();
  };
  const claim = (...hostnames: readonly string[]) =>
    store.transact(
      hostnames.map((hostname) => ({
        kind: 'set',
        key: hostnameKvKey(hostname),
        value: { project: 'p', name: 'n' },
      })),
    );
  const filed = () => store.peek<Certificate>(KV_PREFIX.certificates).map(({ value }) => value);
  const has = (...hostnames: readonly string[]) =>
    eventually(() => expect(filed().map(({ hostname }) => hostname)).toEqual(hostnames));
  return {
    store,
    kv,
    told,
    clock,
    authority,
    certificates,
    storeWith,
    start,
    claim,
    filed,
    has,
    issued: () => issued,
  };
};

test('private hostnames get one each, public ones none, and those that are gone lose theirs', async () => {
  const bed = bedOf();
  await bed.claim('a.localhost', 'git.internal', 'example.com');
  bed.start();
  await bed.has('a.localhost', 'git.internal');
  expect(bed.filed().map(({ source }) => source)).toEqual(['internal', 'internal']);
  await bed.claim('b.localhost');
  await bed.has('a.localhost', 'b.localhost', 'git.internal');
  await bed.store.transact([{ kind: 'delete', key: hostnameKvKey('a.localhost') }]);
  await bed.has('b.localhost', 'git.internal');
  expect(bed.issued()).toBe(3);
});

test('a hostname with paths gets one, for as long as any of them is there', async () => {
  const bed = bedOf();
  await bed.claim('a.localhost/api', 'a.localhost/shop', 'b.localhost', 'b.localhost/api', 'example.com/api');
  bed.start();
  await bed.has('a.localhost', 'b.localhost');
  expect(bed.filed().map(({ hostnames }) => hostnames)).toEqual([['a.localhost'], ['b.localhost']]);
  await bed.store.transact(
    ['a.localhost/api', 'b.localhost', 'b.localhost/api'].map((claim) => ({
      kind: 'delete',
      key: hostnameKvKey(claim),
    })),
  );
  await bed.has('a.localhost');
  expect(bed.issued()).toBe(2);
});

test('for development, public hostnames get one, too', async () => {
  const bed = bedOf({ isInternalOnly: true });
  await bed.claim('example.com');
  bed.start();
  await bed.has('example.com');
});

test('what people gave is left alone, also when it is given while one is issued', async () => {
  const bed = bedOf();
  const own = await issueForHostname({ authority: root, hostname: 'a.localhost', nowMs: bed.clock.nowMs });
  await bed.certificates.write({ hostname: 'a.localhost', source: 'uploaded', ...own });
  const hold = bed.store.holdWrites((operations) =>
    operations.some(
      (one) => 'key' in one && one.key === certificateKvKey('b.localhost') && one.kind === 'create',
    ),
  );
  await bed.claim('a.localhost', 'b.localhost', 'c.localhost');
  bed.start();
  await eventually(() => expect(hold.waiting).toBe(1));
  await bed.certificates.write({ hostname: 'b.localhost', source: 'uploaded', ...own });
  hold.release();
  await bed.has('a.localhost', 'b.localhost', 'c.localhost');
  await eventually(() => expect(hold.waiting).toBe(0));
  expect(bed.filed().map(({ source }) => source)).toEqual(['uploaded', 'uploaded', 'internal']);
  await bed.store.transact([{ kind: 'deletePrefix', prefix: KV_PREFIX.hostnames }]);
  await bed.has('a.localhost', 'b.localhost');
});

test('it is renewed when a third of its time is left, and kept before', async () => {
  const bed = bedOf();
  await bed.claim('a.localhost');
  bed.start();
  await bed.has('a.localhost');
  const [first] = bed.filed();
  bed.clock.nowMs += 59 * DAY_MS;
  bed.start();
  await eventually(() => expect(bed.told()).toBeGreaterThan(0));
  await bed.claim('z.localhost');
  await bed.has('a.localhost', 'z.localhost');
  expect(bed.filed()[0]).toEqual(first);
  bed.clock.nowMs += 2 * DAY_MS;
  await bed.claim('zz.localhost');
  await bed.has('a.localhost', 'z.localhost', 'zz.localhost');
  const [renewed] = bed.filed();
  expect(renewed?.notAfterMs).toBeGreaterThan(bed.clock.nowMs + 89 * DAY_MS);
  expect(bed.issued()).toBe(4);
});

test('one of another root, or that cannot be opened, is replaced', async () => {
  const bed = bedOf();
  const material = (hostname: string) =>
    issueForHostname({ authority: root, hostname, nowMs: bed.clock.nowMs });
  await bed.certificates.writeInternal({ hostname: 'a.localhost', ...(await material('a.localhost')) });
  await bed
    .storeWith(generateClusterKey())
    .writeInternal({ hostname: 'b.localhost', ...(await material('b.localhost')) });
  bed.authority.current = await createHostnameAuthority({ clusterId: 'c2', nowMs: Date.now() });
  await bed.claim('a.localhost', 'b.localhost');
  bed.start();
  await eventually(async () => {
    for (const hostname of ['a.localhost', 'b.localhost']) {
      expect((await bed.certificates.read(hostname))?.issuer).toBe(
        'ContainerOS, ContainerOS hostnames of cluster c2',
      );
    }
  });
  expect(bed.issued()).toBe(2);
});

test('what failed while Consul was away is done when it is back', async () => {
  const bed = bedOf();
  bed.start();
  await bed.claim('a.localhost');
  bed.store.away = true;
  await eventually(() => expect(bed.store.failures).toBeGreaterThan(0));
  bed.store.away = false;
  await bed.has('a.localhost');
});
