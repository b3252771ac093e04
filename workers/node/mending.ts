/**
 * What a replica's state is, and what has to be done to keep it running. Pure: from what was seen to words and steps.
 *
 * Invariants: level-triggered, the same facts give the same answer; traffic is never sent to a container that has
 * not been seen to serve in its current run; nothing is restarted that its policy says stays ended, nor because of
 * checks that it does not have.
 */

import type { ReplicaState } from '../../domain/model';
import type { ContainerSpec, RestartSpec } from '../../domain/spec/schema';

/** So many ends within the window are a crash loop. */
export const CRASH_LOOP_ENDS = 5;
export const CRASH_WINDOW_MS = 5 * 60_000;
/** A run of this length counts as a success; Docker resets its own back-off after the same time. */
export const STABLE_RUN_MS = 10_000;
/** Pausing is for looking, not for forgetting. */
export const PAUSE_LIMIT_MS = 5_000;

/** `cut_off`: it runs, but somebody has taken its network away. */
export type ContainerStatus = 'missing' | 'running' | 'cut_off' | 'paused' | 'restarting' | 'ended';

export interface ContainerFacts {
  readonly spec: ContainerSpec;
  readonly status: ContainerStatus;
  /** Of the last end; for people: "exit code 1". */
  readonly end: string;
  readonly exitCode: number;
  readonly endsInWindow: number;
  /** Until our own back-off lets it be started. */
  readonly startInMs: number;
  readonly runningForMs: number;
  readonly pausedForMs: number;
  /** Whether it passed all its checks in this run. */
  readonly serves: boolean;
  /** Nobody has looked for a while whether it does. */
  readonly isDoubted: boolean;
  /** How long it has been probed in vain. */
  readonly probedForMs: number;
  /** How often in a row. */
  readonly probes: number;
  /** How long Consul has held one of its checks for critical; undefined: it does not. */
  readonly criticalForMs: number | undefined;
  /** The words of the failing check. */
  readonly failure: string;
  /** Until our back-off lets it be restarted because of its checks. */
  readonly restartInMs: number;
  /** It joined a network namespace that its sandbox has left since. */
  readonly isDetached: boolean;
}

export interface ReplicaFacts {
  readonly containers: readonly ContainerFacts[];
  readonly restart: RestartSpec;
  /** Undefined: the replica needs none. */
  readonly sandbox: ContainerStatus | undefined;
  /** The engine was stopped a moment ago: containers that ended then did not end by themselves. */
  readonly wasEngineStopped: boolean;
  /** What is told of it so far. */
  readonly toldState: ReplicaState | undefined;
}

export type MendingStep =
  /** Make and start these, and the sandbox, as far as they are missing or ended. */
  | { readonly kind: 'ensure'; readonly containers: readonly string[] }
  | { readonly kind: 'restart'; readonly container: string; readonly why: 'checks' | 'network' }
  | { readonly kind: 'unpause' | 'reattach'; readonly container: string | undefined }
  /** Look whether it serves. */
  | { readonly kind: 'probe'; readonly container: string };

export interface Mending {
  readonly state: ReplicaState;
  readonly reason?: string;
  readonly steps: readonly MendingStep[];
  /** When time alone will change the answer. */
  readonly lookAgainInMs?: number;
}

export const decideMending = (facts: ReplicaFacts): Mending => {
  if (facts.sandbox !== undefined && facts.sandbox !== 'running') return mendSandbox(facts, facts.sandbox);
  const verdicts = facts.containers.map((container) => judge(container, facts));
  const worst = verdicts.reduce((a, b) => (RANK[b.state] > RANK[a.state] ? b : a));
  const ensured = verdicts.flatMap(({ ensure }) => (ensure === undefined ? [] : [ensure]));
  const waits = verdicts.flatMap(({ lookAgainInMs }) => (lookAgainInMs === undefined ? [] : [lookAgainInMs]));
  return {
    state: worst.state,
    ...(worst.reason === undefined ? {} : { reason: worst.reason }),
    steps: [
      ...(ensured.length === 0 ? [] : [{ kind: 'ensure', containers: ensured } as const]),
      ...verdicts.flatMap(({ step }) => (step === undefined ? [] : [step])),
    ],
    ...(waits.length === 0 ? {} : { lookAgainInMs: Math.min(...waits) }),
  };
};

interface Verdict {
  readonly state: ReplicaState;
  readonly reason?: string;
  readonly ensure?: string;
  readonly step?: MendingStep;
  readonly lookAgainInMs?: number;
}

/** A replica is as well as the worst of its containers. */
const RANK: Readonly<Record<ReplicaState, number>> = {
  running: 0,
  starting: 1,
  exited: 2,
  unhealthy: 3,
  restarting: 4,
  paused: 5,
  crash_looping: 6,
  stopping: 7,
  broken: 8,
};

const mendSandbox = (facts: ReplicaFacts, status: ContainerStatus): Mending => {
  if (status === 'paused') {
    return {
      state: 'paused',
      reason: 'its sandbox is paused',
      steps: [{ kind: 'unpause', container: undefined }],
    };
  }
  if (status === 'cut_off') {
    return {
      state: 'restarting',
      reason: 'it is cut off its network',
      steps: [{ kind: 'reattach', container: undefined }],
    };
  }
  if (status === 'restarting') {
    return { state: 'restarting', reason: 'its sandbox is being restarted', steps: [], lookAgainInMs: 200 };
  }
  const reason = status === 'missing' ? 'its sandbox was removed' : 'its sandbox ended';
  const names = facts.containers.map(({ spec }) => spec.name);
  return { state: 'restarting', reason, steps: [{ kind: 'ensure', containers: names }] };
};

const judge = (facts: ContainerFacts, replica: ReplicaFacts): Verdict => {
  const { restart, wasEngineStopped } = replica;
  const { spec, status } = facts;
  const { name } = spec;
  const isLooping = facts.endsInWindow >= CRASH_LOOP_ENDS;
  switch (status) {
    case 'missing':
      return { state: 'restarting', reason: `container ${name} was removed`, ensure: name };
    case 'paused': {
      const restMs = PAUSE_LIMIT_MS - facts.pausedForMs;
      const paused = { state: 'paused', reason: `container ${name} is paused` } as const;
      return restMs > 0
        ? { ...paused, lookAgainInMs: restMs }
        : { ...paused, step: { kind: 'unpause', container: name } };
    }
    case 'cut_off':
      return {
        state: 'restarting',
        reason: `container ${name} is cut off its network`,
        step: { kind: 'reattach', container: name },
      };
    case 'restarting':
      return loopOrRestart(facts, isLooping);
    case 'ended': {
      if (isFinal(facts, restart, wasEngineStopped)) {
        return { state: 'exited', reason: `container ${name} ended with ${facts.end}` };
      }
      const verdict = loopOrRestart(facts, isLooping);
      return facts.startInMs > 0
        ? { ...verdict, lookAgainInMs: facts.startInMs }
        : { ...verdict, ensure: name };
    }
    case 'running':
      return judgeRunning(facts, replica, isLooping);
  }
};

const judgeRunning = (
  facts: ContainerFacts,
  { restart, toldState }: ReplicaFacts,
  isLooping: boolean,
): Verdict => {
  const { name } = facts.spec;
  if (facts.isDetached) {
    const reason = `container ${name} lost its network`;
    return { state: 'restarting', reason, step: { kind: 'restart', container: name, why: 'network' } };
  }
  if (isLooping && facts.runningForMs < STABLE_RUN_MS) {
    return { ...loopOrRestart(facts, true), lookAgainInMs: STABLE_RUN_MS - facts.runningForMs };
  }
  // The doubt comes to all replicas at the same time, on a machine that has much to do then: were it told, or a single
  // probe believed, nobody would get any request. Checks are given as long as they are at any other time.
  const isInTime =
    facts.failure === '' ||
    facts.probedForMs < checkPatienceMs(facts.spec) ||
    facts.probes < Math.max(0, ...facts.spec.checks.map(({ failures }) => failures));
  if (!facts.serves && facts.isDoubted && isInTime && toldState === 'running') {
    return { state: 'running', step: { kind: 'probe', container: name } };
  }
  if (!facts.serves) {
    const patienceMs = Math.max(
      facts.spec.startupGraceMs - facts.runningForMs,
      checkPatienceMs(facts.spec) - facts.probedForMs,
    );
    // Without checks nothing can speak against it: somebody only has to look again.
    if (patienceMs > 0 || facts.spec.checks.length === 0) {
      const isFirstRun = facts.endsInWindow === 0 && facts.probedForMs <= facts.spec.startupGraceMs;
      return {
        state: isFirstRun ? 'starting' : 'restarting',
        reason:
          facts.failure === ''
            ? `container ${name} has not served yet`
            : `container ${name}: ${facts.failure}`,
        step: { kind: 'probe', container: name },
      };
    }
    return unhealthy(facts, restart, 0, { kind: 'probe', container: name });
  }
  if (facts.criticalForMs !== undefined) {
    const graceLeftMs = facts.spec.startupGraceMs - facts.runningForMs;
    return unhealthy(
      facts,
      restart,
      Math.max(graceLeftMs, checkPatienceMs(facts.spec) - facts.criticalForMs),
    );
  }
  return { state: 'running' };
};

/** @param patienceMs how long it may stay unhealthy before it is restarted */
const unhealthy = (
  facts: ContainerFacts,
  restart: RestartSpec,
  patienceMs: number,
  meanwhile?: MendingStep,
): Verdict => {
  const { name } = facts.spec;
  const verdict = { state: 'unhealthy', reason: `container ${name}: ${facts.failure}` } as const;
  const step = meanwhile === undefined ? {} : { step: meanwhile };
  if (restart.policy === 'never') return { ...verdict, ...step };
  const waitMs = Math.max(patienceMs, facts.restartInMs);
  if (waitMs > 0) return { ...verdict, ...step, lookAgainInMs: waitMs };
  return { ...verdict, step: { kind: 'restart', container: name, why: 'checks' } };
};

const loopOrRestart = (facts: ContainerFacts, isLooping: boolean): Verdict => {
  const { name } = facts.spec;
  return isLooping
    ? {
        state: 'crash_looping',
        reason: `container ${name} ended ${facts.endsInWindow} times in ${CRASH_WINDOW_MS / 60_000} minutes, the last time with ${facts.end}`,
      }
    : { state: 'restarting', reason: `container ${name} ended with ${facts.end}` };
};

const isFinal = (facts: ContainerFacts, { policy }: RestartSpec, wasEngineStopped: boolean): boolean => {
  switch (policy) {
    case 'always':
      return false;
    case 'never':
      return true;
    case 'on-failure':
      return facts.exitCode === 0 && !wasEngineStopped;
  }
};

/** How long checks may fail in a row. */
const checkPatienceMs = ({ checks }: ContainerSpec): number =>
  Math.max(0, ...checks.map(({ intervalMs, failures }) => intervalMs * failures));

/**
 * How long to wait before a container is started again by us.
 *
 * @param shortRuns ends in a row after runs that were not stable
 */
export const backoffMs = (restart: RestartSpec, shortRuns: number): number =>
  shortRuns <= 0 ? 0 : Math.min(restart.backoffMs * 2 ** Math.min(shortRuns - 1, 30), restart.maxBackoffMs);
