/**
 * From a replica's specification to what the Docker API is asked to create. Pure.
 *
 * Invariants: names are deterministic, so that a retry meets what an earlier attempt made; the labels hold all that
 * a restarted node worker needs. A replica of one container is that container; a replica of several has a sandbox
 * container that owns network namespace and ports, so that any of the others can be made anew without losing them.
 *
 * No init process is put in front of the image's own: images that bring one (s6, systemd) insist on being the
 * first process, and the engine's may not be installed.
 */

import type { ContainerCreateOptions, MountSettings, PortMap } from 'dockerode';

import type { StartReplica } from '../../contracts/activities';
import { LABEL } from '../../contracts/docker';
import { engineReference, localImageId } from '../../domain/release-images';
import type { ContainerSpec, PortSpec, RestartSpec, VolumeSpec } from '../../domain/spec/schema';

export const SANDBOX_IMAGE = 'containeros/sandbox:1';
const SANDBOX_MEMORY_BYTES = 16 * 1024 * 1024;
const SANDBOX_COMMAND = ['/pause'];
/** So that the logs of a chatty container never fill the disk. */
const LOG_LIMITS = { Type: 'json-file', Config: { 'max-size': '10m', 'max-file': '3' } };
const MAX_HOSTNAME_LENGTH = 63;
const CLUSTER_ID_PART = 8;
const NANO = 1_000_000_000;

/** What is the same for every container of a node. */
export interface ContainerSettings {
  readonly clusterId: string;
  readonly nodeId: string;
  /** The address that host ports are bound to. */
  readonly advertiseAddress: string;
  /** Of the engine, as images name it. */
  readonly architecture: string;
  /** Of the engine: Docker refuses a limit above it. */
  readonly hostCpus: number;
}

/** Host ports by `port/protocol` of the container. */
export type HostPorts = ReadonlyMap<string, number>;

export const portKey = ({ port, protocol }: Pick<PortSpec, 'port' | 'protocol'>): string =>
  `${port}/${protocol}`;

export const containerName = (replicaId: string, container: string): string => `${replicaId}-${container}`;
export const sandboxName = (replicaId: string): string => replicaId;

/** No name of ours has a dot. */
const STOPPING_SUFFIX = '.stopping';
export const stoppingName = (name: string): string => `${name}${STOPPING_SUFFIX}`;
export const isStoppingName = (name: string): boolean => name.endsWith(STOPPING_SUFFIX);

export const needsSandbox = ({ release }: Pick<StartReplica, 'release'>): boolean =>
  release.spec.containers.length > 1 && !release.spec.hostNetwork;

/** Ports that need a host port, of all containers. With the host's network there is nothing to map. */
export const mappedPorts = ({ release }: Pick<StartReplica, 'release'>): readonly PortSpec[] =>
  release.spec.hostNetwork ? [] : release.spec.containers.flatMap(({ ports }) => ports);

export const replicaLabels = (
  replica: StartReplica,
  settings: ContainerSettings,
): Readonly<Record<string, string>> => ({
  [LABEL.cluster]: settings.clusterId,
  [LABEL.project]: replica.project,
  [LABEL.microservice]: replica.name,
  [LABEL.release]: String(replica.release.number),
  [LABEL.replica]: replica.replicaId,
  [LABEL.operation]: replica.operation,
  [LABEL.replicaSpec]: JSON.stringify(replica),
});

export const volumeName = (replica: StartReplica, clusterId: string, volume: string): string =>
  [clusterId.slice(0, CLUSTER_ID_PART), replica.project, replica.name.toLowerCase(), volume].join('_');

/** @param sandboxId container whose network namespace it joins; undefined: it has its own */
export const containerConfig = (
  replica: StartReplica,
  container: ContainerSpec,
  settings: ContainerSettings,
  hostPorts: HostPorts,
  sandboxId: string | undefined,
): ContainerCreateOptions => {
  const { restart, hostNetwork, exclusive } = replica.release.spec;
  const network =
    sandboxId !== undefined
      ? { hostConfig: { NetworkMode: `container:${sandboxId}` }, config: {} }
      : hostNetwork
        ? { hostConfig: { NetworkMode: 'host' }, config: {} }
        : bridgeNetwork(replica.replicaId, container.ports, settings, hostPorts);
  return {
    name: containerName(replica.replicaId, container.name),
    Image:
      localImageId(replica.release, container.image, settings.architecture) ??
      engineReference(container.image),
    ...(container.command === null ? {} : { Entrypoint: [...container.command] }),
    ...(container.args === null ? {} : { Cmd: [...container.args] }),
    Env: environment(replica, container, settings),
    ...(container.user === null ? {} : { User: container.user }),
    ...(container.workingDirectory === null ? {} : { WorkingDir: container.workingDirectory }),
    ...(container.stopSignal === null ? {} : { StopSignal: container.stopSignal }),
    StopTimeout: Math.ceil(container.stopGraceMs / 1_000),
    Labels: {
      ...container.labels,
      ...replicaLabels(replica, settings),
      [LABEL.container]: container.name,
      [LABEL.role]: 'container',
    },
    ...network.config,
    HostConfig: {
      ...network.hostConfig,
      NanoCpus: Math.round(Math.min(container.cpus, settings.hostCpus) * NANO),
      Memory: container.memoryLimitBytes,
      MemorySwap: container.memoryLimitBytes,
      ...(container.pidsLimit === null ? {} : { PidsLimit: container.pidsLimit }),
      ReadonlyRootfs: container.readOnly,
      CapDrop: [...container.dropCapabilities],
      CapAdd: [...container.addCapabilities],
      Privileged: container.privileged,
      Mounts: container.volumes.map((volume) => mount(replica, volume, settings.clusterId)),
      LogConfig: LOG_LIMITS,
      // Docker knows nothing of leases: what is exclusive is started by the node worker only.
      RestartPolicy: exclusive === true ? { Name: 'no' } : restartPolicy(restart),
    },
  };
};

export const sandboxConfig = (
  replica: StartReplica,
  settings: ContainerSettings,
  hostPorts: HostPorts,
): ContainerCreateOptions => {
  const network = bridgeNetwork(replica.replicaId, mappedPorts(replica), settings, hostPorts);
  return {
    name: sandboxName(replica.replicaId),
    Image: SANDBOX_IMAGE,
    Entrypoint: SANDBOX_COMMAND,
    // The first process of a namespace ignores signals that it does not handle.
    StopSignal: 'SIGKILL',
    StopTimeout: 0,
    Labels: { ...replicaLabels(replica, settings), [LABEL.role]: 'sandbox' },
    ...network.config,
    HostConfig: {
      ...network.hostConfig,
      Memory: SANDBOX_MEMORY_BYTES,
      MemorySwap: SANDBOX_MEMORY_BYTES,
      PidsLimit: 4,
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      LogConfig: { Type: 'none', Config: {} },
      RestartPolicy: { Name: 'always' },
    },
  };
};

const bridgeNetwork = (
  replicaId: string,
  ports: readonly PortSpec[],
  settings: ContainerSettings,
  hostPorts: HostPorts,
) => {
  const bindings: PortMap = {};
  for (const port of ports) {
    const hostPort = hostPorts.get(portKey(port));
    if (hostPort === undefined) throw new Error(`no host port was chosen for ${portKey(port)}`);
    bindings[portKey(port)] = [{ HostIp: settings.advertiseAddress, HostPort: String(hostPort) }];
  }
  return {
    config: {
      Hostname: replicaId.slice(0, MAX_HOSTNAME_LENGTH).replace(/-+$/, ''),
      ExposedPorts: Object.fromEntries(ports.map((port) => [portKey(port), {}])),
    },
    hostConfig: { NetworkMode: 'bridge', PortBindings: bindings },
  };
};

/** What a container may want to know of itself; the user's own variables win. */
const environment = (
  replica: StartReplica,
  container: ContainerSpec,
  settings: ContainerSettings,
): string[] => {
  const own = {
    CONTAINEROS_MICROSERVICE: replica.name,
    CONTAINEROS_REPLICA: replica.replicaId,
    CONTAINEROS_RELEASE: String(replica.release.number),
    CONTAINEROS_NODE: settings.nodeId,
  };
  const given = new Set(container.env.map((entry) => entry.slice(0, entry.indexOf('='))));
  const added = Object.entries(own).filter(([key]) => !given.has(key));
  return [...container.env, ...added.map(([key, value]) => `${key}=${value}`)];
};

/**
 * `always` rather than `unless-stopped`: after a restart of the engine everything that should run does. Docker does
 * not start `on-failure` containers after that; the node worker does.
 */
const restartPolicy = ({ policy }: RestartSpec): { Name: string } => {
  switch (policy) {
    case 'always':
      return { Name: 'always' };
    case 'on-failure':
      return { Name: 'on-failure' };
    case 'never':
      return { Name: 'no' };
  }
};

const mount = (replica: StartReplica, volume: VolumeSpec, clusterId: string): MountSettings => {
  switch (volume.kind) {
    case 'named':
      return {
        Type: 'volume',
        Source: volumeName(replica, clusterId, volume.name),
        Target: volume.path,
        ReadOnly: volume.readOnly,
        VolumeOptions: {
          NoCopy: false,
          DriverConfig: { Name: 'local', Options: {} },
          Labels: {
            [LABEL.cluster]: clusterId,
            [LABEL.project]: replica.project,
            [LABEL.microservice]: replica.name,
          },
        },
      };
    case 'tmpfs':
      return {
        Type: 'tmpfs',
        Source: '',
        Target: volume.path,
        ...(volume.sizeBytes === null ? {} : { TmpfsOptions: { SizeBytes: volume.sizeBytes, Mode: 0o1777 } }),
      };
    case 'host':
      return {
        Type: 'bind',
        Source: volume.hostPath,
        Target: volume.path,
        ReadOnly: volume.readOnly,
      };
  }
};
