/** Changes of a replica's state as events for people. Pure. */

import type { StartReplica } from '../../contracts/activities';
import type { ClusterEvent, EventLevel, ReplicaState } from '../../domain/model';

type NodeEvent = Omit<ClusterEvent, 'atMs' | 'node'>;

interface Words {
  readonly level: EventLevel;
  readonly type: string;
  readonly text: string;
}

/** @returns undefined when the change needs no event: it was asked for, or is said by another one */
export const describeChange = (
  replica: StartReplica,
  before: ReplicaState | undefined,
  after: ReplicaState,
  reason: string | undefined,
): { readonly event: NodeEvent; readonly key: string } | undefined => {
  if (before === undefined || before === after) return undefined;
  const words = wordsFor(before, after);
  if (words === undefined) return undefined;
  const because = reason === undefined ? '' : `: ${reason}`;
  return {
    event: {
      level: words.level,
      type: words.type,
      message: `Replica ${replica.replicaId} ${words.text}${because}.`,
      project: replica.project,
      microservice: replica.name,
      replica: replica.replicaId,
    },
    key: `${words.type}:${replica.replicaId}`,
  };
};

const wordsFor = (before: ReplicaState, after: ReplicaState): Words | undefined => {
  switch (after) {
    case 'running':
      if (before === 'starting') return undefined;
      return before === 'restarting'
        ? { level: 'info', type: 'replica.restarted', text: 'was restarted and serves again' }
        : { level: 'info', type: 'replica.recovered', text: 'has recovered' };
    case 'unhealthy':
      return { level: 'warning', type: 'replica.unhealthy', text: 'fails its checks' };
    case 'crash_looping':
      return { level: 'error', type: 'replica.crash_looping', text: 'keeps ending' };
    case 'paused':
      return { level: 'warning', type: 'replica.paused', text: 'is paused' };
    case 'exited':
      return { level: 'warning', type: 'replica.exited', text: 'has ended' };
    case 'broken':
      return { level: 'error', type: 'replica.broken', text: 'cannot be mended on its node' };
    case 'starting':
    case 'restarting':
    case 'stopping':
      return undefined;
  }
};
