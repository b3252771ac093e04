/**
 * Holds on to the engine: reads what it is and what runs on it each time it is reached.
 *
 * Invariant: nothing is started or stopped before everything that runs already has been adopted.
 */

import type Docker from 'dockerode';
import type { Logger } from 'pino';

import { readEngineInfo, type EngineInfo } from '../../adapters/docker/engine-info';
import type { EngineEvents } from '../../adapters/docker/engine-events';
import type { HostPortChooser } from '../../adapters/docker/host-ports';
import { boundPorts, isRemovalBegun, type ReplicaContainers } from '../../adapters/docker/replica-containers';
import { ContainerOsError } from '../../domain/errors';
import { groupByReplica, rememberReplica, specFromLabels, type NodeMemory } from './node-memory';
import { createTroubles } from '../troubles';

/** Everything is looked at this often, whatever events said or did not say. */
const LOOK_AT_ALL_EVERY_MS = 60_000;
const ADOPTION_WAIT_MS = 10_000;
const RETRY_MS = 500;

export interface EngineKeeper {
  engine(): EngineInfo | undefined;
  /** @throws {ContainerOsError} `unavailable` when the engine is not reached soon */
  adopted(): Promise<EngineInfo>;
  stop(): void;
}

export const createEngineKeeper = (deps: {
  readonly docker: Docker;
  readonly events: EngineEvents;
  readonly containers: ReplicaContainers;
  readonly memory: NodeMemory;
  readonly ports: HostPortChooser;
  readonly logger: Logger;
  /** The engine was reached, and all that runs on it is in the memory. */
  readonly onEngine: (engine: EngineInfo) => void;
  readonly onLookAtAll: () => void;
  readonly onEngineAway: (reason: string) => void;
}): EngineKeeper => {
  const { docker, events, containers, memory, ports, logger } = deps;
  const troubles = createTroubles(logger);
  let engine: EngineInfo | undefined;
  let isAdopted = false;
  let waiting: ((engine: EngineInfo) => void)[] = [];
  let retry: NodeJS.Timeout | undefined;

  const adopt = async (): Promise<void> => {
    const groups = groupByReplica(await containers.list());
    for (const found of groups.values()) {
      const spec = found.map(({ labels }) => specFromLabels(labels)).find((one) => one !== undefined);
      if (spec === undefined) {
        logger.warn(
          { containers: found.map(({ name }) => name) },
          'containers without a readable specification',
        );
        continue;
      }
      const createdAtMs = Math.min(...found.map((one) => one.createdAtMs));
      const replica = rememberReplica(memory, spec, createdAtMs, isRemovalBegun(found) ? 'stopping' : 'kept');
      if (replica.hostPorts.size > 0) continue;
      const { sandbox, containers: inspected } = await containers.inspect(spec);
      for (const container of [sandbox, ...inspected.values()]) {
        if (container === undefined) continue;
        for (const [key, port] of boundPorts(container)) replica.hostPorts.set(key, port);
      }
      ports.claim(replica.hostPorts.values());
    }
  };

  const reach = async (): Promise<void> => {
    clearTimeout(retry);
    try {
      engine = await readEngineInfo(docker);
      await adopt();
      isAdopted = true;
      troubles.over('reach', 'what runs on the engine can be read again');
      deps.onEngine(engine);
      for (const resolve of waiting.splice(0)) resolve(engine);
    } catch (error) {
      troubles.note('reach', error, 'what runs on the engine cannot be read; trying again');
      if (events.isConnected()) retry = setTimeout(() => void reach(), RETRY_MS);
    }
  };

  const lookAtAll = setInterval(deps.onLookAtAll, LOOK_AT_ALL_EVERY_MS);
  const stopListening = events.listen({
    onConnected: () => void reach(),
    onDisconnected: (reason) => deps.onEngineAway(reason),
  });

  return {
    engine: () => engine,
    adopted: () => {
      if (isAdopted && engine !== undefined) return Promise.resolve(engine);
      return new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting = waiting.filter((one) => one !== done);
          reject(new ContainerOsError('unavailable', 'The Docker Engine does not answer.'));
        }, ADOPTION_WAIT_MS);
        const done = (reached: EngineInfo): void => {
          clearTimeout(timer);
          resolve(reached);
        };
        waiting.push(done);
      });
    },
    stop: () => {
      clearTimeout(retry);
      clearInterval(lookAtAll);
      stopListening();
    },
  };
};
