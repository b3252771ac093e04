/**
 * The command line: `containeros up` and `join`, the roles that they start, and the commands of cli/, which are clients
 * of the API.
 *
 * Invariants: each process loads only what it is there for; a failure ends it with one line that begins with
 * `containeros:`, and with the exit code of the error table.
 */

import { ContainerOsError, ERROR_TABLE, isErrorCode, type ErrorCode } from '../domain/errors';

import { readMembership } from './cluster/membership';
import { configHelp, defaultDataDir, parseConfig, type Config } from './config';
import { loadLate } from './late-modules';
import { createLogger } from './logger';
import { addressTowards } from './own-address';
import { ROLES, type Role } from './up/supervise';
import { up } from './up/up';
import { version } from './version';

/** What is run here, as the list of all commands shows it. */
const SERVER_COMMANDS = [
  { name: 'up', usage: '', summary: 'Start everything on this machine, in the foreground.' },
  {
    name: 'join',
    usage: 'ADDRESS',
    summary: 'Make this machine a node of the cluster there, and run it in the foreground.',
  },
  {
    name: 'leave',
    usage: '',
    summary: 'Take this machine out of its cluster, when what runs here runs elsewhere.',
  },
];

const HELP: Readonly<Record<string, () => string>> = {
  up: () => `containeros up [flags]

Starts everything on this machine, in the foreground; on a machine that has joined a cluster, what a node needs. Each
flag has a variable, too:

${configHelp()}
`,
  join: () => `containeros join ADDRESS --token TOKEN [flags]

Makes this machine a node of the cluster at that address, and runs it in the foreground. The first machine prints the
whole command; containeros join-token create makes another token. CONTAINEROS_JOIN_TOKEN may hold the token, which
others on this machine can read on a command line. The flags are those of containeros up, which also starts the node
again later.
`,
  leave: () => `containeros leave [--force] [flags]

Takes this machine out of the cluster that it has joined: what runs here starts elsewhere first, then the node is
removed, and its ContainerOS stops. With --force it leaves at once, also when the cluster cannot be told. Named volumes
stay on the machine. Afterwards it is as new: containeros up starts a cluster of its own there. Of the flags of
containeros up, --data-dir and --docker-socket matter here.
`,
};

const START: Readonly<Record<string, (argv: readonly string[]) => Promise<number>>> = {
  up: (argv) => startUp(argv),
  join: (argv) => startJoin(argv),
  leave: (argv) => leave(argv),
};

const isRoot = (): boolean => process.getuid?.() === 0;

const isRole = (text: string | undefined): text is Role =>
  (ROLES as readonly (string | undefined)[]).includes(text);

/** Only what a role needs is loaded: each is a process of its own, and small. */
const startRole = async (role: Role, argv: readonly string[]): Promise<void> => {
  const config = parseConfig(argv, process.env, isRoot());
  const logger = await createLogger(config, role);
  switch (role) {
    case 'control-plane':
      return (await import('./control-plane-role.js')).runControlPlaneRole(config, logger);
    case 'node':
      return (await import('./node-role.js')).runNodeRole(config, logger);
    case 'api':
      return (await import('./api-role.js')).runApiRole(config, logger);
  }
};

/** `node` without a supervisor is the command that shows a node. */
const isRoleHere = (command: string | undefined): command is Role =>
  isRole(command) && (command !== 'node' || process.send !== undefined);

const asksForHelp = (argv: readonly string[]): boolean => argv.includes('--help') || argv.includes('-h');

/** Ends the process when what it says cannot be said: quietly when the reader has what it wanted. */
const endWithOutput = (error: NodeJS.ErrnoException): never => {
  if (error.code === 'EPIPE') process.exit(0);
  process.stderr.write(`containeros: The output cannot be written: ${error.message}.\n`);
  process.exit(ERROR_TABLE.internal.exitCode);
};

/** Resolves when all has left that was written before; a process that ends earlier takes it along. */
const outputWritten = (): Promise<void> =>
  new Promise((resolve) => {
    process.stdout.write('', (error) => (error ? endWithOutput(error) : resolve()));
  });

/** A command of cli/, or the help. */
const runClient = async (argv: readonly string[]): Promise<number> => {
  const { CommandError, runCommandLine } = await import('../cli/run.js');
  const { processTerminal } = await import('../cli/terminal.js');
  const { suggestKey } = await import('../domain/spec/suggest.js');
  process.stdout.on('error', endWithOutput);
  try {
    const exitCode = await runCommandLine(argv, {
      environment: process.env,
      defaultDataDir: defaultDataDir(isRoot()),
      suggest: suggestKey,
      otherCommands: SERVER_COMMANDS,
      write: (text) => process.stdout.write(text),
      writeError: (text) => process.stderr.write(text),
      nowMs: Date.now,
      terminal: processTerminal,
    });
    await outputWritten();
    return exitCode;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    // A code that is not known here is one of a newer API.
    const code: ErrorCode = isErrorCode(error.code) ? error.code : 'internal';
    throw new ContainerOsError(code, error.message, [], { cause: error });
  }
};

/** As a node, the machine goes by the address under which it reaches the cluster. */
const parseAsMember = async (argv: readonly string[], clusterAddress: string): Promise<Config> => {
  const { hostname, port } = new URL(`https://${clusterAddress}`);
  const address = await addressTowards(hostname.replace(/^\[|\]$/g, ''), Number(port)).catch(() => undefined);
  return parseConfig(argv, process.env, isRoot(), () => address);
};

const startUp = async (argv: readonly string[]): Promise<number> => {
  const config = parseConfig(argv, process.env, isRoot());
  const membership = readMembership(config);
  if (membership === undefined) return up(config, argv, __filename, await createLogger(config, 'up'));
  const { runMember } = await import('./cluster/run-member.js');
  const member = await parseAsMember(argv, membership.clusterAddress);
  return runMember(member, membership, argv, __filename, await createLogger(member, 'up'));
};

const startJoin = async (argv: readonly string[]): Promise<number> => {
  const { joinCluster, readJoinArguments } = await import('./cluster/join.js');
  const { runMember } = await import('./cluster/run-member.js');
  const { address, token, flags } = readJoinArguments(argv, process.env);
  const config = await parseAsMember(flags, address);
  const membership = await joinCluster(config, { address, token });
  return runMember(config, membership, flags, __filename, await createLogger(config, 'up'));
};

const leave = async (argv: readonly string[]): Promise<number> => {
  const { leaveCluster } = await import('./cluster/leave.js');
  const config = parseConfig(
    argv.filter((flag) => flag !== '--force'),
    process.env,
    isRoot(),
  );
  const write = (line: string) => process.stdout.write(`${line}\n`);
  return leaveCluster(
    config,
    { force: argv.includes('--force') },
    write,
    await createLogger(config, 'leave'),
  );
};

const main = async (argv: readonly string[]): Promise<number | undefined> => {
  const [command, ...rest] = argv;
  if (command === '--version' || command === 'version') {
    process.stdout.write(`${version()}\n`);
    return 0;
  }
  if (isRoleHere(command)) {
    await startRole(command, rest);
    return undefined;
  }
  const help = HELP[(command === 'help' ? rest[0] : command) ?? ''];
  if (help !== undefined && (command === 'help' || asksForHelp(rest))) {
    process.stdout.write(help());
    return 0;
  }
  const start = START[command ?? ''];
  if (start === undefined) return runClient(argv);
  if (process.stdout.isTTY) process.env['CONTAINEROS_LOG_TTY'] = '1';
  // A node has no API; a shell often has the password for the commands, which need not be good enough for one.
  if (command === 'join' || command === 'leave') delete process.env['CONTAINEROS_PASSWORD'];
  return start(rest);
};

loadLate();
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
