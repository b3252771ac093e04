/**
 * The stages in which a release takes over from another one: how many replicas each has, and how requests are split.
 * Pure.
 *
 * Invariants: the old release keeps all replicas that its share may need until the new one has every request, so that it
 * can have all of them back at once; the new one has replicas for its share before it gets it; shares only grow.
 */

import { isLedTo, isReachedThroughNodes } from './ingress/route-options';
import type { Desired, OperationKind, PlanRequest, Release } from './model';
import type { ReleaseSpec, UpdateSpec } from './spec/schema';
import { judgeOf, keepOldMsOf, stepsOf } from './spec/update-defaults';
import type { TrafficShare } from './traffic';

export interface Stage {
  /** The new release's part of 100 requests. */
  readonly weight: number;
  /** Replicas of each while it lasts. */
  readonly newScale: number;
  readonly oldScale: number;
  /** How long it lasts; then the next one begins. */
  readonly holdMs: number;
  /** It lasts until somebody promotes the release. */
  readonly untilPromoted: boolean;
  readonly isJudged: boolean;
}

/** Whether the ingress leads requests, or connections to public ports, to replicas of a release. */
export const reachesIngress = ({ containers }: ReleaseSpec): boolean =>
  containers.some(({ ports }) => ports.some(isReachedThroughNodes));

/** Only requests for hostnames are counted. */
const hasHostnames = ({ containers }: ReleaseSpec): boolean =>
  containers.some(({ ports }) => ports.some(isLedTo));

const isGradual = ({ strategy }: UpdateSpec): boolean => strategy === 'blue-green' || strategy === 'canary';

/**
 * Whether a release takes over in stages: there has to be something that it takes over from, and a share of it. A restart
 * replaces replicas by others of the same release, and who rolls back wants to be back.
 */
export const takesOverInStages = (
  kind: OperationKind,
  desired: Desired,
  old: Desired | undefined,
): old is Desired =>
  (kind === 'deploy' || kind === 'scale') &&
  old !== undefined &&
  isGradual(desired.release.spec.update) &&
  desired.scale > 0 &&
  old.scale > 0 &&
  [desired, old].every(({ release: { spec } }) => spec.daemon !== true && spec.exclusive !== true);

/**
 * Whether a release is rolled out whatever its strategy is, also when its scale changes on the way: it was healthy
 * before, as it is or with a hostname more, or it goes on for one that was rolled out.
 */
export const isRolledOut = ({ rollbackOf, hostnamesTaken }: Release): boolean =>
  rollbackOf !== undefined || hostnamesTaken !== undefined;

/** The stages after the one in which the old release has everything and the new one is not there yet. */
export const stagesOf = (desired: Desired): readonly Stage[] => {
  const { scale, release } = desired;
  const { update } = release.spec;
  const isManual = update.promote === 'manual';
  const whole = { newScale: scale, oldScale: scale, isJudged: false };
  if (update.strategy !== 'canary') {
    return [
      { ...whole, weight: 0, holdMs: 0, untilPromoted: isManual },
      { ...whole, weight: 100, holdMs: keepOldMsOf(update), untilPromoted: false },
    ];
  }
  const isSplit = reachesIngress(release.spec);
  const isJudged = hasHostnames(release.spec) && judgeOf(update) !== undefined;
  const steps = stepsOf(update);
  const canary = steps.map(({ weight, holdMs }, index): Stage => {
    const newScale = Math.min(scale, Math.max(1, Math.ceil((scale * weight) / 100)));
    return {
      weight,
      newScale,
      // Without an ingress the number of replicas is what gives each its share.
      oldScale: isSplit ? scale : Math.max(1, scale - newScale),
      holdMs,
      untilPromoted: isManual && index === steps.length - 1,
      isJudged,
    };
  });
  if (!isSplit) return canary;
  return [...canary, { ...whole, weight: 100, holdMs: 0, untilPromoted: false }];
};

export const sharesOf = (weight: number, fresh: Release, old: Release): readonly TrafficShare[] => [
  { release: old.number, weight: 100 - weight },
  { release: fresh.number, weight },
];

const secondsOf = (ms: number): string => `${Number((ms / 1_000).toFixed(1))} s`;

const holdInWords = ({ holdMs, untilPromoted }: Stage): string =>
  untilPromoted ? ' until it is promoted' : holdMs === 0 ? '' : ` for ${secondsOf(holdMs)}`;

/** @returns what a stage does, in words: "give v7 10% of the requests for 60 s" */
export const stageInWords = (stage: Stage, fresh: Release, old: Release): string => {
  if (stage.weight === 0) return `have v${fresh.number} ready beside v${old.number}${holdInWords(stage)}`;
  if (stage.weight === 100) {
    const kept = stage.holdMs === 0 ? '' : `, keep v${old.number} for ${secondsOf(stage.holdMs)}`;
    return `switch all requests to v${fresh.number}${kept}`;
  }
  return reachesIngress(fresh.spec)
    ? `give v${fresh.number} ${stage.weight}% of the requests${holdInWords(stage)}`
    : `run ${stage.newScale} of v${fresh.number} beside ${stage.oldScale} of v${old.number}${holdInWords(stage)}`;
};

/** @returns by what a release is judged meanwhile, in words; undefined: by its health only */
const judgementInWords = (desired: Desired, old: Desired): string | undefined => {
  const [now, before] = [desired.release, old.release];
  const judge = judgeOf(now.spec.update);
  if (judge === undefined || !stagesOf(desired).some(({ isJudged }) => isJudged)) return undefined;
  const { minRequests, maxErrorPercent, maxLatencyFactor } = judge;
  const slower =
    maxLatencyFactor === 0 ? '' : `, or is slower than v${before.number} by a factor of ${maxLatencyFactor}`;
  return `until then roll v${now.number} back as soon as it errs in more than ${maxErrorPercent}% of ${minRequests} requests or more, and more than v${before.number}${slower}`;
};

/** @returns the whole way, a stage a line */
export const outlineOf = (desired: Desired, old: Desired): readonly string[] => {
  const judgement = judgementInWords(desired, old);
  return [
    ...stagesOf(desired).map((stage) => stageInWords(stage, desired.release, old.release)),
    ...(judgement === undefined ? [] : [judgement]),
    `stop v${old.release.number}`,
  ];
};

/**
 * @returns what a plan has to bring about, that is to show all that takes over and what it needs room for: the last stage
 *   before the old release goes
 */
export const widestStageOf = (
  desired: Desired,
  old: Desired,
): Required<Pick<PlanRequest, 'desired' | 'beside'>> => {
  const { newScale = desired.scale, oldScale = old.scale } = stagesOf(desired).at(-1) ?? {};
  return {
    desired: { ...desired, scale: newScale },
    beside: { release: old.release, scale: oldScale },
  };
};
