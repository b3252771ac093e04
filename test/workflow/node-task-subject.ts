/** A workflow that gives tasks to a node, for tests of the way between a node's worker and Temporal. */

import {
  ActivityCancellationType,
  CancellationScope,
  condition,
  defineSignal,
  isCancellation,
  proxyActivities,
  setHandler,
} from '@temporalio/workflow';

export interface NodeTasks {
  echo(text: string): Promise<string>;
  fail(): Promise<void>;
  /** Heartbeats until it is cancelled. */
  beat(): Promise<void>;
}

export type NodeTask =
  | { readonly kind: 'echo'; readonly texts: readonly string[] }
  | { readonly kind: 'fail' }
  | { readonly kind: 'beat' };

export const cancelSignal = defineSignal('cancel');

/** @returns what the activities returned, or how they ended */
export const giveTasks = async (queue: string, task: NodeTask): Promise<readonly string[]> => {
  const node = proxyActivities<NodeTasks>({
    taskQueue: queue,
    startToCloseTimeout: '1 minute',
    heartbeatTimeout: '20 seconds',
    retry: {
      initialInterval: '100 milliseconds',
      maximumInterval: '200 milliseconds',
      nonRetryableErrorTypes: ['Error'],
    },
    cancellationType: ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
  });
  switch (task.kind) {
    case 'echo':
      return Promise.all(task.texts.map((text) => node.echo(text)));
    case 'fail':
      return node.fail().then(
        () => ['done'],
        (error: unknown) => [String((error as Error).cause)],
      );
    case 'beat': {
      let isCancelled = false;
      setHandler(cancelSignal, () => {
        isCancelled = true;
      });
      const scope = new CancellationScope();
      const ended = scope
        .run(() => node.beat())
        .then(
          () => ['done'],
          (error: unknown) => [isCancellation(error) ? 'cancelled' : String(error)],
        );
      await condition(() => isCancelled);
      scope.cancel();
      return ended;
    }
  }
};
