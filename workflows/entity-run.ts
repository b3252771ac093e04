/**
 * Runs one operation of an entity as its child workflow.
 *
 * Invariant: while it runs, the entity knows how to cancel it, to tell it of lost nodes, and to signal it.
 */

import {
  ApplicationFailure,
  CancellationScope,
  ChildWorkflowCancellationType,
  ParentClosePolicy,
  isCancellation,
  log,
  patched,
  sleep,
  startChild,
  type ChildWorkflowHandle,
} from '@temporalio/workflow';

import { RETRY, TIMEOUT } from '../contracts/timeouts';
import {
  SEARCH_ATTRIBUTE,
  SIGNAL,
  WORKFLOW,
  type NodesLostSignal,
  type OperationInput,
  type OperationOutcome,
} from '../contracts/workflows';
import { describeDesired } from '../domain/describe-desired';
import { isErrorCode } from '../domain/errors';
import type { Desired, Operation, OperationError, OperationKind, PlanRequest } from '../domain/model';
import { isRolledOut } from '../domain/release-stages';

import type { Entity } from './entity';
import { desiredOf, fallbackOf, takenOverInStages } from './entity-state';

type OperationWorkflow = (input: OperationInput) => Promise<OperationOutcome>;

const CHILD_OF: Readonly<Record<OperationKind, string>> = {
  deploy: WORKFLOW.deploy,
  rollback: WORKFLOW.deploy,
  restart: WORKFLOW.deploy,
  scale: WORKFLOW.scale,
  reschedule: WORKFLOW.reschedule,
  remove: WORKFLOW.remove,
};

/** @temporalio/workflow does not export the class of this error. */
const isAlreadyStarted = (error: unknown): boolean =>
  error instanceof Error && error.name === 'WorkflowExecutionAlreadyStartedError';

/** What ended an operation without an outcome, in the words of the innermost failure. */
const errorOfChild = (error: unknown): OperationError => {
  if (isCancellation(error)) {
    return { code: 'conflict', message: 'The operation was cancelled by an operator.', logTail: [] };
  }
  let cause: unknown = error;
  while (cause instanceof Error && cause.cause instanceof Error) cause = cause.cause;
  const code = cause instanceof ApplicationFailure && isErrorCode(cause.type) ? cause.type : 'internal';
  return { code, message: cause instanceof Error ? cause.message : String(cause), logTail: [] };
};

/** The first plan of an operation. */
export const planRequest = (
  operation: string,
  kind: OperationKind,
  desired: Desired,
  seed = operation,
): PlanRequest => ({ operation, kind, desired, refusals: {}, attempt: 1, seed, nowMs: Date.now() });

/** @returns runs an operation to its end, or until a newer change supersedes it */
export const createOperationRunner = (entity: Entity) => {
  const tellLostTo =
    (child: ChildWorkflowHandle<OperationWorkflow>) =>
    (nodeIds: readonly string[]): void => {
      CancellationScope.nonCancellable(() =>
        child.signal<[NodesLostSignal]>(SIGNAL.nodesLost, { nodeIds }),
      ).catch((error: unknown) => {
        // It has ended meanwhile: the look that follows sees what is lost.
        log.debug('an operation could not be told of lost nodes', { error: String(error) });
      });
    };

  const runChild = async (
    operation: Operation,
    request: PlanRequest,
    startsPaused: boolean,
  ): Promise<OperationOutcome> => {
    const fallback = fallbackOf(entity.state);
    const { release } = request.desired;
    const { splitRelease } = entity.state;
    const childInput: OperationInput = {
      operation,
      request,
      ...(fallback ? { fallback } : {}),
      ...(startsPaused ? { startsPaused } : {}),
      ...(splitRelease === undefined || splitRelease === release.number ? {} : { endsSplit: true }),
      ...(isRolledOut(release) ? { rolls: true } : {}),
    };
    if (takenOverInStages(entity.state, operation.kind) !== undefined) {
      entity.state = { ...entity.state, splitRelease: release.number };
    }
    // Until the release has been healthy once, whatever changes can fail it, and has to be able to go back.
    const type = operation.kind === 'scale' && fallback ? WORKFLOW.deploy : CHILD_OF[operation.kind];
    const lostEarly: string[] = [];
    entity.tellLost = (nodeIds) => void lostEarly.push(...nodeIds);
    const child = await startChild<OperationWorkflow>(type, {
      workflowId: operation.id,
      args: [childInput],
      cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      searchAttributes: {
        [SEARCH_ATTRIBUTE.project]: [entity.state.project],
        [SEARCH_ATTRIBUTE.microservice]: [entity.state.name],
        [SEARCH_ATTRIBUTE.release]: [`v${release.number}`],
      },
      staticSummary: `${operation.kind} ${entity.state.name} v${release.number} ${describeDesired(request.desired)}`,
      staticDetails: release.spec.containers.map(({ name, image }) => `- ${name}: \`${image}\``).join('\n'),
    });
    entity.tellLost = tellLostTo(child);
    entity.signalCurrent = (signal, payload) =>
      CancellationScope.nonCancellable(() => child.signal<[typeof payload]>(signal, payload));
    // It may have made its first plan before it could be told.
    if (lostEarly.length > 0) entity.tellLost(lostEarly);
    return child.result();
  };

  /** What an entity that was lost has begun under the same id may still be ending: it comes first. */
  const runChildInTurn = async (
    operation: Operation,
    request: PlanRequest,
    startsPaused: boolean,
  ): Promise<OperationOutcome> => {
    for (let pauseMs: number = RETRY.node.initialIntervalMs; ;) {
      try {
        return await runChild(operation, request, startsPaused);
      } catch (error) {
        if (!isAlreadyStarted(error) || !patched('wait-for-the-same-operation')) throw error;
        await sleep(pauseMs);
        pauseMs = Math.min(2 * pauseMs, TIMEOUT.rescheduleMaxBackoffMs);
      }
    }
  };

  return async (operation: Operation, startsPaused: boolean): Promise<OperationOutcome | 'superseded'> => {
    const desired = desiredOf(entity.state);
    if (!desired) return { kind: 'succeeded', message: 'there was nothing to do' };
    const request = planRequest(operation.id, operation.kind, desired);
    const scope = new CancellationScope();
    entity.running = scope;
    entity.current = { operation, ...(startsPaused ? { startsPaused } : {}) };
    try {
      return await scope.run(() => runChildInTurn(operation, request, startsPaused));
    } catch (error) {
      if (entity.state.queued && isCancellation(error)) return 'superseded';
      return { kind: 'failed', error: errorOfChild(error) };
    } finally {
      entity.running = undefined;
      entity.tellLost = undefined;
      entity.current = undefined;
      entity.signalCurrent = undefined;
    }
  };
};
