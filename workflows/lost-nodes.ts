/**
 * Nodes that are lost while an operation has work for them: it goes on without them at once, and not only when their
 * time is over.
 *
 * Invariant: a node counts as lost from the signal until the next plan, which knows better: it sees whether it is up.
 */

import { CancellationScope, condition, defineSignal, setHandler } from '@temporalio/workflow';

import { SIGNAL, type NodesLostSignal } from '../contracts/workflows';

const nodesLostSignal = defineSignal<[NodesLostSignal]>(SIGNAL.nodesLost);

export interface LostNodes {
  /** Whether a node was lost since the newest plan was begun. */
  any(): boolean;
  /** Has to be called before each plan. */
  forget(): void;
  /**
   * Waits for what a node was asked for as long as the node is there. When it is lost, what runs in the body is
   * cancelled and not waited for: nobody would say that it has ended.
   *
   * @returns what the body returns; undefined when the node is lost
   */
  unlessLost<T>(nodeId: string, body: () => Promise<T>): Promise<T | undefined>;
}

export const followLostNodes = (): LostNodes => {
  const lost = new Set<string>();
  setHandler(nodesLostSignal, ({ nodeIds }) => {
    for (const nodeId of nodeIds) lost.add(nodeId);
  });
  return {
    any: () => lost.size > 0,
    forget: () => lost.clear(),
    unlessLost: async (nodeId, body) => {
      const scope = new CancellationScope();
      // Who cancels the operation waits for what is under way; only a loss ends that.
      const waiting = new CancellationScope({ cancellable: false });
      const done = scope.run(body);
      const isLost = waiting.run(() => condition(() => lost.has(nodeId))).then(() => undefined);
      try {
        return await Promise.race([done, isLost]);
      } finally {
        waiting.cancel();
        scope.cancel();
        // Whichever of the two comes second is of interest to nobody.
        done.catch(() => undefined);
        isLost.catch(() => undefined);
      }
    },
  };
};
