/**
 * A release that takes over in stages: blue-green and canary.
 *
 * Invariants: requests are split before the first replica of the new release starts; a stage's replicas are healthy
 * before its share is given; while it lasts, both releases have what it says, whatever is lost; a release that does
 * worse than the old one goes no further.
 */

import type { OperationInput } from '../contracts/workflows';
import { TIMEOUT } from '../contracts/timeouts';
import { waysTo } from '../domain/ingress/route-options';
import type { Desired, OperationError } from '../domain/model';
import { outlineOf, sharesOf, stageInWords, stagesOf, type Stage } from '../domain/release-stages';
import { judgeOf } from '../domain/spec/update-defaults';
import { weightOf } from '../domain/traffic';

import type { Converged } from './converge';
import { localActivities } from './local-activities';
import { insist } from './publisher';
import type { ReleaseRun, StepOptions } from './release-run';

/** How often requests are looked at: often at first, as what fails mostly fails at once. */
const LOOK = { firstMs: 2_000, factor: 1.3, lastMs: 30_000 } as const;
/** Looks of a stage that nobody knows the end of: an execution can hold a limited number of them. */
const IDLE_LOOK = { factor: 1.5, lastMs: 10 * 60_000 } as const;
/** A long stage is not looked at more often than so many times. */
const MAX_LOOKS = 400;

export interface Staged {
  readonly result: Converged;
  /** How it was judged, in words. */
  readonly verdict?: string;
}

/** Splits the requests of the microservice that an operation is of. */
export const createSplitter = ({ operation, request }: OperationInput) => {
  const { project, name, release } = request.desired;
  let stage = 0;
  return {
    /** @returns the share that the release has already, by an operation that this one takes over from */
    resume: async (): Promise<number> => {
      const known = await insist('read how requests are split', () =>
        localActivities.readTraffic({ project, name }),
      );
      stage = known?.stage ?? 0;
      return known?.release === release.number ? weightOf(known, release.number) : 0;
    },
    split: async (weight: number, old: Desired, isJudged: boolean): Promise<readonly string[]> => {
      stage += 1;
      const { behind } = await insist('split requests', () =>
        localActivities.publishTraffic({
          project,
          name,
          operation: operation.id,
          release: release.number,
          stage,
          isJudged,
          shares: sharesOf(weight, release, old.release),
          writtenAtMs: Date.now(),
          ways: waysTo(
            [release, old.release].flatMap(({ spec }) => spec.containers.flatMap(({ ports }) => ports)),
          ),
        }),
      );
      return behind;
    },
    clear: () => insist('split requests no more', () => localActivities.clearTraffic({ project, name })),
    stage: () => stage,
  };
};

export type Splitter = ReturnType<typeof createSplitter>;

const withRoomHint = (result: Converged, { release }: Desired, old: Desired): Converged =>
  result.kind === 'done' || result.error.code !== 'no_capacity'
    ? result
    : {
        kind: 'failed',
        error: {
          ...result.error,
          message: `${result.error.message} With "${release.spec.update.strategy}" the replicas of v${release.number} run beside those of v${old.release.number} until they have taken over, and need room for that; "rolling" needs less.`,
        },
      };

export const releaseInStages = async (run: ReleaseRun, old: Desired, splitter: Splitter): Promise<Staged> => {
  const { input, commands, reporter } = run;
  const { desired } = input.request;
  const { release } = desired;
  const stages = stagesOf(desired);
  const judge = judgeOf(release.spec.update);
  let verdict: string | undefined;

  const besideIn = (stage: Stage) => ({ release: old.release, scale: stage.oldScale });
  const optionsOf = (stage: Stage): StepOptions => ({ beside: besideIn(stage) });
  const desiredIn = (stage: Stage): Desired => ({ ...desired, scale: stage.newScale });

  const tell = (stage: Stage, index: number, behind: readonly string[]) => {
    const isHalted = commands.isPaused();
    const isWaiting = stage.untilPromoted && !commands.isPromoted();
    const words = `stage ${index + 1} of ${stages.length}: ${stageInWords(stage, release, old.release)}`;
    const missing =
      behind.length === 0 ? '' : `; the ingress of ${behind.join(', ')} has not confirmed it yet`;
    return reporter.tell({
      state: isHalted || isWaiting ? 'paused' : 'running',
      message: `${isHalted ? 'paused in ' : ''}${words}${missing}`,
      isHalted,
      canPromote: stage.weight < 100,
    });
  };

  /** @returns why the release is worse than the old one, or does not stay up */
  const failureIn = async (stage: Stage): Promise<OperationError | undefined> => {
    if (stage.isJudged && judge !== undefined) {
      const found = await insist('judge the release', () =>
        localActivities.judgeTraffic({
          project: desired.project,
          name: desired.name,
          operation: input.operation.id,
          stage: splitter.stage(),
          judge,
          release: release.number,
          oldRelease: old.release.number,
        }),
      );
      if (found.kind === 'worse') return { code: 'unhealthy', message: found.message, logTail: [] };
      verdict =
        found.kind === 'fine'
          ? found.message
          : `${found.message}: too few to judge it by, so it went on by its health only`;
    }
    return undefined;
  };

  /** One of its replicas keeps ending. */
  const crashIn = async (stage: Stage): Promise<OperationError | undefined> => {
    const plan = await insist('look at what runs', () =>
      localActivities.previewPlan({
        ...input.request,
        beside: besideIn(stage),
        desired: desiredIn(stage),
        kind: 'deploy',
        nowMs: Date.now(),
      }),
    );
    const hasFailed = plan.phases.some(({ steps }) =>
      steps.some((step) => step.kind === 'stop' && step.reason === 'failed_release'),
    );
    return hasFailed
      ? { code: 'unhealthy', message: `a replica of v${release.number} keeps ending`, logTail: [] }
      : undefined;
  };

  const hold = async (stage: Stage, index: number, behind: readonly string[]): Promise<Converged> => {
    let leftMs = stage.holdMs;
    let lookMs: number = LOOK.firstMs;
    let healedAtMs = Date.now();
    for (;;) {
      const error = run.aborted();
      if (error !== undefined) return { kind: 'failed', error };
      if (commands.isPromoted() && stage.weight < 100) return { kind: 'done' };
      await tell(stage, index, behind);
      const isTimed = !commands.isPaused();
      const isIdle = !isTimed || (stage.untilPromoted && leftMs <= 0);
      if (!isIdle && leftMs <= 0) {
        const failure = await failureIn(stage);
        return failure === undefined ? { kind: 'done' } : { kind: 'failed', error: failure };
      }
      const begunMs = Date.now();
      const nextLookMs = stage.isJudged ? lookMs : TIMEOUT.reconcileEveryMs;
      await commands.news(isIdle ? nextLookMs : Math.min(leftMs, nextLookMs));
      if (isTimed) leftMs -= Date.now() - begunMs;
      const grow = isIdle ? IDLE_LOOK : LOOK;
      const longestMs = Math.max(grow.lastMs, stage.holdMs / MAX_LOOKS);
      lookMs = Math.min(lookMs * grow.factor, longestMs);
      if (run.aborted() !== undefined) continue;
      const hasChanged = commands.takeChanged();
      const failure = (await failureIn(stage)) ?? (hasChanged ? await crashIn(stage) : undefined);
      if (failure !== undefined) return { kind: 'failed', error: failure };
      if (!hasChanged && Date.now() - healedAtMs < TIMEOUT.reconcileEveryMs) continue;
      healedAtMs = Date.now();
      await run.heal(desiredIn(stage), optionsOf(stage));
    }
  };

  const known = await splitter.resume();
  const first = Math.max(
    0,
    stages.findLastIndex(({ weight }) => known > 0 && weight <= known),
  );
  await splitter.split(first === 0 ? 0 : known, old, false);
  let outline: readonly string[] | undefined = outlineOf(desired, old);
  for (const [index, stage] of stages.entries()) {
    if (index < first || (commands.isPromoted() && stage.weight < 100)) continue;
    const isPaused = commands.isPaused();
    await reporter.tell({
      state: isPaused ? 'paused' : 'running',
      message: `stage ${index + 1} of ${stages.length}: start ${stage.newScale} of v${release.number} beside ${stage.oldScale} of v${old.release.number}`,
      isHalted: isPaused,
      canPromote: stage.weight < 100,
    });
    const started = await run.step(desiredIn(stage), {
      ...optionsOf(stage),
      ...(outline === undefined ? {} : { outline }),
    });
    outline = undefined;
    if (started.kind === 'failed') return { result: withRoomHint(started, desired, old) };
    const behind = stage.weight === 0 ? [] : await splitter.split(stage.weight, old, stage.isJudged);
    if (stage.weight === 100) await reporter.tellSwitched(true);
    const held = await hold(stage, index, behind);
    if (held.kind === 'failed') return { result: held };
  }
  // Where no requests are split, its last step is what it takes over with.
  if (stages.at(-1)?.weight !== 100) await reporter.tellSwitched(true);
  return { result: { kind: 'done' }, ...(verdict === undefined ? {} : { verdict }) };
};
