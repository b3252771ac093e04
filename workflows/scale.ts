/** Brings the number of replicas to the desired one, within one release. */

import type { OperationInput, OperationOutcome } from '../contracts/workflows';
import { describeDesired } from '../domain/describe-desired';

import { behindInWords, converge } from './converge';

export async function scaleWorkflow(input: OperationInput): Promise<OperationOutcome> {
  const { desired } = input.request;
  const result = await converge(input, desired);
  return result.kind === 'done'
    ? {
        kind: 'succeeded',
        message: `v${desired.release.number} runs ${describeDesired(desired)}${behindInWords(result)}`,
      }
    : { kind: 'failed', error: result.error };
}
