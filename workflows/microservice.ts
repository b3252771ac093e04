/**
 * The entity of one microservice: owns its desired state, serialises what happens to it, and heals it.
 *
 * Invariants: a change is published before its update is answered, so what was answered survives the loss of Temporal
 * too; at most one operation runs at a time; a newer change supersedes the one under way; handlers only record, the
 * main loop acts.
 */

import {
  CancellationScope,
  allHandlersFinished,
  condition,
  continueAsNew,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';

import { SEARCH_ATTRIBUTE } from '../contracts/workflows';

import { createEntity, type MicroserviceInput } from './entity';
import { acceptChanges } from './entity-changes';
import { answerPreviews } from './entity-preview';
import { createOperations } from './entity-operations';

export async function microserviceWorkflow(input: MicroserviceInput): Promise<void> {
  // Cancelling an entity would orphan its replicas: only a removal ends it.
  await CancellationScope.nonCancellable(() => ownMicroservice(input));
}

async function ownMicroservice(input: MicroserviceInput): Promise<void> {
  const entity = createEntity(input);
  const { key, publisher } = entity;
  const operations = createOperations(entity);
  acceptChanges(entity);
  answerPreviews(entity);

  upsertSearchAttributes({
    [SEARCH_ATTRIBUTE.project]: [key.project],
    [SEARCH_ATTRIBUTE.microservice]: [key.name],
  });
  for (const operation of input.lost ?? []) {
    entity.supersede(
      operation,
      entity.state.newestOperation,
      ', and lost before it had ended: Temporal did not know of it any more',
    );
  }
  const publishing = publisher.run();
  for (;;) {
    if (workflowInfo().continueAsNewSuggested) {
      await condition(() => publisher.flushed() && allHandlersFinished());
      await continueAsNew<typeof microserviceWorkflow>({ ...key, carried: entity.state });
    }
    if (entity.state.queued) {
      const { queued, ...rest } = entity.state;
      entity.state = rest;
      await operations.execute(queued);
      continue;
    }
    if (entity.state.desiredRelease === 0) {
      // Removed, or begun by a change that was refused: there is nothing to own.
      await condition(() => entity.state.queued !== undefined || allHandlersFinished());
      if (!entity.state.queued) break;
      continue;
    }
    const isBackingOff = entity.state.failedReschedules > 0;
    await condition(
      () => entity.state.queued !== undefined || entity.hasRoom || (entity.observedChanged && !isBackingOff),
      operations.untilNextLookMs(),
    );
    if (!entity.state.queued) await operations.reconcile();
  }
  publisher.stop();
  await publishing;
}
