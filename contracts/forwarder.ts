/**
 * What the node worker and the forwarder of the same machine tell each other: a table of where public ports lead, as a
 * file, so that a forwarder that starts goes on with the last one, and on a socket of the machine a line for each table
 * that was written and a line for each state that the forwarder is in.
 */

import type { EndpointGroup, ForwardEndpoint } from '../domain/ingress/balancing';
import type { PublicPort } from '../domain/ingress/public-ports';
import type { PublicPortTrouble } from '../domain/model';

export interface ForwardedPort extends PublicPort {
  readonly groups: readonly EndpointGroup[];
  /** Where replicas were whose nodes are lost: connections to them are ended. */
  readonly lost: readonly Pick<ForwardEndpoint, 'address' | 'port'>[];
}

export interface ForwarderTable {
  /** Another one with each table. */
  readonly serial: number;
  readonly ports: readonly ForwardedPort[];
}

export interface ForwarderState {
  /** Of the table that it goes by; 0 before there was one. */
  readonly serial: number;
  readonly troubles: readonly PublicPortTrouble[];
  /** Whether nothing is open: no port, and no connection of one that was. */
  readonly isIdle: boolean;
}
