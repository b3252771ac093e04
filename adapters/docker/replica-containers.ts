/**
 * The containers of one replica: makes and starts what is missing, looks at what is there, removes it.
 *
 * Invariants: everything may be repeated, and goes on from whatever an earlier attempt left; a container that is not
 * of this cluster is never touched; at most a few calls work in the engine at a time, because more only make each
 * other slower.
 */

import type Docker from 'dockerode';
import type { ContainerCreateOptions, ContainerInspectInfo } from 'dockerode';

import type { StartReplica } from '../../contracts/activities';
import { LABEL } from '../../contracts/docker';
import { ContainerOsError } from '../../domain/errors';
import {
  containerConfig,
  containerName,
  mappedPorts,
  needsSandbox,
  portKey,
  sandboxConfig,
  sandboxName,
  type ContainerSettings,
} from './container-config';
import {
  isBeingRemoved,
  dockerMessage,
  dockerStatus,
  isEngineAway,
  isNotFound,
  isPortConflict,
  startFailureReason,
} from './docker-error';
import { NoHostPort, type HostPortChooser } from './host-ports';
import type { Limiter } from './limiter';
import { linesOf } from './log-demux';
import { ensureSandboxImage } from './sandbox-image';

const PORT_ATTEMPTS = 10;
const QUICK_TIMEOUT_MS = 15_000;
/** Creating and starting wait for disks; the engine itself gives up after two minutes. */
const SLOW_TIMEOUT_MS = 150_000;

/** What is known of a replica that runs here, or should. */
export interface KnownReplica {
  readonly spec: StartReplica;
  readonly createdAtMs: number;
  /** Host ports by `port/protocol` of the container. */
  hostPorts: Map<string, number>;
}

/** A replica as the engine sees it now. Undefined: there is no such container. */
export interface InspectedReplica {
  readonly sandbox: ContainerInspectInfo | undefined;
  readonly containers: ReadonlyMap<string, ContainerInspectInfo | undefined>;
}

export interface FoundContainer {
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly state: string;
  readonly createdAtMs: number;
}

export interface ReplicaContainers {
  /** Every container of this cluster on the engine. */
  list(): Promise<readonly FoundContainer[]>;
  inspect(replica: StartReplica): Promise<InspectedReplica>;
  inspectContainer(nameOrId: string): Promise<ContainerInspectInfo | undefined>;
  /**
   * Makes and starts what is missing or does not run. Chooses host ports when the replica has none, and others when
   * those that it has belong to someone else.
   *
   * @param only these containers, and the sandbox that they need; the others are left as they are
   * @throws {StartFailure} when it cannot work, however often it is repeated
   * @throws {ContainerOsError} `unavailable` when the engine does not answer
   */
  ensure(replica: KnownReplica, signal: AbortSignal, only?: readonly string[]): Promise<InspectedReplica>;
  start(containerId: string): Promise<void>;
  restart(containerId: string): Promise<void>;
  unpause(containerId: string): Promise<void>;
  /** Removes a container with its anonymous volumes, dead or alive. */
  remove(nameOrId: string): Promise<boolean>;
  /** Stops containers of one replica within the stop grace that each was made with, and removes them, the sandbox last. */
  removeAll(found: readonly FoundContainer[]): Promise<void>;
  logTail(containerId: string, lines: number): Promise<string[]>;
}

/** A replica that cannot be started: an outcome, not a defect. */
export class StartFailure extends Error {
  constructor(
    readonly code: 'start_failed' | 'image_not_found' | 'no_capacity',
    message: string,
    readonly containerId?: string,
  ) {
    super(message);
  }
}

export const createReplicaContainers = (deps: {
  readonly docker: Docker;
  readonly settings: () => ContainerSettings;
  readonly ports: HostPortChooser;
  readonly limiter: Limiter;
}): ReplicaContainers => {
  const { docker, settings, ports, limiter } = deps;

  const inspectContainer = async (nameOrId: string): Promise<ContainerInspectInfo | undefined> => {
    try {
      return await docker
        .getContainer(nameOrId)
        .inspect({ abortSignal: AbortSignal.timeout(QUICK_TIMEOUT_MS) });
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw asUnavailable(error);
    }
  };

  const inspect = async (replica: StartReplica): Promise<InspectedReplica> => {
    const names = replica.release.spec.containers.map(({ name }) => name);
    const [sandbox, ...containers] = await Promise.all([
      needsSandbox(replica) ? inspectContainer(sandboxName(replica.replicaId)) : undefined,
      ...names.map((name) => inspectContainer(containerName(replica.replicaId, name))),
    ]);
    return { sandbox, containers: new Map(names.map((name, index) => [name, containers[index]])) };
  };

  const create = async (config: ContainerCreateOptions): Promise<{ id: string; isNew: boolean }> => {
    try {
      const { id } = await docker.createContainer({
        ...config,
        abortSignal: AbortSignal.timeout(SLOW_TIMEOUT_MS),
      });
      return { id, isNew: true };
    } catch (error) {
      if (dockerStatus(error) === 409) return { id: await adopt(config), isNew: false };
      if (isEngineAway(error)) throw asUnavailable(error);
      if (isNotFound(error)) {
        throw new StartFailure('image_not_found', `the image ${config.Image} is not on the node`);
      }
      throw failureOf(error);
    }
  };

  /** The container that has the name already, if it is what an earlier attempt made. */
  const adopt = async (config: ContainerCreateOptions): Promise<string> => {
    const found = await inspectContainer(config.name ?? '');
    if (found === undefined)
      throw new ContainerOsError('unavailable', `${config.name} is just being removed`);
    const labels = found.Config.Labels ?? {};
    const isOurs =
      labels[LABEL.cluster] === settings().clusterId &&
      labels[LABEL.replica] === config.Labels?.[LABEL.replica];
    if (!isOurs) {
      throw new StartFailure('start_failed', `a container named ${config.name} exists that is not ours`);
    }
    return found.Id;
  };

  const start = async (containerId: string): Promise<void> => {
    try {
      await docker.getContainer(containerId).start({ abortSignal: AbortSignal.timeout(SLOW_TIMEOUT_MS) });
    } catch (error) {
      if (dockerStatus(error) === 304) return; // it runs already
      if (isEngineAway(error)) throw asUnavailable(error);
      if (isBeingRemoved(error))
        throw new ContainerOsError('unavailable', 'A container is just being removed.');
      throw error;
    }
  };

  const remove = async (nameOrId: string): Promise<boolean> => {
    try {
      await docker.getContainer(nameOrId).remove({
        force: true,
        v: true,
        abortSignal: AbortSignal.timeout(SLOW_TIMEOUT_MS),
      });
      return true;
    } catch (error) {
      if (isNotFound(error)) return false;
      if (dockerStatus(error) === 409 && /already in progress/.test(dockerMessage(error))) {
        await docker.getContainer(nameOrId).wait({ condition: 'removed' }).catch(ignoreNotFound);
        return true;
      }
      throw asUnavailable(error);
    }
  };

  const choosePorts = async (replica: KnownReplica): Promise<void> => {
    const missing = mappedPorts(replica.spec).filter((port) => !replica.hostPorts.has(portKey(port)));
    if (missing.length === 0) return;
    try {
      const chosen = await ports.choose(missing.length);
      missing.forEach((port, index) => replica.hostPorts.set(portKey(port), chosen[index] as number));
    } catch (error) {
      if (error instanceof NoHostPort) throw new StartFailure('no_capacity', error.message);
      throw error;
    }
  };

  /** Makes and starts the container that owns the ports; chooses others as long as the engine says they are taken. */
  const startPortOwner = async (
    replica: KnownReplica,
    signal: AbortSignal,
    config: () => ContainerCreateOptions,
  ): Promise<string> => {
    for (let attempt = 1; ; attempt += 1) {
      signal.throwIfAborted();
      await choosePorts(replica);
      const { id, isNew } = await create(config());
      try {
        if (!isNew) await takeOverPorts(replica, id);
        signal.throwIfAborted();
        await start(id);
        return id;
      } catch (error) {
        if (!isPortConflict(error)) throw failureOf(error, id);
        if (attempt === PORT_ATTEMPTS) throw new StartFailure('no_capacity', dockerMessage(error), id);
        await remove(id);
        // Docker names the port, but any of them may be meant when it does not.
        ports.avoid(replica.hostPorts.values());
        replica.hostPorts = new Map();
      }
    }
  };

  /** A container that exists keeps the ports that it was made with. */
  const takeOverPorts = async (replica: KnownReplica, containerId: string): Promise<void> => {
    const found = await inspectContainer(containerId);
    if (found === undefined) return;
    const bound = boundPorts(found);
    ports.release([...replica.hostPorts.values()].filter((port) => ![...bound.values()].includes(port)));
    ports.claim(bound.values());
    replica.hostPorts = bound;
  };

  const ensureContainer = async (
    replica: KnownReplica,
    name: string,
    sandboxId: string | undefined,
    signal: AbortSignal,
  ): Promise<ContainerInspectInfo> => {
    const { spec } = replica;
    const container = spec.release.spec.containers.find((one) => one.name === name);
    if (container === undefined) throw new Error(`${spec.replicaId} has no container ${name}`);
    const config = () => containerConfig(spec, container, settings(), replica.hostPorts, sandboxId);
    const id =
      sandboxId === undefined
        ? await startPortOwner(replica, signal, config)
        : await startJoining(config, sandboxId);
    return inspectNow(id, name);
  };

  const startJoining = async (config: () => ContainerCreateOptions, sandboxId: string): Promise<string> => {
    let made = await create(config());
    if (!made.isNew) {
      const found = await inspectContainer(made.id);
      if (found !== undefined && found.HostConfig.NetworkMode !== `container:${sandboxId}`) {
        await remove(made.id); // it belongs to a sandbox that is gone
        made = await create(config());
      }
    }
    try {
      await start(made.id);
      return made.id;
    } catch (error) {
      throw failureOf(error, made.id);
    }
  };

  const inspectNow = async (id: string, name: string): Promise<ContainerInspectInfo> => {
    const found = await inspectContainer(id);
    if (found === undefined)
      throw new StartFailure('start_failed', `the container ${name} was removed while it started`);
    return found;
  };

  const ensure = async (
    replica: KnownReplica,
    signal: AbortSignal,
    only?: readonly string[],
  ): Promise<InspectedReplica> => {
    const names = replica.spec.release.spec.containers
      .map(({ name }) => name)
      .filter((name) => only === undefined || only.includes(name));
    let sandbox: ContainerInspectInfo | undefined;
    if (needsSandbox(replica.spec)) {
      sandbox = await limiter(async () => {
        await ensureSandboxImage(docker).catch((error: unknown) => {
          throw asUnavailable(error);
        });
        const id = await startPortOwner(replica, signal, () =>
          sandboxConfig(replica.spec, settings(), replica.hostPorts),
        );
        return inspectNow(id, 'sandbox');
      });
    }
    const results = await Promise.allSettled(
      names.map((name) => limiter(() => ensureContainer(replica, name, sandbox?.Id, signal))),
    );
    const containers = new Map<string, ContainerInspectInfo>();
    for (const [index, result] of results.entries()) {
      if (result.status === 'rejected') throw result.reason;
      containers.set(names[index] as string, result.value);
    }
    return { sandbox, containers };
  };

  const list = async (): Promise<readonly FoundContainer[]> => {
    try {
      const found = await docker.listContainers({
        all: true,
        filters: { label: [`${LABEL.cluster}=${settings().clusterId}`] },
        abortSignal: AbortSignal.timeout(QUICK_TIMEOUT_MS),
      });
      return found.map(({ Id, Names, Labels, State, Created }) => ({
        id: Id,
        name: (Names[0] ?? '').replace(/^\//, ''),
        labels: Labels,
        state: State,
        createdAtMs: Created * 1_000,
      }));
    } catch (error) {
      throw asUnavailable(error);
    }
  };

  const stopContainer = async (containerId: string): Promise<void> => {
    try {
      await docker.getContainer(containerId).stop();
    } catch (error) {
      const status = dockerStatus(error);
      if (status === 304 || status === 404) return;
      // A paused container cannot be stopped; removing it by force works.
      if (status === undefined) throw asUnavailable(error);
    }
  };

  return {
    list,
    inspect,
    inspectContainer,
    ensure,
    start: (containerId) => limiter(() => start(containerId)),
    restart: async (containerId) => {
      await stopContainer(containerId);
      await limiter(() => start(containerId));
    },
    unpause: async (containerId) => {
      try {
        await docker
          .getContainer(containerId)
          .unpause({ abortSignal: AbortSignal.timeout(QUICK_TIMEOUT_MS) });
      } catch (error) {
        if (isEngineAway(error)) throw asUnavailable(error);
        if (!/is not paused/.test(dockerMessage(error)) && !isNotFound(error)) throw error;
      }
    },
    remove,
    removeAll: async (found) => {
      const users = found.filter(({ labels }) => labels[LABEL.role] !== 'sandbox');
      const sandboxes = found.filter(({ labels }) => labels[LABEL.role] === 'sandbox');
      await Promise.all(
        users.map(async ({ id, state }) => {
          // Waiting for the grace costs the engine nothing; removing does.
          if (state === 'running') await stopContainer(id);
          await limiter(() => remove(id));
        }),
      );
      for (const { id } of sandboxes) await limiter(() => remove(id));
    },
    logTail: async (containerId, lines) => {
      try {
        const output = await docker.getContainer(containerId).logs({
          stdout: true,
          stderr: true,
          tail: lines,
          follow: false,
          abortSignal: AbortSignal.timeout(QUICK_TIMEOUT_MS),
        });
        return linesOf(Buffer.isBuffer(output) ? output : Buffer.from(output as unknown as string)).slice(
          -lines,
        );
      } catch {
        return []; // logs explain a failure; that they are missing must not hide it
      }
    },
  };
};

/** Host ports that a container was made with. */
export const boundPorts = (container: ContainerInspectInfo): Map<string, number> => {
  const bindings = (container.HostConfig.PortBindings ?? {}) as Record<
    string,
    { HostPort?: string }[] | null
  >;
  const bound = new Map<string, number>();
  for (const [key, [binding] = []] of Object.entries(bindings).map(([k, v]) => [k, v ?? []] as const)) {
    if (binding?.HostPort !== undefined && binding.HostPort !== '') bound.set(key, Number(binding.HostPort));
  }
  return bound;
};

const failureOf = (error: unknown, containerId?: string): unknown => {
  if (error instanceof StartFailure || error instanceof ContainerOsError) return error;
  if (dockerStatus(error) === undefined) return error;
  if (/no space left on device/i.test(dockerMessage(error))) {
    return new StartFailure('no_capacity', 'the disk of the node is full', containerId);
  }
  return new StartFailure('start_failed', startFailureReason(error), containerId);
};

const asUnavailable = (error: unknown): unknown =>
  isEngineAway(error)
    ? new ContainerOsError('unavailable', `The Docker Engine does not answer: ${dockerMessage(error)}.`, [], {
        cause: error,
      })
    : error;

const ignoreNotFound = (error: unknown): void => {
  if (!isNotFound(error)) throw error;
};
