// Where the programs that the tests need are. `npm test` puts them on the PATH and names the engines in variables;
// a test that is run by hand looks in the cache that `npm test` fills.
import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** The path of a program of the system, or of one that set-up has unpacked. */
export function findProgram(name: string, isFit: (path: string) => boolean = () => true): string {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    '/usr/local/sbin',
    '/usr/sbin',
    '/sbin',
    ...foldersIn(join(cacheFolder(), 'test-programs')),
  ];
  const found = folders.map((folder) => join(folder, name)).find((path) => isExecutable(path) && isFit(path));
  if (found === undefined)
    throw new Error(`${name} is not on the PATH; run the tests by \`npm test\`, which sets it up`);
  return found;
}

/** The path of a file that set-up has unpacked and that is no program. */
export function findUnpacked(name: string): string {
  const found = foldersIn(join(cacheFolder(), 'test-programs'))
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
  if (found === undefined)
    throw new Error(`${name} is not in the cache; run the tests by \`npm test\`, which sets it up`);
  return found;
}

/** The path of a program of the Python environment that set-up makes for the tests. */
export function findPythonProgram(name: 'python' | 'st'): string {
  const chosen = process.env['CONTAINEROS_TEST_PYTHON'];
  const environments =
    chosen === undefined
      ? foldersIn(join(cacheFolder(), 'python')).filter((folder) => existsSync(join(folder, 'installed')))
      : [chosen];
  const found = environments.map((folder) => join(folder, 'bin', name)).findLast(isExecutable);
  if (found === undefined)
    throw new Error(`there is no ${name} for the tests; run them by \`npm test\`, which sets it up`);
  return found;
}

/** The variables that tell ContainerOS where Temporal, Consul and Caddy are. */
export function engineVariables(): Record<string, string> {
  return {
    CONTAINEROS_TEMPORAL_BIN: process.env['CONTAINEROS_TEMPORAL_BIN'] ?? findEngine('temporal'),
    CONTAINEROS_CONSUL_BIN: process.env['CONTAINEROS_CONSUL_BIN'] ?? findEngine('consul'),
    CONTAINEROS_CADDY_BIN: process.env['CONTAINEROS_CADDY_BIN'] ?? findEngine('caddy'),
  };
}

function findEngine(name: string): string {
  const folder = foldersIn(join(cacheFolder(), 'engines')).find(
    (path) => path.includes(`/${name}-`) && existsSync(join(path, name)),
  );
  return folder === undefined ? findProgram(name) : join(folder, name);
}

function cacheFolder(): string {
  const base = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  return process.env['CONTAINEROS_CACHE_DIR'] ?? join(base, 'containeros');
}

function foldersIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((entry) => join(folder, entry));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
