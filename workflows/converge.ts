/**
 * Interprets plans: has their phases run, and plans again when a node refuses or is lost.
 *
 * Invariants: makes no choice of its own, every step comes from a plan; cancellation ends it after the activities under
 * way have ended; who pauses it waits for the phase under way.
 */

import { patched, setCurrentDetails, sleep, upsertSearchAttributes } from '@temporalio/workflow';

import { RETRY, TIMEOUT } from '../contracts/timeouts';
import { SEARCH_ATTRIBUTE, type OperationInput } from '../contracts/workflows';
import type {
  ClusterEvent,
  Desired,
  OperationError,
  OperationKind,
  Plan,
  PlanRequest,
  Release,
} from '../domain/model';

import { localActivities } from './local-activities';
import { followLostNodes } from './lost-nodes';
import { nonsenseError, nonsenseEvent, type Nonsense } from './node-answers';
import { count, mergeBuilds, runStage, stagesOf, type PhaseContext, type PhaseReport } from './phases';
import { resolveImages } from './resolve-images';

export type Converged =
  /** With the nodes that may lead to replicas that have stopped; left out when there is none. */
  | { readonly kind: 'done'; readonly behind?: readonly string[] }
  | { readonly kind: 'failed'; readonly error: OperationError };

/** So many, and how many others there are. */
const MAX_NAMES = 10;

const namesInWords = (names: readonly string[]): string =>
  names.length <= MAX_NAMES
    ? names.join(', ')
    : `${names.slice(0, MAX_NAMES).join(', ')} and ${names.length - MAX_NAMES} others`;

/** For the end of what is said of an operation that is done; nothing when all have confirmed. */
export const behindInWords = ({ behind = [] }: Converged & { readonly kind: 'done' }): string =>
  behind.length === 0
    ? ''
    : `; the ingress of ${namesInWords(behind)} has not confirmed that it leads nobody to the replicas that have stopped`;

/** Between two phases, because somebody asked for it. */
export interface Paused {
  readonly kind: 'paused';
}

/** What an operation that goes on in stages, or that somebody pauses, asks beyond its own request. */
export interface ConvergeOptions {
  /** What one run of an operation hands on to the next: no two plans have one number, and images are looked up once. */
  readonly attempts?: { last: number; resolved?: Release };
  readonly beside?: PlanRequest['beside'];
  readonly isHeld?: boolean;
  readonly kind?: OperationKind;
  readonly isPaused?: () => boolean;
  /** What the operation goes through, before its first plan, in words. */
  readonly outline?: readonly string[];
  /** What its record says now. */
  readonly record?: OperationInput['operation'];
}

/**
 * Waits for a microservice that has to be there first: what is lost together with it comes back after it.
 *
 * @returns whether there is something to be done now
 */
const neighbourComes = async (request: PlanRequest): Promise<boolean> => {
  setCurrentDetails('Waiting for what it has to be near');
  const { initialIntervalMs, maximumIntervalMs } = RETRY.neighbour;
  const deadlineMs = Date.now() + TIMEOUT.neighbourPatienceMs;
  for (let pauseMs: number = initialIntervalMs; Date.now() < deadlineMs;) {
    await sleep(pauseMs);
    const { phases } = await localActivities.previewPlan({ ...request, nowMs: Date.now() });
    if (phases.length > 0) return true;
    pauseMs = Math.min(2 * pauseMs, maximumIntervalMs);
  }
  return false;
};

/** Whether a plan starts something of a release, and not only of the one beside it. */
const starts = ({ phases }: Plan, { number }: Release): boolean =>
  phases.some(({ steps }) => steps.some((step) => step.kind === 'start' && step.release === number));

/**
 * Brings what runs to what is desired, planning as often as nodes refuse.
 *
 * @param input the operation whose record the plan is published with
 * @param target what to bring about: the operation's own one, or what it is rolled back to
 */
export const convergeUnlessPaused = async (
  input: OperationInput,
  target: Desired,
  options: ConvergeOptions = {},
): Promise<Converged | Paused> => {
  const { attempts = { last: 0 }, isHeld = false, outline, record = input.operation } = options;
  const known = (release: Release): Release =>
    attempts.resolved?.number === release.number ? attempts.resolved : release;
  const beside = options.beside && { ...options.beside, release: known(options.beside.release) };
  const deadlineMs = Date.now() + TIMEOUT.pullScheduleToCloseMs + TIMEOUT.startMarginMs;
  const releases = new Map(
    [
      target.release,
      input.request.desired.release,
      ...(beside ? [beside.release] : []),
      ...(input.fallback ? [input.fallback.release] : []),
    ].map((release) => [release.number, known(release)]),
  );
  const lostNodes = followLostNodes(TIMEOUT.lossPatienceMs);
  let refusals: Readonly<Record<string, string>> = {};
  let missingBuilds: PhaseReport['missingBuilds'] = {};
  let desired = { ...target, release: known(target.release) };
  const behind = new Set<string>();
  /** What nodes have answered nonsense to. */
  const nonsensical = new Set<string>();
  let events: readonly ClusterEvent[] = [];
  /** @returns whether it is news */
  const noteNonsense = (nonsense: Nonsense): boolean => {
    const what = `${nonsense.nodeId} ${nonsense.activity}`;
    if (nonsensical.has(what)) return false;
    nonsensical.add(what);
    events = [...events, nonsenseEvent(nonsense, desired, input.operation.id)];
    return true;
  };
  const done = (): Converged => ({
    kind: 'done',
    ...(behind.size === 0 ? {} : { behind: [...behind].sort() }),
  });
  let hasWaited = false;
  let areImagesSettled = desired.release.images !== undefined;

  for (;;) {
    attempts.last += 1;
    const attempt = attempts.last;
    const request: PlanRequest = {
      ...input.request,
      ...(options.kind === undefined ? {} : { kind: options.kind }),
      ...(beside === undefined ? {} : { beside }),
      ...(isHeld ? { isHeld } : {}),
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
      [
        {
          request,
          record,
          ...(outline === undefined ? {} : { outline }),
          ...(events.length === 0 ? {} : { events }),
        },
      ],
    );
    events = [];
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
      const lacksNeighbour = plan.rejections.some(({ noNeighbour }) => noNeighbour === true);
      const mayWait = request.kind === 'reschedule' && !hasWaited;
      if (plan.unplaced > 0 && lacksNeighbour && mayWait) {
        hasWaited = true;
        if (await neighbourComes(request)) continue;
      }
      return plan.unplaced > 0 ? { kind: 'failed', error: unplaced() } : done();
    }

    const isStarting = plan.phases.some(({ kind }) => kind === 'start');
    if (
      isStarting &&
      !areImagesSettled &&
      (starts(plan, desired.release) || !patched('look-up-what-starts'))
    ) {
      if (options.isPaused?.() === true && patched('pause-before-look-up')) {
        attempts.last -= 1; // nothing of this plan was done
        return { kind: 'paused' };
      }
      areImagesSettled = true;
      if (patched('image-digests')) {
        const images = await resolveImages(request, lostNodes, noteNonsense, options.isPaused);
        if (images.kind === 'paused') attempts.last -= 1;
        if (images.kind === 'failed' || images.kind === 'paused') return images;
        if (images.kind === 'resolved') {
          desired = { ...desired, release: images.release };
          releases.set(desired.release.number, desired.release);
          attempts.resolved = images.release;
          attempts.last -= 1; // nothing of this plan was done
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
      if (options.isPaused?.() === true) return { kind: 'paused' };
      setCurrentDetails(
        `Plan ${attempt}, phase ${number} of ${plan.phases.length}: ${stage
          .map(({ kind, steps }) => `${kind} ${count(steps.length, 'step')}`)
          .join(' and ')}`,
      );
      const report = await runStage(stage, context);
      for (const nodeId of report.behind) behind.add(nodeId);
      if (report.failure) return { kind: 'failed', error: report.failure };
      for (const nonsense of report.nonsense) {
        // Planning again has not helped: nobody but that node can do it.
        if (!noteNonsense(nonsense)) return { kind: 'failed', error: nonsenseError(nonsense) };
        refusals = { ...refusals, [nonsense.nodeId]: `it ${nonsense.words}` };
      }
      const answers = [report.refusals, report.missingBuilds].flatMap((one) => Object.keys(one));
      if (answers.length + report.silent.length + report.nonsense.length > 0) {
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
      return plan.unplaced > 0 ? { kind: 'failed', error: unplaced() } : done();
    }
    if (Date.now() > deadlineMs) {
      return {
        kind: 'failed',
        error: {
          code: 'unavailable',
          message: `No node took the work within ${Math.round((TIMEOUT.pullScheduleToCloseMs + TIMEOUT.startMarginMs) / 60_000)} minutes. Look at the nodes; the operation can be repeated.`,
          logTail: [],
        },
      };
    }
    // Refusals and lost nodes reach Consul within moments; without this a plan could spin on a stale snapshot.
    await sleep(RETRY.node.initialIntervalMs);
  }
};

/** The same of what nobody pauses. */
export const converge = async (
  input: OperationInput,
  desired: Desired,
  options: Omit<ConvergeOptions, 'isPaused'> = {},
): Promise<Converged> => {
  const result = await convergeUnlessPaused(input, desired, options);
  if (result.kind === 'paused') throw new Error('it was paused, which nobody can have asked for');
  return result;
};
