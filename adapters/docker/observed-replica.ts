/**
 * From what the engine says of a replica's containers to what the node publishes of it. Pure.
 */

import type { ContainerInspectInfo } from 'dockerode';

import type { ObservedContainer, ObservedPort, ObservedReplica, ReplicaState } from '../../domain/model';
import { writtenImage } from '../../domain/release-images';
import type { InspectedReplica, KnownReplica } from './replica-containers';

/** Between two runs of a container that it restarts, Docker says that it runs as well. */
export const isUp = ({ State }: Pick<ContainerInspectInfo, 'State'>): boolean =>
  State.Running && !State.Restarting;

export const observedContainers = (
  replica: KnownReplica,
  inspected: InspectedReplica,
): readonly ObservedContainer[] =>
  replica.spec.release.spec.containers.flatMap(({ name, image }) => {
    const found = inspected.containers.get(name);
    return found === undefined
      ? []
      : [observedContainer(name, writtenImage(replica.spec.release, image), found)];
  });

const observedContainer = (name: string, image: string, found: ContainerInspectInfo): ObservedContainer => {
  const { ExitCode, OOMKilled, StartedAt } = found.State;
  const running = isUp(found);
  const startedAtMs = Date.parse(StartedAt);
  return {
    name,
    containerId: found.Id,
    image,
    imageId: found.Image,
    running,
    restartCount: found.RestartCount,
    ...(running ? {} : { exitCode: ExitCode }),
    ...(!running && OOMKilled ? { oomKilled: true } : {}),
    ...(startedAtMs > 0 ? { startedAtMs } : {}),
  };
};

export const observedReplica = (
  replica: KnownReplica,
  nodeId: string,
  seen: {
    readonly state: ReplicaState;
    readonly reason?: string | undefined;
    readonly containers: readonly ObservedContainer[];
    readonly ports: readonly ObservedPort[];
    readonly restartCount: number;
    readonly nowMs: number;
  },
): ObservedReplica => {
  const { spec } = replica;
  return {
    project: spec.project,
    name: spec.name,
    id: spec.replicaId,
    release: spec.release.number,
    releasedAtMs: spec.release.createdAtMs,
    nodeId,
    operation: spec.operation,
    state: seen.state,
    ...(seen.reason === undefined ? {} : { reason: seen.reason }),
    containers: seen.containers,
    ports: seen.ports,
    // One that ends before anybody has seen it run is counted by Docker alone.
    restartCount: Math.max(
      seen.restartCount,
      seen.containers.reduce((sum, { restartCount }) => sum + restartCount, 0),
    ),
    ...reservedBy(spec),
    ...(spec.release.spec.daemon === true ? { daemon: true } : {}),
    ...(spec.placedAtMs === undefined ? {} : { placedAtMs: spec.placedAtMs }),
    createdAtMs: replica.createdAtMs,
    updatedAtMs: seen.nowMs,
  };
};

export const reservedBy = ({
  release,
}: Pick<KnownReplica['spec'], 'release'>): { cpusReserved: number; memoryReservedBytes: number } => ({
  cpusReserved: release.spec.containers.reduce((sum, { cpusReserved }) => sum + cpusReserved, 0),
  memoryReservedBytes: release.spec.containers.reduce(
    (sum, { memoryReservedBytes }) => sum + memoryReservedBytes,
    0,
  ),
});
