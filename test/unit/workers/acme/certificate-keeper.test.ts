/** Who is told what when hostnames and certificates change. */

import type { KvChange, KvWatchHandlers } from '../../../../contracts/kv-store';
import { KV_PREFIX, certificateKvKey, hostnameKvKey, microserviceKvKey } from '../../../../contracts/kv';
import { covers } from '../../../../domain/certificates/relied-on';
import { authorityFor } from '../../../../domain/ingress/authority-for';
import { createCertificateKeeper, type CertificateKeeper } from '../../../../workers/acme/certificate-keeper';
import { eventually } from '../../../support/wait';

const OWNER = { project: 'default', name: 'shop' };

const createSubject = (running: readonly string[] = []) => {
  const watches = new Map<string, KvWatchHandlers>();
  const known = new Set<string>([microserviceKvKey(OWNER)]);
  const words: string[] = [];
  const warnings: string[] = [];
  let failures = 0;
  const say = async (word: string) => {
    if (failures > 0) {
      failures -= 1;
      throw new Error('Temporal is away');
    }
    words.push(word);
  };
  const keeper = createCertificateKeeper({
    kv: {
      watch: (prefix, handlers) => {
        watches.set(prefix, handlers);
        return {
          refresh: async () => undefined,
          catchUp: async () => undefined,
          close: () => watches.delete(prefix),
        };
      },
      get: async (key) => ({
        index: 1,
        ...(known.has(key) ? { document: { key, text: '{}', index: 1 } } : {}),
      }),
    },
    workflows: {
      want: (hostname) => say(`want ${hostname}`),
      gone: (hostname) => say(`gone ${hostname}`),
      retryNow: (hostname) => say(`retry ${hostname}`),
      running: async () => running,
    },
    isPublic: (hostname) => authorityFor(hostname) === 'public',
    covers,
    warn: (message) => warnings.push(message),
  });
  const change = (prefix: string, { changed = [], removed = [] }: Partial<KvChange>) =>
    watches.get(prefix)?.changed({ index: 2, changed, removed });
  return {
    keeper,
    known,
    words,
    warnings,
    watches,
    failNext: (times: number) => {
      failures = times;
    },
    hostnames: (changed: readonly string[], removed: readonly string[] = []) =>
      change(KV_PREFIX.hostnames, {
        changed: changed.map((name) => ({ key: hostnameKvKey(name), text: JSON.stringify(OWNER), index: 2 })),
        removed: removed.map(hostnameKvKey),
      }),
    claim: (name: string, owner: typeof OWNER) =>
      change(KV_PREFIX.hostnames, {
        changed: [{ key: hostnameKvKey(name), text: JSON.stringify(owner), index: 2 }],
      }),
    certificates: (
      changed: readonly { readonly hostname: string; readonly source: string }[],
      removed: readonly string[] = [],
    ) =>
      change(KV_PREFIX.certificates, {
        changed: changed.map(({ hostname, source }) => ({
          key: certificateKvKey(hostname),
          index: 2,
          text: JSON.stringify({
            hostname,
            hostnames: [hostname],
            source,
            issuer: 'Authority',
            notBeforeMs: 0,
            notAfterMs: 1,
            fingerprint: '',
            sealed: '',
            updatedAtMs: 0,
          }),
        })),
        removed: removed.map(certificateKvKey),
      }),
  };
};

let keeper: CertificateKeeper | undefined;
const open = (running?: readonly string[]) => {
  const subject = createSubject(running);
  ({ keeper } = subject);
  return subject;
};
afterEach(() => keeper?.close());

const heard = (words: readonly string[], expected: readonly string[]) =>
  eventually(() => expect([...words].sort()).toEqual([...expected].sort()));

test('public hostnames are wanted, private ones never, and those that went meanwhile are ended', async () => {
  const { hostnames, words } = open(['old.example.org', 'shop.example.org']);
  hostnames(['shop.example.org', 'shop.localhost', 'shop', 'shop.internal']);
  await heard(words, ['want shop.example.org', 'gone old.example.org']);
  hostnames([], ['shop.example.org', 'shop.localhost']);
  await heard(words, ['want shop.example.org', 'gone old.example.org', 'gone shop.example.org']);
});

test('a hostname is wanted when its microservice is known, not before', async () => {
  const { hostnames, words, known } = open();
  known.clear();
  hostnames(['a.example.org', 'b.example.org']);
  hostnames([], ['b.example.org']);
  await heard(words, ['gone b.example.org']);
  known.add(microserviceKvKey(OWNER));
  await heard(words, ['gone b.example.org', 'want a.example.org']);
});

test('a hostname is wanted once for all its paths, and until the last of them is gone', async () => {
  const { hostnames, words } = open(['shop.example.org', 'old.example.org']);
  hostnames(['shop.example.org', 'shop.example.org/api', 'only.example.org/a', 'only.example.org/b']);
  const first = ['want shop.example.org', 'want only.example.org', 'gone old.example.org'];
  await heard(words, first);
  hostnames([], ['shop.example.org', 'only.example.org/a']);
  // One path goes as another one comes: the hostname stays.
  hostnames(['only.example.org/c'], ['only.example.org/b']);
  await heard(words, [...first, 'want only.example.org']);
  hostnames([], ['shop.example.org/api', 'only.example.org/c']);
  await heard(words, [...first, 'want only.example.org', 'gone shop.example.org', 'gone only.example.org']);
});

test('a hostname is wanted as soon as the microservice of any of its paths is known', async () => {
  const { claim, words } = open();
  claim('a.example.org', { project: 'default', name: 'unknown' });
  claim('a.example.org/api', OWNER);
  await heard(words, ['want a.example.org']);
});

test('a word that fails is said again', async () => {
  const { hostnames, words, warnings, failNext } = open();
  failNext(1);
  hostnames(['a.example.org']);
  await heard(words, ['want a.example.org']);
  expect(warnings).toEqual(['could not have a certificate for a.example.org asked for; trying again']);
});

test('a certificate that is brought, or taken away, is looked at by those that it is good for', async () => {
  const { hostnames, certificates, words } = open();
  hostnames(['a.example.org', 'b.example.net']);
  await heard(words, ['want a.example.org', 'want b.example.net']);
  words.length = 0;
  certificates([{ hostname: 'b.example.net', source: 'uploaded' }]);
  certificates([{ hostname: '*.example.org', source: 'uploaded' }]);
  await heard(words, ['retry a.example.org']);
  // What its own workflow has written is no news.
  certificates([{ hostname: 'a.example.org', source: 'acme' }]);
  certificates([], ['*.example.org']);
  await heard(words, ['retry a.example.org', 'retry a.example.org']);
});

test('nothing is said any more when it is closed', async () => {
  const subject = open();
  subject.known.clear();
  subject.hostnames(['a.example.org']);
  await subject.keeper.close();
  expect(subject.watches.size).toBe(0);
  expect(subject.words).toEqual([]);
});
