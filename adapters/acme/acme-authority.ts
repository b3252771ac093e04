/**
 * One ACME server (RFC 8555), asked by acme-client, and by ourselves for when to renew (RFC 9773).
 *
 * Invariants: the account is made when it is needed first, and made again, with the same key, when the server has
 * forgotten it; nothing here waits for the server to have done something, whoever asks looks again.
 */

import type { Authorization, Client, Order } from 'acme-client';

import type { AuthorityChallenge, CertificateAuthority } from '../../contracts/acme';
import { IssueError, problemName } from '../../domain/certificates/acme-problem';

import type { AccountStore } from './account-store';
import { acmeLibrary } from './acme-library';
import { ProblemAnswer, readProblem } from './problem-document';
import { askRenewalInfo, renewalIdOf } from './renewal-info';
import { ask } from './transport';

export interface AuthoritySettings {
  readonly directory: string;
  /** Of the account; none is needed. */
  readonly email?: string;
  /** What binds the account to one that the authority knows (RFC 8555, 7.3.4). */
  readonly eab?: { readonly kid: string; readonly hmacKey: string };
  /** Roots of the server's own certificate beside those of Node.js, in PEM. */
  readonly caPem?: string;
}

export interface AuthorityDeps {
  readonly accounts: AccountStore;
  readonly nowMs: () => number;
}

/** A directory says seldom something new. */
const DIRECTORY_FOR_MS = 24 * 3_600_000;

type Challenge = Authorization['challenges'][number];

const challengeOf = (challenge: Challenge): AuthorityChallenge => {
  const error = readProblem(challenge.error);
  return {
    type: challenge.type,
    url: challenge.url,
    token: challenge.token,
    status: challenge.status,
    ...(error === undefined ? {} : { error }),
  };
};

/** The package looks at `type` and `token` only, or at the URL only. */
const asChallenge = (challenge: AuthorityChallenge): Challenge => challenge as Challenge;

export const createAcmeAuthority = (
  settings: AuthoritySettings,
  { accounts, nowMs }: AuthorityDeps,
): CertificateAuthority => {
  const { directory, caPem } = settings;
  const name = new URL(directory).host;
  let opening: Promise<Client> | undefined;
  let renewalUrl: { readonly url: string | undefined; readonly readAtMs: number } | undefined;

  const openClient = async (): Promise<Client> => {
    const library = await acmeLibrary(caPem);
    const account = await accounts.open(directory);
    const client = new library.Client({
      directoryUrl: directory,
      accountKey: account.keyPem,
      ...(account.url === undefined ? {} : { accountUrl: account.url }),
      ...(settings.eab === undefined ? {} : { externalAccountBinding: settings.eab }),
    });
    if (account.url !== undefined) return client;
    try {
      await client.createAccount({
        termsOfServiceAgreed: true,
        ...(settings.email === undefined ? {} : { contact: [`mailto:${settings.email}`] }),
      });
    } catch (error) {
      throw worded(error, 'open an account', 'account');
    }
    await accounts.remember(directory, client.getAccountUrl());
    return client;
  };

  /** One client, however many ask at the same time: the account is opened once. */
  const openedClient = (): Promise<Client> => {
    opening ??= openClient().catch((error: unknown) => {
      opening = undefined;
      throw error;
    });
    return opening;
  };

  const worded = (error: unknown, what: string, kind?: 'account'): unknown => {
    if (error instanceof ProblemAnswer) {
      const issue = error.toIssueError({ authority: name, what });
      const { failure } = issue;
      const isOfAccount =
        kind === 'account' && failure.kind !== 'rate_limited' && failure.kind !== 'authority';
      return isOfAccount ? new IssueError({ ...failure, kind }, { cause: error }) : issue;
    }
    if (error instanceof IssueError || !(error instanceof Error)) return error;
    // What the package finds itself: a directory without what it needs, an answer without a nonce, or with a bad one.
    return new IssueError(
      { kind: 'authority', message: `${name} did not ${what}: ${error.message}.` },
      { cause: error },
    );
  };

  const isForgotten = (error: unknown): boolean =>
    error instanceof ProblemAnswer && problemName(error.problem) === 'accountDoesNotExist';

  const attempt = async <T>(what: string, body: (client: Client) => Promise<T>): Promise<T> => {
    const client = await openedClient();
    try {
      return await body(client);
    } catch (error) {
      if (!isForgotten(error)) throw worded(error, what);
    }
    await accounts.remember(directory, undefined);
    opening = undefined;
    const renewed = await openedClient();
    try {
      return await body(renewed);
    } catch (error) {
      throw worded(error, what);
    }
  };

  const renewalInfoUrl = async (): Promise<string | undefined> => {
    if (renewalUrl !== undefined && nowMs() < renewalUrl.readAtMs + DIRECTORY_FOR_MS) return renewalUrl.url;
    const answer = await ask({ method: 'GET', url: directory, ...(caPem === undefined ? {} : { caPem }) });
    if (answer.status !== 200) {
      throw new IssueError({
        kind: 'authority',
        message: `${name} did not show its directory: it answered ${answer.status}.`,
      });
    }
    const { renewalInfo } = JSON.parse(answer.text) as { readonly renewalInfo?: unknown };
    const url = typeof renewalInfo === 'string' ? renewalInfo : undefined;
    renewalUrl = { url, readAtMs: nowMs() };
    return url;
  };

  const orderOf = (url: string): Order => ({ url }) as Order;

  return {
    directory,
    name,

    order: async (hostname, replaces) => {
      const identifiers = [{ type: 'dns', value: hostname }];
      const id =
        replaces === undefined || (await renewalInfoUrl()) === undefined
          ? undefined
          : await renewalIdOf(replaces);
      const what = `order a certificate for ${hostname}`;
      if (id !== undefined) {
        try {
          const request = { identifiers, replaces: id };
          return (await attempt(what, (client) => client.createOrder(request))).url;
        } catch (error) {
          // It may have been replaced already, or be of another account.
          const kind = error instanceof IssueError ? error.failure.kind : undefined;
          if (kind === undefined || kind === 'rate_limited' || kind === 'authority') throw error;
        }
      }
      return (await attempt(what, (client) => client.createOrder({ identifiers }))).url;
    },

    readOrder: (url) =>
      attempt('show an order', async (client) => {
        const order = await client.getOrder(orderOf(url));
        const authorizations = await client.getAuthorizations(order);
        const error = readProblem(order.error);
        return {
          status: order.status,
          authorizations: authorizations.map((authorization) => ({
            url: authorization.url,
            hostname: authorization.identifier.value,
            status: authorization.status,
            challenges: authorization.challenges.map(challengeOf),
          })),
          ...(error === undefined ? {} : { error }),
        };
      }),

    answerTo: async (challenge) => {
      const client = await openedClient();
      const of = (type: 'http-01' | 'dns-01') =>
        client.getChallengeKeyAuthorization({ ...asChallenge(challenge), type });
      return { keyAuthorization: await of('http-01'), txtValue: await of('dns-01') };
    },

    begin: async (challenge) => {
      await attempt('look at a challenge', (client) => client.completeChallenge(asChallenge(challenge)));
    },

    finalise: async (url, hostname, keyPem) => {
      const library = await acmeLibrary(caPem);
      const [, request] = await library.crypto.createCsr({ altNames: [hostname] }, keyPem);
      await attempt(`certify ${hostname}`, async (client) =>
        client.finalizeOrder(await client.getOrder(orderOf(url)), request),
      );
    },

    download: async (url) =>
      attempt('hand out a certificate', async (client) => {
        const order = await client.getOrder(orderOf(url));
        if (order.status !== 'valid') {
          throw new IssueError({
            kind: 'order',
            message: `${name} has no certificate for an order that is ${order.status}.`,
          });
        }
        return client.getCertificate(order);
      }),

    renewalInfo: async (certificatePem) => {
      const url = await renewalInfoUrl();
      const id = url === undefined ? undefined : await renewalIdOf(certificatePem);
      return url === undefined || id === undefined ? undefined : askRenewalInfo(url, id, nowMs(), caPem);
    },
  };
};
