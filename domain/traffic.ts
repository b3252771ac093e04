/**
 * Which release of a microservice gets which share of its requests while one release takes over from another. Pure.
 *
 * Invariants: a split names the operation that it belongs to; without a split every replica that serves is led to, and a
 * split that would leave a hostname without anybody is not followed.
 */

import { microserviceId, type MicroserviceKey } from './model';

export interface TrafficShare {
  readonly release: number;
  /** Parts of 100 of the requests; 0: none. */
  readonly weight: number;
}

/** Published while a release takes over; read by the ingress of every node. */
export interface TrafficSplit extends MicroserviceKey {
  /** Whose it is. */
  readonly operation: string;
  /** The release that takes over. */
  readonly release: number;
  /** Counts the splits of one operation: requests are counted anew with each. */
  readonly stage: number;
  /** Whether the requests of each release are counted, to be compared. */
  readonly isJudged: boolean;
  /** Releases that are not named get nothing. */
  readonly shares: readonly TrafficShare[];
  readonly writtenAtMs: number;
}

/** Splits by microservice, as far as somebody has read them. */
export type TrafficSplits = ReadonlyMap<string, TrafficSplit>;

export const splitOf = (splits: TrafficSplits, key: MicroserviceKey): TrafficSplit | undefined =>
  splits.get(microserviceId(key));

export const weightOf = ({ shares }: Pick<TrafficSplit, 'shares'>, release: number): number =>
  shares.find((share) => share.release === release)?.weight ?? 0;

/**
 * Those that get requests under a split.
 *
 * @returns undefined when the split leaves nobody: then it is not followed
 */
export const servingUnder = <T extends { readonly release: number }>(
  split: Pick<TrafficSplit, 'shares'>,
  endpoints: readonly T[],
): readonly T[] | undefined => {
  const serving = endpoints.filter(({ release }) => weightOf(split, release) > 0);
  return serving.length === 0 ? undefined : serving;
};
