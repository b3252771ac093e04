/** Commands about certificates of hostnames. */

import { readFileSync } from 'node:fs';

import type { CertificateView } from '../openapi/schemas';

import { segment } from './api-client';
import { CommandError, type Command } from './command';
import { whyUnreadable } from './unreadable';
import { pairs, table, timeInWords } from './words';

const PATH = '/v1/certificates';
const pathOf = (hostname: string): string => `${PATH}/${segment(hostname)}`;

const SOURCES: Readonly<Record<NonNullable<CertificateView['source']>, string>> = {
  internal: 'this cluster',
  acme: 'a public authority',
  uploaded: 'you',
};

const STATES: Readonly<Record<CertificateView['state'], string>> = {
  valid: 'valid',
  expiring: 'expiring',
  expired: 'expired',
  not_yet_valid: 'not valid yet',
  covered: 'covered',
  issuing: 'issuing',
  waiting: 'waiting',
  failing: 'failing',
  off: 'off',
};

const NO_CERTIFICATES =
  'There are no certificates. Hostnames of microservices get them by themselves; containeros certificates upload uses one of yours.';

const certificateTable = (items: readonly CertificateView[]): string =>
  table(
    [
      { title: 'HOSTNAME' },
      { title: 'STATE' },
      { title: 'FROM' },
      { title: 'UNTIL' },
      { title: 'WHAT IS SO' },
    ],
    items.map(({ hostname, state, source, validUntil, message }) => [
      hostname,
      STATES[state],
      source === undefined ? '-' : SOURCES[source],
      validUntil?.slice(0, 10) ?? '-',
      message,
    ]),
  );

type Entries = readonly (readonly [name: string, value: string])[];

const keptInWords = ({
  source,
  issuer,
  hostnames,
  validFrom,
  validUntil,
  fingerprint,
}: CertificateView): Entries =>
  source === undefined
    ? []
    : [
        ['From', `${SOURCES[source]} (${issuer ?? ''})`],
        ['Hostnames', hostnames.join(', ')],
        ['Valid', `${timeInWords(validFrom ?? '')} to ${timeInWords(validUntil ?? '')}`],
        ['Fingerprint', fingerprint ?? ''],
      ];

const issuingInWords = ({ source, issuing }: CertificateView): Entries => {
  if (issuing === undefined) return [];
  const { state, message, renewAt, failedAttempts, nextAttemptAt, lastError } = issuing;
  const entries: readonly (readonly [name: string, value: string | undefined])[] = [
    // Where there is none, that is its state already.
    ['Issuing', source && `${state}: ${message}`],
    ['Renewed', renewAt && timeInWords(renewAt)],
    ['Failed attempts', failedAttempts === 0 ? undefined : String(failedAttempts)],
    ['Last error', lastError && `${lastError.kind}, ${timeInWords(lastError.at)}: ${lastError.message}`],
    ['Next attempt', nextAttemptAt && timeInWords(nextAttemptAt)],
  ];
  return entries.flatMap(([name, value]) => (value === undefined ? [] : [[name, value] as const]));
};

const inWords = (certificate: CertificateView): string =>
  [
    `Certificate for ${certificate.hostname}`,
    '',
    pairs([
      ['State', `${STATES[certificate.state]}: ${certificate.message}`],
      ...keptInWords(certificate),
      ...issuingInWords(certificate),
    ]),
  ].join('\n');

/** @throws {CommandError} `invalid` */
const readPem = (flag: string, file: string | undefined): string => {
  if (file === undefined) {
    throw new CommandError('invalid', `--${flag} is missing: name the file, in PEM.`);
  }
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new CommandError('invalid', `--${flag} ${file} cannot be read: ${whyUnreadable(error)}.`, {
      cause: error,
    });
  }
};

const list: Command = {
  name: 'certificates list',
  arguments: [],
  flags: [],
  summary: 'Show the certificates of hostnames, and how they stand.',
  run: async ({ api }) => {
    const answer = await api.list<CertificateView>(PATH);
    const { items } = answer.value;
    return { answer, words: () => (items.length === 0 ? NO_CERTIFICATES : certificateTable(items)) };
  },
};

const show: Command = {
  name: 'certificates show',
  arguments: ['HOSTNAME'],
  flags: [],
  summary: 'Show one certificate, and how issuing it stands.',
  run: async ({ api, argument }) => {
    const answer = await api.call<CertificateView>('GET', pathOf(argument('HOSTNAME')));
    return { answer, words: () => inWords(answer.value) };
  },
};

const upload: Command = {
  name: 'certificates upload',
  arguments: ['HOSTNAME'],
  flags: [
    {
      name: 'certificate',
      value: 'FILE',
      help: 'The certificate, then those that it was signed with, in PEM.',
    },
    { name: 'key', value: 'FILE', help: 'Its private key, in PEM, not encrypted.' },
  ],
  summary: 'Use a certificate of your own for a hostname.',
  details: [
    'HOSTNAME may be a wildcard like *.example.com (in quotes, for the shell).',
    'It takes the place of what there was at once, and is not renewed: upload the next one in time.',
  ],
  run: async ({ api, argument, flag }) => {
    const body = {
      certificate: readPem('certificate', flag('certificate')),
      privateKey: readPem('key', flag('key')),
    };
    const answer = await api.call<CertificateView>('PUT', pathOf(argument('HOSTNAME')), { body });
    const { hostname, message } = answer.value;
    return { answer, words: () => `${hostname} is answered with this certificate from now on. ${message}` };
  },
};

const remove: Command = {
  name: 'certificates remove',
  arguments: ['HOSTNAME'],
  flags: [],
  summary: 'Remove a certificate; microservices get one of an authority again.',
  run: async ({ api, argument }) => {
    const hostname = argument('HOSTNAME');
    const answer = await api.call('DELETE', pathOf(hostname));
    return { answer, words: () => `The certificate for ${hostname} is removed.` };
  },
};

const retry: Command = {
  name: 'certificates retry',
  arguments: ['HOSTNAME'],
  flags: [],
  summary: 'Try now to get the certificate of a public hostname.',
  details: [
    'For when you have mended what was in the way; it is tried again by itself, too.',
    'Limits of authorities are kept to all the same.',
  ],
  run: async ({ api, argument }) => {
    const hostname = argument('HOSTNAME');
    const answer = await api.call<CertificateView>('POST', `${pathOf(hostname)}/retry`);
    return {
      answer,
      words: () =>
        `The certificate for ${answer.value.hostname} is tried now: containeros certificates show ${answer.value.hostname} says how it goes.`,
    };
  },
};

export const CERTIFICATE_COMMANDS: readonly Command[] = [list, show, upload, remove, retry];
