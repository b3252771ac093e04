/**
 * Runs what a release consists of: converges, as long as nobody pauses or aborts it and its deadline has not passed.
 *
 * Invariants: what is paused keeps what it has, and heals it; time in which it is paused, waits for the next stage, or
 * heals what it has, does not count for the deadline; an abort ends what is under way like a newer change does.
 */

import { CancellationScope, condition, isCancellation, patched } from '@temporalio/workflow';

import { TIMEOUT } from '../contracts/timeouts';
import type { OperationInput } from '../contracts/workflows';
import type { Desired, OperationError } from '../domain/model';

import { convergeUnlessPaused, type Converged, type ConvergeOptions, type Paused } from './converge';
import type { ReleaseCommands, ReleaseReporter } from './release-commands';

export interface ReleaseRun {
  readonly input: OperationInput;
  readonly commands: ReleaseCommands;
  readonly reporter: ReleaseReporter;
  /** Brings something about, pauses included. */
  step(desired: Desired, options?: StepOptions): Promise<Converged>;
  /** Replaces what is lost of what there has to be now; that it cannot is no failure of the release. */
  heal(desired: Desired, options: StepOptions): Promise<void>;
  /** Brings about what the release goes back to; nothing holds it up. */
  undo(desired: Desired): Promise<Converged>;
  /** Why it does not go on: it was aborted. */
  aborted(): OperationError | undefined;
}

export type StepOptions = Pick<ConvergeOptions, 'beside' | 'isHeld' | 'kind' | 'outline'>;

const seconds = (ms: number): string => `${Number((ms / 1_000).toFixed(1))} s`;

export const createReleaseRun = (
  input: OperationInput,
  commands: ReleaseCommands,
  reporter: ReleaseReporter,
): ReleaseRun => {
  const { release } = input.request.desired;
  const { deadlineMs } = release.spec.update;
  const attempts = { last: 0 };
  let spentMs = 0;

  const aborted = (): OperationError | undefined => {
    const by = commands.abortedBy();
    return by === undefined ? undefined : { code: 'conflict', message: `aborted by ${by}`, logTail: [] };
  };

  const isLate = (): OperationError => ({
    code: 'unhealthy',
    message: `its replicas were not healthy within its deadline of ${seconds(deadlineMs ?? 0)} ("deadlineSeconds")`,
    logTail: [],
  });

  /** @param withinMs until when it has to be done; undefined: as long as nobody aborts the release */
  const unlessEnded = async <T>(
    body: () => Promise<T>,
    withinMs: number | undefined,
  ): Promise<T | Converged> => {
    const scope = new CancellationScope();
    const watching = new CancellationScope();
    let ended: OperationError | undefined;
    const watch = watching.run(async () => {
      const isAborted = () => commands.abortedBy() !== undefined;
      if (withinMs === undefined) await condition(isAborted);
      else await condition(isAborted, withinMs);
      ended = aborted() ?? isLate();
      scope.cancel();
    });
    watch.catch(() => undefined); // it is cancelled when it is needed no more
    try {
      return await scope.run(body);
    } catch (error) {
      if (ended !== undefined && isCancellation(error)) return { kind: 'failed', error: ended };
      throw error;
    } finally {
      watching.cancel();
    }
  };

  const unlessLate = async <T>(body: () => Promise<T>): Promise<T | Converged> => {
    const begunMs = Date.now();
    try {
      return await unlessEnded(
        body,
        deadlineMs === undefined ? undefined : Math.max(1, deadlineMs - spentMs),
      );
    } finally {
      spentMs += Date.now() - begunMs;
    }
  };

  const run = (desired: Desired, options: StepOptions, isPaused?: () => boolean) =>
    convergeUnlessPaused(input, desired, {
      ...options,
      ...(isPaused === undefined ? {} : { isPaused }),
      attempts,
      record: reporter.record(),
    });

  const heal = async (desired: Desired, options: StepOptions): Promise<void> => {
    const body = () => run(desired, { ...options, kind: 'reschedule' });
    // Histories from before it have the time of healing in that of the deadline.
    const isTimed = deadlineMs !== undefined && !patched('heal-beyond-the-deadline');
    await (isTimed ? unlessLate(body) : unlessEnded(body, undefined));
  };

  /** What is held with a release that is rolled out; of a daemon each node has one, of either release. */
  const heldBeside = (desired: Desired): StepOptions['beside'] => {
    const { fallback } = input;
    if (fallback === undefined) return undefined;
    const isDaemon = [desired, fallback].some(({ release: { spec } }) => spec.daemon === true);
    return isDaemon ? undefined : { release: fallback.release, scale: desired.scale, isShared: true };
  };

  /** Both releases stay as they are. */
  const whilePaused = async (desired: Desired, { beside }: StepOptions): Promise<void> => {
    const held = beside ?? heldBeside(desired);
    await reporter.tell({
      state: 'paused',
      message: `v${release.number} is paused: what runs stays as it is until it is resumed or aborted`,
      isHalted: true,
      canPromote: beside !== undefined,
    });
    const hold = (now: NonNullable<typeof held>) => heal(desired, { beside: now, isHeld: true });
    const isRescaled = input.operation.kind === 'scale' && commands.isPaused();
    if (isRescaled && held !== undefined && patched('scale-in-a-pause')) await hold(held);
    while (commands.isPaused()) {
      const isNews = await commands.news(TIMEOUT.reconcileEveryMs);
      if (!commands.isPaused() || held === undefined) continue;
      if (!commands.takeChanged() && isNews) continue;
      await hold(held);
    }
    await reporter.tell({ state: 'running', message: '', isHalted: false, canPromote: beside !== undefined });
  };

  return {
    input,
    commands,
    reporter,
    aborted,
    heal,
    step: async (desired, options = {}) => {
      for (;;) {
        const result: Converged | Paused = await unlessLate(() =>
          run(desired, options, () => commands.isPaused()),
        );
        if (result.kind !== 'paused') {
          // What had ended already when it was told to give up: whoever was answered that it is aborted has it so.
          const late = result.kind === 'done' ? aborted() : undefined;
          return late !== undefined && patched('aborted-at-the-end')
            ? { kind: 'failed', error: late }
            : result;
        }
        await whilePaused(desired, options);
        const error = aborted();
        if (error !== undefined) return { kind: 'failed', error };
      }
    },
    undo: async (desired) => {
      const result = await run(desired, {});
      if (result.kind === 'paused') throw new Error('going back was paused, which nobody can have asked for');
      return result;
    },
  };
};
