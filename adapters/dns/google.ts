/**
 * TXT records with Google Cloud DNS (v1), by the key of a service account that may change records (role DNS Administrator,
 * or `dns.changes.create`, `dns.managedZones.list` and `dns.resourceRecordSets.*`).
 *
 * All values of a name are one set. It is changed by naming what it was, so of two who change it at the same moment one is
 * refused, and tries again.
 */

import { createPrivateKey, sign, type KeyObject } from 'node:crypto';

import type { DnsProvider } from '../../contracts/acme';
import { isObject } from '../../domain/is-object';
import { mismatch, type Shape } from '../../domain/shape';

import { askDns, askDnsJson, createZoneFinder, dnsFailure, TTL_SECONDS, type DnsApiOptions } from './dns-api';

const NAME = 'Google Cloud DNS';
const SCOPE = 'https://www.googleapis.com/auth/ndev.clouddns.readwrite';
const GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
/** The longest that Google takes. */
const TOKEN_FOR_SECONDS = 3_600;
/** A token is not used in its last minute. */
const SPARE_MS = 60_000;
const CONFLICTS = [409, 412];
const ATTEMPTS = 5;

/** What the key of a service account has at least, as Google names it. */
const ACCOUNT_FIELDS = ['project_id', 'private_key', 'client_email'] as const;
const TOKEN_URI = 'https://oauth2.googleapis.com/token';

interface TokenAnswer {
  readonly access_token: string;
  readonly expires_in: number;
}

const TOKEN_ANSWER: Shape<TokenAnswer> = { access_token: 'text', expires_in: 'number' };

interface ServiceAccount {
  readonly projectId: string;
  readonly keyId?: string;
  readonly key: KeyObject;
  readonly email: string;
  readonly tokenUri: string;
}

/** @throws {RangeError} when the text is no service account, in words that tell no secret */
export const readServiceAccount = (json: string): ServiceAccount => {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new RangeError('is no JSON. It is the file that Google gives out as the key of a service account');
  }
  const account = isObject(value) ? value : {};
  const textOf = (field: string) => (typeof account[field] === 'string' ? account[field] : '');
  const tokenUri = account['token_uri'] === undefined ? TOKEN_URI : textOf('token_uri');
  const wrong: string[] = ACCOUNT_FIELDS.filter((field) => textOf(field) === '');
  if (!URL.canParse(tokenUri)) wrong.push('token_uri');
  if (wrong.length > 0) throw new RangeError(`is no key of a service account: look at ${wrong.join(', ')}`);
  const keyId = textOf('private_key_id');
  let key: KeyObject;
  try {
    key = createPrivateKey(textOf('private_key'));
  } catch {
    throw new RangeError('has a private_key that cannot be read');
  }
  return {
    projectId: textOf('project_id'),
    ...(keyId === '' ? {} : { keyId }),
    key,
    email: textOf('client_email'),
    tokenUri,
  };
};

const base64Url = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** What the account says of itself, signed (RFC 7523). */
const assertionOf = ({ key, keyId, email, tokenUri }: ServiceAccount, nowMs: number): string => {
  const issuedAt = Math.floor(nowMs / 1_000);
  const text = [
    base64Url({ alg: 'RS256', typ: 'JWT', ...(keyId === undefined ? {} : { kid: keyId }) }),
    base64Url({ iss: email, scope: SCOPE, aud: tokenUri, iat: issuedAt, exp: issuedAt + TOKEN_FOR_SECONDS }),
  ].join('.');
  return `${text}.${sign('RSA-SHA256', Buffer.from(text), key).toString('base64url')}`;
};

interface TxtSet {
  readonly name: string;
  readonly type: string;
  readonly ttl: number;
  readonly rrdatas: readonly string[];
}

const quoted = (value: string): string => `"${value}"`;

export const createGoogleDns = (
  account: ServiceAccount,
  { endpoint = 'https://dns.googleapis.com' }: DnsApiOptions = {},
): DnsProvider => {
  const base = `${endpoint}/dns/v1/projects/${encodeURIComponent(account.projectId)}/managedZones`;
  let token: { readonly text: string; readonly untilMs: number } | undefined;

  const tokenNow = async (): Promise<string> => {
    if (token !== undefined && Date.now() < token.untilMs - SPARE_MS) return token.text;
    const what = 'give out a token';
    const askedAtMs = Date.now();
    const { text } = await askDns({
      provider: NAME,
      what,
      url: account.tokenUri,
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ grant_type: GRANT, assertion: assertionOf(account, askedAtMs) }).toString(),
    });
    const given: unknown = text.startsWith('{') ? JSON.parse(text) : undefined;
    if (mismatch<TokenAnswer>(given, TOKEN_ANSWER) !== undefined) {
      throw dnsFailure(NAME, what, 'its answer has none. It is tried again.');
    }
    const { access_token, expires_in } = given as TokenAnswer;
    token = { text: access_token, untilMs: askedAtMs + expires_in * 1_000 };
    return token.text;
  };

  const ask = async (what: string, path: string): Promise<unknown> =>
    askDnsJson({
      provider: NAME,
      what,
      url: `${base}${path}`,
      headers: { authorization: `Bearer ${await tokenNow()}` },
    });

  const zones = createZoneFinder(NAME, async (zone) => {
    const query = new URLSearchParams({ dnsName: `${zone}.` });
    const { managedZones = [] } = (await ask('list zones', `?${query.toString()}`)) as {
      readonly managedZones?: readonly {
        readonly name: string;
        readonly dnsName: string;
        readonly visibility?: string;
      }[];
    };
    // One that is private is seen by nobody outside.
    const found = managedZones.find(
      ({ dnsName, visibility }) => dnsName === `${zone}.` && visibility !== 'private',
    );
    return found === undefined ? undefined : { id: found.name, name: zone };
  });

  const setOf = async (zone: string, name: string): Promise<TxtSet | undefined> => {
    const query = new URLSearchParams({ name: `${name}.`, type: 'TXT' });
    const { rrsets = [] } = (await ask('list TXT records', `/${zone}/rrsets?${query.toString()}`)) as {
      readonly rrsets?: readonly TxtSet[];
    };
    return rrsets.find((set) => set.name === `${name}.` && set.type === 'TXT');
  };

  /** @param valuesOf what the set is to have; undefined: it is as it should be */
  const change = async (
    what: string,
    name: string,
    valuesOf: (values: readonly string[]) => readonly string[] | undefined,
  ): Promise<void> => {
    const { id } = await zones.zoneOf(name);
    for (let attempt = 1; ; attempt += 1) {
      const before = await setOf(id, name);
      const values = valuesOf(before?.rrdatas ?? []);
      if (values === undefined) return;
      const after = { name: `${name}.`, type: 'TXT', ttl: TTL_SECONDS, rrdatas: values };
      const { status } = await askDns({
        provider: NAME,
        what,
        url: `${base}/${id}/changes`,
        method: 'POST',
        headers: { authorization: `Bearer ${await tokenNow()}`, 'content-type': 'application/json' },
        body: JSON.stringify({
          ...(before === undefined ? {} : { deletions: [before] }),
          ...(values.length === 0 ? {} : { additions: [after] }),
        }),
        // Somebody else has changed it since it was read.
        accepts: attempt < ATTEMPTS ? CONFLICTS : [],
      });
      if (!CONFLICTS.includes(status)) return;
    }
  };

  return {
    name: NAME,
    handles: zones.handles,
    addTxt: (name, value) =>
      change('add a TXT record', name, (values) =>
        values.includes(quoted(value)) ? undefined : [...values, quoted(value)],
      ),
    removeTxt: (name, value) =>
      change('remove a TXT record', name, (values) =>
        values.includes(quoted(value)) ? values.filter((one) => one !== quoted(value)) : undefined,
      ),
  };
};
