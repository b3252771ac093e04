/**
 * What workflows do with what the worker of a node answers: go by it, or tell that it is nonsense.
 *
 * Invariant: workflows go by no answer that they have not read; one that cannot be read throws a NonsensicalAnswer, and
 * its node is dealt with like one that refuses. What counts as readable decides over commands: a reader that becomes
 * stricter needs `patched`.
 */

import { patched } from '@temporalio/workflow';

import type { NodeActivities } from '../contracts/activities';
import { readNodeAnswer } from '../contracts/node-answers';
import type { ClusterEvent, MicroserviceKey, OperationError } from '../domain/model';

/** What a node was asked for, and why its answer tells nothing. */
export interface Nonsense {
  readonly nodeId: string;
  readonly activity: string;
  /** To follow the name of the node. */
  readonly words: string;
}

/** A node did answer, and nobody can tell what it did. */
export class NonsensicalAnswer extends Error {
  constructor(readonly nonsense: Nonsense) {
    super(`node ${nonsense.nodeId} ${nonsense.words}`);
  }
}

/**
 * @param asked images or replica ids that the node was asked about
 * @param answer the result of the activity
 * @throws {NonsensicalAnswer}
 */
export const outcomesOf = <A extends keyof NodeActivities>(
  nodeId: string,
  activity: A,
  asked: readonly string[],
  answer: Awaited<ReturnType<NodeActivities[A]>>,
): Awaited<ReturnType<NodeActivities[A]>> => {
  const read = readNodeAnswer(activity, asked, answer);
  if ('outcomes' in read) return read.outcomes as typeof answer;
  // Histories from before it have gone by whatever came.
  if (!patched('nonsense-of-a-node')) return answer;
  throw new NonsensicalAnswer({
    nodeId,
    activity,
    words: `answered nonsense to ${activity}: ${read.nonsense}`,
  });
};

/** What an operation fails of that can only be done by a node that answers nonsense. */
export const nonsenseError = ({ nodeId, words }: Nonsense): OperationError => ({
  code: 'unavailable',
  message: `Node ${nodeId} ${words}. Look at its version and at the log of its node worker; if it cannot be mended, remove the node.`,
  logTail: [],
});

export const nonsenseEvent = (
  { nodeId, words }: Nonsense,
  { project, name }: MicroserviceKey,
  operation: string,
): ClusterEvent => ({
  atMs: Date.now(),
  level: 'error',
  type: 'node.answered_nonsense',
  message: `Node ${nodeId} ${words}. ${name} does without it as far as it can. Look at its version and at the log of its node worker.`,
  project,
  microservice: name,
  operation,
  node: nodeId,
});
