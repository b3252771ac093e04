/**
 * Has a node pull images that it may need soon: best effort, tried once.
 *
 * Invariant: nothing waits for it, and it never fails: the watch over the cluster asks again for what is still missing.
 */

import { ActivityFailure, isCancellation, proxyActivities } from '@temporalio/workflow';

import type { NodeActivities, PullAhead, PullAheadOutcome } from '../contracts/activities';
import { readNodeAnswer, shortText } from '../contracts/node-answers';
import { nodeQueue } from '../contracts/queues';
import { AHEAD, TIMEOUT } from '../contracts/timeouts';

export async function pullAheadWorkflow({ nodeId, images }: PullAhead): Promise<readonly PullAheadOutcome[]> {
  const { pullAhead } = proxyActivities<NodeActivities>({
    taskQueue: nodeQueue(nodeId),
    scheduleToStartTimeout: TIMEOUT.nodeScheduleToStartMs,
    startToCloseTimeout: AHEAD.pullsStartToCloseMs,
    heartbeatTimeout: TIMEOUT.nodeHeartbeatMs,
    retry: { maximumAttempts: 1 },
    summary: `${nodeId}: pull ahead ${images.join(', ')}`,
  });
  const failed = (reason: string): readonly PullAheadOutcome[] =>
    images.map((image) => ({ kind: 'failed', image, reason }));
  try {
    const read = readNodeAnswer('pullAhead', images, await pullAhead({ nodeId, images }));
    return 'outcomes' in read ? read.outcomes : failed(`the node answered nonsense: ${read.nonsense}`);
  } catch (error) {
    if (!(error instanceof ActivityFailure) || isCancellation(error)) throw error;
    return failed(shortText(error.cause?.message ?? error.message));
  }
}
