/**
 * How the gossip of the cluster gets the timing that its distances need: once a minute each node that has joined tells
 * its network coordinate (`POST /internal/v1/nodes/<nodeId>/coordinate`), and hears which timing holds.
 */

import type { GossipTiming } from '../domain/gossip-profile';

/** A point in Consul's network space; distances between points are round-trip times. */
export interface Coordinate {
  /** Seconds, like the rest. */
  readonly Vec: readonly number[];
  readonly Height: number;
  readonly Adjustment: number;
  /** How good it is, from 0 to 1.5; less is better. */
  readonly Error: number;
}

export const nodeCoordinatePath = (nodeId: string): string =>
  `/internal/v1/nodes/${encodeURIComponent(nodeId)}/coordinate`;

export interface CoordinateReport {
  /** Left out while the node's agent has none. */
  readonly coordinate?: Coordinate | undefined;
}

export interface CoordinateAnswer {
  readonly timing: GossipTiming;
}
