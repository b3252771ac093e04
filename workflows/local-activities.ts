/** The control plane's activities as workflows call them: in the worker itself, without a queue between. */

import { proxyLocalActivities } from '@temporalio/workflow';

import type { ControlPlaneActivities } from '../contracts/activities';
import { RETRY, TIMEOUT } from '../contracts/timeouts';

const LIMITS = {
  startToCloseTimeout: TIMEOUT.localStartToCloseMs,
  scheduleToCloseTimeout: TIMEOUT.localScheduleToCloseMs,
};

/** Retried for as long as an outage of Consul may take before an operation gives up. */
export const localActivities = proxyLocalActivities<ControlPlaneActivities>({
  ...LIMITS,
  retry: {
    initialInterval: RETRY.local.initialIntervalMs,
    maximumInterval: RETRY.local.maximumIntervalMs,
  },
});

const triedOnce = proxyLocalActivities<ControlPlaneActivities>({ ...LIMITS, retry: { maximumAttempts: 1 } });

/**
 * The local activities of one entity, one at a time: those that end one after the other come back together in a
 * replay, and what waits for two of them would then go on in another order than it did.
 */
export const createLocalActivities = () => {
  let last: Promise<unknown> = Promise.resolve();
  const inLine =
    <A extends unknown[], R>(activity: (...input: A) => Promise<R>) =>
    (...input: A): Promise<R> => {
      const mine = last.then(() => activity(...input));
      last = mine.catch(() => undefined);
      return mine;
    };
  return {
    publishMicroservice: inLine(localActivities.publishMicroservice),
    claimHostnames: inLine(localActivities.claimHostnames),
    moveHostnames: inLine(localActivities.moveHostnames),
    releaseHostnames: inLine(localActivities.releaseHostnames),
    forgetMicroservice: inLine(localActivities.forgetMicroservice),
    // It also fails while no node is up: the others must not wait for that.
    previewPlan: inLine(triedOnce.previewPlan),
  };
};

export type LocalActivities = ReturnType<typeof createLocalActivities>;
