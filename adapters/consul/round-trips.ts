/**
 * Round-trip times between members, as Consul estimates them from the probes of its gossip: no traffic of our own.
 *
 * Invariant: what is returned are estimates between those whose coordinates Consul has. Agents that may write their own
 * node tell theirs some seconds after their start, and then about every quarter of a minute; those of readers
 * (access.ts) may not, so the control plane has to write what their nodes say (`ownCoordinate`, `writeCoordinate`).
 */

import type { Coordinate } from '../../contracts/gossip';

import type { ConsulClient } from './consul-client';

interface Located {
  readonly Node: string;
  readonly Coord: Coordinate;
}

export interface RoundTrip {
  readonly from: string;
  readonly to: string;
  readonly roundTripMs: number;
}

/**
 * The coordinate of the agent itself, which it knows whatever it may write.
 *
 * @returns undefined when it has none yet
 * @throws {ContainerOsError} `unavailable` when the agent does not answer
 */
export const ownCoordinate = async (consul: ConsulClient): Promise<Coordinate | undefined> => {
  const { body } = await consul.request<{ readonly Coord?: Coordinate | null }>({ path: '/agent/self' });
  return body.Coord ?? undefined;
};

/**
 * Writes the coordinate that a node has told; Consul takes it up some seconds later.
 *
 * @param consul with a token that may write the node
 * @throws {ContainerOsError} `unavailable` when Consul does not answer or refuses
 */
export const writeCoordinate = async (
  consul: ConsulClient,
  nodeId: string,
  coordinate: Coordinate,
): Promise<void> => {
  await consul.request({
    method: 'PUT',
    path: '/coordinate/update',
    body: { Node: nodeId, Segment: '', Coord: coordinate },
  });
};

/** Consul's formula: the distance in its space, the two heights above it, and corrections unless they make it negative. */
export const estimateMs = (from: Coordinate, to: Coordinate): number => {
  const squares = from.Vec.reduce((sum, value, axis) => sum + (value - (to.Vec[axis] ?? 0)) ** 2, 0);
  const seconds = Math.sqrt(squares) + from.Height + to.Height;
  const adjusted = seconds + from.Adjustment + to.Adjustment;
  return (adjusted > 0 ? adjusted : seconds) * 1_000;
};

const located = async (consul: ConsulClient): Promise<readonly Located[]> => {
  const { body } = await consul.request<readonly Located[] | null>({ path: '/coordinate/nodes' });
  return [...(body ?? [])].sort((left, right) => (left.Node < right.Node ? -1 : 1));
};

/**
 * Estimated round-trip times from one member to each other one, in the order of their names; none when its coordinates
 * are not known yet.
 *
 * @throws {ContainerOsError} `unavailable` when Consul does not answer
 */
export const measureRoundTrips = async (
  consul: ConsulClient,
  nodeId: string,
): Promise<readonly RoundTrip[]> => {
  const all = await located(consul);
  const own = all.find(({ Node }) => Node === nodeId);
  if (own === undefined) return [];
  return all
    .filter(({ Node }) => Node !== nodeId)
    .map(({ Node, Coord }) => ({ from: nodeId, to: Node, roundTripMs: estimateMs(own.Coord, Coord) }));
};

/**
 * The farthest member of each member, in the order of their names: what the timing of all is decided by.
 *
 * @throws {ContainerOsError} `unavailable` when Consul does not answer
 */
export const measureFarthest = async (consul: ConsulClient): Promise<readonly RoundTrip[]> => {
  const all = await located(consul);
  return all.flatMap((one) => {
    let farthest: RoundTrip | undefined;
    for (const other of all) {
      if (other === one) continue;
      const roundTripMs = estimateMs(one.Coord, other.Coord);
      if (farthest === undefined || roundTripMs > farthest.roundTripMs) {
        farthest = { from: one.Node, to: other.Node, roundTripMs };
      }
    }
    return farthest === undefined ? [] : [farthest];
  });
};
