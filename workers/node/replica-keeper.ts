/**
 * Keeps every replica of the node as it should be, without any control plane.
 *
 * Invariants: level-triggered, an event only says when to look; a replica that an activity works on is left alone
 * and looked at afterwards; one whose removal has begun is not mended any more, whoever began it; traffic leaves with
 * the event of a container's end, before anything else is done, and comes back when the container has been seen to
 * serve; while the engine does not answer, what is known without it is said all the same.
 */

import type Docker from 'dockerode';
import type { Logger } from 'pino';

import { needsSandbox } from '../../adapters/docker/container-config';
import { boundAddress } from '../../adapters/docker/container-network';
import type { ContainerHappening } from '../../adapters/docker/engine-events';
import { firstFailure } from '../../adapters/docker/probe';
import { networkAddress, networkOwner } from '../../adapters/docker/readiness';
import {
  StartFailure,
  type InspectedReplica,
  type ReplicaContainers,
} from '../../adapters/docker/replica-containers';
import type { ReplicaLocks } from '../../adapters/docker/replica-locks';
import type { ReplicaState } from '../../domain/model';
import type { CheckFeeder } from './check-feeder';
import type { EventLog } from './event-log';
import type { ExclusiveKeeper } from './exclusive-keeper';
import { backoffMs, decideMending, type MendingStep } from './mending';
import { upkeepOf, type NodeMemory, type NodeReplica } from './node-memory';
import type { ReplicaPublisher } from './replica-publisher';
import { describeChange } from './replica-events';
import { createReplicaTraffic, noteCritical, noteFailure } from './replica-traffic';
import { stateUnseen } from './unseen';
import {
  containerFacts,
  containerStatus,
  isKilled,
  noteCutOff,
  noteEnd,
  noteKill,
  noteSeen,
  noteServing,
  noteTold,
  type ContainerUpkeep,
} from './upkeep';

const DEBOUNCE_MS = 2;
/** A replica that an activity has just seen to serve can wait for its turn until the burst of a large start is over. */
const CALM_LOOK_MS = 10_000;
const FIRST_PROBE_PAUSE_MS = 25;
const LAST_PROBE_PAUSE_MS = 1_000;
const RETRY_MS = 500;
/** Somebody else has the lease, or nobody answers. */
const LEASE_RETRY_MS = 1_000;
/** Beyond it the replica counts as broken, and is somebody else's to replace. */
const MAX_MEND_FAILURES = 5;
/** Looks in one turn, so that a replica that changes all the time does not keep others waiting for its lock. */
const MAX_LOOKS = 5;
/** Containers that ended this long before the engine was lost were ended by its stop. */
const ENGINE_STOP_WINDOW_MS = 20_000;

export interface ReplicaKeeper {
  onHappening(happening: ContainerHappening): void;
  onNetworkLost(containerId: string): void;
  onEngineLost(): void;
  /** It was reached, or reached again. */
  onEngine(): void;
  /** Looks at it soon. */
  look(replicaId: string, inMs?: number): void;
  lookAtAll(): void;
  /** Consul was away: every container has to show again that it serves. */
  doubtAll(): void;
  /** Which services Consul holds for critical now, with the words of the check. */
  setCritical(critical: ReadonlyMap<string, string>): void;
  /** What a check says that Consul does not run; undefined: it passes. */
  setFailure(replicaId: string, container: string, failure: string | undefined): void;
  stop(): void;
}

export interface ReplicaKeeperDeps {
  readonly docker: Docker;
  readonly memory: NodeMemory;
  readonly locks: ReplicaLocks;
  readonly containers: ReplicaContainers;
  readonly publisher: ReplicaPublisher;
  readonly feeder: CheckFeeder;
  readonly exclusive: Pick<ExclusiveKeeper, 'whyNot'>;
  readonly eventLog: EventLog;
  readonly hostAddress: string;
  readonly logger: Logger;
}

export const createReplicaKeeper = (deps: ReplicaKeeperDeps): ReplicaKeeper => {
  const { memory, locks, containers, publisher, eventLog, logger } = deps;
  const traffic = createReplicaTraffic(publisher, deps.feeder);
  const timers = new Map<string, { readonly timer: NodeJS.Timeout; readonly at: number }>();
  let isStopped = false;
  let engineLostAtMs: number | undefined;
  let isEngineAway = false;

  const look = (replicaId: string, inMs = DEBOUNCE_MS): void => {
    if (isStopped || !memory.has(replicaId)) return;
    const at = performance.now() + inMs;
    const planned = timers.get(replicaId);
    if (planned !== undefined) {
      if (planned.at <= at) return;
      clearTimeout(planned.timer);
    }
    const timer = setTimeout(() => {
      timers.delete(replicaId);
      turn(replicaId);
    }, inMs);
    timers.set(replicaId, { timer, at });
  };

  const lookAtAll = (): void => {
    for (const replicaId of memory.keys()) look(replicaId);
  };

  const turn = (replicaId: string): void => {
    const replica = memory.get(replicaId);
    if (replica === undefined) return;
    // Whoever looks may wait for the engine, or fail of it.
    if (isEngineAway) void tellConsul(replica, sayUnseen(replica));
    locks
      .tryTake(replicaId, (signal) => keep(replica, signal))
      ?.catch((error: unknown) => {
        logger.debug({ err: error, replica: replicaId }, 'could not look after a replica');
        look(replicaId, RETRY_MS);
      });
  };

  const keep = async (replica: NodeReplica, signal: AbortSignal): Promise<void> => {
    for (let looks = 1; ; looks += 1) {
      if (isStopped || signal.aborted || memory.get(replica.spec.replicaId) !== replica) return;
      const isChanged = await keepOnce(replica, signal);
      if (!isChanged) return;
      if (looks === MAX_LOOKS) return look(replica.spec.replicaId);
    }
  };

  /** @returns whether to look again at once */
  const keepOnce = async (replica: NodeReplica, signal: AbortSignal): Promise<boolean> => {
    const { spec } = replica;
    replica.isJustSeen = false;
    const inspected = await containers.inspect(spec);
    const owner = networkOwner(inspected);
    replica.networkOwnerId = owner?.Id;
    const now = performance.now();
    const told = publisher.registry.published(spec.replicaId);
    for (const [name, seen] of inspected.containers) {
      const upkeep = upkeepOf(replica, name);
      if (noteSeen(upkeep, seen, now)) replica.restartCount += 1;
      noteTold(
        upkeep,
        seen,
        told?.containers.find((one) => one.name === name),
      );
    }
    if (replica.phase === 'stopping') {
      await publisher.deregister(replica);
      await publisher.publish(replica, 'stopping', inspected);
      return false;
    }
    const bound = owner === undefined ? undefined : boundAddress(owner);
    if (replica.phase === 'kept' && bound !== undefined && bound !== deps.hostAddress) {
      replica.phase = 'failed';
      replica.failure = `its ports are on ${bound}, and this node goes by ${deps.hostAddress} now`;
    }
    if (replica.phase === 'failed') {
      await traffic.withdraw(replica, inspected);
      await publisher.publish(replica, 'broken', inspected, replica.failure);
      return false;
    }
    const whyNot = await deps.exclusive.whyNot(spec);
    if (whyNot !== undefined) {
      await tellConsul(replica, traffic.withdraw(replica, inspected));
      await tellConsul(replica, say(replica, 'restarting', inspected, whyNot));
      look(spec.replicaId, LEASE_RETRY_MS);
      return false;
    }
    const mending = decideMending({
      containers: containerFacts(replica, inspected, replica.upkeeps, now),
      restart: spec.release.spec.restart,
      sandbox:
        inspected.sandbox !== undefined || needsSandbox(spec)
          ? containerStatus(inspected.sandbox)
          : undefined,
      wasEngineStopped: wasEndedByEngine(inspected) || replica.isHalted === true,
      toldState: told?.state,
    });
    await tellConsul(replica, traffic.withdraw(replica, inspected));
    await tellConsul(replica, traffic.registerMissing(replica, inspected));
    void tellConsul(replica, say(replica, mending.state, inspected, mending.reason));
    if (mending.lookAgainInMs !== undefined) look(spec.replicaId, mending.lookAgainInMs);
    let isChanged = false;
    for (const step of mending.steps) {
      if (signal.aborted) return false;
      isChanged = (await act(replica, inspected, step, signal)) || isChanged;
    }
    return isChanged;
  };

  /** Consul may be away, or slow: that must not keep a container from being mended. It is told with the next look. */
  const tellConsul = async (replica: NodeReplica, telling: Promise<void>): Promise<void> => {
    try {
      await telling;
    } catch (error) {
      logger.debug({ err: error, replica: replica.spec.replicaId }, 'could not tell Consul of a replica');
      look(replica.spec.replicaId, RETRY_MS);
    }
  };

  const act = async (
    replica: NodeReplica,
    inspected: InspectedReplica,
    step: MendingStep,
    signal: AbortSignal,
  ): Promise<boolean> => {
    switch (step.kind) {
      case 'ensure': {
        const isDone = await ensure(replica, step.containers, signal);
        if (isDone) delete replica.isHalted;
        return isDone;
      }
      case 'unpause': {
        const paused =
          step.container === undefined ? inspected.sandbox : inspected.containers.get(step.container);
        if (paused !== undefined) await containers.unpause(paused.Id);
        return true;
      }
      case 'reattach': {
        const owner =
          step.container === undefined ? inspected.sandbox : inspected.containers.get(step.container);
        if (owner === undefined) return true;
        for (const upkeep of replica.upkeeps.values()) noteCutOff(upkeep);
        return attempt(replica, () => containers.reattach(owner));
      }
      case 'restart': {
        const seen = inspected.containers.get(step.container);
        const isElsewhere =
          inspected.sandbox !== undefined &&
          seen?.HostConfig.NetworkMode !== `container:${inspected.sandbox.Id}`;
        if (seen === undefined || isElsewhere) return ensure(replica, [step.container], signal);
        const upkeep = upkeepOf(replica, step.container);
        if (step.why === 'checks') {
          upkeep.checkRestarts += 1;
          upkeep.checkRestartAt =
            performance.now() + backoffMs(replica.spec.release.spec.restart, upkeep.checkRestarts);
          await publisher.deregister(replica, [step.container]);
        }
        await containers.restart(seen.Id, signal);
        return true;
      }
      case 'probe':
        return probeContainer(replica, inspected, step.container, signal);
    }
  };

  const ensure = (replica: NodeReplica, names: readonly string[], signal: AbortSignal): Promise<boolean> =>
    attempt(replica, () => containers.ensure(replica, signal, { only: names }));

  /** What fails too often in a row is not tried any more. @returns whether it succeeded */
  const attempt = async (replica: NodeReplica, mend: () => Promise<unknown>): Promise<boolean> => {
    try {
      await mend();
      replica.mendFailures = 0;
      return true;
    } catch (error) {
      if (!(error instanceof StartFailure)) throw error;
      replica.mendFailures += 1;
      if (error.code !== 'image_not_found' && replica.mendFailures < MAX_MEND_FAILURES) {
        // An engine that is being stopped fails in many ways.
        look(replica.spec.replicaId, RETRY_MS * 2 ** replica.mendFailures);
        return false;
      }
      replica.phase = 'failed';
      replica.failure = error.message;
      logger.warn({ replica: replica.spec.replicaId }, `a replica cannot be mended here: ${error.message}`);
      await publisher.deregister(replica);
      const inspected = await containers.inspect(replica.spec);
      await say(replica, 'broken', inspected, error.message);
      return false;
    }
  };

  const probeContainer = async (
    replica: NodeReplica,
    inspected: InspectedReplica,
    name: string,
    signal: AbortSignal,
  ): Promise<boolean> => {
    const spec = replica.spec.release.spec.containers.find((one) => one.name === name);
    const seen = inspected.containers.get(name);
    if (spec === undefined || seen === undefined) return false;
    const upkeep = upkeepOf(replica, name);
    const { run } = upkeep;
    upkeep.probingSince ??= performance.now();
    const address = networkAddress(inspected.sandbox ?? seen, deps.hostAddress);
    if (address === undefined) return probeAgain(replica, upkeep, 'it is cut off its network');
    const target = { docker: deps.docker, containerId: seen.Id, address };
    const failure = await firstFailure(target, spec.checks, signal);
    if (signal.aborted || upkeep.run !== run) return true;
    if (failure !== undefined) return probeAgain(replica, upkeep, failure);
    // The end of the run may have been told while the registration was under way: it withdraws after us, in turn.
    noteServing(upkeep);
    // Before the registration, which may fail and is done again then: nobody else runs these checks.
    deps.feeder.feed(replica, spec, seen.Id, address);
    await publisher.register(replica, inspected, [name]);
    return true;
  };

  /** @returns that nothing has changed */
  const probeAgain = (replica: NodeReplica, upkeep: ContainerUpkeep, failure: string): false => {
    upkeep.failure = failure;
    upkeep.probes += 1;
    const pauseMs = FIRST_PROBE_PAUSE_MS * 1.5 ** Math.min(upkeep.probes, 20);
    look(replica.spec.replicaId, Math.min(pauseMs, LAST_PROBE_PAUSE_MS));
    return false;
  };

  const say = async (
    replica: NodeReplica,
    state: ReplicaState,
    inspected: InspectedReplica | undefined,
    reason: string | undefined,
  ): Promise<void> => {
    // What was told last is not known yet: it holds until it is compared with what is so.
    if (!publisher.registry.knowsDocuments()) return;
    const before = publisher.registry.published(replica.spec.replicaId)?.state;
    await publisher.publish(replica, state, inspected, reason);
    const change = describeChange(replica.spec, before, state, reason);
    if (change !== undefined) eventLog.append(change.event, { key: change.key });
  };

  /** Says what has become of a replica that nobody can look at. */
  const sayUnseen = async (replica: NodeReplica): Promise<void> => {
    const before = publisher.registry.published(replica.spec.replicaId);
    if (replica.phase !== 'kept' || before === undefined) return;
    const unseen = stateUnseen(replica, before);
    if (unseen.state !== before.state) await say(replica, unseen.state, undefined, unseen.reason);
  };

  /** Whether a container ended when the engine was stopped rather than by itself. */
  const wasEndedByEngine = (inspected: InspectedReplica): boolean => {
    const lostAtMs = engineLostAtMs;
    if (lostAtMs === undefined) return false;
    return [...inspected.containers.values()].some((seen) => {
      const endedAtMs = Date.parse(seen?.State.FinishedAt ?? '');
      return Math.abs(lostAtMs - endedAtMs) < ENGINE_STOP_WINDOW_MS;
    });
  };

  const onEnd = (replica: NodeReplica, { container, exitCode }: ContainerHappening): void => {
    const names = container === undefined ? undefined : [container];
    publisher.deregister(replica, names).catch((error: unknown) => {
      logger.warn(
        { err: error, replica: replica.spec.replicaId },
        'could not take an ended container out of Consul',
      );
    });
    for (const { name } of replica.spec.release.spec.containers) {
      if (container === undefined || name === container) deps.feeder.stop(replica.spec.replicaId, name);
    }
    if (container === undefined) return;
    const upkeep = upkeepOf(replica, container);
    const verb = isKilled(upkeep) ? 'was ended from outside' : 'ended';
    noteEnd(upkeep, replica, performance.now());
    eventLog.append(
      {
        level: 'warning',
        type: 'replica.crashed',
        message: `Container ${container} of replica ${replica.spec.replicaId} ${verb}${exitCode === undefined ? '' : ` with exit code ${exitCode}`}.`,
        project: replica.spec.project,
        microservice: replica.spec.name,
        replica: replica.spec.replicaId,
      },
      { key: `replica.crashed:${replica.spec.replicaId}:${container}` },
    );
  };

  locks.onFree((replicaId) =>
    look(replicaId, memory.get(replicaId)?.isJustSeen === true ? CALM_LOOK_MS : DEBOUNCE_MS),
  );

  return {
    onHappening: (happening) => {
      const replica = memory.get(happening.replicaId);
      if (replica !== undefined) replica.isJustSeen = false;
      if (replica === undefined || replica.phase === 'stopping' || replica.phase === 'starting') return;
      const { action, container } = happening;
      if (action === 'kill' && container !== undefined) noteKill(upkeepOf(replica, container));
      if (action === 'die') onEnd(replica, happening);
      if (action === 'pause') {
        const names = container === undefined ? undefined : [container];
        publisher.deregister(replica, names).catch(() => undefined); // looking at it tries again
      }
      if (/^(die|start|pause|unpause|destroy|oom|restart)$/.test(action)) look(happening.replicaId);
    },
    // No check tells of it as long as somebody else answers at the address.
    onNetworkLost: (containerId) => {
      for (const [replicaId, { networkOwnerId }] of memory) {
        if (networkOwnerId === containerId) look(replicaId);
      }
    },
    onEngineLost: () => {
      engineLostAtMs = Date.now();
      isEngineAway = true;
    },
    onEngine: () => {
      isEngineAway = false;
      lookAtAll();
    },
    look,
    lookAtAll,
    doubtAll: () => {
      for (const replica of memory.values()) {
        for (const upkeep of replica.upkeeps.values()) {
          upkeep.isDoubted ||= upkeep.servingRun === upkeep.run;
          upkeep.servingRun = undefined;
        }
      }
    },
    setCritical: (critical) => {
      for (const replica of memory.values()) noteCritical(publisher, replica, critical, look);
    },
    setFailure: (replicaId, container, failure) => {
      const replica = memory.get(replicaId);
      if (replica !== undefined) noteFailure(replica, container, failure, look);
    },
    stop: () => {
      isStopped = true;
      for (const { timer } of timers.values()) clearTimeout(timer);
      timers.clear();
    },
  };
};
