/**
 * What to type on this machine to run a command of the command line against this installation. Pure.
 *
 * Invariant: it works wherever the program was started from, in whatever folder it is typed, and shows no password that
 * is a secret.
 */

import { basename, dirname, resolve } from 'node:path';

import { defaultDataDir, type Config } from '../config';
import { localApiUrl } from '../local-api';

export interface Start {
  /** The file that was run, as the process was told: `process.argv[1]`. */
  readonly script: string;
  /** The program's own file, dist/workers/containeros.js, of which bin/ is beside dist/. */
  readonly entry: string;
  /** The Node.js that it runs in. */
  readonly node: string;
  readonly isRoot: boolean;
}

/** Where everybody finds programs, those who use sudo too. */
const USUAL_FOLDERS: readonly string[] = ['/usr/local/bin', '/usr/bin', '/bin'];

const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** `containeros` where that was typed, else what runs it from its folder. */
const programOf = ({ script, entry, node }: Start): readonly string[] => {
  if (basename(script) === 'containeros') return ['containeros'];
  const program = resolve(dirname(entry), '..', '..', 'bin', 'containeros.js');
  return [USUAL_FOLDERS.includes(dirname(node)) ? 'node' : node, program];
};

/** Whether `npm start` was typed, in a clone. */
export const isStartedByNpm = ({ script, entry }: Start): boolean =>
  basename(script) === basename(entry) && basename(dirname(script)) === basename(dirname(entry));

/**
 * How another machine joins that has ContainerOS as this one has it.
 *
 * @param command as the API gives it, which begins with `containeros`
 */
export const joinCommandAsHere = (command: string, start: Start): string => {
  const [, ...words] = command.split(' ');
  const program = isStartedByNpm(start) ? ['npm', 'start', '--'] : programOf(start);
  return [...program, ...words].map(quoted).join(' ');
};

type Wanted = Pick<Config, 'apiHost' | 'apiPort' | 'dataDir' | 'dev' | 'password'>;

const passwordOf = ({ dev, password, dataDir }: Wanted, isRoot: boolean) => {
  if (dev) return { variables: ['CONTAINEROS_PASSWORD=dev'], flags: [] };
  if (password !== undefined) return { variables: [], flags: ['--password-file', 'FILE'] };
  return { variables: [], flags: dataDir === defaultDataDir(isRoot) ? [] : ['--data-dir', dataDir] };
};

/**
 * @param words the command and its arguments
 * @param needsRoot whether only root can run it
 */
export const commandHere = (
  words: readonly string[],
  config: Wanted,
  start: Start,
  needsRoot = false,
): string => {
  const { variables, flags } = passwordOf(config, needsRoot || start.isRoot);
  const apiUrl = localApiUrl(config);
  const isSudo = needsRoot && !start.isRoot;
  return [
    ...(isSudo ? ['sudo'] : []),
    // sudo passes no variables on.
    ...(isSudo && variables.length > 0 ? ['env'] : []),
    ...variables,
    ...programOf(start),
    ...words,
    ...(apiUrl === 'http://127.0.0.1:8000' ? [] : ['--api', apiUrl]),
    ...flags,
  ]
    .map(quoted)
    .join(' ');
};
