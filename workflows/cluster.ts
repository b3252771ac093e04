/**
 * The watch over the cluster: one execution for ever, whose long activity follows Consul and signals entities.
 *
 * Invariant: it holds no state of its own, so that any moment is a good one to continue as new.
 */

import { continueAsNew, proxyActivities, workflowInfo } from '@temporalio/workflow';

import type { ClusterActivities } from '../contracts/activities';
import { RETRY, TIMEOUT } from '../contracts/timeouts';

const retry = {
  initialInterval: RETRY.node.initialIntervalMs,
  maximumInterval: RETRY.node.maximumIntervalMs,
};

const { recoverEntities } = proxyActivities<ClusterActivities>({
  startToCloseTimeout: TIMEOUT.localScheduleToCloseMs,
  retry,
  summary: 'start the entities that Temporal does not know',
});

const { watchCluster } = proxyActivities<ClusterActivities>({
  // It returns after half a day, and is begun anew.
  startToCloseTimeout: '24 hours',
  heartbeatTimeout: TIMEOUT.watcherHeartbeatMs,
  retry,
  summary: 'follow nodes and replicas',
});

export async function clusterWorkflow(): Promise<void> {
  while (!workflowInfo().continueAsNewSuggested) {
    await recoverEntities();
    await watchCluster();
  }
  await continueAsNew<typeof clusterWorkflow>();
}
