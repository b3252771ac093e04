/**
 * Whether a release does worse than the one that it takes over from, by what the ingress has counted of both in the
 * same time. Pure.
 *
 * Invariants: few requests prove nothing, unless what they show could hardly be chance; a release is never worse for
 * what the old one does as badly; the same counts give the same words.
 */

/** What one ingress, or all together, have seen of a release under one split. */
export interface ReleaseCounts {
  readonly release: number;
  readonly requests: number;
  /** Answers from 500 on, and requests without any answer. */
  readonly errors: number;
  /** How many requests took up to each of `LATENCY_BOUNDS_MS` and longer than the one before; the last: longer than all. */
  readonly latencies: readonly number[];
}

/** Of one node; published by its node worker while there is a split under judgement. */
export interface RequestCounts {
  /** Of the node. */
  readonly id: string;
  readonly splits: readonly {
    readonly operation: string;
    /** Of the split: requests are counted anew with each. */
    readonly stage: number;
    readonly releases: readonly ReleaseCounts[];
  }[];
}

/** When a release counts as worse; all of it in a specification's `update.judge`. */
export interface JudgeSpec {
  /** Up to so many errors in 100 requests are none of its business. */
  readonly maxErrorPercent: number;
  /** How many times as long as the old release's slow requests its own may take; 0: latency does not count. */
  readonly maxLatencyFactor: number;
  /** With fewer requests to the new release it is not judged. */
  readonly minRequests: number;
}

const LATENCY_STEP = 1.25;
/** From 1 ms to some 56 s. */
export const LATENCY_BOUNDS_MS: readonly number[] = Array.from({ length: 50 }, (_, at) => LATENCY_STEP ** at);
export const LATENCY_BUCKETS = LATENCY_BOUNDS_MS.length + 1;

export const latencyBucket = (latencyMs: number): number =>
  latencyMs <= 1
    ? 0
    : Math.min(LATENCY_BUCKETS - 1, Math.ceil(Math.log(latencyMs) / Math.log(LATENCY_STEP) - 1e-9));

/**
 * It is looked at again and again, so each look has to be sure: chance alone shows as much once in 10,000 looks.
 */
const CHANCE = 1e-4;
/** The standard normal quantile of 1 - `CHANCE`. */
const CHANCE_Z = 3.719;
/** The share of requests that are looked at for latency: the slowest 5 of 100. */
const SLOW_SHARE = 0.05;
/** Nobody minds less. */
const LEAST_SLOWER_MS = 50;
/** Of the old release: with fewer requests its slowest 5 of 100 are not known. */
const LEAST_FOR_LATENCY = 100;

export const noCounts = (release: number): ReleaseCounts => ({
  release,
  requests: 0,
  errors: 0,
  latencies: [],
});

const addLists = (left: readonly number[], right: readonly number[]): readonly number[] =>
  Array.from({ length: Math.max(left.length, right.length) }, (_, at) => (left[at] ?? 0) + (right[at] ?? 0));

/** What all nodes together have seen of a release under one split of an operation. */
export const countsOf = (
  nodes: readonly RequestCounts[],
  { operation, stage }: { readonly operation: string; readonly stage: number },
  release: number,
): ReleaseCounts =>
  nodes
    .flatMap(({ splits }) => splits)
    .filter((split) => split.operation === operation && split.stage === stage)
    .flatMap(({ releases }) => releases)
    .filter((one) => one.release === release)
    .reduce(
      (sum, one): ReleaseCounts => ({
        release,
        requests: sum.requests + one.requests,
        errors: sum.errors + one.errors,
        latencies: addLists(sum.latencies, one.latencies),
      }),
      noCounts(release),
    );

/** ln(n!), by Stirling's series from 10 on (NIST DLMF 5.11.1). */
const logFactorial = (n: number): number => {
  if (n < 10) {
    let product = 1;
    for (let factor = 2; factor <= n; factor += 1) product *= factor;
    return Math.log(product);
  }
  const x = n + 1;
  return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + 1 / (12 * x) - 1 / (360 * x ** 3);
};

const logChoose = (n: number, k: number): number => logFactorial(n) - logFactorial(k) - logFactorial(n - k);

/**
 * The chance of so many errors or more among the new release's requests if both releases err alike: Fisher's exact
 * test, one-sided (R. A. Fisher, The Design of Experiments, 1935), the upper tail of the hypergeometric distribution. It
 * is exact also for a handful of requests.
 *
 * @param enough the sum ends once it is beyond this
 */
export const chanceOfErrors = (
  errors: number,
  requests: number,
  otherErrors: number,
  otherRequests: number,
  enough = 1,
): number => {
  const all = requests + otherRequests;
  const allErrors = errors + otherErrors;
  if (errors === 0 || errors * all <= allErrors * requests) return 1;
  let term = Math.exp(
    logChoose(allErrors, errors) + logChoose(all - allErrors, requests - errors) - logChoose(all, requests),
  );
  let chance = 0;
  for (let count = errors; count <= Math.min(allErrors, requests); count += 1) {
    chance += term;
    if (chance > enough || term < chance * 1e-12) break;
    term *=
      ((allErrors - count) * (requests - count)) / ((count + 1) * (all - allErrors - requests + count + 1));
  }
  return Math.min(1, chance);
};

/**
 * What a share is at least, as sure as `CHANCE` says: the lower limit of the score interval (E. B. Wilson, JASA 22,
 * 1927), which holds for few requests as well.
 */
export const atLeastShare = (count: number, of: number): number => {
  if (of === 0) return 0;
  const z2 = CHANCE_Z ** 2;
  const share = count / of;
  const centre = share + z2 / (2 * of);
  const spread = CHANCE_Z * Math.sqrt((share * (1 - share)) / of + z2 / (4 * of * of));
  return Math.max(0, (centre - spread) / (1 + z2 / of));
};

/** The bucket that the slowest 5 of 100 begin after. */
const slowBucket = ({ latencies }: ReleaseCounts): number => {
  const all = latencies.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  for (const [at, count] of latencies.entries()) {
    seen += count;
    if (seen >= all * (1 - SLOW_SHARE)) return at;
  }
  return 0;
};

const slowMs = (counts: ReleaseCounts): number => LATENCY_BOUNDS_MS[slowBucket(counts)] ?? Infinity;

const grouped = (count: number): string => String(count).replace(/\B(?=(\d{3})+$)/g, ',');

const percent = (part: number, of: number): string => {
  const value = of === 0 ? 0 : (part / of) * 100;
  if (value > 0 && value < 0.1) return 'less than 0.1%';
  return `${Number(value.toFixed(1))}%`;
};

const milliseconds = (ms: number): string => {
  if (!Number.isFinite(ms)) return 'more than 56 s';
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
};

/** @returns like "v7 answered 8.2% of 310 requests with errors, v6 0.1% of 2,790" */
export const errorsInWords = (now: ReleaseCounts, before: ReleaseCounts): string =>
  `v${now.release} answered ${percent(now.errors, now.requests)} of ${grouped(now.requests)} ${now.requests === 1 ? 'request' : 'requests'} with errors, ${
    before.requests === 0
      ? `v${before.release} had none`
      : `v${before.release} ${percent(before.errors, before.requests)} of ${grouped(before.requests)}`
  }`;

export interface Verdict {
  /** `unknown`: there were too few requests to tell. */
  readonly kind: 'worse' | 'fine' | 'unknown';
  /** The numbers, in words. */
  readonly message: string;
}

/** How many of the release's requests took longer than the old one's slow ones may be taken by, and what those took. */
const slowOnes = (judge: JudgeSpec, now: ReleaseCounts, before: ReleaseCounts) => {
  const limitMs = Math.max(slowMs(before) * judge.maxLatencyFactor, slowMs(before) + LEAST_SLOWER_MS);
  const first = LATENCY_BOUNDS_MS.findIndex((bound) => bound >= limitMs);
  const beyond = first === -1 ? [] : now.latencies.slice(first + 1);
  const timed = now.latencies.reduce((sum, count) => sum + count, 0);
  return { slow: beyond.reduce((sum, count) => sum + count, 0), timed };
};

/**
 * A release is worse when it errs more than it may, and more than the old one does, both as sure as can be: with its own
 * share of errors the lower limit counts, against the old one the chance of the difference. And when its slow requests
 * are slower than the old one's by the factor, again by the lower limit.
 *
 * @param now the release that takes over
 * @param before the one that it takes over from, in the same time
 */
export const judgeRelease = (judge: JudgeSpec, now: ReleaseCounts, before: ReleaseCounts): Verdict => {
  const words = errorsInWords(now, before);
  if (now.requests < judge.minRequests || now.requests === 0) return { kind: 'unknown', message: words };
  const errs =
    atLeastShare(now.errors, now.requests) * 100 > judge.maxErrorPercent &&
    (before.requests === 0 ||
      chanceOfErrors(now.errors, now.requests, before.errors, before.requests, CHANCE) < CHANCE);
  if (errs) return { kind: 'worse', message: words };
  if (judge.maxLatencyFactor > 0 && before.requests >= LEAST_FOR_LATENCY) {
    const { slow, timed } = slowOnes(judge, now, before);
    if (atLeastShare(slow, timed) > SLOW_SHARE) {
      return {
        kind: 'worse',
        message: `of 100 requests to v${now.release} 95 took up to ${milliseconds(slowMs(now))}, of those to v${before.release} up to ${milliseconds(slowMs(before))} (${grouped(now.requests)} and ${grouped(before.requests)} requests)`,
      };
    }
  }
  return { kind: 'fine', message: words };
};
