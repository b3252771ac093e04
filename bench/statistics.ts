// The arithmetic of the benchmarks. Pure.
// Invariant: nothing is made up: without values there is no result, and a ratio needs both of its sides.

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

/** The middle value, or the mean of the two in the middle. */
export const median = (values: readonly number[]): number => {
  const sorted = ascending(values);
  const upper = sorted[Math.floor(sorted.length / 2)];
  const lower = sorted[Math.floor((sorted.length - 1) / 2)];
  if (upper === undefined || lower === undefined) throw new Error('there is no median of nothing');
  return (lower + upper) / 2;
};

/** Nearest rank: the smallest value that at least `percent` of all values do not exceed. */
export const percentile = (values: readonly number[], percent: number): number => {
  if (percent <= 0 || percent > 100) throw new Error(`there is no ${percent}th percentile`);
  const sorted = ascending(values);
  const value = sorted[Math.ceil((percent / 100) * sorted.length) - 1];
  if (value === undefined) throw new Error('there is no percentile of nothing');
  return value;
};

export const summarise = (values: readonly number[]): Summary => ({
  median: median(values),
  min: Math.min(...values),
  max: Math.max(...values),
  count: values.length,
});

export const ratio = (value: number, base: number): number => {
  if (!(base > 0)) throw new Error(`${base} is nothing to compare with`);
  return value / base;
};

/** The median of the ratios of each round: what a whole round had to bear with counts for both of its sides. */
export const pairedRatio = (values: readonly number[], bases: readonly number[]): number | undefined => {
  const ratios = values.flatMap((value, round) => {
    const base = bases[round];
    return base === undefined ? [] : [ratio(value, base)];
  });
  return ratios.length === 0 ? undefined : median(ratios);
};

/** The key whose values have the smallest median; undefined without any. */
export const best = <K>(candidates: ReadonlyMap<K, readonly number[]>): K | undefined => {
  const measured = [...candidates].filter(([, values]) => values.length > 0);
  return measured.sort(([, a], [, b]) => median(a) - median(b))[0]?.[0];
};

/** Peers in the order of a round: there and back, so that none always comes first or always after the same one. */
export const orderOf = <T>(peers: readonly T[], round: number): readonly T[] =>
  round % 2 === 0 ? peers : [...peers].reverse();

/** Whether a round is one of those of a peer that has fewer of them than there are: they are spread evenly. */
export const takesPart = (round: number, rounds: number, ofPeer: number): boolean =>
  Math.floor(((round + 1) * ofPeer) / rounds) > Math.floor((round * ofPeer) / rounds);

const ascending = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
