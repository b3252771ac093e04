/**
 * Has a node pull images that it may need soon: best effort, tried once.
 *
 * Invariant: nothing waits for it, and it never fails: the watch over the cluster asks again for what is still missing.
 */

import { ActivityFailure, isCancellation, proxyActivities } from '@temporalio/workflow';

import type { NodeActivities, PullAhead, PullAheadOutcome } from '../contracts/activities';
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
  try {
    return await pullAhead({ nodeId, images });
  } catch (error) {
    if (!(error instanceof ActivityFailure) || isCancellation(error)) throw error;
    const reason = error.cause?.message ?? error.message;
    return images.map((image) => ({ kind: 'failed', image, reason }));
  }
}
