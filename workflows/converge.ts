/**
 * Interprets plans: runs their phases, one activity per node and phase, and plans again when a node refuses or is lost.
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
  setCurrentDetails,
  sleep,
  upsertSearchAttributes,
} from '@temporalio/workflow';

import type { NodeActivities, PullOutcome, StartOutcome } from '../contracts/activities';
import { nodeQueue } from '../contracts/queues';
import { RETRY, TIMEOUT } from '../contracts/timeouts';
import { SEARCH_ATTRIBUTE, type OperationInput } from '../contracts/workflows';
import { isErrorCode } from '../domain/errors';
import type { Desired, MissingBuild, OperationError, Phase, PlanRequest, Release } from '../domain/model';
import { imageInWords } from '../domain/release-images';
import type { ReleaseSpec } from '../domain/spec/schema';

import { localActivities } from './local-activities';
import { followLostNodes, type LostNodes } from './lost-nodes';
import { resolveImages } from './resolve-images';

export type Converged =
  { readonly kind: 'done' } | { readonly kind: 'failed'; readonly error: OperationError };

interface PhaseReport {
  readonly failure?: OperationError;
  /** Why a node refused, by node id. */
  readonly refusals: Readonly<Record<string, string>>;
  /** Images that nodes cannot have for their architecture, by node id. */
  readonly missingBuilds: Readonly<Record<string, readonly MissingBuild[]>>;
  /** Nodes that did not take the work: plan again, Consul says whether they are up. */
  readonly silent: readonly string[];
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

const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`;

/** Turns what a node activity threw into words; anything that is no ActivityFailure is thrown on. */
const errorOf = (thrown: unknown): OperationError => {
  if (!(thrown instanceof ActivityFailure)) throw thrown;
  const cause = thrown.cause;
  if (cause instanceof ApplicationFailure) {
    const last = cause.type === undefined || !isErrorCode(cause.type) ? 'internal' : cause.type;
    return { code: last, message: cause.message, logTail: [] };
  }
  return { code: 'unavailable', message: cause?.message ?? thrown.message, logTail: [] };
};

const isSilence = (thrown: unknown): boolean =>
  thrown instanceof ActivityFailure &&
  thrown.cause instanceof TimeoutFailure &&
  thrown.cause.timeoutType === 'SCHEDULE_TO_START';

const isPull = (thrown: unknown): boolean =>
  thrown instanceof ActivityFailure && thrown.activityType === 'pullImages';

type NodeOutcome =
  | { readonly kind: 'pulled'; readonly outcomes: readonly PullOutcome[] }
  | { readonly kind: 'started'; readonly outcomes: readonly StartOutcome[] }
  | { readonly kind: 'stopped' };

/** What the steps of one plan are run with. */
interface PhaseContext {
  readonly request: PlanRequest;
  readonly releases: ReadonlyMap<number, Release>;
  readonly lostNodes: LostNodes;
  /**
   * Replicas are brought back: where a node cannot get an image, another one may have it, and no replica waits for the
   * image of another one.
   */
  readonly healsByNode: boolean;
}

const runOnNode = async (
  nodeId: string,
  phase: Phase,
  { request, releases, healsByNode }: PhaseContext,
): Promise<NodeOutcome> => {
  const { project, name, release } = request.desired;
  const mine = phase.steps.filter((step) => step.nodeId === nodeId);
  switch (phase.kind) {
    case 'pull': {
      const pulls = new Map(release.spec.containers.map(({ image, pull }) => [image, pull]));
      // Healing brings back what ran: it takes the image that the node has, and needs no registry for it.
      const isHealing = request.kind === 'reschedule';
      const images = mine.flatMap((step) => (step.kind === 'pull' ? step.images : []));
      const outcomes = await nodeActivities(
        nodeId,
        {
          startToCloseMs: TIMEOUT.pullStartToCloseMs,
          scheduleToCloseMs: TIMEOUT.pullScheduleToCloseMs,
          // Once only: the other node may not have the image either, and then the registry has to be waited for.
          ...(healsByNode && Object.keys(request.refusals).length === 0
            ? { maximumAttempts: RETRY.pullsBeforeElsewhere }
            : {}),
        },
        `${nodeId}: pull ${images.map(imageInWords).join(', ')}`,
      ).pullImages({
        nodeId,
        project,
        name,
        operation: request.operation,
        images: images.map((image) => {
          const pull = pulls.get(image) ?? 'missing';
          // What is in no registry can only be had where it is.
          if (release.localImages?.[image] !== undefined) return { image, pull: 'never' as const };
          return { image, pull: isHealing && pull === 'always' ? 'missing' : pull };
        }),
      });
      return { kind: 'pulled', outcomes };
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
        longest(release.spec, (container) => container.startupGraceMs) +
        release.spec.update.minHealthyMs +
        TIMEOUT.startMarginMs;
      const outcomes = await nodeActivities(
        nodeId,
        { startToCloseMs, scheduleToCloseMs: startToCloseMs + TIMEOUT.nodeOutageMs },
        `${nodeId}: start ${count(replicas.length, 'replica')} of v${release.number}`,
      ).startReplicas({ nodeId, project, name, operation: request.operation, releases: needed, replicas });
      return { kind: 'started', outcomes };
    }
    case 'stop': {
      const replicas = mine.flatMap((step) =>
        step.kind === 'stop' ? [{ project, name, replicaId: step.replicaId, reason: step.reason }] : [],
      );
      // The replicas that stop may be of an older release with a longer grace; their node knows it, this is a ceiling.
      const startToCloseMs = TIMEOUT.maxStopGraceMs + TIMEOUT.stopMarginMs;
      await nodeActivities(
        nodeId,
        { startToCloseMs, scheduleToCloseMs: startToCloseMs + TIMEOUT.nodeOutageMs },
        `${nodeId}: stop ${count(replicas.length, 'replica')}`,
      ).stopReplicas({ nodeId, replicas });
      return { kind: 'stopped' };
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
const runStage = async (stage: readonly Phase[], context: PhaseContext): Promise<PhaseReport> => {
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
  const refusals: Record<string, string> = {};
  const missingBuilds: Record<string, readonly MissingBuild[]> = {};
  const silent: string[] = [];
  let failure: OperationError | undefined;
  for (const [index, result] of results.entries()) {
    const nodeId = nodeIds[index] ?? '';
    if (result.status === 'rejected') {
      // Its node goes on with it; the next plan sees how far it is.
      if (isInterrupted && !CancellationScope.current().consideredCancelled) continue;
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
    for (const outcome of result.value.flatMap<PullOutcome | StartOutcome>((one) =>
      one.kind === 'stopped' ? [] : one.outcomes,
    )) {
      if (outcome.kind !== 'failed' && outcome.kind !== 'refused') continue;
      // Nodes of another architecture may run it; the planner keeps away from those of this one.
      if ('missingBuild' in outcome && outcome.missingBuild !== undefined && patched('no-build-for-a-node')) {
        missingBuilds[nodeId] = [...(missingBuilds[nodeId] ?? []), outcome.missingBuild];
        continue;
      }
      if ('image' in outcome && context.request.desired.release.localImages?.[outcome.image] !== undefined) {
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
  return { ...(failure ? { failure } : {}), refusals, missingBuilds, silent };
};

const mergeBuilds = (
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
const stagesOf = (phases: readonly Phase[], healsByNode: boolean): readonly Stage[] => {
  const [pull, start, ...rest] = phases;
  if (healsByNode && pull?.kind === 'pull' && start?.kind === 'start') {
    return [
      { stage: [pull, start], number: 1 },
      ...rest.map((phase, index) => ({ stage: [phase], number: index + 3 })),
    ];
  }
  return phases.map((phase, index) => ({ stage: [phase], number: index + 1 }));
};

/**
 * Brings what runs to what is desired, planning as often as nodes refuse.
 *
 * @param input the operation whose record the plan is published with
 * @param target what to bring about: the operation's own one, or what it is rolled back to
 * @param firstAttempt number of the first plan, greater than that of any plan made before in the same operation
 */
export const converge = async (
  input: OperationInput,
  target: Desired,
  firstAttempt = 1,
): Promise<Converged & { readonly attempts: number }> => {
  const deadlineMs = Date.now() + TIMEOUT.pullScheduleToCloseMs + TIMEOUT.startMarginMs;
  const releases = new Map(
    [target.release, input.request.desired.release, ...(input.fallback ? [input.fallback.release] : [])].map(
      (release) => [release.number, release],
    ),
  );
  const lostNodes = followLostNodes(TIMEOUT.lossPatienceMs);
  let refusals: Readonly<Record<string, string>> = {};
  let missingBuilds: PhaseReport['missingBuilds'] = {};
  let desired = target;
  let areImagesSettled = target.release.images !== undefined;

  for (let attempt = firstAttempt; ; attempt += 1) {
    const request: PlanRequest = {
      ...input.request,
      desired,
      refusals,
      ...(Object.keys(missingBuilds).length === 0 ? {} : { missingBuilds }),
      attempt,
      nowMs: Date.now(),
    };
    lostNodes.forget();
    const plan = await localActivities.planOperation.executeWithOptions(
      {
        startToCloseTimeout: TIMEOUT.localStartToCloseMs,
        summary: attempt === 1 ? 'plan' : `plan again (${attempt})`,
      },
      [{ request, record: input.operation }],
    );
    const unplaced = (): OperationError => {
      // Room would not help.
      const isUnbuilt =
        plan.rejections.length > 0 && plan.rejections.every(({ noBuild }) => noBuild === true);
      return {
        code: isUnbuilt ? 'image_not_found' : 'no_capacity',
        message: `${count(plan.unplaced, 'replica')} of ${desired.name} found no node: ${
          plan.rejections.map(({ nodeId, reason }) => `${nodeId} ${reason}`).join('; ') || 'there is no node'
        }. ${isUnbuilt ? 'Build the image for the architecture of the nodes and deploy it again, or add a node that it is built for.' : 'Free capacity, add a node, or ask for less.'}`,
        logTail: [],
      };
    };
    if (plan.phases.length === 0) {
      return plan.unplaced > 0
        ? { kind: 'failed', error: unplaced(), attempts: attempt }
        : { kind: 'done', attempts: attempt };
    }

    const isStarting = plan.phases.some(({ kind }) => kind === 'start');
    if (isStarting && !areImagesSettled) {
      areImagesSettled = true;
      if (patched('image-digests')) {
        const images = await resolveImages(request, lostNodes);
        if (images.kind === 'failed') return { ...images, attempts: attempt };
        if (images.kind === 'resolved') {
          desired = { ...desired, release: images.release };
          releases.set(desired.release.number, desired.release);
          attempt -= 1; // nothing of this plan was done
          continue;
        }
      }
    }

    const nodes = [...new Set(plan.phases.flatMap((phase) => phase.steps.map((step) => step.nodeId)))].sort();
    upsertSearchAttributes({ [SEARCH_ATTRIBUTE.nodes]: nodes });

    const healsByNode =
      request.kind === 'reschedule' && plan.phases[0]?.kind === 'pull' && patched('heal-node-by-node');
    const context: PhaseContext = { request, releases, lostNodes, healsByNode };
    let again = false;
    for (const { stage, number } of stagesOf(plan.phases, healsByNode)) {
      setCurrentDetails(
        `Plan ${attempt}, phase ${number} of ${plan.phases.length}: ${stage
          .map(({ kind, steps }) => `${kind} ${count(steps.length, 'step')}`)
          .join(' and ')}`,
      );
      const report = await runStage(stage, context);
      if (report.failure) return { kind: 'failed', error: report.failure, attempts: attempt };
      const answers = [report.refusals, report.missingBuilds].flatMap((one) => Object.keys(one));
      if (answers.length > 0 || report.silent.length > 0) {
        refusals = { ...refusals, ...report.refusals };
        missingBuilds = mergeBuilds(missingBuilds, report.missingBuilds);
        again = true;
        break;
      }
      // What was planned counted on the replicas of a node that is lost now: what follows may not be what is due.
      if (lostNodes.any()) {
        again = true;
        break;
      }
    }
    if (!again) {
      return plan.unplaced > 0
        ? { kind: 'failed', error: unplaced(), attempts: attempt }
        : { kind: 'done', attempts: attempt };
    }
    if (Date.now() > deadlineMs) {
      return {
        kind: 'failed',
        error: {
          code: 'unavailable',
          message: `No node took the work within ${Math.round((TIMEOUT.pullScheduleToCloseMs + TIMEOUT.startMarginMs) / 60_000)} minutes. Look at the nodes; the operation can be repeated.`,
          logTail: [],
        },
        attempts: attempt,
      };
    }
    // Refusals and lost nodes reach Consul within moments; without this a plan could spin on a stale snapshot.
    await sleep(RETRY.node.initialIntervalMs);
  }
};
