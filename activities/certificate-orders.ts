/**
 * An order for a certificate, step by step: placed, proved, finished, or taken back. Part of the certificate activities.
 *
 * Invariants: what is published to prove a hostname stands in the order's document first, so that whoever comes later
 * can take it back; the certificate's key is kept, sealed, before the authority certifies it; an order that is there is
 * gone on with, not placed again.
 */

import { Context } from '@temporalio/activity';

import {
  acmeOrderPurpose,
  challengeRecordOf,
  type AcmeOrder,
  type AuthorityChallenge,
  type AuthorityOrder,
  type CertificateAuthority,
  type ChallengeType,
  type DnsProvider,
  type KeySealer,
  type OrderLimiter,
  type SelfCheck,
  type TxtCheck,
} from '../contracts/acme';
import type { CertificateStore, HttpChallenge } from '../contracts/certificates';
import type {
  CertificateActivities,
  FinishOutcome,
  HostnameOrder,
  ProofOutcome,
} from '../contracts/certificate-workflow';
import type { KeyValueStore } from '../contracts/key-value-store';
import { acmeOrderKvKey, httpChallengeKvKey } from '../contracts/kv';
import { CERTIFICATE } from '../contracts/timeouts';
import { IssueError, failureOf, type IssueFailure } from '../domain/certificates/acme-problem';

export interface CertificateOrdersDependencies {
  readonly store: Pick<KeyValueStore, 'get' | 'transact'>;
  readonly certificates: CertificateStore;
  readonly authorities: readonly CertificateAuthority[];
  readonly limiter: OrderLimiter;
  readonly sealer: KeySealer;
  /** ECDSA P-256, PKCS #8 in PEM. */
  readonly generateKeyPem: () => Promise<string>;
  /** How the hostname is proved; undefined: it cannot be. */
  readonly challengeFor: (hostname: string) => Promise<ChallengeType | undefined>;
  readonly dns: DnsProvider | undefined;
  readonly selfCheck: SelfCheck;
  readonly txtCheck: TxtCheck;
  readonly warn: (message: string, error: unknown) => void;
  readonly nowMs: () => number;
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
}

/** How long nodes may take to hear of a challenge. */
const SPREADS_WITHIN_MS = 10_000;
const LOOK_EVERY_MS = 500;
/** How long an authority may take to look at a challenge, or to certify. */
const AUTHORITY_TAKES_MS = 3 * 60_000;
const POLL_FIRST_MS = 500;
const POLL_MAX_MS = 5_000;
/** Longer than any step takes; nobody answers it any more then, also when it was never taken back. */
const CHALLENGE_LASTS_MS = 60 * 60_000;

const isOver = (status: string): boolean => status !== 'pending' && status !== 'processing';

/** With heartbeats, so that the death of the worker is noticed. */
const heartbeating = async <T>(body: (context: Context) => Promise<T>): Promise<T> => {
  const context = Context.current();
  context.heartbeat();
  const timer = setInterval(() => context.heartbeat(), CERTIFICATE.heartbeatMs / 5);
  try {
    return await body(context);
  } finally {
    clearInterval(timer);
  }
};

export const createCertificateOrders = (
  deps: CertificateOrdersDependencies,
): Pick<
  CertificateActivities,
  'checkPointing' | 'orderCertificate' | 'proveHostname' | 'finishCertificate' | 'withdrawOrder'
> => {
  const { store, nowMs } = deps;

  const authorityOf = (directory: string): CertificateAuthority => {
    const found = deps.authorities.find((one) => one.directory === directory);
    if (found !== undefined) return found;
    throw new IssueError({ kind: 'order', message: `${directory} is not asked any more.` });
  };

  const readOrder = async (hostname: string): Promise<AcmeOrder | undefined> =>
    (await store.get<AcmeOrder>(acmeOrderKvKey(hostname)))?.value;

  /** What is written down of this order; without it, it can only be placed again. */
  const known = async ({ hostname, url }: Pick<HostnameOrder, 'hostname' | 'url'>): Promise<AcmeOrder> => {
    const found = await readOrder(hostname);
    if (found?.url === url) return found;
    throw new IssueError({
      kind: 'order',
      message: `Nothing is known of the order for ${hostname} any more.`,
    });
  };

  const writeOrder = async (order: AcmeOrder): Promise<void> => {
    await store.transact([{ kind: 'set', key: acmeOrderKvKey(order.hostname), value: order }]);
  };

  const putAnswer = async (hostname: string, token: string, keyAuthorization: string): Promise<void> => {
    const value: HttpChallenge = {
      token,
      hostname,
      keyAuthorization,
      expiresAtMs: nowMs() + CHALLENGE_LASTS_MS,
    };
    await store.transact([{ kind: 'set', key: httpChallengeKvKey(token), value }]);
  };

  /** As a return value what is expected. */
  const failing = async <T>(
    body: () => Promise<T>,
  ): Promise<T | { readonly kind: 'failed'; readonly failure: IssueFailure }> => {
    try {
      return await body();
    } catch (error) {
      if (error instanceof IssueError) return { kind: 'failed', failure: error.failure };
      throw error;
    }
  };

  /** Nodes hear of an answer a moment after it was published. @returns what is wrong, in words */
  const answered = async (
    challenge: Parameters<SelfCheck>[0],
    context: Context,
  ): Promise<string | undefined> => {
    const endsAtMs = Date.now() + SPREADS_WITHIN_MS;
    for (;;) {
      const problem = await deps.selfCheck(challenge);
      if (problem === undefined || Date.now() > endsAtMs) return problem;
      await context.sleep(LOOK_EVERY_MS);
    }
  };

  const takeBack = async (order: AcmeOrder): Promise<void> => {
    for (const token of order.tokens) {
      await store.transact([{ kind: 'delete', key: httpChallengeKvKey(token) }]);
    }
    for (const value of order.txtValues) {
      await deps.dns?.removeTxt(challengeRecordOf(order.hostname), value);
    }
  };

  const publishAnswer = async (
    order: AcmeOrder,
    type: ChallengeType,
    { token }: AuthorityChallenge,
    answer: { readonly keyAuthorization: string; readonly txtValue: string },
    context: Context,
  ): Promise<AcmeOrder> => {
    const { hostname } = order;
    if (type === 'http-01') {
      const noted = { ...order, tokens: [...new Set([...order.tokens, token])] };
      await writeOrder(noted);
      await putAnswer(hostname, token, answer.keyAuthorization);
      // That the hostname leads here was seen before; nodes hear of this answer within moments.
      await answered({ hostname, token, keyAuthorization: answer.keyAuthorization }, context);
      return noted;
    }
    if (deps.dns === undefined) {
      throw new IssueError({
        kind: 'dns_provider',
        message: `${hostname} is proved by a record in DNS, and there is no --dns-provider.`,
      });
    }
    const noted = { ...order, txtValues: [...new Set([...order.txtValues, answer.txtValue])] };
    await writeOrder(noted);
    const record = challengeRecordOf(hostname);
    await deps.dns.addTxt(record, answer.txtValue);
    const problem = await deps.txtCheck(record, answer.txtValue, context.cancellationSignal);
    if (problem !== undefined) {
      throw new IssueError({
        kind: 'dns_provider',
        message: `${deps.dns.name} has taken the TXT record ${record}, but ${problem}. It is tried again.`,
      });
    }
    return noted;
  };

  /** Looks ever less often, until the order is as wanted. @throws IssueError `authority` when that takes too long */
  const until = async (
    authority: CertificateAuthority,
    url: string,
    isDone: (order: AuthorityOrder) => boolean,
    context: Context,
  ): Promise<AuthorityOrder> => {
    const endsAtMs = Date.now() + AUTHORITY_TAKES_MS;
    for (let waitMs = POLL_FIRST_MS; ; waitMs = Math.min(POLL_MAX_MS, waitMs * 1.5)) {
      const order = await authority.readOrder(url);
      if (isDone(order)) return order;
      if (Date.now() > endsAtMs) {
        throw new IssueError({
          kind: 'authority',
          message: `${authority.name} has not come to an end with an order within ${AUTHORITY_TAKES_MS / 60_000} minutes.`,
        });
      }
      await context.sleep(waitMs);
    }
  };

  const verdict = (
    hostname: string,
    authority: CertificateAuthority,
    order: AuthorityOrder,
    type: ChallengeType,
  ): ProofOutcome => {
    if (order.status !== 'invalid' && order.authorizations.every(({ status }) => status === 'valid')) {
      return { kind: 'proved' };
    }
    const challenges = order.authorizations.flatMap((one) => one.challenges);
    const error = challenges.find((one) => one.error !== undefined)?.error;
    const what = `find that ${hostname} is ours`;
    if (error !== undefined) {
      const failure = failureOf(error, { authority: authority.name, what, challenge: type });
      return { kind: 'failed', failure, isCounted: true };
    }
    const message =
      order.error === undefined
        ? `The order for ${hostname} is of no use any more (${order.status}): a new one is placed.`
        : failureOf(order.error, { authority: authority.name, what }).message;
    return { kind: 'failed', failure: { kind: 'order', message }, isCounted: false };
  };

  const prove = async (
    { hostname, directory, url, challenge: type }: HostnameOrder,
    context: Context,
  ): Promise<ProofOutcome> => {
    const authority = authorityOf(directory);
    let own = await known({ hostname, url });
    try {
      const order = await authority.readOrder(url);
      if (order.status !== 'pending') return verdict(hostname, authority, order, type);
      for (const { status, challenges } of order.authorizations) {
        if (status !== 'pending') continue;
        const challenge = challenges.find((one) => one.type === type);
        if (challenge === undefined) {
          throw new IssueError({
            kind: 'refused',
            message: `${authority.name} does not offer the challenge ${type} for ${hostname}.`,
          });
        }
        own = await publishAnswer(own, type, challenge, await authority.answerTo(challenge), context);
        // Whoever was cut off has asked already.
        if (challenge.status === 'pending') await authority.begin(challenge);
      }
      const isDone = ({ status, authorizations }: AuthorityOrder) =>
        status !== 'pending' || authorizations.some((one) => isOver(one.status) && one.status !== 'valid');
      return verdict(hostname, authority, await until(authority, url, isDone, context), type);
    } finally {
      try {
        const now = await readOrder(hostname);
        if (now?.url === url) {
          await takeBack(now);
          await writeOrder({ ...now, tokens: [], txtValues: [] });
        }
      } catch (error) {
        deps.warn(`could not take back how ${hostname} was proved; it is tried again`, error);
      }
    }
  };

  const finish = async (
    { hostname, directory, url }: HostnameOrder,
    context: Context,
  ): Promise<FinishOutcome> => {
    const authority = authorityOf(directory);
    const own = await known({ hostname, url });
    const keyPem = deps.sealer.open(own.sealedKey, acmeOrderPurpose(hostname));
    const before = await authority.readOrder(url);
    if (before.status === 'ready') await authority.finalise(url, hostname, keyPem);
    const order = await until(
      authority,
      url,
      ({ status }) => status === 'valid' || status === 'invalid' || status === 'pending',
      context,
    );
    if (order.status !== 'valid') {
      const message =
        order.error === undefined
          ? `${authority.name} has not certified ${hostname}: the order is ${order.status}.`
          : failureOf(order.error, { authority: authority.name, what: `certify ${hostname}` }).message;
      return { kind: 'failed', failure: { kind: 'order', message } };
    }
    const chainPem = await authority.download(url);
    const { issuer, notAfterMs } = await deps.certificates.write({
      hostname,
      source: 'acme',
      directory,
      chainPem,
      keyPem,
    });
    return { kind: 'issued', issuer, notAfterMs };
  };

  /** One that was placed before somebody was cut off, and is of use still. */
  const orderThatIsThere = async (
    hostname: string,
    authority: CertificateAuthority,
  ): Promise<string | undefined> => {
    const own = await readOrder(hostname);
    if (own?.directory !== authority.directory) return undefined;
    try {
      const { status } = await authority.readOrder(own.url);
      return status === 'invalid' ? undefined : own.url;
    } catch (error) {
      if (error instanceof IssueError && error.failure.kind !== 'authority') return undefined;
      throw error;
    }
  };

  return {
    checkPointing: ({ hostname }) =>
      heartbeating(async (context) => {
        const token = `containeros-${deps.randomSuffix()}`;
        const keyAuthorization = `${token}.self-check`;
        await putAnswer(hostname, token, keyAuthorization);
        try {
          const problem = await answered({ hostname, token, keyAuthorization }, context);
          return problem === undefined ? {} : { problem };
        } finally {
          await store.transact([{ kind: 'delete', key: httpChallengeKvKey(token) }]);
        }
      }),

    orderCertificate: ({ hostname, directory }) =>
      heartbeating(() =>
        failing(async () => {
          const authority = authorityOf(directory);
          const there = await orderThatIsThere(hostname, authority);
          if (there !== undefined) return { kind: 'ordered', url: there };
          const held = await deps.certificates.read(hostname);
          const replaces =
            held?.source === 'acme' && held.directory === directory ? held.chainPem : undefined;
          // Renewals that say so do not count.
          const limited = replaces === undefined ? await deps.limiter.take(directory, hostname) : undefined;
          if (limited !== undefined) {
            const { untilMs, message } = limited;
            return { kind: 'limited', failure: { kind: 'rate_limited', message, notBeforeMs: untilMs } };
          }
          const url = await authority.order(hostname, replaces);
          await writeOrder({
            hostname,
            directory,
            url,
            sealedKey: deps.sealer.seal(await deps.generateKeyPem(), acmeOrderPurpose(hostname)),
            tokens: [],
            txtValues: [],
            createdAtMs: nowMs(),
          });
          return { kind: 'ordered', url };
        }),
      ),

    proveHostname: (input) =>
      heartbeating(async (context) => {
        const outcome = await failing(() => prove(input, context));
        return outcome.kind === 'failed' && !('isCounted' in outcome)
          ? { ...outcome, isCounted: false }
          : outcome;
      }),

    finishCertificate: (input) => heartbeating((context) => failing(() => finish(input, context))),

    withdrawOrder: async ({ hostname }) => {
      const own = await readOrder(hostname);
      if (own === undefined) return;
      try {
        await takeBack(own);
      } catch (error) {
        if (!(error instanceof IssueError)) throw error;
        // A provider that refuses may do so for ever; what is left there proves nothing to anybody.
        deps.warn(`a TXT record of ${hostname} is left in DNS: delete it by hand`, error);
      }
      await store.transact([{ kind: 'delete', key: acmeOrderKvKey(hostname) }]);
    },
  };
};
