/**
 * Waits until a replica that has just been started serves or has done its job, or it is plain that it will not.
 *
 * Invariants: time is monotonic; a container that ends is noticed by its event, and by looking now and then in case
 * the event stream is broken; one that cannot be started again is tried as long as it may fail its checks, with growing
 * pauses. What is thrown is the abort of the caller, or `unavailable` when the engine does not answer; everything else
 * is an outcome.
 */

import type Docker from 'dockerode';
import type { ContainerInspectInfo } from 'dockerode';

import type { StartReplica } from '../../contracts/activities';
import { ContainerOsError, type ErrorCode } from '../../domain/errors';
import type { ContainerSpec } from '../../domain/spec/schema';
import { startFailureReason } from './docker-error';
import type { EngineEvents } from './engine-events';
import { inspectImage } from './engine-info';
import { isUp } from './observed-replica';
import { firstFailure } from './probe';
import type { InspectedReplica, ReplicaContainers } from './replica-containers';

const FIRST_PAUSE_MS = 25;
const LAST_PAUSE_MS = 250;
const PAUSE_GROWTH = 1.5;
/** How often to look without an event. */
const LOOK_EVERY_MS = 1_000;
const MAX_ENDS_DURING_START = 3;
const LOG_TAIL_LINES = 20;

export type Readiness =
  | { readonly kind: 'ready'; readonly inspected: InspectedReplica }
  | {
      readonly kind: 'failed';
      readonly code: ErrorCode;
      readonly reason: string;
      readonly logTail: readonly string[];
      /** The kernel does not run a program of it on this machine. */
      readonly isForeign?: true;
    };

export interface ReadinessDeps {
  readonly docker: Docker;
  readonly containers: ReplicaContainers;
  readonly events: EngineEvents;
  /** Where containers with the host's network are reached. */
  readonly hostAddress: string;
}

export const awaitReady = async (
  deps: ReadinessDeps,
  replica: StartReplica,
  started: InspectedReplica,
  signal: AbortSignal,
): Promise<Readiness> => {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const waits = replica.release.spec.containers.map(async (container) => {
    const outcome = await awaitContainer(deps, replica, container, started, both);
    if (outcome.kind === 'failed') stop.abort();
    return outcome;
  });
  const outcomes = await Promise.allSettled(waits);
  signal.throwIfAborted();
  const containers = new Map<string, ContainerInspectInfo | undefined>();
  for (const outcome of outcomes) {
    if (outcome.status === 'fulfilled' && outcome.value.kind === 'failed') return outcome.value;
  }
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') throw outcome.reason;
    if (outcome.value.kind === 'ready') containers.set(outcome.value.name, outcome.value.inspected);
  }
  return { kind: 'ready', inspected: { sandbox: started.sandbox, containers } };
};

type ContainerReadiness =
  | { readonly kind: 'ready'; readonly name: string; readonly inspected: ContainerInspectInfo }
  | Extract<Readiness, { kind: 'failed' }>;

const awaitContainer = async (
  deps: ReadinessDeps,
  replica: StartReplica,
  container: ContainerSpec,
  started: InspectedReplica,
  signal: AbortSignal,
): Promise<ContainerReadiness> => {
  const first = started.containers.get(container.name);
  if (first === undefined) throw new Error(`${replica.replicaId} was started without ${container.name}`);
  const { policy } = replica.release.spec.restart;
  const { minHealthyMs } = replica.release.spec.update;
  let inspected = first;
  let ends = 0;
  /** Docker counts its own restarts from zero after each of these. */
  let ownStarts = 0;
  let hasEvent = false;
  let wake: () => void = () => undefined;
  const stopListening = deps.events.listen({
    onContainer: ({ containerId, action }) => {
      if (containerId !== inspected.Id || (action !== 'die' && action !== 'start')) return;
      if (action === 'die') ends += 1;
      hasEvent = true;
      wake();
    },
    onConnected: () => {
      hasEvent = true; // something may have been missed
      wake();
    },
  });
  const pause = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, ms);
      signal.addEventListener('abort', end, { once: true });
      wake = end;
    });

  const look = async (seen: ContainerInspectInfo): Promise<string | undefined> => {
    if (container.checks.length === 0) return undefined;
    const address = networkAddress(started.sandbox ?? seen, deps.hostAddress);
    if (address === undefined) return 'it is cut off its network';
    return firstFailure({ docker: deps.docker, containerId: seen.Id, address }, container.checks, signal);
  };

  const fail = async (code: ErrorCode, reason: string): Promise<ContainerReadiness> => {
    const logTail = await deps.containers.logTail(inspected.Id, LOG_TAIL_LINES);
    const failure = {
      kind: 'failed',
      code,
      reason: `container ${container.name}: ${reason}`,
      logTail,
    } as const;
    // The engine starts a program of another architecture, and only the kernel then says no, in the log.
    return logTail.some((line) => line.endsWith('exec format error'))
      ? {
          ...failure,
          isForeign: true,
          code: 'start_failed',
          reason: `container ${container.name}: the image is made for another processor architecture`,
        }
      : failure;
  };

  const startedAt = performance.now();
  let runSince = startedAt;
  let lookedAt = startedAt;
  let passedSince: number | undefined;
  let pauseMs = FIRST_PAUSE_MS;
  let lastFailure = '';
  let startFailure: string | undefined;
  try {
    for (;;) {
      signal.throwIfAborted();
      const now = performance.now();
      if (hasEvent || now - lookedAt >= LOOK_EVERY_MS) {
        hasEvent = false;
        startFailure = undefined;
        lookedAt = now;
        const seen = await deps.containers.inspectContainer(inspected.Id);
        if (seen === undefined) return await fail('start_failed', 'it was removed while it started');
        ends = Math.max(ends, seen.RestartCount - first.RestartCount, ownStarts);
        const isAnotherRun = seen.State.StartedAt !== inspected.State.StartedAt;
        if (isAnotherRun) runSince = now;
        if (isAnotherRun || !isUp(seen)) {
          passedSince = undefined;
          pauseMs = FIRST_PAUSE_MS;
        }
        inspected = seen;
        const { Running, Restarting, Paused, ExitCode } = seen.State;
        if (ends >= MAX_ENDS_DURING_START) {
          return await fail('unhealthy', `it ended ${ends} times: ${describeEnd(seen)}`);
        }
        if (!Running && !Restarting) {
          if (policy !== 'always' && ExitCode === 0)
            return { kind: 'ready', name: container.name, inspected };
          if (policy === 'never') {
            return await fail('unhealthy', `it ended before it was ready: ${describeEnd(seen)}`);
          }
          // Ended by a call to the engine: Docker leaves it to whoever made the call to start it again.
          startFailure = await tryToStart(deps, seen.Id);
          if (startFailure === undefined) {
            ownStarts += 1;
            hasEvent = true;
          }
        }
        if (Paused) await deps.containers.unpause(seen.Id);
      }
      const failure = isUp(inspected) ? await look(inspected) : (startFailure ?? 'it does not run');
      signal.throwIfAborted();
      if (hasEvent) continue;
      if (failure === undefined) {
        passedSince ??= container.checks.length === 0 ? runSince : performance.now();
        const restMs = passedSince + minHealthyMs - performance.now();
        if (restMs <= 0) return { kind: 'ready', name: container.name, inspected };
        await pause(Math.min(restMs, LOOK_EVERY_MS));
        continue;
      }
      lastFailure = failure;
      passedSince = undefined;
      const elapsedMs = performance.now() - startedAt;
      if (elapsedMs > container.startupGraceMs) {
        return await fail(
          'unhealthy',
          await describeOverdue(deps, container, inspected, lastFailure, elapsedMs),
        );
      }
      await pause(pauseMs);
      pauseMs = Math.min(pauseMs * PAUSE_GROWTH, LAST_PAUSE_MS);
    }
  } finally {
    stopListening();
  }
};

/** @returns why it cannot be started now; undefined: it was */
const tryToStart = async (
  { containers }: ReadinessDeps,
  containerId: string,
): Promise<string | undefined> => {
  try {
    await containers.start(containerId);
    return undefined;
  } catch (error) {
    if (error instanceof ContainerOsError) throw error;
    return `it cannot be started again (${startFailureReason(error)})`;
  }
};

/** The container that has the network of a replica, as far as one is there. */
export const networkOwner = ({ sandbox, containers }: InspectedReplica): ContainerInspectInfo | undefined =>
  sandbox ?? [...containers.values()][0];

/** The address of a container's own network namespace, or the host's; undefined: it has been cut off its network. */
export const networkAddress = (container: ContainerInspectInfo, hostAddress: string): string | undefined => {
  if (container.HostConfig.NetworkMode === 'host') return hostAddress;
  const networks = Object.values(container.NetworkSettings.Networks);
  return networks.map(({ IPAddress }) => IPAddress).find((address) => address !== '');
};

/** "exit code 1", "exit code 137 (out of memory)". */
export const describeEnd = ({ State }: Pick<ContainerInspectInfo, 'State'>): string => {
  const note = State.OOMKilled ? ' (it ran out of memory)' : State.ExitCode === 137 ? ' (killed)' : '';
  return `exit code ${State.ExitCode}${note}${State.Error === '' ? '' : `, ${State.Error}`}`;
};

const describeOverdue = async (
  deps: ReadinessDeps,
  container: ContainerSpec,
  inspected: ContainerInspectInfo,
  failure: string,
  elapsedMs: number,
): Promise<string> => {
  const said = `${failure} for ${Math.round(elapsedMs / 1_000)} s`;
  const exposed = await exposedPorts(deps.docker, inspected.Image);
  const asked = container.checks.flatMap((check) => (check.kind === 'command' ? [] : [check.port]));
  const others = exposed.filter((port) => !asked.includes(port));
  const isMissing = asked.some((port) => !exposed.includes(port));
  return others.length > 0 && isMissing ? `${said}; the image exposes ${others.join(', ')}` : said;
};

const exposedPorts = async (docker: Docker, imageId: string): Promise<number[]> => {
  try {
    const image = await inspectImage(docker, imageId);
    return Object.keys(image?.Config.ExposedPorts ?? {}).map((key) => Number.parseInt(key, 10));
  } catch {
    return [];
  }
};
