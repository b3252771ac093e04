/**
 * Settings of public certificates: which authorities are asked, and who has the DNS of hostnames.
 *
 * Invariant: secrets come from variables and files, never from flags, which everybody on the machine can read.
 */

import { readFileSync } from 'node:fs';

import { DNS_PROVIDERS, type DnsCredentials } from '../../adapters/dns/open-provider';
import type { Problem } from '../../domain/errors';

export const LETS_ENCRYPT = 'https://acme-v02.api.letsencrypt.org/directory';

export interface ExternalBinding {
  readonly kid: string;
  readonly hmacKey: string;
}

export interface AcmeSettings {
  /** In the order in which they are asked; none: nobody is asked. */
  readonly authorities: readonly {
    readonly directory: string;
    readonly eab?: ExternalBinding;
  }[];
  readonly email?: string;
  /** Roots of authorities' own servers, in PEM. */
  readonly caPem?: string;
  readonly dns?: { readonly provider: string; readonly credentials: DnsCredentials };
  /** Address and port of the DNS server that is asked where hostnames lead; left out: those of the machine. */
  readonly resolver?: string;
}

/** Variables without a flag. */
const EAB = 'CONTAINEROS_ACME_EAB';
const FALLBACK_EAB = 'CONTAINEROS_ACME_FALLBACK_EAB';
const RESOLVER = 'CONTAINEROS_ACME_RESOLVER';

export const ACME_FLAGS = [
  {
    name: 'acme-directory',
    value: 'URL',
    help: `Authority that is asked for certificates of public hostnames (Let's Encrypt; its terms are agreed to by use). ${EAB}=KID:HMAC-KEY binds the account, where it wants that.`,
  },
  {
    name: 'acme-fallback-directory',
    value: 'URL',
    help: `Another authority, for when the first one cannot. ${FALLBACK_EAB} as above.`,
  },
  { name: 'acme-email', value: 'ADDRESS', help: 'Where authorities may write to. None is needed.' },
  {
    name: 'acme-ca-file',
    value: 'FILE',
    help: 'Has the root, in PEM, of the servers of an authority of your own.',
  },
  {
    name: 'dns-provider',
    value: 'NAME',
    help: `Who answers for the domains of hostnames, which are then proved by records there, also where port 80 cannot be reached: ${Object.keys(DNS_PROVIDERS).join(', ')}.`,
  },
  {
    name: 'dns-credentials-file',
    value: 'FILE',
    help: `Has what the provider wants, as NAME=VALUE lines: ${Object.values(DNS_PROVIDERS)
      .flatMap(({ credentials }) => credentials)
      .join(', ')}. Variables of these names may hold it, too.`,
  },
  {
    name: 'no-acme',
    help: 'Ask no authority: hostnames get no certificates but those that are uploaded. --dev asks none either.',
  },
] as const;

interface Sources {
  readonly text: (flag: string) => string | undefined;
  readonly isSet: (flag: string) => boolean;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly isDev: boolean;
  readonly refuse: (problem: Problem) => void;
}

/** An address in the form that those of --acme-email have. */
const EMAIL = /^[^\s@<>,]+@[^\s@<>,]+\.[^\s@<>,]+$/;
const LOOPBACK = /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/;

export const readFileOf = (file: string, refuse: (message: string) => void): string | undefined => {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    refuse(`cannot be read: ${(error as Error).message}`);
    return undefined;
  }
};

/** NAME=VALUE lines; empty ones, and those that begin with #, say nothing. */
const parseCredentials = (text: string, refuse: (message: string) => void): DnsCredentials => {
  const found: Record<string, string> = {};
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s*(?:#|$)/.test(line)) continue;
    const [, name, value] = /^\s*([A-Z][A-Z0-9_]*)\s*=\s*(.+?)\s*$/.exec(line) ?? [];
    // The line itself may be a secret.
    if (name === undefined || value === undefined) refuse(`must have NAME=VALUE in line ${index + 1}`);
    else found[name] = value.replace(/^(["'])(.*)\1$/, '$2');
  }
  return found;
};

const parseDns = ({
  text,
  environment,
  refuse,
}: Pick<Sources, 'text' | 'environment' | 'refuse'>): AcmeSettings['dns'] => {
  const provider = text('dns-provider');
  const file = text('dns-credentials-file');
  const refuseFile = (message: string) => refuse({ path: '--dns-credentials-file', message });
  if (provider === undefined) {
    if (file !== undefined) refuseFile('is of use with --dns-provider only');
    return undefined;
  }
  const offered = Object.hasOwn(DNS_PROVIDERS, provider) ? DNS_PROVIDERS[provider] : undefined;
  if (offered === undefined) {
    const names = Object.keys(DNS_PROVIDERS).join(', ');
    refuse({ path: '--dns-provider', message: `must be one of ${names}, not ${provider}` });
    return undefined;
  }
  const content = file === undefined ? undefined : readFileOf(file, refuseFile);
  const given = content === undefined ? environment : parseCredentials(content, refuseFile);
  const credentials: Record<string, string> = {};
  for (const name of offered.credentials) {
    const value = given[name];
    if (value !== undefined && value !== '') credentials[name] = value;
    else
      refuse({
        path: '--dns-provider',
        message: `${provider} wants ${name}: put it into --dns-credentials-file, or into a variable of that name`,
      });
  }
  const isWhole = offered.credentials.every((name) => credentials[name] !== undefined);
  const problem = isWhole ? offered.check?.(credentials) : undefined;
  if (problem !== undefined) refuse({ path: '--dns-provider', message: `${provider} ${problem}` });
  return { provider, credentials };
};

export const parseAcmeSettings = ({ text, isSet, environment, isDev, refuse }: Sources): AcmeSettings => {
  const directoryOf = (flag: string): string | undefined => {
    const given = text(flag);
    if (given === undefined) return undefined;
    const url = URL.canParse(given) ? new URL(given) : undefined;
    if (url?.protocol === 'https:' || (url?.protocol === 'http:' && LOOPBACK.test(url.hostname)))
      return given;
    refuse({ path: `--${flag}`, message: `must be a URL like ${LETS_ENCRYPT}, not ${given}` });
    return undefined;
  };

  const bindingOf = (variable: string): ExternalBinding | undefined => {
    const given = environment[variable];
    if (given === undefined || given === '') return undefined;
    const [, kid, hmacKey] = /^([^:\s]+):([A-Za-z0-9_-]+)$/.exec(given.trim()) ?? [];
    if (kid !== undefined && hmacKey !== undefined) return { kid, hmacKey };
    refuse({ path: variable, message: 'must be KID:HMAC-KEY, the key in base64url' });
    return undefined;
  };

  const isOff = isSet('no-acme') || isDev;
  const first = directoryOf('acme-directory') ?? LETS_ENCRYPT;
  const second = directoryOf('acme-fallback-directory');
  if (isSet('no-acme') && (text('acme-directory') ?? second) !== undefined)
    refuse({ path: '--no-acme', message: 'and a directory are both given; leave one out' });
  if (second !== undefined && second === first)
    refuse({ path: '--acme-fallback-directory', message: 'must be another one than --acme-directory' });
  const email = text('acme-email');
  if (email !== undefined && !EMAIL.test(email))
    refuse({ path: '--acme-email', message: `must be an address like you@example.com, not ${email}` });
  const caFile = text('acme-ca-file');
  const caPem =
    caFile === undefined
      ? undefined
      : readFileOf(caFile, (message) => refuse({ path: '--acme-ca-file', message }));
  if (caPem !== undefined && !caPem.includes('-----BEGIN CERTIFICATE-----'))
    refuse({ path: '--acme-ca-file', message: 'must hold a certificate in PEM' });
  const withBinding = (directory: string, variable: string) => {
    const eab = bindingOf(variable);
    return { directory, ...(eab === undefined ? {} : { eab }) };
  };
  const dns = parseDns({ text, environment, refuse });
  const resolver = environment[RESOLVER];
  return {
    authorities: isOff
      ? []
      : [withBinding(first, EAB), ...(second === undefined ? [] : [withBinding(second, FALLBACK_EAB)])],
    ...(email === undefined ? {} : { email }),
    ...(caPem === undefined ? {} : { caPem }),
    ...(dns === undefined ? {} : { dns }),
    ...(resolver === undefined || resolver === '' ? {} : { resolver }),
  };
};
