/**
 * What people want of a release that is under way, as an operation hears it, and how it tells its entity how far it is.
 *
 * Invariants: handlers only record; nothing is sent, and nothing waits, unless somebody has asked for something or the
 * release goes on in stages, so that histories from before there were commands replay as they are.
 */

import {
  condition,
  defineSignal,
  getExternalWorkflowHandle,
  log,
  patched,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';

import {
  SIGNAL,
  type OperationInput,
  type ReleaseProgress,
  type ReleaseSwitchedSignal,
  type SteerSignal,
} from '../contracts/workflows';

const steerSignal = defineSignal<[SteerSignal]>(SIGNAL.steer);
const observedChangedSignal = defineSignal(SIGNAL.observedChanged);

export interface ReleaseCommands {
  isPaused(): boolean;
  isPromoted(): boolean;
  /** Who has aborted it. */
  abortedBy(): string | undefined;
  /**
   * Waits for a command, or for word that what runs has changed.
   *
   * @returns whether there was any in time
   */
  news(withinMs: number): Promise<boolean>;
  /** Whether what runs has changed since this was asked last. */
  takeChanged(): boolean;
}

export const followReleaseCommands = (startsPaused: boolean): ReleaseCommands => {
  let isPaused = startsPaused;
  let isPromoted = false;
  let abortedBy: string | undefined;
  let hasChanged = false;
  let heard = 0;
  let seen = 0;
  setHandler(steerSignal, ({ command, by }) => {
    heard += 1;
    switch (command) {
      case 'pause':
        isPaused = true;
        return;
      case 'resume':
        isPaused = false;
        return;
      case 'promote':
        isPromoted = true;
        // Nobody promotes what is to stay as it is.
        isPaused = false;
        return;
      case 'abort':
        abortedBy ??= by;
    }
  });
  setHandler(observedChangedSignal, () => {
    heard += 1;
    hasChanged = true;
  });
  return {
    isPaused: () => isPaused && abortedBy === undefined,
    isPromoted: () => isPromoted,
    abortedBy: () => abortedBy,
    news: async (withinMs) => {
      const isNews = await condition(() => heard !== seen, withinMs);
      seen = heard;
      return isNews;
    },
    takeChanged: () => {
      const had = hasChanged;
      hasChanged = false;
      return had;
    },
  };
};

export interface ReleaseReporter {
  /** Tells the entity how far it is; what has been told already is not told again. */
  tell(progress: Omit<ReleaseProgress, 'operation'>): Promise<void>;
  /** Tells the entity whether the release has all requests, so that another one would take over from it. */
  tellSwitched(isSwitched: boolean): Promise<void>;
  /** The operation's record as it was told last. */
  record(): OperationInput['operation'];
}

export const createReleaseReporter = ({ operation }: OperationInput): ReleaseReporter => {
  let record = operation;
  let told = '';
  const signalEntity = async <T>(signal: string, message: T): Promise<void> => {
    const parent = workflowInfo().parent?.workflowId;
    if (parent === undefined) return;
    try {
      await getExternalWorkflowHandle(parent).signal<[T]>(signal, message);
    } catch (error) {
      // It is begun again by then: it hears of what follows.
      log.debug('the entity could not be told how far its release is', { error: String(error) });
    }
  };
  return {
    record: () => record,
    tell: async (progress) => {
      const text = JSON.stringify(progress);
      if (text === told) return;
      told = text;
      record = { ...record, state: progress.state, message: progress.message };
      setCurrentDetails(progress.message);
      await signalEntity<ReleaseProgress>(SIGNAL.releaseProgress, { ...progress, operation: operation.id });
    },
    tellSwitched: async (isSwitched) => {
      // Histories from before it tell nothing of it.
      if (!patched('tell-of-the-switch')) return;
      await signalEntity<ReleaseSwitchedSignal>(SIGNAL.releaseSwitched, {
        operation: operation.id,
        isSwitched,
      });
    },
  };
};
