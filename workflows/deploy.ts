/**
 * Deploys a release (also for `rollback` and `restart`): new replicas are healthy before old ones stop, and a release
 * that does not become healthy is rolled back to the one that was.
 */

import type { OperationInput, OperationOutcome } from '../contracts/workflows';
import { describeDesired } from '../domain/describe-desired';

import { converge } from './converge';

export async function deployWorkflow(input: OperationInput): Promise<OperationOutcome> {
  const { desired } = input.request;
  const result = await converge(input, desired);
  if (result.kind === 'done') {
    return { kind: 'succeeded', message: `v${desired.release.number} runs ${describeDesired(desired)}` };
  }
  if (!input.fallback) return { kind: 'failed', error: result.error };

  const undone = await converge(input, input.fallback, result.attempts + 1);
  if (undone.kind === 'done') return { kind: 'rolled_back', error: result.error };
  return {
    kind: 'rolled_back',
    error: {
      ...result.error,
      message: `${result.error.message.replace(/[^.!?]$/, '$&.')} Going back to v${input.fallback.release.number} is not finished: ${undone.error.message}`,
    },
  };
}
