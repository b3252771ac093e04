/**
 * The containers of one replica: makes and starts what is missing, looks at what is there, removes it.
 *
 * Invariants: everything may be repeated, and goes on from whatever an earlier attempt left; containers are known by
 * their labels, whatever they have been renamed to; a container that is not of this cluster is never touched; at most a few calls work in the engine at a time, because more only make each
 * other slower.
 */

import type Docker from 'dockerode';
import type { ContainerCreateOptions, ContainerInspectInfo } from 'dockerode';

import type { StartReplica } from '../../contracts/activities';
import { LABEL } from '../../contracts/docker';
import { allOrFirstError } from '../../domain/all-or-first-error';
import { ContainerOsError } from '../../domain/errors';
import type { Limiter } from '../../domain/limiter';
import {
  containerConfig,
  isStoppingName,
  mappedPorts,
  needsSandbox,
  portKey,
  sandboxConfig,
  type ContainerSettings,
} from './container-config';
import { isAttached } from './container-network';
import {
  asUnavailable,
  dockerMessage,
  dockerStatus,
  isEngineAway,
  isForeignProgram,
  isNotFound,
  isPortConflict,
  startFailureReason,
} from './docker-error';
import type { EngineContainers, FoundContainer } from './engine-containers';
import { NoHostPort, type HostPortChooser } from './host-ports';
import { slowLimit } from './limits';
import { ensureSandboxImage } from './sandbox-image';

const PORT_ATTEMPTS = 10;

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

type ContainerIds = ReadonlyMap<string | undefined, string>;

export interface ReplicaContainers extends EngineContainers {
  inspect(replica: StartReplica): Promise<InspectedReplica>;
  /**
   * Makes and starts what is missing or does not run. Chooses host ports when the replica has none, and others when
   * those that it has belong to someone else.
   *
   * @param options.only these containers, and the sandbox that they need; the others are left as they are
   * @param options.found what the engine has of the replica, if that is known already
   * @throws {StartFailure} when it cannot work, however often it is repeated
   * @throws {ContainerOsError} `unavailable` when the engine does not answer
   */
  ensure(
    replica: KnownReplica,
    signal: AbortSignal,
    options?: { readonly only?: readonly string[]; readonly found?: readonly FoundContainer[] },
  ): Promise<InspectedReplica>;
  restart(containerId: string, signal: AbortSignal): Promise<void>;
  /** @throws {StartFailure} when the engine refuses, as it does when somebody else has a host port by now */
  reattach(container: ContainerInspectInfo): Promise<void>;
  /**
   * Stops containers of one replica within the stop grace that each was made with, and removes them, the sandbox last.
   * When this is given up half-way, `isRemovalBegun` is true of what is left.
   */
  removeAll(found: readonly FoundContainer[], signal: AbortSignal): Promise<void>;
}

/** A replica that cannot be started: an outcome, not a defect. */
export class StartFailure extends Error {
  constructor(
    readonly code: 'start_failed' | 'image_not_found' | 'no_capacity',
    message: string,
    readonly containerId?: string,
    /** The kernel does not run its program on this machine. */
    readonly isForeign = false,
  ) {
    super(message);
  }
}

export const createReplicaContainers = (deps: {
  readonly docker: Docker;
  readonly engine: EngineContainers;
  readonly settings: () => ContainerSettings;
  readonly ports: HostPortChooser;
  readonly limiter: Limiter;
}): ReplicaContainers => {
  const { docker, engine, settings, ports, limiter } = deps;

  /** Of one replica, by the name in its specification, the sandbox's without one. Of two the older one counts. */
  const idsOf = (found: readonly FoundContainer[]): ContainerIds =>
    new Map(found.map(({ id, labels }) => [labels[LABEL.container], id]));

  const inspect = async (replica: StartReplica): Promise<InspectedReplica> => {
    const ids = idsOf(await engine.list(replica.replicaId));
    const look = async (name: string | undefined): Promise<ContainerInspectInfo | undefined> => {
      const id = ids.get(name);
      return id === undefined ? undefined : engine.inspectContainer(id);
    };
    const names = replica.release.spec.containers.map(({ name }) => name);
    const [sandbox, ...containers] = await Promise.all([look(undefined), ...names.map(look)]);
    return { sandbox, containers: new Map(names.map((name, index) => [name, containers[index]])) };
  };

  /** @param existing what an earlier attempt made */
  const create = async (
    config: ContainerCreateOptions,
    existing: string | undefined,
  ): Promise<{ id: string; isNew: boolean }> => {
    if (existing !== undefined) return { id: existing, isNew: false };
    try {
      const { id } = await docker.createContainer({
        ...config,
        ...slowLimit(),
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

  /** The container that has the name already, if it is what an attempt made that nobody waits for any more. */
  const adopt = async (config: ContainerCreateOptions): Promise<string> => {
    const found = await engine.inspectContainer(config.name ?? '');
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
    existing: string | undefined,
  ): Promise<string> => {
    let known = existing;
    for (let attempt = 1; ; attempt += 1) {
      signal.throwIfAborted();
      await choosePorts(replica);
      const { id, isNew } = await create(config(), known);
      try {
        if (!isNew) await takeOverPorts(replica, id);
        signal.throwIfAborted();
        await engine.start(id);
        return id;
      } catch (error) {
        if (!isPortConflict(error)) throw failureOf(error, id);
        if (attempt === PORT_ATTEMPTS) throw new StartFailure('no_capacity', dockerMessage(error), id);
        await engine.remove(id);
        known = undefined;
        // Docker names the port, but any of them may be meant when it does not.
        ports.avoid(replica.hostPorts.values());
        replica.hostPorts = new Map();
      }
    }
  };

  /** A container that exists keeps the ports that it was made with. */
  const takeOverPorts = async (replica: KnownReplica, containerId: string): Promise<void> => {
    const found = await engine.inspectContainer(containerId);
    if (found === undefined) return;
    const bound = boundPorts(found);
    ports.release([...replica.hostPorts.values()].filter((port) => ![...bound.values()].includes(port)));
    ports.claim(bound.values());
    replica.hostPorts = bound;
  };

  const ensureContainer = async (
    replica: KnownReplica,
    name: string,
    existing: string | undefined,
    sandboxId: string | undefined,
    signal: AbortSignal,
  ): Promise<ContainerInspectInfo> => {
    const { spec } = replica;
    const container = spec.release.spec.containers.find((one) => one.name === name);
    if (container === undefined) throw new Error(`${spec.replicaId} has no container ${name}`);
    const config = () => containerConfig(spec, container, settings(), replica.hostPorts, sandboxId);
    const id =
      sandboxId === undefined
        ? await startPortOwner(replica, signal, config, existing)
        : await startJoining(config, sandboxId, existing);
    return inspectNow(id, name);
  };

  const startJoining = async (
    config: () => ContainerCreateOptions,
    sandboxId: string,
    existing: string | undefined,
  ): Promise<string> => {
    let made = await create(config(), existing);
    if (!made.isNew) {
      const found = await engine.inspectContainer(made.id);
      if (found !== undefined && found.HostConfig.NetworkMode !== `container:${sandboxId}`) {
        await engine.remove(made.id); // it belongs to a sandbox that is gone
        made = await create(config(), undefined);
      }
    }
    try {
      await engine.start(made.id);
      return made.id;
    } catch (error) {
      throw failureOf(error, made.id);
    }
  };

  const inspectNow = async (id: string, name: string): Promise<ContainerInspectInfo> => {
    const found = await engine.inspectContainer(id);
    if (found === undefined)
      throw new StartFailure('start_failed', `the container ${name} was removed while it started`);
    return found;
  };

  const ensure: ReplicaContainers['ensure'] = async (replica, signal, { only, found } = {}) => {
    const names = replica.spec.release.spec.containers
      .map(({ name }) => name)
      .filter((name) => only === undefined || only.includes(name));
    const ids = idsOf(found ?? (await engine.list(replica.spec.replicaId)));
    let sandbox: ContainerInspectInfo | undefined;
    if (needsSandbox(replica.spec)) {
      sandbox = await limiter(async () => {
        await ensureSandboxImage(docker);
        const config = () => sandboxConfig(replica.spec, settings(), replica.hostPorts);
        const id = await startPortOwner(replica, signal, config, ids.get(undefined));
        return inspectNow(id, 'sandbox');
      });
    }
    const containers = await allOrFirstError(
      names.map((name) => limiter(() => ensureContainer(replica, name, ids.get(name), sandbox?.Id, signal))),
    );
    return { sandbox, containers: new Map(names.map((name, index) => [name, containers[index]])) };
  };

  return {
    ...engine,
    inspect,
    ensure,
    start: (containerId) => limiter(() => engine.start(containerId)),
    restart: async (containerId, signal) => {
      await engine.stop(containerId, signal);
      await limiter(() => engine.start(containerId));
    },
    reattach: async (container) => {
      try {
        await engine.reattach(container);
      } catch (error) {
        const failure = failureOf(error, container.Id);
        // What the first attempt left of an attachment is what the next one is refused for.
        throw failure instanceof StartFailure && isAttached(container)
          ? new StartFailure('start_failed', 'its host ports could not be bound again', container.Id)
          : failure;
      }
    },
    removeAll: async (found, signal) => {
      const users = found.filter(({ labels }) => labels[LABEL.role] !== 'sandbox');
      const sandboxes = found.filter(({ labels }) => labels[LABEL.role] === 'sandbox');
      // What goes last bears the mark, so that it is there as long as anything is.
      await allOrFirstError(
        (sandboxes.length > 0 ? sandboxes : users).map((one) => engine.markStopping(one)),
      );
      await allOrFirstError(
        users.map(async ({ id }) => {
          // Waiting for the grace costs the engine nothing; removing does.
          await engine.stop(id, signal).catch((error: unknown) => {
            if (dockerStatus(error) === undefined) throw error; // else removing it by force may work, or says why not
          });
          signal.throwIfAborted();
          await limiter(() => engine.remove(id));
        }),
      );
      for (const { id } of sandboxes) await limiter(() => engine.remove(id));
    },
  };
};

/** Whether the removal of a replica has begun, by whatever process. */
export const isRemovalBegun = (found: readonly FoundContainer[]): boolean =>
  found.some(({ name }) => isStoppingName(name));

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
  const isForeign = isForeignProgram(dockerMessage(error));
  return new StartFailure('start_failed', startFailureReason(error), containerId, isForeign);
};
