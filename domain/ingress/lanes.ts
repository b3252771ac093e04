/**
 * Lanes: places of the proxy's configuration for hostnames whose requests are split between releases. Pure.
 *
 * A lane leads its hostnames' requests to slots that are chosen by chance, and not by the fewest connections: so each
 * release gets its share of the requests also when it answers faster, or fails faster, than the other. What a lane
 * leads, and where to, is replaced as a whole (docs/decisions/releases.md).
 *
 * Hostnames whose requests places have to lead, because some of their paths or options differ, have lanes without slots
 * while a release is under judgement: there they are counted on their way.
 *
 * Invariants: a release with a share has a slot at least, one without has none; shares are exact to one slot; the same
 * input gives the same answer.
 */

import { servingUnder, weightOf, type TrafficSplit } from '../traffic';

/** As the configuration has them: all lanes are alike, and are never fewer or smaller than before. */
export interface LaneSizes {
  readonly count: number;
  readonly slots: number;
}

/** Before a new configuration is due: so many splits at a time, and shares in steps of 1/120. */
export const FIRST_LANES: LaneSizes = { count: 4, slots: 120 };
/** Hostnames of one port of a microservice; where it has more, it takes several lanes. */
export const LANE_HOSTNAMES = 4;
const SLOT_COUNTS: readonly number[] = [120, 1_200, 6_000];

export interface LaneEndpoint {
  /** Like 10.0.0.1:20000. */
  readonly address: string;
  readonly release: number;
}

/** What one lane is to lead. */
export interface LaneContent {
  /** `LANE_HOSTNAMES` at most. */
  readonly hostnames: readonly string[];
  readonly isJudged: boolean;
  /** Where each slot leads; none: its requests are only counted, and go on to the places of their paths. */
  readonly slots: readonly string[];
}

/** Hostnames that lead to the same endpoints under the same split. */
export interface SplitRoute {
  readonly hostnames: readonly string[];
  readonly split: TrafficSplit;
  readonly endpoints: readonly LaneEndpoint[];
  /** Places share their requests out, as their paths or options ask for. */
  readonly isLedByPlaces?: true;
}

/** @returns the sizes that have room for these; those of before when they do */
export const laneSizesFor = (before: LaneSizes, routes: readonly SplitRoute[]): LaneSizes => {
  const needed = routes.reduce((sum, { hostnames }) => sum + Math.ceil(hostnames.length / LANE_HOSTNAMES), 0);
  const endpoints = Math.max(0, ...routes.map((route) => route.endpoints.length));
  let { count } = before;
  while (count < needed) count *= 2;
  const slots = SLOT_COUNTS.find((size) => size >= 2 * endpoints) ?? 2 * endpoints;
  return { count, slots: Math.max(before.slots, slots) };
};

/** By the method of the largest remainder; each gets one at least. */
const divide = (count: number, weights: readonly number[]): readonly number[] => {
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  const exact = weights.map((weight) => (count * weight) / all);
  const parts = exact.map((part) => Math.max(1, Math.floor(part)));
  let left = count - parts.reduce((sum, part) => sum + part, 0);
  const order = exact
    .map((part, index) => ({ index, remainder: part < 1 ? -1 : part - Math.floor(part) }))
    .sort((a, b) => b.remainder - a.remainder || a.index - b.index);
  for (let turn = 0; left > 0; turn += 1) {
    const index = order[turn % order.length]?.index ?? 0;
    parts[index] = (parts[index] ?? 0) + 1;
    left -= 1;
  }
  // Those that were raised to one take it from the largest.
  for (; left < 0; left += 1) {
    const largest = parts.indexOf(Math.max(...parts));
    parts[largest] = (parts[largest] ?? 0) - 1;
  }
  return parts;
};

/**
 * Shares slots out by the weights of releases; within a release evenly. A release that has fewer slots than endpoints
 * leads to as many of them as it has slots.
 *
 * @param count how many slots there are; more than releases
 * @returns where each slot is to lead; undefined when the split leaves nobody, and is not followed
 */
export const fillLane = (
  count: number,
  endpoints: readonly LaneEndpoint[],
  split: Pick<TrafficSplit, 'shares'>,
): readonly string[] | undefined => {
  const serving = servingUnder(split, endpoints);
  if (serving === undefined) return undefined;
  const byRelease = new Map<number, string[]>();
  for (const { address, release } of serving) {
    byRelease.set(release, [...(byRelease.get(release) ?? []), address]);
  }
  const releases = [...byRelease.keys()].sort((a, b) => a - b);
  const parts = divide(
    count,
    releases.map((release) => weightOf(split, release)),
  );
  return releases.flatMap((release, index) => {
    const addresses = (byRelease.get(release) ?? []).sort();
    return Array.from({ length: parts[index] ?? 0 }, (_, slot) => addresses[slot % addresses.length] ?? '');
  });
};

/** Puts routes into lanes, in their order; what is not followed takes none. */
export const laneContents = (slots: number, routes: readonly SplitRoute[]): readonly LaneContent[] =>
  routes.flatMap(({ hostnames, split, endpoints, isLedByPlaces }) => {
    const filled = fillLane(slots, endpoints, split);
    if (filled === undefined) return [];
    const lanes = Math.ceil(hostnames.length / LANE_HOSTNAMES);
    return Array.from({ length: lanes }, (_, lane) => ({
      hostnames: hostnames.slice(lane * LANE_HOSTNAMES, (lane + 1) * LANE_HOSTNAMES),
      isJudged: split.isJudged,
      slots: isLedByPlaces === true ? [] : filled,
    }));
  });
