/**
 * Brings changes to the entities: update-with-start for what may make a microservice, plain updates for the rest.
 *
 * Invariants: a change that met an entity on its way out is asked for again, never lost without a word; a retry within
 * one call carries the same update id, so that a run that took it in already does not take it twice; everything that
 * is thrown is a ContainerOsError, or a defect.
 */

import { randomUUID } from 'node:crypto';

import {
  ApplicationFailure,
  WithStartWorkflowOperation,
  WorkflowNotFoundError,
  WorkflowUpdateFailedError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
  type Client,
} from '@temporalio/client';
import type { Logger } from 'pino';

import { CONTROL_PLANE_QUEUE } from '../contracts/queues';
import { TIMEOUT } from '../contracts/timeouts';
import {
  QUERY,
  UPDATE,
  WORKFLOW,
  microserviceWorkflowId,
  type ChangeAccepted,
  type Preview,
  type PreviewRequest,
} from '../contracts/workflows';
import { ContainerOsError, isErrorCode, type Problem } from '../domain/errors';
import type { MicroserviceKey } from '../domain/model';

import type { Changes } from './changes';
import { createKeyedLimiter } from '../domain/limiter';

export interface TemporalChangesDeps {
  readonly client: Client;
  readonly log: Logger;
  /** Replaces TIMEOUT.updateMs; for tests. */
  readonly updateMs?: number;
}

/** Codes of gRPC that this file tells apart. */
const GRPC = {
  cancelled: 1,
  unknown: 2,
  deadlineExceeded: 4,
  notFound: 5,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  unavailable: 14,
} as const;

const PASSING_CODES: ReadonlySet<number> = new Set([
  GRPC.cancelled,
  GRPC.unknown,
  GRPC.deadlineExceeded,
  GRPC.resourceExhausted,
  GRPC.failedPrecondition,
  GRPC.aborted,
  GRPC.unavailable,
]);

/** What the server says of an update that a run took in and did not answer before it ended. */
const ENDED_BEFORE_ANSWER = 'AcceptedUpdateCompletedWorkflow';
/** What it says of one that a run had not taken in when it ended. */
const ABORTED_BY_END = /aborted/i;

/** A run takes ten updates at a time; the client waits a second or more when it is refused one. */
const MAX_IN_FLIGHT = 8;

const RETRY_FIRST_MS = 20;
const RETRY_MAX_MS = 1_000;

const codeOf = (error: unknown): number | undefined => {
  if (typeof error !== 'object' || error === null) return undefined;
  if ('code' in error && typeof error.code === 'number') return error.code;
  return 'cause' in error ? codeOf(error.cause) : undefined;
};

/** What is to be done about a failed attempt. */
type Verdict =
  | { readonly kind: 'fail'; readonly error: unknown }
  /** Temporal did not answer, or not now. */
  | { readonly kind: 'again' }
  /** The entity was ending: it may have a successor, or be gone. */
  | { readonly kind: 'ending' }
  | { readonly kind: 'missing' }
  | { readonly kind: 'late' };

const isProblems = (value: unknown): value is readonly Problem[] =>
  Array.isArray(value) &&
  value.every((one: unknown) => typeof one === 'object' && one !== null && 'path' in one);

const judge = (error: unknown): Verdict => {
  if (error instanceof WorkflowUpdateFailedError) {
    const { cause } = error;
    if (!(cause instanceof ApplicationFailure)) return { kind: 'fail', error };
    if (cause.type === ENDED_BEFORE_ANSWER) return { kind: 'ending' };
    if (!isErrorCode(cause.type)) return { kind: 'fail', error };
    const [problems] = cause.details ?? [];
    return {
      kind: 'fail',
      error: new ContainerOsError(cause.type, cause.message, isProblems(problems) ? problems : [], {
        cause: error,
      }),
    };
  }
  if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) return { kind: 'late' };
  if (error instanceof WorkflowNotFoundError || codeOf(error) === GRPC.notFound) {
    const { message } = error as Error;
    return { kind: ABORTED_BY_END.test(message) ? 'ending' : 'missing' };
  }
  const code = codeOf(error);
  if (code === GRPC.deadlineExceeded) return { kind: 'late' };
  return code !== undefined && PASSING_CODES.has(code) ? { kind: 'again' } : { kind: 'fail', error };
};

const tooLate = (key: MicroserviceKey, cause: unknown) =>
  new ContainerOsError(
    'unavailable',
    `The change of ${key.name} was handed over, but was not confirmed in time. It may still happen: look at the microservice (GET /v1/microservices/${key.name}) before you repeat it, or repeat it with the same Idempotency-Key.`,
    [],
    { cause },
  );

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

export const createTemporalChanges = ({
  client,
  log,
  updateMs = TIMEOUT.updateMs,
}: TemporalChangesDeps): Changes => {
  const entities = createKeyedLimiter(MAX_IN_FLIGHT);

  const attempt = <T>(deadlineMs: number, ask: () => Promise<T>, signal?: AbortSignal): Promise<T> => {
    // The connection's own deadline ends the calls; this one holds whatever the connection does.
    let timer: NodeJS.Timeout | undefined;
    let stop: () => void = () => undefined;
    const limit = new Promise<never>((_resolve, reject) => {
      stop = () => reject(new WorkflowUpdateRPCTimeoutOrCancelledError('no answer in time'));
      timer = setTimeout(stop, deadlineMs - Date.now() + 250);
      signal?.addEventListener('abort', stop, { once: true });
      if (signal?.aborted === true) stop();
    });
    const askWhileWanted = signal === undefined ? ask : () => client.withAbortSignal(signal, ask);
    return Promise.race([client.withDeadline(deadlineMs, askWhileWanted), limit]).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stop);
    });
  };

  /**
   * @param ask one attempt
   * @param isGone whether there is nothing more to ask; left out when asking makes what is not there
   */
  const change = async (
    key: MicroserviceKey,
    ask: () => Promise<ChangeAccepted>,
    isGone: (() => Promise<boolean>) | undefined,
    signal: AbortSignal | undefined,
  ): Promise<ChangeAccepted> => {
    const deadlineMs = Date.now() + updateMs;
    for (let tries = 0; ; tries += 1) {
      try {
        return await entities.run(microserviceWorkflowId(key), () => attempt(deadlineMs, ask, signal));
      } catch (error) {
        const verdict = judge(error);
        if (verdict.kind === 'fail') throw verdict.error;
        const isMissing =
          isGone !== undefined &&
          (verdict.kind === 'missing' ||
            (verdict.kind === 'ending' && (await attempt(deadlineMs, isGone).catch(() => false))));
        if (isMissing) {
          throw new ContainerOsError('not_found', `There is no microservice ${key.name}.`, [], {
            cause: error,
          });
        }
        const pauseMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(tries, 10));
        const isLate = verdict.kind === 'late' || Date.now() + pauseMs >= deadlineMs;
        if (isLate || signal?.aborted === true) throw tooLate(key, error);
        log.debug({ err: error, microservice: key.name, tries }, 'asking again for a change');
        await sleep(pauseMs);
      }
    }
  };

  const update = (
    name: string,
    key: MicroserviceKey,
    request: object,
    signal: AbortSignal | undefined,
  ): Promise<ChangeAccepted> => {
    const updateId = randomUUID();
    const handle = client.workflow.getHandle(microserviceWorkflowId(key));
    // The server goes on saying "aborted" of a run that has ended, so it has to be asked whether there is another one.
    const isGone = async () => (await handle.describe()).status.name !== 'RUNNING';
    return change(
      key,
      () => handle.executeUpdate<ChangeAccepted, [object]>(name, { args: [request], updateId }),
      isGone,
      signal,
    );
  };

  /** What is not there yet has no entity that could be asked. */
  const previewOfNothing = (key: MicroserviceKey, { kind, change }: PreviewRequest): Preview => {
    if (kind !== 'apply') {
      return {
        kind: 'refused',
        code: 'not_found',
        message: `There is no microservice ${key.name}.`,
        problems: [],
      };
    }
    if ((change.ifGeneration ?? 0) !== 0) {
      const message = `There is no microservice ${change.name}, so it is not at generation ${change.ifGeneration}.`;
      return { kind: 'refused', code: 'precondition_failed', message, problems: [] };
    }
    const release = { number: 1, spec: change.release, createdAtMs: Date.now() };
    const desired = { project: key.project, name: change.name, release, scale: change.scale ?? 1 };
    return { kind: 'possible', operation: 'deploy', desired, created: true };
  };

  const preview: Changes['preview'] = async (key, request, signal) => {
    const deadlineMs = Date.now() + updateMs;
    const ask = () =>
      client.workflow
        .getHandle(microserviceWorkflowId(key))
        .query<Preview, [PreviewRequest]>(QUERY.preview, request);
    for (let tries = 0; ; tries += 1) {
      try {
        return await attempt(deadlineMs, ask, signal);
      } catch (error) {
        const verdict = judge(error);
        if (verdict.kind === 'missing') return previewOfNothing(key, request);
        if (verdict.kind === 'fail') throw verdict.error;
        const pauseMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(tries, 10));
        if (verdict.kind === 'late' || Date.now() + pauseMs >= deadlineMs || signal?.aborted === true) {
          throw new ContainerOsError(
            'unavailable',
            `What the change of ${key.name} would do could not be found out in time. Nothing was changed; ask again.`,
            [],
            { cause: error },
          );
        }
        await sleep(pauseMs);
      }
    }
  };

  return {
    preview,
    apply: (key, request, signal) => {
      const updateId = randomUUID();
      return change(
        key,
        async () => {
          const startWorkflowOperation = new WithStartWorkflowOperation(WORKFLOW.microservice, {
            workflowId: microserviceWorkflowId(key),
            taskQueue: CONTROL_PLANE_QUEUE,
            workflowIdConflictPolicy: 'USE_EXISTING',
            args: [{ project: key.project, name: key.name }],
            staticSummary: `Microservice ${key.name}`,
          });
          // Its failure is the update's failure too, which is looked at.
          startWorkflowOperation.workflowHandle().catch(() => undefined);
          return client.workflow.executeUpdateWithStart<
            (input: MicroserviceKey) => Promise<void>,
            ChangeAccepted,
            [object]
          >(UPDATE.apply, { args: [request], updateId, startWorkflowOperation });
        },
        undefined,
        signal,
      );
    },
    scale: (key, request, signal) => update(UPDATE.scale, key, request, signal),
    rollback: (key, request, signal) => update(UPDATE.rollback, key, request, signal),
    restart: (key, request, signal) => update(UPDATE.restart, key, request, signal),
    redeploy: (key, request, signal) => update(UPDATE.redeploy, key, request, signal),
    steer: (key, request, signal) => update(UPDATE.steer, key, request, signal),
    remove: (key, request, signal) => update(UPDATE.remove, key, request, signal),
  };
};
