/**
 * Calls to the engine about single containers, whatever replica they are of.
 *
 * Invariants: every call has a limit; an engine that does not answer is `unavailable`, any other error is the
 * engine's own; what is asked for and is so already is no error.
 */

import { setTimeout as delay } from 'node:timers/promises';

import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';

import { LABEL } from '../../contracts/docker';
import { ContainerOsError } from '../../domain/errors';
import { isStoppingName, stoppingName } from './container-config';
import { isAttached } from './container-network';
import {
  asUnavailable,
  dockerMessage,
  dockerStatus,
  isBeingRemoved,
  isEngineAway,
  isNotFound,
  isStillInUse,
} from './docker-error';
import { quickLimit, slowLimit } from './limits';
import { linesOf } from './log-demux';
import { isUp } from './observed-replica';

export interface FoundContainer {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
}

export interface EngineContainers {
  /** Every container of this cluster on the engine, or of one of its replicas; the newest first. */
  list(replicaId?: string): Promise<readonly FoundContainer[]>;
  inspectContainer(nameOrId: string): Promise<ContainerInspectInfo | undefined>;
  start(containerId: string): Promise<void>;
  /**
   * Stops it within the stop grace that it was made with. When this is aborted, the engine still ends the container
   * when that grace is over.
   */
  stop(containerId: string, signal: AbortSignal): Promise<void>;
  /**
   * Has it ended within the grace, whatever it was made with.
   *
   * @returns whether it ran
   */
  halt(containerId: string, graceMs: number): Promise<boolean>;
  /** Renames it, so that whoever finds it knows that it is on its way out. */
  markStopping(found: FoundContainer): Promise<void>;
  unpause(containerId: string): Promise<void>;
  /** Joins it to the network that it was made for, on the host ports that it was made with. */
  reattach(container: ContainerInspectInfo): Promise<void>;
  /** Removes a container with its anonymous volumes, dead or alive. */
  remove(nameOrId: string): Promise<boolean>;
  logTail(containerId: string, lines: number): Promise<string[]>;
}

/** Its file system is let go of within moments; a disk that holds on to it for longer is a matter for the caller. */
const REMOVE_ATTEMPTS = 10;
const REMOVE_RETRY_MS = 200;

/** Docker's own. */
const DEFAULT_STOP_SECONDS = 10;

export const createEngineContainers = (docker: Docker, clusterId: string): EngineContainers => ({
  list: async (replicaId) => {
    const ofReplica = replicaId === undefined ? [] : [`${LABEL.replica}=${replicaId}`];
    try {
      const found = await docker.listContainers({
        all: true,
        filters: { label: [`${LABEL.cluster}=${clusterId}`, ...ofReplica] },
        ...quickLimit(),
      });
      return found.map(({ Id, Names, Labels, Created }) => ({
        id: Id,
        name: (Names[0] ?? '').replace(/^\//, ''),
        labels: Labels,
        createdAtMs: Created * 1_000,
      }));
    } catch (error) {
      throw asUnavailable(error);
    }
  },

  inspectContainer: async (nameOrId) => {
    try {
      return await docker.getContainer(nameOrId).inspect(quickLimit());
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw asUnavailable(error);
    }
  },

  start: async (containerId) => {
    try {
      await docker.getContainer(containerId).start(slowLimit());
    } catch (error) {
      if (dockerStatus(error) === 304) return; // it runs already
      if (isEngineAway(error)) throw asUnavailable(error);
      if (isBeingRemoved(error))
        throw new ContainerOsError('unavailable', 'A container is just being removed.');
      throw error;
    }
  },

  stop: async (containerId, signal) => {
    try {
      const container = docker.getContainer(containerId);
      const { Config, State } = await container.inspect(quickLimit());
      // A paused one cannot be stopped; removing it by force works.
      if (!isUp({ State }) || State.Paused) return;
      // The client's types do not know it.
      const { StopTimeout = DEFAULT_STOP_SECONDS } = Config as { readonly StopTimeout?: number };
      const { abortSignal: limit } = slowLimit(StopTimeout * 1_000);
      await container.stop({ abortSignal: AbortSignal.any([signal, limit]) });
    } catch (error) {
      signal.throwIfAborted();
      if (dockerStatus(error) !== 304 && !isNotFound(error)) throw asUnavailable(error);
    }
  },

  halt: async (containerId, graceMs) => {
    try {
      const container = docker.getContainer(containerId);
      const { State } = await container.inspect(quickLimit());
      if (!isUp({ State })) return false;
      // A paused one heeds no signal but the last.
      if (State.Paused || graceMs < 1_000) await container.kill(quickLimit());
      else {
        const { abortSignal } = quickLimit();
        await container.stop({ t: Math.round(graceMs / 1_000), abortSignal });
      }
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      if (dockerStatus(error) === 304 || dockerStatus(error) === 409) return true; // it has just ended
      throw asUnavailable(error);
    }
  },

  markStopping: async ({ id, name }) => {
    if (isStoppingName(name)) return;
    try {
      await docker.getContainer(id).rename({ name: stoppingName(name), ...quickLimit() });
    } catch (error) {
      if (!isNotFound(error) && !isBeingRemoved(error)) throw asUnavailable(error);
    }
  },

  unpause: async (containerId) => {
    try {
      await docker.getContainer(containerId).unpause(quickLimit());
    } catch (error) {
      if (isEngineAway(error)) throw asUnavailable(error);
      if (!/is not paused/.test(dockerMessage(error)) && !isNotFound(error)) throw error;
    }
  },

  reattach: async (container) => {
    const network = docker.getNetwork(container.HostConfig.NetworkMode ?? 'bridge');
    try {
      await network.connect({ Container: container.Id, ...slowLimit() });
    } catch (error) {
      const isDone = !isAttached(container) && /already exists in network/.test(dockerMessage(error));
      if (!isDone) throw asUnavailable(error);
    }
  },

  remove: async (nameOrId) => {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await docker.getContainer(nameOrId).remove({ force: true, v: true, ...slowLimit() });
        return true;
      } catch (error) {
        if (isNotFound(error)) return false;
        if (dockerStatus(error) === 409 && /already in progress/.test(dockerMessage(error))) {
          return untilRemoved(docker, nameOrId);
        }
        if (!isStillInUse(error) || attempt === REMOVE_ATTEMPTS) throw asUnavailable(error);
        await delay(REMOVE_RETRY_MS);
      }
    }
  },

  logTail: async (containerId, lines) => {
    try {
      const output = await docker.getContainer(containerId).logs({
        stdout: true,
        stderr: true,
        tail: lines,
        follow: false,
        ...quickLimit(),
      });
      return linesOf(Buffer.isBuffer(output) ? output : Buffer.from(output as unknown as string)).slice(
        -lines,
      );
    } catch {
      return []; // logs explain a failure; that they are missing must not hide it
    }
  },
});

const untilRemoved = async (docker: Docker, nameOrId: string): Promise<true> => {
  try {
    await docker.getContainer(nameOrId).wait({ condition: 'removed', ...slowLimit() });
  } catch (error) {
    if (!isNotFound(error)) throw asUnavailable(error);
  }
  return true;
};
