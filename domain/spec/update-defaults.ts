/** What a specification's `update` means where it says nothing. Free of zod, so that workflows may use it. */

import type { JudgeSpec } from '../judgement';

import type { CanaryStep, UpdateSpec } from './schema';

export const DEFAULT_KEEP_OLD_MS = 30_000;
export const DEFAULT_STEPS: readonly CanaryStep[] = [
  { weight: 10, holdMs: 60_000 },
  { weight: 50, holdMs: 60_000 },
];
export const DEFAULT_JUDGE: JudgeSpec = { maxErrorPercent: 1, maxLatencyFactor: 2, minRequests: 5 };

/** How long the old replicas of a blue-green release go on after the switch. */
export const keepOldMsOf = ({ keepOldMs }: UpdateSpec): number => keepOldMs ?? DEFAULT_KEEP_OLD_MS;

export const stepsOf = ({ steps }: UpdateSpec): readonly CanaryStep[] => steps ?? DEFAULT_STEPS;

/** By what a canary is judged; undefined: by health only. */
export const judgeOf = ({ strategy, judge }: UpdateSpec): JudgeSpec | undefined =>
  strategy !== 'canary' || judge === false ? undefined : (judge ?? DEFAULT_JUDGE);
