/** Workflows as a careless change would leave them: what the replay test has to find. */

import { sleep } from '@temporalio/workflow';

import type { OperationInput, OperationOutcome } from '../../contracts/workflows';
import { deployWorkflow } from '../../workflows/deploy';

export { microservice, remove, reschedule, scale } from '../../workflows/index';

export async function deploy(input: OperationInput): Promise<OperationOutcome> {
  await sleep(1);
  return deployWorkflow(input);
}
