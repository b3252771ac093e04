// The ingress without the rest of the product: Caddy and the keeper, put together as the node worker and the supervisor
// put them together.
import { spawn, type ChildProcess } from 'node:child_process';
import pino, { type Logger } from 'pino';
import type { ConsulClient } from '../../adapters/consul/consul-client';
import { createKvStore } from '../../adapters/consul/watch-kv';
import { watchMembers } from '../../adapters/consul/watch-members';
import type { DocumentWriter } from '../../adapters/document-writer';
import { createCaddyAdmin, type CaddyAdmin } from '../../adapters/ingress/caddy-admin';
import { adminSocket, type CaddySettings } from '../../adapters/ingress/caddy-config';
import { openHandoverEnd } from '../../adapters/ingress/handover-end';
import { openLaneFiles } from '../../adapters/ingress/lane-files';
import { openPlaceFiles, type PlaceFiles } from '../../adapters/ingress/place-files';
import type { ObservedReplica } from '../../domain/model';
import { parseConfig } from '../../workers/config';
import {
  caddySettings,
  ingressConfigFile,
  ingressDirectory,
  type IngressConfig,
} from '../../workers/ingress-files';
import {
  createIngressKeeper,
  type IngressKeeper,
  type IngressKeeperDeps,
} from '../../workers/node/ingress-keeper';
import { judgedRequestLine } from '../../workers/up/engine-lines';
import { caddyCommand } from '../../workers/up/engines';
import type { ListeningSockets } from '../../workers/up/listening-sockets';
import { forwardLines } from '../../workers/up/supervised-process';
import { buildReplica } from './builders';
import { engineVariables } from './programs';
import { eventually } from './wait';

/** On this machine's loopback. @param httpsPort left out: plain HTTP only; with one, Caddy needs its door (writeDoor) */
export const ingressConfigOf = (dataDir: string, httpPort: number, httpsPort?: number): IngressConfig => ({
  ...parseConfig(
    [
      ...['--data-dir', dataDir, '--dev', '--http-port', String(httpPort)],
      ...(httpsPort === undefined ? [] : ['--https-port', String(httpsPort)]),
    ],
    engineVariables(),
    true,
  ),
  httpPort,
});

const silent = pino({ level: 'silent' });

/** @param sockets for what `ingressPortNeeds` names (workers/up/ports) */
export const spawnCaddy = (config: IngressConfig, sockets: ListeningSockets): ChildProcess => {
  const { command, args, env, cwd } = caddyCommand(config);
  const caddy = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'ignore', ...sockets.fileDescriptors],
    env: { ...process.env, ...env },
    cwd,
  });
  forwardLines(caddy.stdout, judgedRequestLine(silent, ingressDirectory(config)));
  return caddy;
};

/** How often Caddy was given a configuration. */
export interface CountedLoads {
  readonly count: () => number;
  /** While one takes over, the one before still answers on some connections: whoever looks at both waits for this. */
  readonly settled: () => Promise<void>;
  readonly through: (admin: CaddyAdmin) => CaddyAdmin;
}

/** @param change made to each configuration on its way */
export const countLoads = (change: (config: string) => string = (config) => config): CountedLoads => {
  let begun = 0;
  let ended = 0;
  return {
    count: () => begun,
    settled: () =>
      eventually(() => expect(ended).toBe(begun), { describe: 'the last configuration has taken over' }),
    through: (admin) => ({
      load: async (config) => {
        begun += 1;
        try {
          await admin.load(change(config));
        } finally {
          ended += 1;
        }
      },
    }),
  };
};

export interface KeeperOptions {
  readonly config: IngressConfig;
  /** Left out: as the configuration has them. */
  readonly settings?: CaddySettings;
  readonly nodeId: string;
  readonly consul: ConsulClient;
  readonly documents: Pick<DocumentWriter, 'put'>;
  readonly onState: (reason: string | undefined) => void;
  readonly onSplits?: IngressKeeperDeps['onSplits'];
  readonly publicPorts?: IngressKeeperDeps['publicPorts'];
  readonly logger: Logger;
  /** Left out: none can be known, and there is no new configuration only to settle. */
  readonly acceptedConnections?: () => number | undefined;
  readonly settleAfterMs?: number;
  readonly readAfterLoadMs?: number;
  /** Between the keeper and Caddy, and between it and the disk. */
  readonly throughAdmin?: (admin: CaddyAdmin) => CaddyAdmin;
  readonly throughFiles?: (files: PlaceFiles) => PlaceFiles;
}

export const createKeeper = ({
  config,
  settings = caddySettings(config),
  nodeId,
  consul,
  documents,
  onState,
  onSplits,
  publicPorts,
  logger,
  acceptedConnections = () => undefined,
  settleAfterMs,
  readAfterLoadMs,
  throughAdmin = (admin) => admin,
  throughFiles = (files) => files,
}: KeeperOptions): IngressKeeper =>
  createIngressKeeper({
    nodeId,
    settings,
    configFile: ingressConfigFile(config),
    kv: createKvStore(consul),
    watchMembers: (handlers) => watchMembers(consul, handlers),
    documents,
    admin: throughAdmin(createCaddyAdmin(adminSocket(settings.directory))),
    openHandoverEnd,
    files: throughFiles(openPlaceFiles(settings.directory)),
    laneFiles: openLaneFiles(settings.directory),
    acceptedConnections,
    ...(settleAfterMs === undefined ? {} : { settleAfterMs }),
    ...(readAfterLoadMs === undefined ? {} : { readAfterLoadMs }),
    endConnections: () => Promise.resolve(),
    ...(onSplits === undefined ? {} : { onSplits }),
    ...(publicPorts === undefined ? {} : { publicPorts }),
    onState,
    logger,
  });

/** A replica of the microservice that the hostname is named after, which answers for it at one address. */
export const buildServing = (
  id: string,
  nodeId: string,
  hostname: string,
  { port, address = '127.0.0.1' }: { readonly port: number; readonly address?: string },
  more: Partial<ObservedReplica> = {},
): ObservedReplica =>
  buildReplica(id, nodeId, {
    name: hostname.split('.')[0] ?? '',
    ports: [
      {
        container: 'main',
        port: 80,
        protocol: 'tcp',
        address,
        hostPort: port,
        serviceId: `${id}-main-80`,
        hostnames: [hostname],
      },
    ],
    ...more,
  });
