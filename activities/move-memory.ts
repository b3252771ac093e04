/**
 * Remembers which moves for the sake of balance have been tried, so that one that came to nothing (its node refused,
 * or the replica failed there) is not tried again at once, and again after that.
 *
 * Invariants: a move that succeeded leaves its node with more replicas than before, and stands in no way of the next
 * one; it is kept in memory only, so that a new process may try each once more.
 */

import { microserviceId, type MicroserviceKey, type Plan, type Snapshot } from '../domain/model';

/** How long a node that did not take a move is no place to move to. */
const FORGET_AFTER_MS = 30 * 60_000;

interface Tried {
  /** Replicas of the microservice that ran on the node when the move was planned. */
  readonly count: number;
  readonly untilMs: number;
}

export interface MoveMemory {
  /** @returns the snapshot, in which nodes that have lately not taken a move are no places to move to */
  readonly applied: (key: MicroserviceKey, snapshot: Snapshot) => Snapshot;
  /** Has to be told of each plan that is about to be run. */
  readonly remember: (key: MicroserviceKey, plan: Plan, snapshot: Snapshot) => void;
}

const runningOn = ({ replicas }: Snapshot, nodeId: string): number =>
  replicas.filter((replica) => replica.nodeId === nodeId && replica.state === 'running').length;

/** @param nowMs the time, milliseconds since the epoch */
export const createMoveMemory = (nowMs: () => number): MoveMemory => {
  const tried = new Map<string, Map<string, Tried>>();

  return {
    applied: (key, snapshot) => {
      const known = tried.get(microserviceId(key));
      if (known === undefined) return snapshot;
      for (const [nodeId, { count, untilMs }] of known) {
        if (untilMs <= nowMs() || runningOn(snapshot, nodeId) > count) known.delete(nodeId);
      }
      if (known.size === 0) tried.delete(microserviceId(key));
      return {
        ...snapshot,
        nodes: snapshot.nodes.map((node) => {
          const untilMs = known.get(node.id)?.untilMs;
          return untilMs === undefined ? node : { ...node, noMovesUntilMs: untilMs };
        }),
      };
    },
    remember: (key, { phases }, snapshot) => {
      const steps = phases.flatMap((phase) => phase.steps);
      if (!steps.some((step) => step.kind === 'stop' && step.reason === 'rebalanced')) return;
      const id = microserviceId(key);
      const known = tried.get(id) ?? new Map<string, Tried>();
      tried.set(id, known);
      for (const step of steps) {
        if (step.kind !== 'start') continue;
        const count = runningOn(snapshot, step.nodeId);
        known.set(step.nodeId, { count, untilMs: nowMs() + FORGET_AFTER_MS });
      }
    },
  };
};
