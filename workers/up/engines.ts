/** How ContainerOS runs the embedded Temporal server and the embedded Consul server. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { consulPorts, type Config } from '../config';

import { consulSettings } from './consul-settings';

export interface EngineCommand {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** The collector of these Go programs trades a little CPU for a third of their memory. */
const SMALL_HEAP = { GOGC: '50' };

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

export const consulCommand = (config: Config): EngineCommand => {
  const directory = join(config.dataDir, 'consul');
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const settings = consulSettings({
    kind: 'alone',
    nodeId: config.nodeId,
    dataDirectory: join(directory, 'data'),
    ports: consulPorts(config),
  });
  const file = join(directory, 'consul.json');
  writeFileSync(file, JSON.stringify(settings, null, 2), { mode: 0o600 });
  return { command: config.consulBinary, args: ['agent', `-config-file=${file}`], env: SMALL_HEAP };
};
