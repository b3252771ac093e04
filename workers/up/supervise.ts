/**
 * Runs the processes of one installation in the foreground: engines of others and roles of our own.
 *
 * Invariants: one supervisor per data directory; stopping it leaves the users' containers running; it starts nothing
 * before it knows that every port that it needs is free; those that use an engine stop before it does.
 */

import { existsSync } from 'node:fs';

import type { Logger } from 'pino';

import { ContainerOsError } from '../../domain/errors';
import type { GossipTiming } from '../../domain/gossip-profile';
import { readGossipTiming, writeGossipTiming } from '../cluster/gossip-timing';
import type { Config } from '../config';
import { forwarderTableFile } from '../forwarder/files';
import { ingressDirectory, writeDoor } from '../ingress-files';
import { runDirectory } from '../installation';
import type { RoleMessage, RolesStatus } from '../role';

import { lockDataDirectory } from './data-directory-lock';
import { engineLine, judgedRequestLine } from './engine-lines';
import { caddyCommand, type EngineCommand } from './engines';
import { createForwarderProcess } from './forwarder';
import { openListeningSockets, type ListeningSockets } from './listening-sockets';
import {
  checkPorts,
  chooseDoorPort,
  chooseHttpPort,
  chooseHttpsPort,
  quicPortNeeds,
  ingressPortNeeds,
  type PortNeed,
} from './ports';
import { endOrphan, superviseProcess, type ProcessSpec, type SupervisedProcess } from './supervised-process';

/** Where hostnames answer on this machine. */
export interface IngressPorts {
  readonly http: number;
  readonly https: number;
}

/** Roles that are processes of our own; also the subcommands that start them. */
export const ROLES = ['control-plane', 'node', 'api'] as const;
export type Role = (typeof ROLES)[number];

/** Everything that any installation runs under its supervisor: what an earlier start may have left. */
const ALL = ['temporal', 'consul', 'caddy', 'forwarder', ...ROLES];

/** Room for the young: less of it makes collecting a third of what an API under load does, and saves nothing at rest. */
const NODE_FLAGS = ['--max-semi-space-size=8', '--max-old-space-size=512'];

export interface Supervision {
  readonly config: Config;
  /** Flags as given, passed on to the roles. */
  readonly argv: readonly string[];
  /** File that starts a role by its name. */
  readonly entry: string;
  readonly logger: Logger;
  readonly ports: readonly PortNeed[];
  /** Runs when nothing of an earlier start is left, before anything is started. */
  readonly prepare?: () => Promise<void>;
  /** By the names that their processes go by. Asked again, it writes their settings again. */
  readonly engines: () => Readonly<Record<string, EngineCommand>>;
  readonly roles: readonly Role[];
  /** Called once, when all roles are ready. @param took in words @param ports of the ingress, if there is one */
  readonly onReady: (took: string, ports: IngressPorts | undefined) => void;
}

/**
 * Runs until SIGINT or SIGTERM.
 *
 * @returns the exit code
 * @throws ContainerOsError `forbidden` when the cluster refuses this node
 */
export const supervise = async (supervision: Supervision): Promise<number> => {
  const { config, argv, entry, logger, roles } = supervision;
  const startedAtMs = performance.now();
  const unlock = lockDataDirectory(config);
  const processes: SupervisedProcess[] = [];
  const engines: SupervisedProcess[] = [];
  const notReady = new Map<string, string>(roles.map((role) => [role, `${role} is starting`]));
  let isAnnounced = false;

  let refuse: (words: string) => void = () => undefined;
  const refused = new Promise<string>((resolve) => {
    refuse = resolve;
  });

  let ingressSockets: ListeningSockets | undefined;
  let ports: IngressPorts | undefined;

  const tellApi = () => {
    const status: RolesStatus = {
      kind: 'roles',
      notReady: [...notReady].filter(([role]) => role !== 'api').map(([, why]) => why),
    };
    processes.find(({ role }) => role === 'api')?.send(status);
    if (notReady.size > 0 || isAnnounced) return;
    isAnnounced = true;
    supervision.onReady(`${((performance.now() - startedAtMs) / 1000).toFixed(1)} s`, ports);
  };

  /** Consul takes a timing at its start only. */
  const setGossip = (timing: GossipTiming) => {
    if (timing === readGossipTiming(config)) return;
    logger.info(`restarting the Consul agent with the gossip timing "${timing}"`);
    try {
      writeGossipTiming(config, timing);
      supervision.engines();
    } catch (error) {
      // A full disk, mostly: the agent goes on with the timing that it has.
      logger.error({ err: error }, 'the gossip timing could not be written down');
      return;
    }
    engines.find(({ role }) => role === 'consul')?.restart();
  };

  const forwarder = createForwarderProcess(config, NODE_FLAGS, logger);

  const hear = (name: Role, message: RoleMessage) => {
    switch (message.kind) {
      case 'refused':
        return refuse(message.words);
      case 'gossip':
        return setGossip(message.timing);
      case 'forwarder':
        return forwarder.want(message.isWanted);
      case 'status':
        if (message.ready) notReady.delete(name);
        else notReady.set(name, message.reason ?? `${name} is not ready`);
        return tellApi();
    }
  };

  const startEngine = (
    role: string,
    { env, ...command }: EngineCommand,
    more: Pick<ProcessSpec, 'sockets' | 'onOutput'> = {},
  ) =>
    engines.push(
      superviseProcess(
        {
          role,
          ...command,
          env: { ...process.env, ...env },
          runDirectory: runDirectory(config),
          ipc: false,
          onLine: engineLine(logger, role),
          ...more,
        },
        logger,
      ),
    );

  const startRole = (name: Role) =>
    processes.push(
      superviseProcess(
        {
          role: name,
          command: process.execPath,
          args: [
            ...NODE_FLAGS,
            entry,
            name,
            ...argv,
            // What an orphan is known by.
            ...['--data-dir', config.dataDir],
            // All processes of an installation go by one address, also when the machine has another one meanwhile.
            ...['--advertise-address', config.advertiseAddress],
            ...(ports === undefined
              ? []
              : ['--http-port', String(ports.http), '--https-port', String(ports.https)]),
          ],
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
            hear(name, message as RoleMessage);
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
    await Promise.all(ALL.map((name) => endOrphan({ ...orphan, role: name }, logger)));
    const [httpPort, httpsPort] = [await chooseHttpPort(config), await chooseHttpsPort(config)];
    ports =
      httpPort === undefined || httpsPort === undefined ? undefined : { http: httpPort, https: httpsPort };
    const ingress = ports && { ...config, httpPort: ports.http, httpsPort: ports.https };
    const given = ingress === undefined ? [] : ingressPortNeeds(ingress);
    await checkPorts([
      ...supervision.ports,
      ...given,
      ...(ingress === undefined ? [] : quicPortNeeds(ingress)),
    ]);
    ingressSockets = await openListeningSockets(given);
    if (ingress !== undefined) writeDoor(ingress, await chooseDoorPort());
    await supervision.prepare?.();
    for (const [name, command] of Object.entries(supervision.engines())) startEngine(name, command);
    if (ingress !== undefined)
      startEngine('caddy', caddyCommand(ingress), {
        sockets: ingressSockets.fileDescriptors,
        onOutput: judgedRequestLine(logger, ingressDirectory(ingress)),
      });
    // Those of before, without waiting for the node worker to hear of them.
    if (ingress !== undefined) forwarder.want(existsSync(forwarderTableFile(ingressDirectory(ingress))));
    for (const name of roles) startRole(name);

    const signal = new Promise<NodeJS.Signals>((resolve) => {
      process.on('SIGINT', resolve);
      process.on('SIGTERM', resolve);
    });
    const ended = await Promise.race([
      signal.then((name) => ({ name })),
      refused.then((words) => ({ words })),
    ]);
    if ('name' in ended) logger.info(`stopping (${ended.name}); your containers keep running`);
    await Promise.all(processes.map((one) => one.stop()));
    await Promise.all([...engines.map((one) => one.stop()), forwarder.stop()]);
    if ('words' in ended) {
      throw new ContainerOsError(
        'forbidden',
        `The cluster refuses this machine: ${ended.words} ContainerOS has stopped here; containers that it left run on. Clean up with containeros leave; the machine can join again then.`,
      );
    }
    return 0;
  } finally {
    ingressSockets?.close();
    unlock();
  }
};
