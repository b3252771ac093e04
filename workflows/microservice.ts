/**
 * The entity of one microservice: owns its desired state, serialises what happens to it, and heals it.
 *
 * Invariants: a change is published before its update is answered, so what was answered survives the loss of Temporal
 * too; at most one operation runs at a time; a newer change supersedes the one under way; handlers only record, the
 * main loop acts.
 */

import {
  ApplicationFailure,
  CancellationScope,
  ChildWorkflowCancellationType,
  ParentClosePolicy,
  allHandlersFinished,
  condition,
  continueAsNew,
  currentUpdateInfo,
  defineSignal,
  defineUpdate,
  executeChild,
  isCancellation,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow';

import { TIMEOUT } from '../contracts/timeouts';
import {
  SEARCH_ATTRIBUTE,
  SIGNAL,
  UPDATE,
  WORKFLOW,
  operationId,
  type ApplyRequest,
  type ChangeAccepted,
  type ChangeRequest,
  type ObservedChangedSignal,
  type OperationInput,
  type OperationOutcome,
  type RemoveRequest,
  type RestartRequest,
  type RollbackRequest,
  type ScaleRequest,
} from '../contracts/workflows';
import { ContainerOsError, isErrorCode } from '../domain/errors';
import { longId } from '../domain/hash';
import type {
  ClusterEvent,
  EventLevel,
  MicroserviceKey,
  Operation,
  OperationError,
  OperationKind,
  PlanRequest,
  Release,
} from '../domain/model';
import { sameRelease } from '../domain/spec/diff';

import {
  addRelease,
  checkApply,
  checkChange,
  desiredOf,
  documentOf,
  emptyEntityState,
  enqueue,
  exists,
  fallbackOf,
  findRelease,
  findRemembered,
  hostnamesOf,
  rememberOperation,
  rollbackTarget,
  withoutReleases,
  type EntityState,
} from './entity-state';
import { createPublisher, insist, local } from './publisher';

export interface MicroserviceInput extends MicroserviceKey {
  /** The state of the run before, or the one rebuilt from what was published. */
  readonly carried?: EntityState;
}

type OperationWorkflow = (input: OperationInput) => Promise<OperationOutcome>;

const applyUpdate = defineUpdate<ChangeAccepted, [ApplyRequest]>(UPDATE.apply);
const scaleUpdate = defineUpdate<ChangeAccepted, [ScaleRequest]>(UPDATE.scale);
const rollbackUpdate = defineUpdate<ChangeAccepted, [RollbackRequest]>(UPDATE.rollback);
const restartUpdate = defineUpdate<ChangeAccepted, [RestartRequest]>(UPDATE.restart);
const removeUpdate = defineUpdate<ChangeAccepted, [RemoveRequest]>(UPDATE.remove);
const observedChangedSignal = defineSignal<[ObservedChangedSignal]>(SIGNAL.observedChanged);

const CHILD_OF: Readonly<Record<OperationKind, string>> = {
  deploy: WORKFLOW.deploy,
  rollback: WORKFLOW.deploy,
  restart: WORKFLOW.deploy,
  scale: WORKFLOW.scale,
  reschedule: WORKFLOW.reschedule,
  remove: WORKFLOW.remove,
};

/** Whether a plan of this kind waits until every replica is healthy, also those that were there before. */
const provesHealth = (kind: OperationKind): boolean =>
  kind === 'deploy' || kind === 'rollback' || kind === 'restart';

/** Expected refusals cross the update's edge as ApplicationFailure; defects stay as they are. */
const atTheEdge = <T>(body: () => T): T => {
  try {
    return body();
  } catch (error) {
    if (!(error instanceof ContainerOsError)) throw error;
    throw ApplicationFailure.nonRetryable(error.message, error.code, error.problems);
  }
};

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

export async function microserviceWorkflow(input: MicroserviceInput): Promise<void> {
  // Cancelling an entity would orphan its replicas: only a removal ends it.
  await CancellationScope.nonCancellable(() => ownMicroservice(input));
}

async function ownMicroservice(input: MicroserviceInput): Promise<void> {
  const key: MicroserviceKey = { project: input.project, name: input.name };
  let state = input.carried ?? emptyEntityState(key, Date.now());
  let running: CancellationScope | undefined;
  let observedChanged = input.carried !== undefined;
  const publisher = createPublisher(() => documentOf(state, Date.now()), state.generation);

  const announce = (level: EventLevel, type: string, message: string, operation?: string) =>
    publisher.announce({
      atMs: Date.now(),
      level,
      type,
      message,
      project: state.project,
      microservice: state.name,
      ...(operation === undefined ? {} : { operation }),
    });

  // ---- accepting changes ----

  /**
   * An update whose workflow task was lost comes again, maybe to the next run, when its record has been published
   * already: so its operation gets the same id again.
   */
  const newSuffix = (): string => {
    const update = currentUpdateInfo();
    return update ? longId(update.id) : uuid4().replaceAll('-', '').slice(0, 12);
  };

  const newOperation = (kind: OperationKind): Operation => ({
    project: state.project,
    name: state.name,
    id: operationId(kind, key, newSuffix()),
    kind,
    state: 'queued',
    release: state.desiredRelease,
    scale: state.scale,
    message: '',
    plan: [],
    createdAtMs: Date.now(),
  });

  const supersede = (operation: Operation, by: string) =>
    publisher.record({
      ...operation,
      state: 'superseded',
      message: `superseded by ${by}`,
      endedAtMs: Date.now(),
    });

  const enterRelease = (release: Release['spec'], rollbackOf?: number) => {
    const added = addRelease(state, release, Date.now(), rollbackOf);
    state = added.state;
    publisher.forget({ releases: added.forgotten });
  };

  /** What is applied during a removal is a new microservice: the releases that were removed are nothing to go back to. */
  const beginAnew = () => {
    publisher.forget({ releases: state.releases.map(({ number }) => number) });
    state = withoutReleases(state, Date.now());
  };

  const accept = async (
    kind: OperationKind,
    request: ChangeRequest,
    created = false,
  ): Promise<ChangeAccepted> => {
    const operation = newOperation(kind);
    if (state.queued) supersede(state.queued, operation.id);
    const next = enqueue(state, operation, request);
    state = next.state;
    publisher.forget({ operations: next.forgotten });
    publisher.record(operation);
    running?.cancel();
    const { generation } = state;
    const index = await publisher.published(generation);
    return { operation, generation, created, index };
  };

  const repeated = async (request: ChangeRequest): Promise<ChangeAccepted | undefined> => {
    const found = atTheEdge(() => findRemembered(state, request));
    if (!found) return undefined;
    const index = await publisher.published(state.generation);
    return { operation: found.operation, generation: state.generation, created: false, index };
  };

  const claim = async (hostnames: readonly string[]): Promise<void> => {
    const claimed = await local.claimHostnames({ ...key, hostnames });
    if (claimed.kind === 'claimed') return;
    throw ApplicationFailure.nonRetryable(
      `The hostname ${claimed.hostname} belongs to the microservice ${claimed.owner}. Use another hostname, or take it from there first.`,
      'conflict',
    );
  };

  // What waits for Consul between looking at the state and changing it takes turns: changes, so that they take effect
  // in the order they came, and the entity's own dealings with hostnames.
  let turns = 0;
  let turn = 0;
  const inTurn = async <T>(body: () => Promise<T>): Promise<T> => {
    const mine = turns;
    turns += 1;
    if (turn !== mine) await condition(() => turn === mine);
    try {
      return await body();
    } finally {
      turn += 1;
    }
  };

  /** Handlers run outside the scope of the main function, and are not to be cancelled either. */
  const change = (request: ChangeRequest, body: () => Promise<ChangeAccepted>): Promise<ChangeAccepted> =>
    CancellationScope.nonCancellable(
      async () =>
        (await repeated(request)) ?? inTurn(async () => (await repeated(request)) ?? (await body())),
    );

  const checked = (request: ChangeRequest) => atTheEdge(() => checkChange(state, request));
  const checkedApply = (request: ApplyRequest) => atTheEdge(() => checkApply(state, request));
  const checkedRollback = (request: RollbackRequest) =>
    atTheEdge(() => {
      checkChange(state, request);
      return findRemembered(state, request) ? undefined : rollbackTarget(state, request.toRelease);
    });

  setHandler(
    applyUpdate,
    (request) =>
      change(request, async () => {
        checkedApply(request);
        const hostnames = hostnamesOf(request.release);
        const before = exists(state) ? desiredOf(state) : undefined;
        const held = before ? hostnamesOf(before.release.spec) : [];
        if (hostnames.some((hostname) => !held.includes(hostname))) {
          await claim(hostnames);
          checkedApply(request);
        }
        const created = !exists(state);
        const scale = request.scale ?? (created ? 1 : state.scale);
        const isScaled = scale !== state.scale;
        if (created) beginAnew();
        state = { ...state, name: request.name, scale };
        const current = findRelease(state, state.desiredRelease);
        const isSame = current !== undefined && sameRelease(current.spec, request.release);
        if (!isSame) enterRelease(request.release);
        return accept(isSame && isScaled ? 'scale' : 'deploy', request, created);
      }),
    { validator: checkedApply },
  );

  setHandler(
    scaleUpdate,
    (request) =>
      change(request, async () => {
        checked(request);
        state = { ...state, scale: request.scale };
        return accept('scale', request);
      }),
    { validator: checked },
  );

  setHandler(
    rollbackUpdate,
    (request) =>
      change(request, async () => {
        const target = checkedRollback(request);
        if (!target) throw new Error('a repeated rollback reached its body');
        await claim(hostnamesOf(target.spec));
        enterRelease(target.spec, target.number);
        return accept('rollback', request);
      }),
    { validator: (request: RollbackRequest) => void checkedRollback(request) },
  );

  setHandler(
    restartUpdate,
    (request) =>
      change(request, async () => {
        checked(request);
        return accept('restart', request);
      }),
    { validator: checked },
  );

  setHandler(
    removeUpdate,
    (request) =>
      change(request, async () => {
        checked(request);
        state = { ...state, removing: true };
        return accept('remove', request);
      }),
    { validator: checked },
  );

  setHandler(observedChangedSignal, () => {
    observedChanged = true;
  });

  // ---- acting ----

  const planRequest = (operation: Operation): PlanRequest | undefined => {
    const desired = desiredOf(state);
    if (!desired) return undefined;
    return {
      operation: operation.id,
      kind: operation.kind,
      desired,
      refusals: {},
      attempt: 1,
      seed: operation.id,
      nowMs: Date.now(),
    };
  };

  const runChild = async (operation: Operation, request: PlanRequest): Promise<OperationOutcome> => {
    const fallback = fallbackOf(state);
    const childInput: OperationInput = { operation, request, ...(fallback ? { fallback } : {}) };
    const { release, scale } = request.desired;
    // Until the release has been healthy once, whatever changes can fail it, and has to be able to go back.
    const type = operation.kind === 'scale' && fallback ? WORKFLOW.deploy : CHILD_OF[operation.kind];
    return executeChild<OperationWorkflow>(type, {
      workflowId: operation.id,
      args: [childInput],
      cancellationType: ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
      parentClosePolicy: ParentClosePolicy.REQUEST_CANCEL,
      searchAttributes: {
        [SEARCH_ATTRIBUTE.project]: [state.project],
        [SEARCH_ATTRIBUTE.microservice]: [state.name],
        [SEARCH_ATTRIBUTE.release]: [`v${release.number}`],
      },
      staticSummary: `${operation.kind} ${state.name} v${release.number} at scale ${scale}`,
      staticDetails: release.spec.containers.map(({ name, image }) => `- ${name}: \`${image}\``).join('\n'),
    });
  };

  /** Runs an operation to its end, or until a newer change supersedes it. */
  const runOperation = async (operation: Operation): Promise<OperationOutcome | 'superseded'> => {
    const request = planRequest(operation);
    if (!request) return { kind: 'succeeded', message: 'there was nothing to do' };
    const scope = new CancellationScope();
    running = scope;
    try {
      return await scope.run(() => runChild(operation, request));
    } catch (error) {
      if (state.queued && isCancellation(error)) return 'superseded';
      return { kind: 'failed', error: errorOfChild(error) };
    } finally {
      running = undefined;
    }
  };

  /** Gives back the hostnames that only releases before the desired one have asked for. */
  const giveHostnamesBack = (): Promise<void> =>
    inTurn(async () => {
      const desired = desiredOf(state);
      if (!desired || !state.holdsSpareHostnames || state.queued) return;
      const keep = hostnamesOf(desired.release.spec);
      await insist('give hostnames back', () => local.releaseHostnames({ ...key, keep }));
      state = { ...state, holdsSpareHostnames: false };
    });

  /** Enters how an operation ended; when its record says so, everything that ends with it has ended. */
  const settle = async (operation: Operation, outcome: OperationOutcome): Promise<void> => {
    const ended = { ...operation, endedAtMs: Date.now() };
    // A newer change has already said what is desired, and is about to run.
    const isNewest = state.queued === undefined;
    const { id, kind } = operation;
    switch (outcome.kind) {
      case 'succeeded': {
        const { message } = outcome;
        if (kind !== 'remove') {
          state = { ...state, failedReschedules: 0 };
          if (provesHealth(kind)) state = { ...state, settledRelease: operation.release };
          if (isNewest && state.settledRelease === operation.release) {
            state = { ...state, state: 'steady', message };
          } else if (isNewest) {
            state = { ...state, state: 'failed', message: `${message}, and has not been healthy yet` };
            observedChanged = true;
          }
          await giveHostnamesBack();
        }
        publisher.record({ ...ended, state: 'succeeded', message });
        announce('info', 'operation.succeeded', `${kind} of ${state.name}: ${message}`, id);
        return;
      }
      case 'failed': {
        const { error } = outcome;
        if (isNewest) {
          state = {
            ...state,
            // A removal that failed is still a removal, also for an entity that is rebuilt from its document.
            state: state.removing ? 'removing' : 'failed',
            message: error.message,
            failedReschedules: state.failedReschedules + 1,
          };
        }
        publisher.record({ ...ended, state: 'failed', message: error.message, error });
        announce('error', 'operation.failed', `${kind} of ${state.name} failed: ${error.message}`, id);
        return;
      }
      case 'rolled_back': {
        const { error } = outcome;
        const message = `v${operation.release} was rolled back to v${state.settledRelease}: ${error.message}`;
        if (isNewest && state.settledRelease !== undefined) {
          const generation = state.generation + 1;
          state = { ...state, desiredRelease: state.settledRelease, state: 'steady', message, generation };
          // Going back may not have been finished.
          observedChanged = true;
          await giveHostnamesBack();
        }
        publisher.record({ ...ended, state: 'rolled_back', message, error });
        announce('error', 'operation.rolled_back', `${state.name}: ${message}`, id);
        return;
      }
    }
  };

  /** Deletes what was published, unless a change came meanwhile; changes that come now begin a new life of it. */
  const forget = (removal: Operation): Promise<void> =>
    inTurn(async () => {
      if (state.queued) return settle(removal, { kind: 'succeeded', message: removal.message });
      const removed: ClusterEvent = {
        atMs: Date.now(),
        level: 'info',
        type: 'microservice.removed',
        message: removal.message,
        project: state.project,
        microservice: state.name,
        operation: removal.id,
      };
      await publisher.alone(() =>
        insist('forget the microservice', () =>
          local.forgetMicroservice({ ...key, operation: removal, events: [removed] }),
        ),
      );
      state = { ...emptyEntityState(key, Date.now()), generation: state.generation };
    });

  const execute = async (queued: Operation): Promise<void> => {
    const operation: Operation = { ...queued, state: 'running', startedAtMs: Date.now() };
    const { id, kind, release, scale } = operation;
    setCurrentDetails(`Running \`${id}\``);
    announce('info', 'operation.started', `${kind} of ${state.name} v${release} at scale ${scale}`, id);
    const outcome = await runOperation(operation);
    if (outcome === 'superseded') {
      supersede(operation, state.queued?.id ?? state.newestOperation);
    } else if (kind === 'remove' && outcome.kind === 'succeeded') {
      await forget({ ...operation, state: 'succeeded', message: outcome.message, endedAtMs: Date.now() });
    } else {
      await settle(operation, outcome);
    }
    setCurrentDetails(state.message);
  };

  /** Runs an operation that nobody has asked for. */
  const mend = async (kind: 'reschedule' | 'remove'): Promise<void> => {
    const operation = newOperation(kind);
    const next = rememberOperation(state, operation);
    state = next.state;
    publisher.forget({ operations: next.forgotten });
    publisher.record(operation);
    await execute(operation);
  };

  /** Looks whether something has come apart, and mends it. */
  const reconcile = async (): Promise<void> => {
    observedChanged = false;
    const desired = desiredOf(state);
    if (!desired) return;
    if (state.removing) return mend('remove');
    const preview = await insist('look at what runs', () =>
      local.previewPlan({
        operation: 'preview',
        kind: 'reschedule',
        desired,
        refusals: {},
        attempt: 1,
        seed: state.newestOperation,
        nowMs: Date.now(),
      }),
    );
    if (state.queued) return;
    if (preview.phases.length > 0) return mend('reschedule');
    if (preview.converged && state.state !== 'steady') {
      state = {
        ...state,
        state: 'steady',
        message: `v${desired.release.number} runs at scale ${desired.scale}`,
        settledRelease: desired.release.number,
        failedReschedules: 0,
      };
      await giveHostnamesBack();
      announce('info', 'microservice.recovered', `${state.name}: ${state.message}`);
    }
  };

  const untilNextLookMs = (): number =>
    state.failedReschedules === 0
      ? TIMEOUT.reconcileEveryMs
      : Math.min(
          TIMEOUT.rescheduleBackoffMs * 2 ** (state.failedReschedules - 1),
          TIMEOUT.rescheduleMaxBackoffMs,
        );

  upsertSearchAttributes({
    [SEARCH_ATTRIBUTE.project]: [key.project],
    [SEARCH_ATTRIBUTE.microservice]: [key.name],
  });
  const publishing = publisher.run();
  for (;;) {
    if (workflowInfo().continueAsNewSuggested) {
      await condition(() => publisher.flushed() && allHandlersFinished());
      await continueAsNew<typeof microserviceWorkflow>({ ...key, carried: state });
    }
    if (state.queued) {
      const { queued, ...rest } = state;
      state = rest;
      await execute(queued);
      continue;
    }
    if (state.desiredRelease === 0) {
      // Removed, or begun by a change that was refused: there is nothing to own.
      await condition(() => state.queued !== undefined || allHandlersFinished());
      if (!state.queued) break;
      continue;
    }
    const isBackingOff = state.failedReschedules > 0;
    await condition(
      () => state.queued !== undefined || (observedChanged && !isBackingOff),
      untilNextLookMs(),
    );
    if (!state.queued) await reconcile();
  }
  publisher.stop();
  await publishing;
}
