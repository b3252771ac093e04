/**
 * What a node knows of a replica while its Docker Engine does not answer: that a container has ended, and what checks
 * say. Pure.
 *
 * Invariants: what is not known to have changed stays as it was; of a container that may end for good, its end says
 * nothing without the exit code that only the engine has.
 */

import type { ObservedReplica, ReplicaState } from '../../domain/model';
import { ENGINE_REASON } from './node-health';
import type { NodeReplica } from './node-memory';
import { createUpkeep } from './upkeep';

/**
 * @param replica one that is kept
 * @param before what was last said of it
 */
export const stateUnseen = (
  replica: NodeReplica,
  before: Pick<ObservedReplica, 'state' | 'reason' | 'containers'>,
): { readonly state: ReplicaState; readonly reason: string | undefined } => {
  const same = { state: before.state, reason: before.reason };
  // What was not well before will not be so before the engine is back.
  if (before.state !== 'running' && before.state !== 'unhealthy') return same;
  const { containers, restart } = replica.spec.release.spec;
  const upkeeps = containers.map(({ name }) => ({
    name,
    upkeep: replica.upkeeps.get(name) ?? createUpkeep(),
  }));
  const ran = new Set(before.containers.filter(({ running }) => running).map(({ name }) => name));
  const ended = upkeeps.find(
    ({ name, upkeep }) => ran.has(name) && upkeep.servingRun === undefined && !upkeep.isDoubted,
  );
  if (ended !== undefined && restart.policy === 'always') {
    return { state: 'restarting', reason: `container ${ended.name} has ended, and ${ENGINE_REASON}` };
  }
  const failing = upkeeps.find(({ upkeep }) => upkeep.criticalSince !== undefined);
  if (failing !== undefined) {
    return { state: 'unhealthy', reason: `${failing.upkeep.failure}; ${ENGINE_REASON}` };
  }
  const serves = upkeeps.every(({ upkeep }) => upkeep.servingRun !== undefined);
  return serves ? { state: 'running', reason: undefined } : same;
};
