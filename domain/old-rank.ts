/** In which order old replicas go, from those that nobody misses to those that serve. */

import type { ReplicaState } from './model';

export type OldRank = 'idle' | 'faltering' | 'running';

const RANK: Readonly<Record<ReplicaState, OldRank>> = {
  broken: 'idle',
  stopping: 'idle',
  exited: 'idle',
  crash_looping: 'idle',
  starting: 'idle',
  // These have served, and may again in a moment.
  paused: 'faltering',
  restarting: 'faltering',
  unhealthy: 'faltering',
  running: 'running',
};

export const OLD_RANKS = ['idle', 'faltering', 'running'] as const satisfies readonly OldRank[];

export const oldRank = (state: ReplicaState): OldRank => RANK[state];
