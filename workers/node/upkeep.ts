/**
 * What the keeper remembers of each container beyond what the engine says: its ends, its runs, whether it serves.
 *
 * Invariant: all times are monotonic; a run is a container's id and start time, so that nothing that was true of one
 * run is held for true of the next.
 */

import type { ContainerInspectInfo } from 'dockerode';

import { isAttached, lacksHostPorts } from '../../adapters/docker/container-network';
import { describeEnd } from '../../adapters/docker/readiness';
import type { InspectedReplica } from '../../adapters/docker/replica-containers';
import {
  backoffMs,
  CRASH_WINDOW_MS,
  STABLE_RUN_MS,
  type ContainerFacts,
  type ContainerStatus,
} from './mending';
import type { ObservedContainer } from '../../domain/model';
import type { NodeReplica } from './node-memory';

export interface ContainerUpkeep {
  /** When it ended by itself, within the window. */
  ends: number[];
  /** When somebody ended it through the engine, within the window. */
  kills: number[];
  /** The run that somebody is ending through the engine. */
  killedRun: string | undefined;
  shortRuns: number;
  /** Not to be started by us before. */
  startAt: number;
  run: string;
  runSince: number;
  pausedSince: number | undefined;
  servingRun: string | undefined;
  /** Whether it serves is not known, because nobody looked for a while: what Consul has of it stays until then. */
  isDoubted: boolean;
  probingSince: number | undefined;
  probes: number;
  criticalSince: number | undefined;
  failure: string;
  /** Restarts in a row because of checks. */
  checkRestarts: number;
  checkRestartAt: number;
}

export const createUpkeep = (): ContainerUpkeep => ({
  ends: [],
  kills: [],
  killedRun: undefined,
  shortRuns: 0,
  startAt: 0,
  run: '',
  runSince: 0,
  pausedSince: undefined,
  servingRun: undefined,
  isDoubted: true,
  probingSince: undefined,
  probes: 0,
  criticalSince: undefined,
  failure: '',
  checkRestarts: 0,
  checkRestartAt: 0,
});

export const containerStatus = (inspected: ContainerInspectInfo | undefined): ContainerStatus => {
  if (inspected === undefined) return 'missing';
  const { Running, Restarting, Paused, Status } = inspected.State;
  // One that is being removed is left alone until it is gone; an event tells when.
  if (Restarting || Status === 'removing') return 'restarting';
  if (Paused) return 'paused';
  if (!Running) return 'ended';
  return isCutOff(inspected) ? 'cut_off' : 'running';
};

/** Those that use another's network have none of their own, and never had. */
const isCutOff = (container: ContainerInspectInfo): boolean =>
  container.HostConfig.NetworkMode === 'bridge' && (!isAttached(container) || lacksHostPorts(container));

export const runOf = (inspected: ContainerInspectInfo): string =>
  `${inspected.Id}@${inspected.State.StartedAt}`;

/** So many kills from outside within the window are still no crash loop. */
const FORGIVEN_KILLS = 20;

/** Somebody sends a signal to a container through the engine. */
export const noteKill = (upkeep: ContainerUpkeep): void => {
  upkeep.killedRun = upkeep.run;
};

/** Whether the present run is ended from outside rather than by itself. */
export const isKilled = (upkeep: ContainerUpkeep): boolean =>
  upkeep.run !== '' && upkeep.killedRun === upkeep.run;

/** A container has ended. Who is killed from outside has not failed, and is started again without back-off. */
export const noteEnd = (upkeep: ContainerUpkeep, replica: NodeReplica, now: number): void => {
  const inWindow = (at: number): boolean => now - at < CRASH_WINDOW_MS;
  upkeep.servingRun = undefined;
  upkeep.isDoubted = false;
  upkeep.criticalSince = undefined;
  upkeep.ends = upkeep.ends.filter(inWindow);
  upkeep.kills = upkeep.kills.filter(inWindow);
  if (isKilled(upkeep) && upkeep.kills.length < FORGIVEN_KILLS) {
    upkeep.kills.push(now);
    upkeep.startAt = now;
    return;
  }
  upkeep.ends.push(now);
  const wasStable = upkeep.run !== '' && now - upkeep.runSince >= STABLE_RUN_MS;
  upkeep.shortRuns = wasStable ? 0 : upkeep.shortRuns + 1;
  upkeep.startAt = now + backoffMs(replica.spec.release.spec.restart, upkeep.shortRuns - 1);
};

/**
 * Brings the memory up to what the engine says now.
 *
 * @returns whether it runs for another time than before
 */
export const noteSeen = (
  upkeep: ContainerUpkeep,
  inspected: ContainerInspectInfo | undefined,
  now: number,
): boolean => {
  const status = containerStatus(inspected);
  if (status !== 'paused') upkeep.pausedSince = undefined;
  else {
    upkeep.pausedSince ??= now;
    upkeep.servingRun = undefined;
    upkeep.isDoubted = false;
  }
  if (inspected === undefined || (status !== 'running' && status !== 'paused')) {
    upkeep.servingRun = undefined;
    upkeep.isDoubted = false;
    upkeep.probingSince = undefined;
    return false;
  }
  const run = runOf(inspected);
  if (run === upkeep.run) return false;
  const isAnother = upkeep.run !== '';
  if (isAnother) upkeep.isDoubted = false;
  upkeep.run = run;
  // A run that began before we looked is as old as the engine says, if the clock can be believed.
  const ageMs = Date.now() - Date.parse(inspected.State.StartedAt);
  upkeep.runSince = now - Math.max(0, Number.isFinite(ageMs) ? ageMs : 0);
  upkeep.servingRun = undefined;
  upkeep.criticalSince = undefined;
  upkeep.probingSince = undefined;
  upkeep.probes = 0;
  upkeep.failure = '';
  return isAnother;
};

/** What was told of it was told of an earlier run: nobody has seen this one to serve. */
export const noteTold = (
  upkeep: ContainerUpkeep,
  seen: ContainerInspectInfo | undefined,
  told: ObservedContainer | undefined,
): void => {
  if (seen === undefined || told?.startedAtMs === undefined) return;
  const isSameRun = told.containerId === seen.Id && told.startedAtMs === Date.parse(seen.State.StartedAt);
  if (!isSameRun) upkeep.isDoubted = false;
};

/** Its network was taken away: it has to show again that it serves, perhaps at another address. */
export const noteCutOff = (upkeep: ContainerUpkeep): void => {
  upkeep.servingRun = undefined;
  upkeep.isDoubted = false;
};

/** It passed all its checks, or has none. */
export const noteServing = (upkeep: ContainerUpkeep): void => {
  upkeep.servingRun = upkeep.run;
  upkeep.isDoubted = false;
  upkeep.criticalSince = undefined;
  upkeep.probingSince = undefined;
  upkeep.probes = 0;
  upkeep.failure = '';
};

export const containerFacts = (
  replica: NodeReplica,
  inspected: InspectedReplica,
  upkeeps: ReadonlyMap<string, ContainerUpkeep>,
  now: number,
): ContainerFacts[] =>
  replica.spec.release.spec.containers.map((spec) => {
    const upkeep = upkeeps.get(spec.name) ?? createUpkeep();
    const seen = inspected.containers.get(spec.name);
    const since = (at: number | undefined): number => (at === undefined ? 0 : now - at);
    return {
      spec,
      status: containerStatus(seen),
      end: seen === undefined ? 'no exit code' : describeEnd(seen),
      exitCode: seen?.State.ExitCode ?? 0,
      endsInWindow: upkeep.ends.filter((at) => now - at < CRASH_WINDOW_MS).length,
      startInMs: Math.max(0, upkeep.startAt - now),
      runningForMs: since(upkeep.runSince),
      pausedForMs: since(upkeep.pausedSince),
      serves: upkeep.servingRun !== undefined && upkeep.servingRun === upkeep.run,
      isDoubted: upkeep.isDoubted,
      probedForMs: since(upkeep.probingSince),
      probes: upkeep.probes,
      criticalForMs: upkeep.criticalSince === undefined ? undefined : now - upkeep.criticalSince,
      failure: upkeep.failure,
      restartInMs: Math.max(0, upkeep.checkRestartAt - now),
      isDetached: isDetached(inspected.sandbox, seen),
    };
  });

/** Whether the sandbox was started anew after the container had joined it, or is another one. */
const isDetached = (
  sandbox: ContainerInspectInfo | undefined,
  container: ContainerInspectInfo | undefined,
): boolean => {
  if (sandbox === undefined || container === undefined) return false;
  if (container.HostConfig.NetworkMode !== `container:${sandbox.Id}`) return true;
  return Date.parse(sandbox.State.StartedAt) > Date.parse(container.State.StartedAt);
};
