/** The command line of the server side: `containeros up`, and the roles that it starts. */

import { ContainerOsError, ERROR_TABLE } from '../domain/errors';

import { configHelp, parseConfig } from './config';
import { createLogger } from './logger';
import { version } from './version';
import { ROLES, up, type Role } from './up/up';

const HELP = `containeros: a container management system for developers

  containeros up [flags]      start everything on this machine, in the foreground
  containeros --version
  containeros --help

Flags of up (each has a variable, too):
${configHelp()}
`;

const isRole = (text: string | undefined): text is Role =>
  (ROLES as readonly (string | undefined)[]).includes(text);

/** Only what a role needs is loaded: each is a process of its own, and small. */
const startRole = async (role: Role, argv: readonly string[]): Promise<void> => {
  const config = parseConfig(argv, process.env, process.getuid?.() === 0);
  const logger = createLogger(config, role);
  switch (role) {
    case 'control-plane':
      return (await import('./control-plane-role.js')).runControlPlaneRole(config, logger);
    case 'node':
      return (await import('./node-role.js')).runNodeRole(config, logger);
    case 'api':
      return (await import('./api-role.js')).runApiRole(config, logger);
  }
};

const main = async (argv: readonly string[]): Promise<number | undefined> => {
  const [command, ...rest] = argv;
  if (command === '--version' || command === 'version') {
    process.stdout.write(`${version()}\n`);
    return 0;
  }
  if (command === undefined || command === 'help' || argv.includes('--help') || argv.includes('-h')) {
    process.stdout.write(HELP);
    return command === undefined ? 2 : 0;
  }
  if (isRole(command)) {
    await startRole(command, rest);
    return undefined;
  }
  if (command !== 'up') {
    throw new ContainerOsError('invalid', `There is no command "${command}". See containeros --help.`);
  }
  if (process.stdout.isTTY) process.env['CONTAINEROS_LOG_TTY'] = '1';
  const config = parseConfig(rest, process.env, process.getuid?.() === 0);
  return up(config, rest, __filename, createLogger(config, 'up'));
};

main(process.argv.slice(2)).then(
  (code) => {
    if (code !== undefined) process.exit(code);
  },
  (error: unknown) => {
    if (error instanceof ContainerOsError) {
      process.stderr.write(`containeros: ${error.message}\n`);
      process.exit(ERROR_TABLE[error.code].exitCode);
    }
    process.stderr.write(`containeros: ${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(ERROR_TABLE.internal.exitCode);
  },
);
