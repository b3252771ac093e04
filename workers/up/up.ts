/**
 * `containeros up`: everything on one machine, supervised by this process in the foreground.
 *
 * Invariants: one supervisor per data directory; stopping it leaves the users' containers running; it starts nothing
 * before it knows that every port that it needs is free.
 */

import { rmSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

import type { Logger } from 'pino';

import { ContainerOsError } from '../../domain/errors';
import { consulPorts, type Config } from '../config';
import { openInstallation, runDirectory, type Installation } from '../installation';
import type { RoleStatus, RolesStatus } from '../role';

import { consulCommand, temporalCommand, type EngineCommand } from './engines';
import { endOrphan, superviseProcess, type SupervisedProcess } from './supervised-process';

/** Roles that are processes of our own; also the subcommands that start them. */
export const ROLES = ['control-plane', 'node', 'api'] as const;
export type Role = (typeof ROLES)[number];

/** Room for the young: less of it makes collecting a third of what an API under load does, and saves nothing at rest. */
const NODE_FLAGS = ['--max-semi-space-size=8', '--max-old-space-size=512'];

const portNeeds = (config: Config) => {
  const consul = consulPorts(config);
  return [
    { host: config.apiHost, port: config.apiPort, what: 'the API', flag: '--api-port' },
    ...(config.temporalAddress === undefined
      ? [
          { host: '127.0.0.1', port: config.temporalPort, what: 'Temporal', flag: '--temporal-port' },
          {
            host: '127.0.0.1',
            port: config.temporalUiPort,
            what: 'the Temporal Web UI',
            flag: '--temporal-ui-port',
          },
        ]
      : []),
    ...(config.consulAddress === undefined
      ? Object.values(consul).map((port) => ({
          host: '127.0.0.1',
          port,
          what: 'Consul',
          flag: '--consul-port',
        }))
      : []),
  ];
};

const portProblem = (host: string, port: number): Promise<string | undefined> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) =>
      resolve(error.code === 'EADDRINUSE' ? 'is in use' : `cannot be opened (${error.message})`),
    );
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)));
  });

/** @throws ContainerOsError `conflict` that names every port that is taken, and the flag that changes it */
const checkPorts = async (config: Config): Promise<void> => {
  const problems: string[] = [];
  for (const { host, port, what, flag } of portNeeds(config)) {
    const problem = await portProblem(host, port);
    if (problem !== undefined)
      problems.push(`  ${host}:${port} for ${what} ${problem}; choose another with ${flag}`);
  }
  if (problems.length > 0) {
    throw new ContainerOsError(
      'conflict',
      `ContainerOS cannot start, because of its ports:\n${problems.join('\n')}`,
    );
  }
};

const processStart = (pid: number): string | undefined => {
  try {
    // The 22nd field, counted after the name in parentheses (proc(5)): start time in clock ticks since boot.
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19];
  } catch {
    return undefined;
  }
};

/** @throws ContainerOsError `conflict` when another supervisor uses the data directory */
const lockDataDirectory = (config: Config): (() => void) => {
  const file = join(runDirectory(config), 'supervisor.pid');
  try {
    const [pid = '', start] = readFileSync(file, 'utf8').trim().split(' ');
    if (Number(pid) !== process.pid && start !== undefined && processStart(Number(pid)) === start) {
      throw new ContainerOsError(
        'conflict',
        `ContainerOS runs already with the data directory ${config.dataDir} (process ${pid}). Stop it, or choose another with --data-dir.`,
      );
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  writeFileSync(file, `${process.pid} ${processStart(process.pid) ?? ''}`);
  return () => rmSync(file, { force: true });
};

const announceReady = (config: Config, installation: Installation, took: string): void => {
  const lines = [
    '',
    `ContainerOS is ready (${took}).`,
    '',
    `  API              http://${config.apiHost}:${config.apiPort}`,
    ...(config.temporalAddress === undefined
      ? [`  Temporal Web UI  http://127.0.0.1:${config.temporalUiPort}`]
      : [`  Temporal         ${config.temporalAddress}`]),
    config.dev
      ? '  Password         dev'
      : config.password === undefined
        ? `  Password         in ${installation.passwordFile}${installation.passwordIsNew ? ' (made just now)' : ''}`
        : '  Password         as given',
    `  Data             ${config.dataDir}`,
    '',
    'Ctrl-C stops ContainerOS and leaves your containers running.',
    '',
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
};

/** Severities that engines log with, as pino's levels. */
const engineLine = (logger: Logger, role: string) => (line: string) => {
  let level = 'info';
  let message = line;
  try {
    const parsed = JSON.parse(line) as Record<string, unknown>;
    const text = (...keys: readonly string[]) =>
      keys.map((key) => parsed[key]).find((value) => typeof value === 'string');
    level = text('level', '@level')?.toLowerCase() ?? level;
    message = text('msg', '@message') ?? line;
    const error = text('error');
    if (error !== undefined) message += `: ${error}`;
  } catch {
    // Not every line of an engine is JSON.
  }
  if (message.trim() === '') return;
  // Engines warn of much that heals by itself within a second; it is there for who looks.
  if (level === 'error' || level === 'fatal') logger.debug({ engine: role, level }, message);
  else logger.trace({ engine: role, level }, message);
};

/**
 * Runs until SIGINT or SIGTERM.
 *
 * @param argv flags as given, passed on to the roles
 * @param entry file that starts a role by its name
 * @returns the exit code
 */
export const up = async (
  config: Config,
  argv: readonly string[],
  entry: string,
  logger: Logger,
): Promise<number> => {
  const startedAtMs = performance.now();
  const installation = openInstallation(config);
  const unlock = lockDataDirectory(config);
  const processes: SupervisedProcess[] = [];
  const notReady = new Map<string, string>(ROLES.map((role) => [role, `${role} is starting`]));
  let isAnnounced = false;

  const tellApi = () => {
    const status: RolesStatus = {
      kind: 'roles',
      notReady: [...notReady].filter(([role]) => role !== 'api').map(([, why]) => why),
    };
    processes.find(({ role }) => role === 'api')?.send(status);
    if (notReady.size > 0 || isAnnounced) return;
    isAnnounced = true;
    announceReady(config, installation, `${((performance.now() - startedAtMs) / 1000).toFixed(1)} s`);
  };

  const engine = (role: string, { command, args, env }: EngineCommand) =>
    processes.push(
      superviseProcess(
        {
          role,
          command,
          args,
          env: { ...process.env, ...env },
          runDirectory: runDirectory(config),
          ipc: false,
          onLine: engineLine(logger, role),
        },
        logger,
      ),
    );

  const role = (name: Role) =>
    processes.push(
      superviseProcess(
        {
          role: name,
          command: process.execPath,
          // The data directory is what an orphan is known by.
          args: [...NODE_FLAGS, entry, name, ...argv, '--data-dir', config.dataDir],
          env: {
            ...process.env,
            // The native core allocates from many threads: without it, each keeps an arena of its own.
            MALLOC_ARENA_MAX: '2',
            // What loading and compiling took is given back; left alone, glibc raises the threshold meanwhile.
            MALLOC_TRIM_THRESHOLD_: '131072',
            CONTAINEROS_LOG_FORMAT: config.logFormat,
          },
          runDirectory: runDirectory(config),
          ipc: true,
          onMessage: (message) => {
            const status = message as RoleStatus;
            if (status.ready) notReady.delete(name);
            else notReady.set(name, status.reason ?? `${name} is not ready`);
            tellApi();
          },
          onExit: (how) => {
            notReady.set(name, `${name} ended (${how}) and is being started again`);
            tellApi();
          },
        },
        logger,
      ),
    );

  try {
    const orphan = { runDirectory: runDirectory(config), mark: config.dataDir };
    await Promise.all(
      ['temporal', 'consul', ...ROLES].map((name) => endOrphan({ ...orphan, role: name }, logger)),
    );
    await checkPorts(config);
    if (config.consulAddress === undefined) engine('consul', consulCommand(config));
    if (config.temporalAddress === undefined) engine('temporal', temporalCommand(config));
    for (const name of ROLES) role(name);

    const signal = await new Promise<NodeJS.Signals>((resolve) => {
      process.on('SIGINT', resolve);
      process.on('SIGTERM', resolve);
    });
    logger.info(`stopping (${signal}); your containers keep running`);
    // Those that use an engine stop before it does.
    const engines = processes.filter(({ role: name }) => name === 'consul' || name === 'temporal');
    await Promise.all(processes.filter((one) => !engines.includes(one)).map((one) => one.stop()));
    await Promise.all(engines.map((one) => one.stop()));
    return 0;
  } finally {
    unlock();
  }
};
