/**
 * Deploys a release (also for `rollback` and `restart`): new replicas are healthy before old ones stop, and a release
 * that does not become healthy, does worse than the old one, or is aborted, is rolled back to the one that was.
 */

import type { OperationInput, OperationOutcome } from '../contracts/workflows';
import { describeDesired } from '../domain/describe-desired';
import { takesOverInStages } from '../domain/release-stages';

import { behindInWords, type Converged } from './converge';
import { createReleaseReporter, followReleaseCommands } from './release-commands';
import { createReleaseRun, type ReleaseRun } from './release-run';
import { createSplitter, releaseInStages, type Splitter } from './stages';

/** Ends what a release that this operation has superseded had begun: all requests go to the old one first. */
const endSplit = async (run: ReleaseRun, splitter: Splitter): Promise<void> => {
  const { input } = run;
  const { fallback } = input;
  if (fallback !== undefined) {
    await splitter.resume();
    await splitter.split(0, fallback, false);
    const beside = { release: fallback.release, scale: fallback.scale };
    await run.heal({ ...input.request.desired, scale: 0 }, { beside });
  }
  await splitter.clear();
};

export async function deployWorkflow(input: OperationInput): Promise<OperationOutcome> {
  const { desired } = input.request;
  const commands = followReleaseCommands(input.startsPaused === true);
  const run = createReleaseRun(input, commands, createReleaseReporter(input));
  const splitter = createSplitter(input);
  const { fallback } = input;
  const isStaged = input.rolls !== true && takesOverInStages(input.operation.kind, desired, fallback);
  const old = isStaged ? fallback : undefined;
  let verdict: string | undefined;
  let isOldWhole = false;
  let result: Converged = { kind: 'done' };
  if (old !== undefined) {
    isOldWhole = true;
    const staged = await releaseInStages(run, old, splitter);
    ({ result, verdict } = staged);
  } else if (input.endsSplit === true) await endSplit(run, splitter);
  if (result.kind === 'done') {
    isOldWhole = false;
    result = await run.step(desired);
  }
  if (result.kind === 'done') {
    const judged = verdict === undefined ? '' : `: ${verdict}`;
    return {
      kind: 'succeeded',
      message: `v${desired.release.number} runs ${describeDesired(desired)}${judged}${behindInWords(result)}`,
    };
  }
  if (!fallback) return { kind: 'failed', error: result.error };

  if (old !== undefined) {
    await run.reporter.tellSwitched(false);
    await (isOldWhole ? splitter.split(0, old, false) : splitter.clear());
  }
  const undone = await run.undo(fallback);
  if (undone.kind === 'done') return { kind: 'rolled_back', error: result.error };
  return {
    kind: 'rolled_back',
    error: {
      ...result.error,
      message: `${result.error.message.replace(/[^.!?]$/, '$&.')} Going back to v${fallback.release.number} is not finished: ${undone.error.message}`,
    },
  };
}
