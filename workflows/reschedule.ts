/** Mends what has come apart: replaces lost and broken replicas, stops surplus ones. */

import type { OperationInput, OperationOutcome } from '../contracts/workflows';
import { describeDesired } from '../domain/describe-desired';

import { behindInWords, converge } from './converge';

export async function rescheduleWorkflow(input: OperationInput): Promise<OperationOutcome> {
  const { desired } = input.request;
  const result = await converge(input, desired);
  return result.kind === 'done'
    ? {
        kind: 'succeeded',
        message: `v${desired.release.number} is back ${describeDesired(desired)}${behindInWords(result)}`,
      }
    : { kind: 'failed', error: result.error };
}
