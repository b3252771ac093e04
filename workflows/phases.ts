/**
 * Runs the phases of a plan: one activity per node and phase.
 *
 * Invariants: makes no choice of its own, every step comes from a plan; what a node answers is reported as data;
 * cancellation ends it after the activities under way have ended.
 */

import {
  ActivityCancellationType,
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  TimeoutFailure,
  isCancellation,
  patched,
  proxyActivities,
} from '@temporalio/workflow';

import type {
  ImagePull,
  NodeActivities,
  PullOutcome,
  StartOutcome,
  StopOutcome,
} from '../contracts/activities';
import { shortText } from '../contracts/node-answers';
import { nodeQueue } from '../contracts/queues';
import { RETRY, TIMEOUT } from '../contracts/timeouts';
import { isErrorCode } from '../domain/errors';
import type { MissingBuild, OperationError, Phase, PlanRequest, Release, Step } from '../domain/model';
import { imageInWords } from '../domain/release-images';
import type { ReleaseSpec } from '../domain/spec/schema';

import type { LostNodes } from './lost-nodes';
import { NonsensicalAnswer, outcomesOf, type Nonsense } from './node-answers';

export interface PhaseReport {
  readonly failure?: OperationError;
  /** Why a node refused, by node id. */
  readonly refusals: Readonly<Record<string, string>>;
  /** Images that nodes cannot have for their architecture, by node id. */
  readonly missingBuilds: Readonly<Record<string, readonly MissingBuild[]>>;
  /** Nodes that did not take the work: plan again, Consul says whether they are up. */
  readonly silent: readonly string[];
  /** Nodes whose answers nobody can go by. */
  readonly nonsense: readonly Nonsense[];
  /** Nodes that may lead to replicas that have stopped. */
  readonly behind: readonly string[];
}

const nodeActivities = (
  nodeId: string,
  limits: {
    readonly startToCloseMs: number;
    readonly scheduleToCloseMs: number;
    readonly maximumAttempts?: number;
  },
  summary: string,
) =>
  proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(nodeId),
    scheduleToStartTimeout: TIMEOUT.nodeScheduleToStartMs,
    startToCloseTimeout: limits.startToCloseMs,
    scheduleToCloseTimeout: limits.scheduleToCloseMs,
    heartbeatTimeout: TIMEOUT.nodeHeartbeatMs,
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    retry: {
      initialInterval: RETRY.node.initialIntervalMs,
      maximumInterval: RETRY.node.maximumIntervalMs,
      ...(limits.maximumAttempts === undefined ? {} : { maximumAttempts: limits.maximumAttempts }),
    },
    summary,
  });

const longest = (spec: ReleaseSpec, pick: (container: ReleaseSpec['containers'][number]) => number): number =>
  Math.max(0, ...spec.containers.map(pick));

export const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`;

/** Turns what a node activity threw into words; anything that is no ActivityFailure is thrown on. */
const errorOf = (thrown: unknown): OperationError => {
  if (!(thrown instanceof ActivityFailure)) throw thrown;
  const cause = thrown.cause;
  if (cause instanceof ApplicationFailure) {
    const last = cause.type === undefined || !isErrorCode(cause.type) ? 'internal' : cause.type;
    return { code: last, message: shortText(cause.message), logTail: [] };
  }
  return { code: 'unavailable', message: shortText(cause?.message ?? thrown.message), logTail: [] };
};

const isSilence = (thrown: unknown): boolean =>
  thrown instanceof ActivityFailure &&
  thrown.cause instanceof TimeoutFailure &&
  thrown.cause.timeoutType === 'SCHEDULE_TO_START';

const isPull = (thrown: unknown): boolean =>
  thrown instanceof ActivityFailure && thrown.activityType === 'pullImages';

type PullStep = Extract<Step, { kind: 'pull' }>;

type NodeOutcome =
  | { readonly kind: 'pulled'; readonly outcomes: readonly PullOutcome[] }
  | { readonly kind: 'started'; readonly outcomes: readonly StartOutcome[] }
  | { readonly kind: 'stopped'; readonly outcomes: readonly StopOutcome[] };

/** What the steps of one plan are run with. */
export interface PhaseContext {
  readonly request: PlanRequest;
  readonly releases: ReadonlyMap<number, Release>;
  readonly lostNodes: LostNodes;
  /**
   * Replicas are brought back: where a node cannot get an image, another one may have it, and no replica waits for the
   * image of another one.
   */
  readonly healsByNode: boolean;
}

/** The release whose images a step pulls. */
const releaseOfPull = ({ release }: PullStep, { request, releases }: PhaseContext): Release =>
  (release === undefined ? undefined : releases.get(release)) ?? request.desired.release;

/** As the images of a step are to be had. */
const pullsOf = (step: PullStep, context: PhaseContext): readonly ImagePull[] => {
  const { request } = context;
  const release = releaseOfPull(step, context);
  // Healing brings back what ran: it takes the image that the node has, and needs no registry for it.
  const isHealing = request.kind === 'reschedule' || release.number !== request.desired.release.number;
  const policies = new Map(release.spec.containers.map(({ image, pull }) => [image, pull]));
  return step.images.map((image) => {
    // What is in no registry can only be had where it is.
    if (release.localImages?.[image] !== undefined) return { image, pull: 'never' };
    const pull = policies.get(image) ?? 'missing';
    return { image, pull: isHealing && pull === 'always' ? 'missing' : pull };
  });
};

const runOnNode = async (nodeId: string, phase: Phase, context: PhaseContext): Promise<NodeOutcome> => {
  const { request, releases, healsByNode } = context;
  const { project, name } = request.desired;
  const mine = phase.steps.filter((step) => step.nodeId === nodeId);
  switch (phase.kind) {
    case 'pull': {
      const images = mine.flatMap((step) => (step.kind === 'pull' ? pullsOf(step, context) : []));
      const answer = await nodeActivities(
        nodeId,
        {
          startToCloseMs: TIMEOUT.pullStartToCloseMs,
          scheduleToCloseMs: TIMEOUT.pullScheduleToCloseMs,
          // Once only: the other node may not have the image either, and then the registry has to be waited for.
          ...(healsByNode && Object.keys(request.refusals).length === 0
            ? { maximumAttempts: RETRY.pullsBeforeElsewhere }
            : {}),
        },
        `${nodeId}: pull ${images.map(({ image }) => imageInWords(image)).join(', ')}`,
      ).pullImages({
        nodeId,
        project,
        name,
        operation: request.operation,
        images,
      });
      const asked = images.map(({ image }) => image);
      return { kind: 'pulled', outcomes: outcomesOf(nodeId, 'pullImages', asked, answer) };
    }
    case 'start': {
      const replicas = mine.flatMap((step) =>
        step.kind === 'start' ? [{ replicaId: step.replicaId, release: step.release }] : [],
      );
      const needed = [...new Set(replicas.map((replica) => replica.release))].map((number) => {
        const found = releases.get(number);
        if (!found) throw new Error(`plan starts release ${number}, which the operation does not carry`);
        return found;
      });
      const startToCloseMs =
        Math.max(
          ...needed.map(
            ({ spec }) => longest(spec, (container) => container.startupGraceMs) + spec.update.minHealthyMs,
          ),
        ) + TIMEOUT.startMarginMs;
      const answer = await nodeActivities(
        nodeId,
        { startToCloseMs, scheduleToCloseMs: startToCloseMs + TIMEOUT.nodeOutageMs },
        `${nodeId}: start ${count(replicas.length, 'replica')} of ${needed.map(({ number }) => `v${number}`).join(' and ')}`,
      ).startReplicas({
        nodeId,
        project,
        name,
        operation: request.operation,
        releases: needed,
        placedAtMs: request.nowMs,
        replicas,
      });
      const asked = replicas.map(({ replicaId }) => replicaId);
      return { kind: 'started', outcomes: outcomesOf(nodeId, 'startReplicas', asked, answer) };
    }
    case 'stop': {
      const replicas = mine.flatMap((step) =>
        step.kind === 'stop' ? [{ project, name, replicaId: step.replicaId, reason: step.reason }] : [],
      );
      // The replicas that stop may be of an older release with a longer grace; their node knows it, this is a ceiling.
      const startToCloseMs = TIMEOUT.maxStopGraceMs + TIMEOUT.stopMarginMs;
      const answer = await nodeActivities(
        nodeId,
        { startToCloseMs, scheduleToCloseMs: startToCloseMs + TIMEOUT.nodeOutageMs },
        `${nodeId}: stop ${count(replicas.length, 'replica')}`,
      ).stopReplicas({ nodeId, replicas });
      const asked = replicas.map(({ replicaId }) => replicaId);
      return { kind: 'stopped', outcomes: outcomesOf(nodeId, 'stopReplicas', asked, answer) };
    }
  }
};

const hasFallenShort = (outcome: NodeOutcome): boolean =>
  outcome.kind !== 'stopped' && outcome.outcomes.some(({ kind }) => kind === 'failed' || kind === 'refused');

/** Does the node's part of one phase after the other; begins none after one that it could not do. */
const runStageOnNode = async (
  nodeId: string,
  stage: readonly Phase[],
  context: PhaseContext,
): Promise<readonly NodeOutcome[]> => {
  const outcomes: NodeOutcome[] = [];
  for (const phase of stage) {
    if (!phase.steps.some((step) => step.nodeId === nodeId)) continue;
    const outcome = await runOnNode(nodeId, phase, context);
    outcomes.push(outcome);
    if (hasFallenShort(outcome)) break;
  }
  return outcomes;
};

/** Runs phases of which each node may begin the next when it is done with the one before, whatever the others do. */
export const runStage = async (stage: readonly Phase[], context: PhaseContext): Promise<PhaseReport> => {
  const nodeIds = [...new Set(stage.flatMap(({ steps }) => steps.map(({ nodeId }) => nodeId)))];
  const runAll = () =>
    Promise.allSettled(
      nodeIds.map((nodeId) =>
        context.lostNodes.unlessLost(nodeId, () => runStageOnNode(nodeId, stage, context)),
      ),
    );
  // What was pulled half would have to be pulled again, before anything else.
  const mayBeInterrupted = stage.some(({ kind }) => kind !== 'pull');
  const { value: results, isInterrupted } = mayBeInterrupted
    ? await context.lostNodes.interruptedByLoss(runAll)
    : { value: await runAll(), isInterrupted: false };
  const pulled = stage
    .flatMap(({ steps }) => steps)
    .flatMap((step) => (step.kind === 'pull' ? [releaseOfPull(step, context)] : []));
  const isLocal = (image: string) => pulled.some(({ localImages }) => localImages?.[image] !== undefined);
  const refusals: Record<string, string> = {};
  const missingBuilds: Record<string, readonly MissingBuild[]> = {};
  const silent: string[] = [];
  const nonsense: Nonsense[] = [];
  const behind: string[] = [];
  let failure: OperationError | undefined;
  for (const [index, result] of results.entries()) {
    const nodeId = nodeIds[index] ?? '';
    if (result.status === 'rejected') {
      // Its node goes on with it; the next plan sees how far it is.
      if (isInterrupted && !CancellationScope.current().consideredCancelled) continue;
      if (result.reason instanceof NonsensicalAnswer) {
        nonsense.push(result.reason.nonsense);
        continue;
      }
      if (isCancellation(result.reason)) throw result.reason;
      // What an activity fails of once it was told to give up says nothing of the release.
      if (CancellationScope.current().consideredCancelled && patched('failed-when-cancelled')) {
        throw new CancelledFailure('the operation was cancelled');
      }
      if (isSilence(result.reason)) silent.push(nodeId);
      else if (context.healsByNode && isPull(result.reason))
        refusals[nodeId] = errorOf(result.reason).message;
      else failure ??= errorOf(result.reason);
      continue;
    }
    if (result.value === undefined) {
      if (CancellationScope.current().consideredCancelled) {
        throw new CancelledFailure('the operation was cancelled');
      }
      silent.push(nodeId);
      continue;
    }
    for (const one of result.value) {
      if (one.kind === 'stopped') behind.push(...one.outcomes.flatMap((stopped) => stopped.behind ?? []));
    }
    for (const outcome of result.value.flatMap<PullOutcome | StartOutcome>((one) =>
      one.kind === 'stopped' ? [] : one.outcomes,
    )) {
      if (outcome.kind !== 'failed' && outcome.kind !== 'refused') continue;
      // Nodes of another architecture may run it; the planner keeps away from those of this one.
      if ('missingBuild' in outcome && outcome.missingBuild !== undefined && patched('no-build-for-a-node')) {
        missingBuilds[nodeId] = [...(missingBuilds[nodeId] ?? []), outcome.missingBuild];
        continue;
      }
      if ('image' in outcome && isLocal(outcome.image)) {
        refusals[nodeId] =
          `it does not have the image ${outcome.image}, which is in no registry that could be asked`;
        continue;
      }
      if (outcome.kind === 'refused') {
        refusals[nodeId] = outcome.reason;
        continue;
      }
      if (context.healsByNode && 'image' in outcome) {
        refusals[nodeId] = outcome.reason;
        continue;
      }
      // It found no room on the way (a full disk, no free port): another node may have it.
      if (outcome.code === 'no_capacity' && patched('full-on-the-way')) {
        refusals[nodeId] = outcome.reason;
      } else {
        failure ??= {
          code: outcome.code,
          message: outcome.reason,
          logTail: 'logTail' in outcome ? outcome.logTail : [],
        };
      }
    }
  }
  return { ...(failure ? { failure } : {}), refusals, missingBuilds, silent, nonsense, behind };
};

export const mergeBuilds = (
  before: PhaseReport['missingBuilds'],
  now: PhaseReport['missingBuilds'],
): PhaseReport['missingBuilds'] => ({
  ...before,
  ...Object.fromEntries(
    Object.entries(now).map(([nodeId, found]) => [nodeId, [...(before[nodeId] ?? []), ...found]]),
  ),
});

interface Stage {
  readonly stage: readonly Phase[];
  /** Number of its first phase. */
  readonly number: number;
}

/** Phases that are run one after the other; when healing, the starts on a node follow the pulls on that node. */
export const stagesOf = (phases: readonly Phase[], healsByNode: boolean): readonly Stage[] => {
  const [pull, start, ...rest] = phases;
  if (healsByNode && pull?.kind === 'pull' && start?.kind === 'start') {
    return [
      { stage: [pull, start], number: 1 },
      ...rest.map((phase, index) => ({ stage: [phase], number: index + 3 })),
    ];
  }
  return phases.map((phase, index) => ({ stage: [phase], number: index + 1 }));
};
