/** How ContainerOS runs the embedded Temporal server and the embedded Consul server. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';

import { caddyConfig } from '../../adapters/ingress/caddy-config';
import { openLaneFiles } from '../../adapters/ingress/lane-files';
import { openMarkedDirectory } from '../../adapters/ingress/marks';
import { openPlaceFiles } from '../../adapters/ingress/place-files';
import { SPAN_SETTINGS } from '../../adapters/ingress/request-spans';
import { readGossipTiming } from '../cluster/gossip-timing';
import { gossipKeyOf, managementTokenOf, serverTlsFiles } from '../cluster/head-files';
import { memberTlsFiles, type Membership } from '../cluster/membership';
import { consulPorts, isJoinable, type Config } from '../config';

import { caddySettings, ingressConfigFile, type IngressConfig } from '../ingress-files';
import { writePrivateFile } from '../installation';

import { consulSettings } from './consul-settings';

export interface EngineCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Where it has to be started. */
  readonly cwd?: string;
}

/** The collector of these Go programs trades a little CPU for a third of their memory. */
const SMALL_HEAP = { GOGC: '50' };
/** Until so many hostnames, the proxy has little to keep. */
const FEW_HOSTNAMES = 200;
/** What a machine has to have to give some of it away for speed. */
const MUCH_MEMORY = 8 * 2 ** 30;
/**
 * Users' requests pay for the proxy's collector: half as many collections are 7 % of their CPU, for 17 MB under load, and
 * half of those another 4 %. With many hostnames each of them finds more to keep.
 *
 * @param memory of the machine, in bytes: from an eighth of it on, the collector works harder
 * @returns variables of Go
 */
export const proxyHeap = (hostnames: number, memory: number): EngineCommand['env'] => {
  const [small, large] = hostnames <= FEW_HOSTNAMES ? ['400', '800'] : ['200', '400'];
  return memory < MUCH_MEMORY ? { GOGC: small } : { GOGC: large, GOMEMLIMIT: String(Math.floor(memory / 8)) };
};
/** The agent of a member has little to do, and its machine may be small. */
const LEAST_HEAP = { GOGC: '25' };

/**
 * One history shard with its default limits reads its queues 20 times a second, which makes each hop 50 ms; without
 * the limit a hop costs what the work costs. One partition a task queue: fewer pollers reach every queue.
 */
const TEMPORAL_SETTINGS: Readonly<Record<string, number | boolean>> = {
  'history.transferProcessorMaxPollRPS': 1000,
  'history.timerProcessorMaxPollRPS': 1000,
  'history.visibilityProcessorMaxPollRPS': 1000,
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
  'frontend.namespaceCount': 12_000,
};

export const temporalCommand = (config: Config): EngineCommand => {
  const directory = join(config.dataDir, 'temporal');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return {
    command: config.temporalBinary,
    args: [
      'server',
      'start-dev',
      '--db-filename',
      join(directory, 'temporal.db'),
      // A log of its own for writes: one wait for the disk a commit rather than several, and just as durable.
      '--sqlite-pragma',
      'journal_mode=WAL',
      '--ip',
      '127.0.0.1',
      '--port',
      String(config.temporalPort),
      '--ui-ip',
      '127.0.0.1',
      '--ui-port',
      String(config.temporalUiPort),
      '--log-level',
      'warn',
      '--log-format',
      'json',
      ...Object.entries(TEMPORAL_SETTINGS).flatMap(([key, value]) => [
        '--dynamic-config-value',
        `${key}=${value}`,
      ]),
    ],
    env: { ...SMALL_HEAP, TEMPORAL_DISABLE_UPDATE_CHECK: '1' },
  };
};

/** Where Consul keeps its state and its settings, with the settings written. */
const consulCommandWith = (
  config: Config,
  env: EngineCommand['env'],
  settingsOf: (dataDirectory: string) => object,
): EngineCommand => {
  const directory = join(config.dataDir, 'consul');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const file = join(directory, 'consul.json');
  writeFileSync(file, JSON.stringify(settingsOf(join(directory, 'data')), null, 2), { mode: 0o600 });
  return { command: config.consulBinary, args: ['agent', `-config-file=${file}`], env };
};

/** The server on the head node. */
export const consulCommand = (config: Config): EngineCommand =>
  consulCommandWith(config, SMALL_HEAP, (dataDirectory) => {
    const agent = { nodeId: config.nodeId, dataDirectory, ports: consulPorts(config) };
    if (!isJoinable(config)) return consulSettings({ ...agent, kind: 'alone' });
    const managementToken = managementTokenOf(config);
    return consulSettings({
      ...agent,
      kind: 'server',
      address: config.advertiseAddress,
      gossipKey: gossipKeyOf(config),
      gossip: readGossipTiming(config),
      tls: serverTlsFiles(config),
      managementToken,
      // Who can read its settings on this machine has the other token too.
      agentToken: managementToken,
    });
  });

/** The agent on a machine that has joined. */
export const consulMemberCommand = (config: Config, { nodeId, consul }: Membership): EngineCommand =>
  consulCommandWith(config, LEAST_HEAP, (dataDirectory) =>
    consulSettings({
      kind: 'client',
      nodeId,
      dataDirectory,
      ports: consulPorts(config),
      address: config.advertiseAddress,
      gossipKey: consul.gossipKey,
      gossip: readGossipTiming(config),
      tls: memberTlsFiles(config),
      serverAddress: consul.serverAddress,
      agentToken: consul.token,
      defaultToken: consul.token,
    }),
  );

/** The proxy of the ingress, which the node worker configures; it begins with the hostnames that it had. */
export const caddyCommand = (config: IngressConfig): Required<EngineCommand> => {
  const settings = caddySettings(config);
  const file = ingressConfigFile(config);
  const files = openPlaceFiles(settings.directory);
  // Nothing is connected yet, so a hostname in a spare place can be told.
  const layout = files.readLayout().map((place) => ({ ...place, isFixed: place.hostname !== undefined }));
  files.writeLayout(layout);
  writePrivateFile(
    file,
    JSON.stringify(caddyConfig(settings, layout, openLaneFiles(settings.directory).readSizes())),
  );
  const home = join(settings.directory, 'caddy');
  return {
    command: config.caddyBinary,
    args: ['run', '--config', file],
    env: {
      HOME: home,
      XDG_CONFIG_HOME: home,
      XDG_DATA_HOME: home,
      // It would be asked first which directory that is.
      PWD: '',
      ...proxyHeap(layout.length, totalmem()),
      ...SPAN_SETTINGS,
    },
    cwd: openMarkedDirectory(settings.directory),
  };
};
