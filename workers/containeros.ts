/** The command line of the server side: `containeros up`, and the roles that it starts. */

import { ContainerOsError, ERROR_TABLE } from '../domain/errors';

import { readMembership } from './cluster/membership';
import { configHelp, parseConfig, type Config } from './config';
import { createLogger } from './logger';
import { addressTowards } from './own-address';
import { ROLES, type Role } from './up/supervise';
import { up } from './up/up';
import { version } from './version';

const HELP = `containeros: a container management system for developers

  containeros up [flags]      start everything on this machine, in the foreground
  containeros join ADDRESS --token TOKEN [flags]
                              make this machine a node of the cluster there, and run it
  containeros --version
  containeros --help

Flags of up and join (each has a variable, too):
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

const parse = (argv: readonly string[], detectAddress?: () => string | undefined) =>
  parseConfig(argv, process.env, process.getuid?.() === 0, detectAddress);

/** As a node, the machine goes by the address under which it reaches the cluster. */
const parseAsMember = async (argv: readonly string[], clusterAddress: string): Promise<Config> => {
  const { hostname, port } = new URL(`https://${clusterAddress}`);
  const address = await addressTowards(hostname.replace(/^\[|\]$/g, ''), Number(port)).catch(() => undefined);
  return parse(argv, () => address);
};

const startUp = async (argv: readonly string[]): Promise<number> => {
  const config = parse(argv);
  const membership = readMembership(config);
  if (membership === undefined) return up(config, argv, __filename, createLogger(config, 'up'));
  const { runMember } = await import('./cluster/run-member.js');
  const member = await parseAsMember(argv, membership.clusterAddress);
  return runMember(member, membership, argv, __filename, createLogger(member, 'up'));
};

const startJoin = async (argv: readonly string[]): Promise<number> => {
  const { joinCluster, readJoinArguments } = await import('./cluster/join.js');
  const { runMember } = await import('./cluster/run-member.js');
  const { address, token, flags } = readJoinArguments(argv, process.env);
  const config = await parseAsMember(flags, address);
  const logger = createLogger(config, 'up');
  const membership = await joinCluster(config, { address, token });
  return runMember(config, membership, flags, __filename, logger);
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
  if (process.stdout.isTTY) process.env['CONTAINEROS_LOG_TTY'] = '1';
  if (command === 'up') return startUp(rest);
  if (command === 'join') return startJoin(rest);
  throw new ContainerOsError('invalid', `There is no command "${command}". See containeros --help.`);
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
