/** An ACME server as it is asked: Pebble, over a gate where it can be made to refuse. */

import { X509Certificate, createPrivateKey } from 'node:crypto';

import { createAccountStore, generateKeyPem } from '../../adapters/acme/account-store';
import { createAcmeAuthority, type AuthoritySettings } from '../../adapters/acme/acme-authority';
import type { AcmeAccount, CertificateAuthority } from '../../contracts/acme';
import { KV_PREFIX } from '../../contracts/kv';
import { IssueError, type IssueFailure } from '../../domain/certificates/acme-problem';
import { createMemoryStore } from '../support/memory-store';
import { startChallengeServer, startPebble, type Pebble } from '../support/pebble';
import { createReversingSealer } from '../support/reversing-sealer';
import { eventually } from '../support/wait';

const HOSTNAME = 'shop.example.com';

let pebble: Pebble;
beforeAll(async () => {
  pebble = await startPebble();
});
afterAll(() => pebble.close());
afterEach(() => {
  pebble.answer(undefined);
  pebble.suggestRenewal(undefined);
});

const createSubject = (settings: Partial<AuthoritySettings> = {}, of: Pebble = pebble) => {
  const store = createMemoryStore();
  const warnings: string[] = [];
  const create = (sealer = createReversingSealer()) =>
    createAcmeAuthority(
      { directory: of.directory, caPem: of.caPem, ...settings },
      {
        accounts: createAccountStore({
          store,
          sealer,
          warn: (message) => warnings.push(message),
          nowMs: Date.now,
        }),
        nowMs: Date.now,
      },
    );
  return { store, warnings, create, authority: create() };
};

const failureOf = async (body: Promise<unknown>): Promise<IssueFailure> => {
  try {
    await body;
  } catch (error) {
    if (error instanceof IssueError) return error.failure;
    throw error;
  }
  throw new Error('it did not fail');
};

/** From an order to the certificate, by HTTP. */
const issue = async (authority: CertificateAuthority, url: string, hostname = HOSTNAME) => {
  const answers = new Map<string, string>();
  const server = await startChallengeServer(pebble.httpPort, (token) => answers.get(token));
  try {
    const { authorizations } = await authority.readOrder(url);
    const challenge = authorizations[0]?.challenges.find(({ type }) => type === 'http-01');
    if (challenge === undefined) throw new Error('there is no challenge');
    answers.set(challenge.token, (await authority.answerTo(challenge)).keyAuthorization);
    await authority.begin(challenge);
    await eventually(async () => expect((await authority.readOrder(url)).status).toBe('ready'));
    const keyPem = await generateKeyPem();
    await authority.finalise(url, hostname, keyPem);
    await eventually(async () => expect((await authority.readOrder(url)).status).toBe('valid'));
    return { chainPem: await authority.download(url), keyPem };
  } finally {
    await server.close();
  }
};

test('a certificate is ordered, proved by HTTP, finalised and downloaded', async () => {
  const { authority } = createSubject({ email: 'owner@example.com' });
  const { chainPem, keyPem } = await issue(authority, await authority.order(HOSTNAME));
  const certificate = new X509Certificate(chainPem);
  expect(certificate.subjectAltName).toBe(`DNS:${HOSTNAME}`);
  expect(certificate.checkPrivateKey(createPrivateKey(keyPem))).toBe(true);
  expect(chainPem.match(/BEGIN CERTIFICATE/g)?.length).toBeGreaterThan(1);
});

test('one account is made for each directory, whoever asks, and its key is kept sealed', async () => {
  const { store, authority, create } = createSubject();
  pebble.takeRequests();
  await Promise.all([authority.order('a.example.com'), authority.order('b.example.com')]);
  await create().order('c.example.com');
  const made = pebble.takeRequests().filter((line) => line.startsWith('POST /sign-me-up'));
  expect(made).toHaveLength(1);
  const [account] = store.peek<AcmeAccount>(KV_PREFIX.acmeAccounts);
  expect(account?.value).toMatchObject({
    directory: pebble.directory,
    url: expect.stringContaining('/my-account/') as string,
  });
  expect(JSON.stringify(account)).not.toContain('PRIVATE KEY');
});

test('an account that the server has forgotten is made again with the same key', async () => {
  const own = await startPebble();
  try {
    const { store, authority } = createSubject({}, own);
    await authority.order(HOSTNAME);
    const [before] = store.peek<AcmeAccount>(KV_PREFIX.acmeAccounts);
    await own.restart();
    await authority.order(HOSTNAME);
    const [after] = store.peek<AcmeAccount>(KV_PREFIX.acmeAccounts);
    expect(after?.value.sealedKey).toBe(before?.value.sealedKey);
    expect(after?.value.url).not.toBe(before?.value.url);
  } finally {
    await own.close();
  }
});

test('a key that cannot be opened any more is replaced, and it is said', async () => {
  const { store, authority, create, warnings } = createSubject();
  await authority.order(HOSTNAME);
  const [before] = store.peek<AcmeAccount>(KV_PREFIX.acmeAccounts);
  await create(createReversingSealer('another')).order(HOSTNAME);
  const [after] = store.peek<AcmeAccount>(KV_PREFIX.acmeAccounts);
  expect(after?.value.sealedKey).not.toBe(before?.value.sealedKey);
  expect(warnings).toEqual([expect.stringMatching(/^A new account is made with 127\.0\.0\.1/) as string]);
});

test('nonces that are refused are replaced', async () => {
  const own = await startPebble({ badNoncePercent: 30 });
  try {
    const { authority } = createSubject({}, own);
    for (const name of ['a', 'b', 'c', 'd', 'e']) await authority.order(`${name}.example.com`);
  } finally {
    await own.close();
  }
});

test('an account is bound to one that the authority knows, and it is said when that is missing', async () => {
  const hmacKey = Buffer.from('0123456789abcdef0123456789abcdef').toString('base64url');
  const own = await startPebble({ eabKeys: { 'kid-1': hmacKey } });
  try {
    await createSubject({ eab: { kid: 'kid-1', hmacKey } }, own).authority.order(HOSTNAME);
    expect(await failureOf(createSubject({}, own).authority.order(HOSTNAME))).toEqual({
      kind: 'account',
      message: expect.stringMatching(/did not open an account: .*CONTAINEROS_ACME_EAB/) as string,
    });
    const wrong = { kid: 'kid-2', hmacKey };
    expect(await failureOf(createSubject({ eab: wrong }, own).authority.order(HOSTNAME))).toMatchObject({
      kind: 'account',
    });
  } finally {
    await own.close();
  }
});

test('a limit is told with the time until when it holds', async () => {
  const { authority } = createSubject();
  pebble.answer(({ path }) =>
    path === '/order-plz'
      ? {
          status: 429,
          headers: { 'retry-after': '7200' },
          body: {
            type: 'urn:ietf:params:acme:error:rateLimited',
            detail: 'too many certificates (50) already issued for "example.com"',
            status: 429,
          },
        }
      : undefined,
  );
  pebble.takeRequests();
  const beforeMs = Date.now();
  const failure = await failureOf(authority.order(HOSTNAME));
  expect(failure).toMatchObject({
    kind: 'rate_limited',
    message: expect.stringMatching(
      /^127\.0\.0\.1:\d+ did not order a certificate for shop\.example\.com: rateLimited: too many certificates \(50\) already issued for "example\.com"\. Nothing is to be done but to wait\. It wants to be asked again after 20/,
    ) as string,
  });
  expect((failure.notBeforeMs ?? 0) - beforeMs).toBeGreaterThanOrEqual(7_199_000);
  expect(pebble.takeRequests().filter((line) => line === 'POST /order-plz')).toHaveLength(1);
});

test('a name that the authority refuses is told', async () => {
  const { authority } = createSubject();
  expect(await failureOf(authority.order('blocked.example.com'))).toMatchObject({
    kind: 'refused',
    message: expect.stringContaining('rejectedIdentifier') as string,
  });
});

test('a server that has trouble, that says nothing of use, and that is not there', async () => {
  const { authority } = createSubject();
  await authority.order(HOSTNAME);
  pebble.answer(({ path }) => (path === '/order-plz' ? { status: 503, body: 'away' } : undefined));
  expect(await failureOf(authority.order(HOSTNAME))).toMatchObject({
    kind: 'authority',
    message: expect.stringContaining('it answered 503') as string,
  });
  const nowhere = createSubject({ directory: 'https://127.0.0.1:1/dir' }).authority;
  expect(await failureOf(nowhere.order(HOSTNAME))).toEqual({
    kind: 'authority',
    message: '127.0.0.1:1 does not answer: nobody listens there (connection refused).',
  });
});

test('an order that went invalid says which challenge failed, and why', async () => {
  const { authority } = createSubject();
  const url = await authority.order(HOSTNAME);
  const { authorizations } = await authority.readOrder(url);
  const challenge = authorizations[0]?.challenges.find(({ type }) => type === 'http-01');
  if (challenge === undefined) throw new Error('there is no challenge');
  await authority.begin(challenge);
  const failed = await eventually(async () => {
    const order = await authority.readOrder(url);
    expect(order.status).toBe('invalid');
    return order;
  });
  expect(failed.authorizations[0]?.challenges.find(({ type }) => type === 'http-01')).toMatchObject({
    status: 'invalid',
    error: {
      type: 'urn:ietf:params:acme:error:connection',
      detail: expect.stringContaining('refused') as string,
    },
  });
  expect(await failureOf(authority.download(url))).toMatchObject({ kind: 'order' });
});

test('the time to renew is asked where the directory has it, and a renewal names what it replaces', async () => {
  const plain = createSubject().authority;
  const { chainPem } = await issue(plain, await plain.order(HOSTNAME));
  expect(await plain.renewalInfo(chainPem)).toBeUndefined();

  const window = { start: new Date('2030-01-01T00:00:00Z'), end: new Date('2030-01-03T00:00:00Z') };
  pebble.suggestRenewal(window);
  const { authority } = createSubject();
  const beforeMs = Date.now();
  const info = await authority.renewalInfo(chainPem);
  expect(info?.window).toEqual({ startMs: window.start.getTime(), endMs: window.end.getTime() });
  expect((info?.askAgainAtMs ?? 0) - beforeMs).toBeGreaterThanOrEqual(21_600_000);

  const replaced: unknown[] = [];
  pebble.answer(({ path, payload }) => {
    if (path === '/order-plz') replaced.push((payload as { readonly replaces?: string }).replaces);
    return path === '/order-plz' && replaced.length === 1
      ? {
          status: 409,
          body: { type: 'urn:ietf:params:acme:error:alreadyReplaced', detail: 'it was replaced' },
        }
      : undefined;
  });
  await authority.order(HOSTNAME, chainPem);
  expect(replaced).toEqual([expect.stringMatching(/^[\w-]+\.[\w-]+$/) as string, undefined]);
});
