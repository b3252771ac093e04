/**
 * Where the API is, and the password for it: flags first, then variables, then this machine's own installation.
 *
 * Invariants: a password stands in no command line, where everybody on the machine could read it; the password of this
 * machine's installation is sent to another machine only when somebody says so.
 */

import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';

import { CommandError, type Flag } from './command';
import { whyUnreadable } from './unreadable';

const DEFAULT_API_URL = 'http://127.0.0.1:8000';
const API_VARIABLE = 'CONTAINEROS_API_URL';
const PASSWORD_VARIABLE = 'CONTAINEROS_PASSWORD';

export const ACCESS_FLAGS = [
  {
    name: 'api',
    value: 'URL',
    help: `Where the API is (${DEFAULT_API_URL}).`,
    variable: API_VARIABLE,
  },
  {
    name: 'password-file',
    value: 'FILE',
    help: `Has the password; ${PASSWORD_VARIABLE} may hold the password itself.`,
    variable: 'CONTAINEROS_PASSWORD_FILE',
  },
  {
    name: 'data-dir',
    value: 'DIR',
    help: 'Data directory of the installation on this machine, which has the password.',
    variable: 'CONTAINEROS_DATA_DIR',
  },
] as const satisfies readonly Flag[];

export interface Access {
  /** Without a slash at its end. */
  readonly apiUrl: string;
  readonly password: string;
  /** Where the password came from, in words. */
  readonly passwordSource: string;
}

export interface AccessOptions {
  readonly flag: (name: string) => string | undefined;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly defaultDataDir: string;
}

const HOW = `Give it with --password-file FILE or ${PASSWORD_VARIABLE}`;

/** @throws {CommandError} `invalid` */
const parseApiUrl = (text: string, source: string): URL => {
  const refuse = (what: string): never => {
    throw new CommandError('invalid', `${source} ${what}`);
  };
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol)) {
    return refuse(`must be a URL like ${DEFAULT_API_URL}, not "${text}".`);
  }
  if (url.username !== '' || url.password !== '') {
    return refuse(`must not hold a password. ${HOW}.`);
  }
  if (url.search !== '' || url.hash !== '') return refuse('must end with its path: leave out what follows.');
  return url;
};

const isThisMachine = ({ hostname }: URL): boolean =>
  hostname === 'localhost' || hostname === '[::1]' || (isIPv4(hostname) && hostname.startsWith('127.'));

/** @throws {CommandError} `unauthenticated` */
const readPassword = (file: string): string => {
  let text: string;
  try {
    text = readFileSync(file, 'utf8').trim();
  } catch (error) {
    const hint =
      (error as NodeJS.ErrnoException).code === 'EACCES'
        ? 'Run the command as the user that runs ContainerOS, or give the password'
        : 'ContainerOS makes it when it starts without a password of your own. Otherwise give the password';
    throw new CommandError(
      'unauthenticated',
      `The password cannot be read from ${file}: ${whyUnreadable(error)}. ${hint} with --password-file FILE or ${PASSWORD_VARIABLE}; with containeros up --dev it is ${PASSWORD_VARIABLE}=dev.`,
      { cause: error },
    );
  }
  if (text === '') throw new CommandError('unauthenticated', `The password file ${file} is empty. ${HOW}.`);
  if (/[\r\n]/.test(text)) {
    throw new CommandError('unauthenticated', `${file} must hold one password and nothing else.`);
  }
  return text;
};

/** @throws {CommandError} `invalid` when the API's address cannot be used, `unauthenticated` without a password */
export const findAccess = ({ flag, environment, defaultDataDir }: AccessOptions): Access => {
  const variable = (name: string): string | undefined => environment[name] || undefined;
  const apiFlag = flag('api');
  const url = parseApiUrl(
    apiFlag ?? variable(API_VARIABLE) ?? DEFAULT_API_URL,
    apiFlag === undefined ? API_VARIABLE : '--api',
  );
  const apiUrl = `${url.origin}${url.pathname.replace(/\/+$/, '')}`;
  const fromFile = (file: string): Access => ({ apiUrl, password: readPassword(file), passwordSource: file });
  const inside = (dataDir: string) => join(dataDir, 'password');

  const file = flag('password-file');
  if (file !== undefined) return fromFile(file);
  const dataDir = flag('data-dir');
  if (dataDir !== undefined) return fromFile(inside(dataDir));
  const password = variable(PASSWORD_VARIABLE);
  if (password !== undefined) return { apiUrl, password, passwordSource: PASSWORD_VARIABLE };
  const fileVariable = variable('CONTAINEROS_PASSWORD_FILE');
  if (fileVariable !== undefined) return fromFile(fileVariable);
  if (!isThisMachine(url)) {
    throw new CommandError(
      'unauthenticated',
      `There is no password for ${apiUrl}: that of this machine's installation is sent to no other machine by itself. ${HOW}.`,
    );
  }
  return fromFile(inside(variable('CONTAINEROS_DATA_DIR') ?? defaultDataDir));
};
