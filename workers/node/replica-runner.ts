/**
 * Starts and stops replicas on this node, for the activities.
 *
 * Invariants: admission and the note of what is admitted happen without a pause in between, so that two batches
 * never take the same room; a replica is in Consul before its start returns, and out of Consul before its containers
 * are stopped; a start that was interrupted is left to the keeper, to a retry, or to a stop. A stop may be
 * interrupted, too: once it has begun, its replica never starts again, says so in Consul, and is stopped by the next
 * plan; before, nothing of it has happened.
 */

import type { Logger } from 'pino';

import type { NodeActivityDeps, Progress } from '../../activities/node-activities';
import type { ConsulAgent } from '../../adapters/consul/consul-agent';
import type { FoundContainer } from '../../adapters/docker/engine-containers';
import type { HostPortChooser } from '../../adapters/docker/host-ports';
import { reservedBy } from '../../adapters/docker/observed-replica';
import {
  awaitReady,
  describeEnd,
  networkAddress,
  networkOwner,
  type Readiness,
  type ReadinessDeps,
} from '../../adapters/docker/readiness';
import {
  StartFailure,
  type InspectedReplica,
  type ReplicaContainers,
} from '../../adapters/docker/replica-containers';
import type { ReplicaLocks } from '../../adapters/docker/replica-locks';
import type { HostStatsReader } from '../../adapters/host/host-stats';
import type { StartOutcome, StartReplica, StopOutcome, StopReplicas } from '../../contracts/activities';
import { SERVICE_META } from '../../contracts/docker';
import { allOrFirstError } from '../../domain/all-or-first-error';
import { isReachedThroughNodes, waysTo } from '../../domain/ingress/route-options';
import type { NodeCapacity } from '../../domain/model';
import { missingBuildInWords } from '../../domain/placement/builds';
import { holdsHostPorts } from '../../domain/placement/needs';
import { addReservations, whyNoPorts, whyRefused, type Reservation } from './admission';
import type { CheckFeeder } from './check-feeder';
import type { EventLog } from './event-log';
import type { ExclusiveKeeper } from './exclusive-keeper';
import type { MissingBuilds } from './missing-builds';
import {
  groupByReplica,
  rememberReplica,
  specFromLabels,
  upkeepOf,
  type NodeMemory,
  type NodeReplica,
} from './node-memory';
import type { ReplicaPublisher } from './replica-publisher';
import { noteSeen, noteServing } from './upkeep';
import type { Withdrawal } from './withdrawal';

export interface ReplicaRunnerDeps {
  readonly clusterId: string;
  readonly memory: NodeMemory;
  readonly locks: ReplicaLocks;
  readonly containers: ReplicaContainers;
  readonly readiness: ReadinessDeps;
  readonly publisher: ReplicaPublisher;
  readonly feeder: CheckFeeder;
  readonly exclusive: Pick<ExclusiveKeeper, 'waitFor' | 'release'>;
  readonly agent: ConsulAgent;
  readonly withdrawal: Withdrawal;
  readonly eventLog: Pick<EventLog, 'append'>;
  readonly ports: HostPortChooser;
  readonly hostStats: HostStatsReader;
  readonly builds: Pick<MissingBuilds, 'note'>;
  /** Of the engine; undefined until it was reached once. */
  readonly architecture: () => string | undefined;
  /** What an image on the node says that it is for; undefined when it says nothing, or is not there. */
  readonly imageArchitecture: (image: string) => Promise<string | undefined>;
  /** Waits until the engine was reached once, and everything on it is in the memory. */
  readonly adopted: () => Promise<{ readonly cpus: number; readonly memoryBytes: number }>;
  readonly logger: Logger;
}

export type ReplicaRunner = NodeActivityDeps['replicas'];

export const createReplicaRunner = (deps: ReplicaRunnerDeps): ReplicaRunner => {
  const { memory, locks, containers, publisher, logger } = deps;

  const usesPorts = ({ spec }: NodeReplica): boolean =>
    holdsHostPorts(publisher.registry.published(spec.replicaId)?.state);

  /** Takes the room for what fits, at once. */
  const admit = async (replicas: readonly StartReplica[]): Promise<ReadonlyMap<string, string>> => {
    const [engine, stats] = await Promise.all([deps.adopted(), deps.hostStats.read()]);
    const capacity: NodeCapacity = {
      cpus: engine.cpus,
      memoryBytes: engine.memoryBytes,
      diskBytes: stats.diskBytes,
    };
    const refused = new Map<string, string>();
    let reserved: Reservation = addReservations([...memory.values()].map(({ spec }) => reservedBy(spec)));
    for (const replica of replicas) {
      if (memory.has(replica.replicaId)) continue; // a retry: it has its room
      const wanted = reservedBy(replica);
      const why =
        whyRefused(wanted, { ...stats, capacity, reserved }) ??
        whyNoPorts(replica, [...memory.values()].filter(usesPorts));
      if (why !== undefined) {
        refused.set(replica.replicaId, why);
        continue;
      }
      rememberReplica(memory, replica, Date.now(), 'starting');
      reserved = addReservations([reserved, wanted]);
    }
    return refused;
  };

  /** One look for a whole batch; only a replica that was being worked on then needs another. */
  const lookForAll = async (
    replicas: readonly { readonly replicaId: string }[],
  ): Promise<(replicaId: string) => Promise<readonly FoundContainer[]>> => {
    const busy = new Set(
      replicas.map(({ replicaId }) => replicaId).filter((replicaId) => locks.isHeld(replicaId)),
    );
    const groups = groupByReplica(await containers.list());
    return async (replicaId) =>
      busy.has(replicaId) ? containers.list(replicaId) : (groups.get(replicaId) ?? []);
  };

  /** @returns why an exclusive replica may not run here; undefined when it may */
  const awaitLease = (
    replica: NodeReplica,
    signal: AbortSignal,
    say: Progress,
  ): Promise<string | undefined> => {
    let told = '';
    return deps.exclusive.waitFor(replica.spec, signal, (words) => {
      say(replica.spec.replicaId, words);
      if (words === told) return;
      told = words;
      publisher
        .publish(replica, 'starting', undefined, words)
        .catch((error: unknown) =>
          logger.debug(
            { err: error, replica: replica.spec.replicaId },
            'could not publish what is waited for',
          ),
        );
    });
  };

  /** Another node goes on with it: nothing is left here, so that a new plan sees what is so. */
  const giveWay = async (
    replica: NodeReplica,
    found: readonly FoundContainer[],
    signal: AbortSignal,
    reason: string,
  ): Promise<Extract<StartOutcome, { kind: 'refused' }>> => {
    const { replicaId } = replica.spec;
    await containers.removeAll(found, signal);
    deps.ports.release(replica.hostPorts.values());
    memory.delete(replicaId);
    await publisher.registry.unpublish(replica.spec);
    return { kind: 'refused', replicaId, reason };
  };

  const startOne = async (
    replica: NodeReplica,
    found: readonly FoundContainer[],
    signal: AbortSignal,
    say: Progress,
  ): Promise<StartOutcome> => {
    const { replicaId } = replica.spec;
    replica.phase = 'starting';
    delete replica.failure;
    replica.upkeeps.clear();
    const whyNot = await awaitLease(replica, signal, say);
    if (whyNot !== undefined) return giveWay(replica, found, signal, whyNot);
    publisher
      .publish(replica, 'starting', undefined)
      .catch((error: unknown) =>
        logger.debug({ err: error, replica: replicaId }, 'could not publish that a replica is starting'),
      );
    say(replicaId, 'creating');
    let started: InspectedReplica;
    try {
      started = await containers.ensure(replica, signal, { found });
      replica.networkOwnerId = networkOwner(started)?.Id;
    } catch (error) {
      if (!(error instanceof StartFailure)) throw error;
      const refusal =
        error.code === 'image_not_found'
          ? await refuseWithoutLocalImage(replica, signal)
          : error.isForeign
            ? await refuseForeign(replica, signal)
            : undefined;
      if (refusal !== undefined) return refusal;
      const logTail =
        error.containerId === undefined ? [] : await containers.logTail(error.containerId, LOG_TAIL_LINES);
      return fail(replica, undefined, { kind: 'failed', code: error.code, reason: error.message, logTail });
    }
    say(replicaId, 'waiting for its checks');
    const readiness = await awaitReady(deps.readiness, replica.spec, started, signal);
    if (readiness.kind === 'failed') {
      const { isForeign, ...failed } = readiness;
      const refusal = isForeign === true ? await refuseForeign(replica, signal) : undefined;
      return refusal ?? fail(replica, started, failed);
    }
    replica.isJustSeen = true;
    say(replicaId, 'registering');
    const { inspected } = readiness;
    const done = [...inspected.containers].find(([, seen]) => seen?.State.Running === false);
    await Promise.all([
      handToKeeper(replica, inspected),
      done?.[1] === undefined
        ? publisher.publish(replica, 'running', inspected)
        : publisher.publish(
            replica,
            'exited',
            inspected,
            `container ${done[0]} ended with ${describeEnd(done[1])}`,
          ),
    ]);
    say(replicaId, 'ready');
    return { kind: 'ready', replicaId, ports: publisher.ports(replica) };
  };

  /** Of an image that is in no registry, another node may have what the release runs. */
  const refuseWithoutLocalImage = async (
    replica: NodeReplica,
    signal: AbortSignal,
  ): Promise<StartOutcome | undefined> => {
    const { release } = replica.spec;
    const [image] = Object.keys(release.localImages ?? {});
    if (image === undefined) return undefined;
    const reason = `it does not have the images that v${release.number} was made with (${Object.entries(
      release.localImages ?? {},
    )
      .map(([name, ids]) => `${name} is ${Object.values(ids).join(' or ')}`)
      .join(', ')}), and no registry has them. Redeploy to run what the nodes have now`;
    const refusal = await giveWay(replica, await containers.list(replica.spec.replicaId), signal, reason);
    if (release.spec.exclusive === true) await deps.exclusive.release(replica.spec);
    return refusal;
  };

  /**
   * Where the kernel does not run a program, and its image says that it is for another architecture, a node of that one
   * may run it. Only the kernel decides: there are images that say what they are not, and machines that emulate others.
   */
  const refuseForeign = async (
    replica: NodeReplica,
    signal: AbortSignal,
  ): Promise<StartOutcome | undefined> => {
    const own = deps.architecture();
    if (own === undefined) return undefined;
    for (const { image } of replica.spec.release.spec.containers) {
      const architecture = await deps.imageArchitecture(image);
      if (architecture === undefined || architecture === own) continue;
      const missingBuild = deps.builds.note(image, [architecture]);
      const reason = missingBuildInWords(missingBuild, own);
      const found = await containers.list(replica.spec.replicaId);
      const refusal = await giveWay(replica, found, signal, reason);
      if (replica.spec.release.spec.exclusive === true) await deps.exclusive.release(replica.spec);
      return { ...refusal, missingBuild };
    }
    return undefined;
  };

  /** Registers what serves, and lets the keeper know that it does. */
  const handToKeeper = async (replica: NodeReplica, inspected: InspectedReplica): Promise<void> => {
    const serving: string[] = [];
    for (const [name, seen] of inspected.containers) {
      const upkeep = upkeepOf(replica, name);
      noteSeen(upkeep, seen, performance.now());
      if (seen?.State.Running !== true) continue;
      noteServing(upkeep);
      serving.push(name);
    }
    await publisher.register(replica, inspected, serving);
    for (const container of replica.spec.release.spec.containers) {
      const seen = inspected.containers.get(container.name);
      if (seen === undefined || !serving.includes(container.name)) continue;
      const address = networkAddress(inspected.sandbox ?? seen, deps.readiness.hostAddress);
      if (address !== undefined) deps.feeder.feed(replica, container, seen.Id, address);
    }
  };

  const fail = async (
    replica: NodeReplica,
    inspected: InspectedReplica | undefined,
    readiness: Extract<Readiness, { kind: 'failed' }>,
  ): Promise<StartOutcome> => {
    replica.phase = 'failed';
    replica.failure = readiness.reason;
    await publisher.publish(replica, 'broken', inspected, readiness.reason);
    return { ...readiness, replicaId: replica.spec.replicaId };
  };

  /** What only Consul knows of. */
  const deregisterUnknown = async (replicaId: string): Promise<void> => {
    const services = await deps.agent.services(SERVICE_META.replica, replicaId);
    const own = services.filter(({ Meta }) => Meta?.[SERVICE_META.cluster] === deps.clusterId);
    await publisher.registry.deregister(own.map(({ ID }) => ID));
  };

  /**
   * Nobody is led to it any more, and who was has the answer, before it hears that it is to end.
   *
   * @returns nodes that may lead there still
   */
  const withdraw = async (
    replica: NodeReplica,
    index: number | undefined,
    isOutdated: boolean,
    signal: AbortSignal,
    say: Progress,
  ): Promise<readonly string[]> => {
    const { project, name, replicaId, release } = replica.spec;
    const led = release.spec.containers.flatMap(({ ports }) => ports.filter(isReachedThroughNodes));
    if (led.length === 0) return [];
    const owner = networkOwner(await containers.inspect(replica.spec));
    if (owner?.State.Running !== true) return [];
    say(replicaId, 'leaving the ingress');
    // Without an index an earlier process has said it: that the requests end is waited for all the same.
    const missing =
      index === undefined
        ? []
        : await deps.withdrawal.confirmed(
            index,
            waysTo(led),
            signal,
            isOutdated
              ? (nodeIds) => say(replicaId, `waiting for the ingress of ${nodeIds.join(', ')}`)
              : undefined,
          );
    if (missing.length > 0) {
      const nodes = missing.join(', ');
      deps.eventLog.append(
        {
          level: 'warning',
          type: 'ingress.behind',
          message: `Replica ${replicaId} of v${release.number} stops, and the ingress of ${nodes} has not confirmed that it leads nobody there. Requests that come to ${nodes} may fail until it follows again: look whether its node worker and its Consul agent run.`,
          project,
          microservice: name,
          replica: replicaId,
        },
        { key: `ingress.behind:${project}/${name}:${nodes}` },
      );
    }
    say(replicaId, 'ending its requests');
    const graceMs = Math.max(...release.spec.containers.map(({ stopGraceMs }) => stopGraceMs));
    const tcp = new Set(led.flatMap(({ port, protocol }) => (protocol === 'tcp' ? [port] : [])));
    const hasUdp = led.some(({ protocol }) => protocol === 'udp');
    await deps.withdrawal.drained(owner.State.Pid, { tcp, hasUdp }, graceMs, signal);
    return missing;
  };

  const stopOne = async (
    asked: StopReplicas['replicas'][number],
    found: readonly FoundContainer[],
    signal: AbortSignal,
    say: Progress,
  ): Promise<StopOutcome> => {
    const { replicaId } = asked;
    const spec =
      memory.get(replicaId)?.spec ??
      found.map(({ labels }) => specFromLabels(labels)).find((one) => one !== undefined);
    const replica =
      spec === undefined
        ? undefined
        : rememberReplica(memory, spec, found[0]?.createdAtMs ?? Date.now(), 'stopping');
    if (replica !== undefined) {
      replica.phase = 'stopping';
      for (const { name } of replica.spec.release.spec.containers) deps.feeder.stop(replicaId, name);
    }
    say(replicaId, 'deregistering');
    const [index] = await Promise.all([
      replica === undefined || found.length === 0
        ? undefined
        : publisher.publish(replica, 'stopping', undefined),
      replica === undefined ? deregisterUnknown(replicaId) : publisher.deregister(replica),
    ]);
    const behind =
      replica !== undefined && found.length > 0
        ? await withdraw(replica, index, asked.reason === 'outdated', signal, say)
        : [];
    say(replicaId, 'stopping');
    await containers.removeAll(found, signal);
    if (replica !== undefined) deps.ports.release(replica.hostPorts.values());
    memory.delete(replicaId);
    // Of what nobody knows any more it may have been the last thing to do.
    if (spec === undefined || spec.release.spec.exclusive === true) await deps.exclusive.release(asked);
    await publisher.registry.unpublish(asked);
    say(replicaId, 'gone');
    return { replicaId, existed: found.length > 0, ...(behind.length === 0 ? {} : { behind }) };
  };

  return {
    start: async (replicas, signal, say) => {
      const refused = await admit(replicas);
      const find = await lookForAll(replicas);
      return allOrFirstError(
        replicas.map(async (spec): Promise<StartOutcome> => {
          const reason = refused.get(spec.replicaId);
          if (reason !== undefined) return { kind: 'refused', replicaId: spec.replicaId, reason };
          return locks.take(spec.replicaId, signal, async (held) => {
            const replica = rememberReplica(memory, spec, Date.now(), 'starting');
            if (replica.phase === 'stopping') {
              const reason = 'it is being stopped';
              return { kind: 'failed', replicaId: spec.replicaId, code: 'conflict', reason, logTail: [] };
            }
            try {
              return await startOne(replica, await find(spec.replicaId), held, say);
            } finally {
              if (replica.phase === 'starting') replica.phase = 'kept';
            }
          });
        }),
      );
    },
    stop: async (replicas, signal, say) => {
      await deps.adopted();
      const find = await lookForAll(replicas);
      return allOrFirstError(
        replicas.map((asked) =>
          locks.take(asked.replicaId, signal, async (held) => {
            const { replicaId } = asked;
            held.throwIfAborted();
            const found = await find(replicaId);
            held.throwIfAborted(); // from here on it cannot be undone
            return stopOne(asked, found, held, say);
          }),
        ),
      );
    },
  };
};

const LOG_TAIL_LINES = 20;
