/**
 * Nodes that are lost while an operation has work for them: it goes on without them at once, and not only when their
 * time is over.
 *
 * Invariant: a node counts as lost from the signal until the next plan, which knows better: it sees whether it is up.
 */

import { CancellationScope, defineSignal, patched, setHandler, sleep } from '@temporalio/workflow';

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
  /**
   * Runs the body. Some time after a loss it is cancelled, so that what was lost does not wait for the end of what may
   * take an hour; the body has to return when that has ended.
   */
  interruptedByLoss<T>(
    body: () => Promise<T>,
  ): Promise<{ readonly value: T; readonly isInterrupted: boolean }>;
}

/** @param patienceMs how long after a loss what is under way on other nodes may still end */
export const followLostNodes = (patienceMs: number): LostNodes => {
  const lost = new Set<string>();
  const looks = new Set<() => void>();
  setHandler(nodesLostSignal, ({ nodeIds }) => {
    for (const nodeId of nodeIds) lost.add(nodeId);
    for (const look of looks) look();
  });

  /** In no scope: who cancels an operation still waits for what is under way, and only a loss ends that. */
  const until = (holds: () => boolean) => {
    let look: () => void = () => undefined;
    const held = new Promise<undefined>((resolve) => {
      look = () => {
        if (holds()) resolve(undefined);
      };
    });
    looks.add(look);
    look();
    return { held, stop: () => looks.delete(look) };
  };

  return {
    any: () => lost.size > 0,
    forget: () => lost.clear(),
    unlessLost: async (nodeId, body) => {
      const scope = new CancellationScope();
      const done = scope.run(body);
      const loss = until(() => lost.has(nodeId));
      try {
        return await Promise.race([done, loss.held]);
      } finally {
        loss.stop();
        scope.cancel();
        done.catch(() => undefined); // of what a lost node was asked for nobody hears
      }
    },
    interruptedByLoss: async (body) => {
      const scope = new CancellationScope();
      const watching = new CancellationScope();
      const loss = until(() => lost.size > 0);
      let isInterrupted = false;
      const watch = watching.run(async () => {
        await loss.held;
        // Histories from before it waited for whatever was under way.
        if (!patched('interrupted-by-loss')) return;
        await sleep(patienceMs);
        isInterrupted = true;
        scope.cancel();
      });
      watch.catch(() => undefined); // it is cancelled when it is needed no more
      try {
        const value = await scope.run(body);
        return { value, isInterrupted };
      } finally {
        loss.stop();
        watching.cancel();
      }
    },
  };
};
