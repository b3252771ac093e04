/** Stops every replica of a microservice; its entity forgets it afterwards. */

import type { OperationInput, OperationOutcome } from '../contracts/workflows';

import { converge } from './converge';

export async function removeWorkflow(input: OperationInput): Promise<OperationOutcome> {
  const result = await converge(input, { ...input.request.desired, scale: 0 });
  return result.kind === 'done'
    ? { kind: 'succeeded', message: `${input.request.desired.name} is removed` }
    : { kind: 'failed', error: result.error };
}
