/**
 * What the APIs of DNS providers have in common: JSON over HTTPS, one request and one answer, errors in words.
 *
 * Invariant: no error tells a credential; requests end within their time.
 */

import { IssueError } from '../../domain/certificates/acme-problem';

const TIMEOUT_MS = 20_000;
/** What records are kept for by caches: they are there for minutes only. */
export const TTL_SECONDS = 60;
const MAX_DETAIL = 300;

export interface DnsApiOptions {
  /** Where the API is; another place only in tests. */
  readonly endpoint?: string;
}

export const dnsFailure = (provider: string, what: string, why: string, cause?: unknown): IssueError =>
  new IssueError(
    { kind: 'dns_provider', message: `${provider} did not ${what}: ${why}` },
    cause === undefined ? undefined : { cause },
  );

const ADVICE: Readonly<Record<number, string>> = {
  401: ' Look whether the credentials of --dns-credentials-file are right.',
  403: ' Look whether the credentials of --dns-credentials-file may change this zone.',
  429: ' It is asked too often; it is tried again.',
};

export interface DnsQuestion {
  readonly provider: string;
  /** `add a TXT record`: what it did not do, for people. */
  readonly what: string;
  readonly url: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Statuses that are no failure although they look like one. */
  readonly accepts?: readonly number[];
}

export interface DnsAnswer {
  readonly status: number;
  readonly text: string;
}

/** @throws {IssueError} `dns_provider` */
export const askDns = async (question: DnsQuestion): Promise<DnsAnswer> => {
  const { provider, what, url, method = 'GET', headers = {}, body, accepts = [] } = question;
  let answer: Response;
  let text: string;
  try {
    answer = await fetch(url, {
      method,
      headers: { accept: 'application/json', ...headers },
      ...(body === undefined ? {} : { body }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
      redirect: 'error',
    });
    text = await answer.text();
  } catch (error) {
    throw dnsFailure(provider, what, `${new URL(url).host} does not answer. It is tried again.`, error);
  }
  const { status } = answer;
  if (!answer.ok && !accepts.includes(status)) {
    const detail = text.replace(/\s+/g, ' ').trim().slice(0, MAX_DETAIL);
    throw dnsFailure(provider, what, `it answered ${status}: ${detail || 'nothing'}.${ADVICE[status] ?? ''}`);
  }
  return { status, text };
};

/** The same of an API that takes and gives JSON. */
export const askDnsJson = async (
  question: Omit<DnsQuestion, 'body'> & { readonly json?: unknown },
): Promise<unknown> => {
  const { json, headers, ...rest } = question;
  const { text } = await askDns({
    ...rest,
    headers: { ...(json === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(json === undefined ? {} : { body: JSON.stringify(json) }),
  });
  if (text === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw dnsFailure(question.provider, question.what, 'its answer is no JSON.', error);
  }
};

/** The zones that a name may stand in, the longest one first: `a.b.c`, `b.c`. */
export const zonesOf = (name: string): readonly string[] => {
  const labels = name.split('.');
  return labels.slice(0, -1).map((_, from) => labels.slice(from).join('.'));
};

/** A name as it is called within its zone: `_acme-challenge.shop`; the zone itself is `@`. */
export const nameWithin = (name: string, zone: string): string =>
  name === zone ? '@' : name.slice(0, -zone.length - 1);

export interface Zone {
  readonly id: string;
  readonly name: string;
}

/** Remembers which zone a name stands in, once that is known. */
export const createZoneFinder = (
  provider: string,
  /** @returns undefined when the provider has no such zone */
  find: (zone: string) => Promise<Zone | undefined>,
) => {
  const known = new Map<string, Zone>();
  const look = async (name: string): Promise<Zone | undefined> => {
    for (const zone of zonesOf(name)) {
      const found = known.get(zone) ?? (await find(zone));
      if (found === undefined) continue;
      known.set(zone, found);
      return found;
    }
    return undefined;
  };
  return {
    handles: async (name: string): Promise<boolean> => (await look(name)) !== undefined,
    zoneOf: async (name: string): Promise<Zone> => {
      const found = await look(name);
      if (found !== undefined) return found;
      throw dnsFailure(
        provider,
        `find the zone of ${name}`,
        'these credentials have none that it stands in. Give --dns-provider the one that answers for the domain.',
      );
    },
  };
};
