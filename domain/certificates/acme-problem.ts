/**
 * What can go wrong between a hostname and its certificate, in words and in kinds. Pure.
 *
 * Invariants: each message says what happened, who said so, and what to do next; the kind decides when it is tried
 * again and whether another authority may be asked.
 */

/**
 * `pointing`: the hostname does not lead here, or its challenge is not answered; `caa`: DNS forbids the authority;
 * `dns_provider`: the API of the DNS provider, or what was written there; `rate_limited`: the authority's limits, or ours
 * that keep within them; `authority`: it does not answer, or has trouble of its own; `refused`: it does not issue for
 * this hostname; `account`: it does not take our account; `order`: the order is of no use any more; `internal`: here.
 */
export type IssueFailureKind =
  | 'pointing'
  | 'caa'
  | 'dns_provider'
  | 'rate_limited'
  | 'authority'
  | 'refused'
  | 'account'
  | 'order'
  | 'internal';

export interface IssueFailure {
  readonly kind: IssueFailureKind;
  readonly message: string;
  /** Not before: milliseconds since the epoch, as the authority, or the limit, says. */
  readonly notBeforeMs?: number;
}

/** What has been refused by an authority, a DNS provider or the network, on the way to a certificate. */
export class IssueError extends Error {
  override readonly name = 'IssueError';

  constructor(
    readonly failure: IssueFailure,
    options?: { readonly cause?: unknown },
  ) {
    super(failure.message, options);
  }
}

/** A problem document of an authority (RFC 8555, 6.7), as far as it is read. */
export interface AcmeProblem {
  /** With its prefix, or `about:blank`. */
  readonly type: string;
  readonly detail: string;
  /** HTTP status; of the answer, or as the document says. */
  readonly status?: number;
  readonly subproblems?: readonly { readonly type: string; readonly detail: string }[];
}

const ACME_ERROR = 'urn:ietf:params:acme:error:';

/** The last part of a problem's type: `rateLimited`. */
export const problemName = ({ type }: Pick<AcmeProblem, 'type'>): string =>
  type.startsWith(ACME_ERROR) ? type.slice(ACME_ERROR.length) : type;

const KINDS: Readonly<Record<string, IssueFailureKind>> = {
  accountDoesNotExist: 'account',
  badCSR: 'internal',
  badNonce: 'authority',
  badPublicKey: 'internal',
  badSignatureAlgorithm: 'internal',
  caa: 'caa',
  connection: 'pointing',
  dns: 'pointing',
  externalAccountRequired: 'account',
  incorrectResponse: 'pointing',
  invalidContact: 'account',
  malformed: 'order',
  orderNotReady: 'order',
  rateLimited: 'rate_limited',
  rejectedIdentifier: 'refused',
  serverInternal: 'authority',
  tls: 'pointing',
  unauthorized: 'pointing',
  unsupportedContact: 'account',
  unsupportedIdentifier: 'refused',
  userActionRequired: 'account',
};

/** What somebody has to do, after the problem itself. */
const ADVICE: Readonly<Record<string, string>> = {
  accountDoesNotExist: 'The account is made anew.',
  caa: 'A CAA record of the domain allows other authorities only: let this one in, or delete the record.',
  connection:
    'Have the hostname lead to nodes of this cluster, and port 80 of them be reachable from the internet.',
  dns: 'Give the hostname A or AAAA records that lead to nodes of this cluster.',
  externalAccountRequired:
    'This authority wants an account that is bound to one with it: set CONTAINEROS_ACME_EAB (of the fallback: CONTAINEROS_ACME_FALLBACK_EAB) to KID:HMAC-KEY, as it tells them.',
  incorrectResponse:
    'Something else answers for the hostname: have all of its A and AAAA records lead to nodes of this cluster, and to nothing else.',
  invalidContact: 'Set --acme-email to an address that can be written to.',
  rateLimited: 'Nothing is to be done but to wait.',
  rejectedIdentifier: 'Use another hostname, or another authority (--acme-directory).',
  unauthorized:
    'Something else answers for the hostname: have all of its A and AAAA records lead to nodes of this cluster, and to nothing else.',
  unsupportedContact: 'Set --acme-email to an address that can be written to.',
  unsupportedIdentifier: 'Use another hostname, or another authority (--acme-directory).',
  userActionRequired: 'Visit the address that it names, and agree to its terms there.',
};

const DNS_ADVICE: Readonly<Record<string, string>> = {
  dns: 'See that the DNS provider of --dns-provider is the one that answers for the domain.',
  unauthorized: 'See that the DNS provider of --dns-provider is the one that answers for the domain.',
  incorrectResponse: 'See that the DNS provider of --dns-provider is the one that answers for the domain.',
};

const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`);

export interface ProblemContext {
  /** Who said it: the host of the directory. */
  readonly authority: string;
  /** What was asked: `order a certificate for shop.example.com`. */
  readonly what: string;
  /** The challenge that failed, if it is of one. */
  readonly challenge?: 'http-01' | 'dns-01';
  readonly retryAtMs?: number;
}

/** An ISO time without its milliseconds. */
export const timeText = (atMs: number): string => `${new Date(atMs).toISOString().slice(0, 19)}Z`;

/** @returns the problem as a failure: what was asked, what the authority said to it, and what to do next */
export const failureOf = (problem: AcmeProblem, context: ProblemContext): IssueFailure => {
  const name = problemName(problem);
  const isServerTrouble = problem.status !== undefined && problem.status >= 500;
  const isLimited = problem.status === 429;
  const kind: IssueFailureKind = isLimited
    ? 'rate_limited'
    : (KINDS[name] ?? (isServerTrouble ? 'authority' : 'refused'));
  const advice = context.challenge === 'dns-01' ? (DNS_ADVICE[name] ?? ADVICE[name]) : ADVICE[name];
  const parts = [problem, ...(problem.subproblems ?? [])]
    .map(({ detail }) => detail)
    .filter((detail, index, all) => detail !== '' && all.indexOf(detail) === index);
  const challenge = context.challenge === undefined ? '' : ` (challenge ${context.challenge})`;
  const wait =
    context.retryAtMs === undefined || (kind !== 'rate_limited' && kind !== 'authority')
      ? ''
      : ` It wants to be asked again after ${timeText(context.retryAtMs)}.`;
  return {
    // An authority says so of an order that is not the account's any more, too.
    kind: name === 'unauthorized' && context.challenge === undefined ? 'order' : kind,
    message: `${context.authority} did not ${context.what}${challenge}: ${name}: ${sentence(parts.join('; ') || 'it gave no detail')}${advice === undefined ? '' : ` ${advice}`}${wait}`,
    ...(context.retryAtMs === undefined ? {} : { notBeforeMs: context.retryAtMs }),
  };
};

/** Whether another authority may do what this one did not: not when the user has to mend it, or we have. */
export const mayAnotherAuthorityDo = (kind: IssueFailureKind): boolean => {
  switch (kind) {
    case 'authority':
    case 'rate_limited':
    case 'refused':
    case 'account':
    case 'order':
    case 'caa': // it often allows just one authority, and that may be the other one
      return true;
    case 'pointing':
    case 'dns_provider':
    case 'internal':
      return false;
  }
};
