// Certificates that somebody has brought, and that end: told once each, as long as nothing has taken their place.
import pino from 'pino';

import type { Certificate } from '../../../contracts/certificates';
import { KV_PREFIX, certificateKvKey, hostnameKvKey, microserviceKvKey } from '../../../contracts/kv';
import type { ClusterEvent } from '../../../domain/model';
import {
  createUploadedCertificates,
  type UploadedCertificates,
} from '../../../workers/uploaded-certificates';
import { eventually } from '../../support/wait';
import { watchableStore } from '../../support/watchable-store';

const DAY_MS = 86_400_000;
const running: UploadedCertificates[] = [];
afterEach(() => running.splice(0).forEach((one) => one.stop()));

const bedOf = () => {
  const { store, kv } = watchableStore();
  const clock = { nowMs: Date.UTC(2030, 0, 1) };
  const start = (): void => {
    const keeper = createUploadedCertificates({
      kv,
      store,
      nowMs: () => clock.nowMs,
      logger: pino({ level: 'silent' }),
    });
    running.push(keeper);
    keeper.start();
  };
  const write = (hostname: string, daysLeft: number, source: Certificate['source'] = 'uploaded') => {
    const value: Certificate = {
      hostname,
      hostnames: [hostname],
      source,
      issuer: 'People',
      notBeforeMs: clock.nowMs - 90 * DAY_MS,
      notAfterMs: clock.nowMs + daysLeft * DAY_MS,
      fingerprint: Buffer.from(`${hostname} and more`).toString('hex'),
      sealed: '',
      updatedAtMs: clock.nowMs,
    };
    return store.transact([{ kind: 'set', key: certificateKvKey(hostname), value }]);
  };
  const told = () =>
    store.peek<ClusterEvent>(KV_PREFIX.events).map(({ value: { type, message } }) => `${type}: ${message}`);
  /** As a document that something else writes, so that there is a turn. */
  const stir = () => write('other.internal', 60, 'internal');
  return { store, clock, start, write, told, stir };
};

const SOON = 'the certificate that was uploaded for git.internal ends at 2030-01-05T00:00:00Z';

test('one that ends soon is told, once, also by who starts later, and when it has ended', async () => {
  const bed = bedOf();
  await bed.store.transact([
    { kind: 'set', key: hostnameKvKey('git.internal'), value: { project: 'p', name: 'git' } },
    {
      kind: 'set',
      key: microserviceKvKey({ project: 'p', name: 'git' }),
      value: { project: 'p', name: 'git' },
    },
  ]);
  await bed.write('git.internal', 4);
  bed.start();
  await bed.stir();
  expect(bed.told()).toEqual([]);
  bed.clock.nowMs += DAY_MS;
  await bed.stir();
  const soon = `certificate.expiring: ${SOON}, and nothing has taken its place: upload a new one`;
  await eventually(() => expect(bed.told()).toEqual([soon]));
  expect(bed.store.peek<ClusterEvent>(KV_PREFIX.events)[0]?.value).toMatchObject({
    level: 'warning',
    project: 'p',
    microservice: 'git',
  });
  bed.start();
  bed.clock.nowMs += 3 * DAY_MS;
  await bed.stir();
  await eventually(() =>
    expect(bed.told()).toEqual([
      soon,
      'certificate.expired: the certificate that was uploaded for git.internal has ended: clients refuse it. Upload a new one, or delete it',
    ]),
  );
});

test('what an authority has replaced, what was removed, and what authorities gave is not told', async () => {
  const bed = bedOf();
  for (const name of ['a', 'b']) await bed.write(`${name}.example.org`, 4);
  await bed.write('c.example.org', 4, 'acme');
  await bed.write('d.example.org', 4);
  await bed.write('*.example.org', 90);
  bed.start();
  await bed.write('a.example.org', 4, 'acme');
  await bed.store.transact([{ kind: 'delete', key: certificateKvKey('b.example.org') }]);
  await bed.write('last.example.com', 4);
  bed.clock.nowMs += 10 * DAY_MS;
  await bed.stir();
  await eventually(() => expect(bed.told()).toHaveLength(2));
  expect(bed.told().filter((line) => !line.includes('last.example.com'))).toEqual([]);
});
