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
  WorkflowIdReusePolicy,
  allHandlersFinished,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  executeChild,
  isCancellation,
  log,
  proxyLocalActivities,
  setCurrentDetails,
  setHandler,
  sleep,
  uuid4,
  workflowInfo,
} from '@temporalio/workflow';

import type { ControlPlaneActivities } from '../contracts/activities';
import { RETRY, TIMEOUT } from '../contracts/timeouts';
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
import type {
  ClusterEvent,
  MicroserviceKey,
  Operation,
  OperationError,
  OperationKind,
  PlanRequest,
  Release,
} from '../domain/model';
import { sameRelease } from '../domain/spec/release';

import {
  addRelease,
  checkGeneration,
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
  type EntityState,
} from './entity-state';

export interface MicroserviceInput extends MicroserviceKey {
  /** The state of the run before, or the one rebuilt from what was published. */
  readonly carried?: EntityState;
}

const applyUpdate = defineUpdate<ChangeAccepted, [ApplyRequest]>(UPDATE.apply);
const scaleUpdate = defineUpdate<ChangeAccepted, [ScaleRequest]>(UPDATE.scale);
const rollbackUpdate = defineUpdate<ChangeAccepted, [RollbackRequest]>(UPDATE.rollback);
const restartUpdate = defineUpdate<ChangeAccepted, [RestartRequest]>(UPDATE.restart);
const removeUpdate = defineUpdate<ChangeAccepted, [RemoveRequest]>(UPDATE.remove);
const observedChangedSignal = defineSignal<[ObservedChangedSignal]>(SIGNAL.observedChanged);
export const stateQuery = defineQuery<EntityState>('state');

const local = proxyLocalActivities<ControlPlaneActivities>({
  startToCloseTimeout: TIMEOUT.localStartToCloseMs,
  scheduleToCloseTimeout: TIMEOUT.localScheduleToCloseMs,
  retry: {
    initialInterval: RETRY.local.initialIntervalMs,
    maximumInterval: RETRY.local.maximumIntervalMs,
  },
});

const CHILD_OF: Readonly<Record<OperationKind, string>> = {
  deploy: WORKFLOW.deploy,
  rollback: WORKFLOW.deploy,
  restart: WORKFLOW.deploy,
  scale: WORKFLOW.scale,
  reschedule: WORKFLOW.reschedule,
  remove: WORKFLOW.remove,
};

/** Does not give up: an entity outlives any outage of what it depends on. */
const insist = async <T>(what: string, body: () => Promise<T>): Promise<T> => {
  for (;;) {
    try {
      return await body();
    } catch (error) {
      if (isCancellation(error)) throw error;
      log.warn(`could not ${what}; trying again`, { error: String(error) });
      await sleep(RETRY.local.maximumIntervalMs);
    }
  }
};

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
  let running: { readonly operation: Operation; readonly scope: CancellationScope } | undefined;
  let observedChanged = input.carried !== undefined;
  let finished = false;

  // ---- publishing: one writer, which coalesces what changed while it wrote ----
  let dirty = false;
  let publishedGeneration = input.carried?.generation ?? 0;
  let publishedIndex = 0;
  let publishing = false;
  const unpublished = new Map<string, Operation>();
  let events: ClusterEvent[] = [];
  let forgetOperations: string[] = [];
  let forgetReleases: number[] = [];

  const record = (operation: Operation) => {
    unpublished.set(operation.id, operation);
    dirty = true;
  };

  const announce = (level: ClusterEvent['level'], type: string, message: string, operation?: string) => {
    events.push({
      atMs: Date.now(),
      level,
      type,
      message,
      project: state.project,
      microservice: state.name,
      ...(operation === undefined ? {} : { operation }),
    });
    dirty = true;
  };

  const publish = async () => {
    const document = documentOf(state, Date.now());
    dirty = false;
    if (!document) return;
    const written = {
      microservice: document,
      operations: [...unpublished.values()],
      events,
      forgetOperations,
      forgetReleases,
    };
    unpublished.clear();
    events = [];
    forgetOperations = [];
    forgetReleases = [];
    publishing = true;
    try {
      const { index } = await local.publishMicroservice(written);
      publishedIndex = index;
      publishedGeneration = document.generation;
    } catch (error) {
      if (isCancellation(error)) throw error;
      log.warn('could not publish; trying again', { error: String(error) });
      for (const operation of written.operations) {
        if (!unpublished.has(operation.id)) unpublished.set(operation.id, operation);
      }
      events = [...written.events, ...events];
      forgetOperations = [...written.forgetOperations, ...forgetOperations];
      forgetReleases = [...written.forgetReleases, ...forgetReleases];
      dirty = true;
      await sleep(RETRY.local.maximumIntervalMs);
    } finally {
      publishing = false;
    }
  };

  const publisher = async () => {
    for (;;) {
      await condition(() => (dirty && !forgetting) || finished);
      if (finished) return;
      await publish();
    }
  };
  const flushed = () => !dirty && !publishing;
  let forgetting = false;

  // ---- accepting changes ----
  const newOperation = (kind: OperationKind): Operation => ({
    ...key,
    name: state.name,
    id: operationId(kind, key, uuid4().replaceAll('-', '').slice(0, 12)),
    kind,
    state: 'queued',
    release: state.desiredRelease,
    scale: state.scale,
    message: '',
    plan: [],
    createdAtMs: Date.now(),
  });

  const supersede = (operation: Operation, by: string) => {
    record({
      ...operation,
      state: 'superseded',
      message: `superseded by ${by}`,
      endedAtMs: Date.now(),
    });
  };

  const accept = async (
    kind: OperationKind,
    change: ChangeRequest,
    created: boolean,
  ): Promise<ChangeAccepted> => {
    const operation = newOperation(kind);
    if (state.queued) supersede(state.queued, operation.id);
    const next = enqueue(state, operation, change);
    state = next.state;
    forgetOperations.push(...next.forgotten);
    record(operation);
    running?.scope.cancel();
    const { generation } = state;
    await condition(() => publishedGeneration >= generation);
    return { operation, generation, created, index: publishedIndex };
  };

  const repeated = async (change: ChangeRequest): Promise<ChangeAccepted | undefined> => {
    const found = atTheEdge(() => findRemembered(state, change));
    if (!found) return undefined;
    await condition(() => flushed());
    return {
      operation: found.operation,
      generation: state.generation,
      created: false,
      index: publishedIndex,
    };
  };

  const mustExist = () => {
    if (!exists(state)) {
      throw new ContainerOsError('not_found', `There is no microservice ${state.name}.`);
    }
  };

  const checkChange = (change: ChangeRequest) => {
    if (findRemembered(state, change)) return;
    checkGeneration(state, change);
    mustExist();
  };

  const checkApply = (change: ApplyRequest) => {
    if (findRemembered(state, change)) return;
    checkGeneration(state, change);
    if (exists(state) && change.name !== state.name) {
      throw new ContainerOsError(
        'conflict',
        `There is a microservice ${state.name}, whose name differs from ${change.name} in capitals only. Use its name, or another one.`,
      );
    }
  };

  // Changes that wait for Consul before they are entered take turns, so that they take effect in the order they came.
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

  setHandler(
    applyUpdate,
    async (change) => {
      const again = await repeated(change);
      if (again) return again;
      const entered = await inTurn(async () => {
        atTheEdge(() => checkApply(change));
        const hostnames = hostnamesOf(change.release);
        const before = desiredOf(state);
        const held = before && exists(state) ? hostnamesOf(before.release.spec) : [];
        if (hostnames.some((hostname) => !held.includes(hostname))) {
          const claim = await local.claimHostnames({ ...key, hostnames });
          if (claim.kind === 'conflict') {
            throw ApplicationFailure.nonRetryable(
              `The hostname ${claim.hostname} belongs to the microservice ${claim.owner}. Use another hostname, or take it from there first.`,
              'conflict',
            );
          }
          atTheEdge(() => checkApply(change));
        }
        const created = !exists(state);
        if (created) state = { ...state, name: change.name, removing: false };
        const scale = change.scale ?? (created ? 1 : state.scale);
        const scaled = scale !== state.scale;
        state = { ...state, scale };
        const current = findRelease(state, state.desiredRelease);
        const unchanged = !created && current !== undefined && sameRelease(current.spec, change.release);
        if (!unchanged) {
          const added = addRelease(state, change.release, Date.now());
          state = added.state;
          forgetReleases.push(...added.forgotten);
        }
        return accept(unchanged && scaled ? 'scale' : 'deploy', change, created);
      });
      return entered;
    },
    { validator: (change) => atTheEdge(() => checkApply(change)) },
  );

  setHandler(
    scaleUpdate,
    async (change) =>
      (await repeated(change)) ??
      inTurn(async () => {
        atTheEdge(() => checkChange(change));
        state = { ...state, scale: change.scale };
        return accept('scale', change, false);
      }),
    { validator: (change) => atTheEdge(() => checkChange(change)) },
  );

  const rollbackTarget = (change: RollbackRequest) => {
    mustExist();
    const candidates = state.releases.filter(({ number }) => number !== state.desiredRelease);
    const target =
      change.toRelease === undefined
        ? (candidates.find(({ number }) => number === state.settledRelease) ??
          candidates.filter(({ number }) => number < state.desiredRelease).at(-1))
        : state.releases.find(({ number }) => number === change.toRelease);
    if (!target) {
      throw new ContainerOsError(
        'not_found',
        change.toRelease === undefined
          ? `${state.name} has no earlier release to go back to.`
          : `${state.name} has no release v${change.toRelease}. It has ${state.releases.map(({ number }) => `v${number}`).join(', ')}.`,
      );
    }
    return target;
  };

  setHandler(
    rollbackUpdate,
    async (change) =>
      (await repeated(change)) ??
      inTurn(async () => {
        const target = atTheEdge(() => {
          checkChange(change);
          return rollbackTarget(change);
        });
        const hostnames = hostnamesOf(target.spec);
        const claim = await local.claimHostnames({ ...key, hostnames });
        if (claim.kind === 'conflict') {
          throw ApplicationFailure.nonRetryable(
            `The hostname ${claim.hostname} of v${target.number} belongs to the microservice ${claim.owner} now.`,
            'conflict',
          );
        }
        const added = addRelease(state, target.spec, Date.now(), target.number);
        state = added.state;
        forgetReleases.push(...added.forgotten);
        return accept('rollback', change, false);
      }),
    {
      validator: (change) =>
        atTheEdge(() => {
          if (findRemembered(state, change)) return;
          checkChange(change);
          rollbackTarget(change);
        }),
    },
  );

  setHandler(
    restartUpdate,
    async (change) =>
      (await repeated(change)) ??
      inTurn(async () => {
        atTheEdge(() => checkChange(change));
        return accept('restart', change, false);
      }),
    { validator: (change) => atTheEdge(() => checkChange(change)) },
  );

  setHandler(
    removeUpdate,
    async (change) =>
      (await repeated(change)) ??
      inTurn(async () => {
        atTheEdge(() => checkChange(change));
        state = { ...state, removing: true };
        return accept('remove', change, false);
      }),
    { validator: (change) => atTheEdge(() => checkChange(change)) },
  );

  setHandler(observedChangedSignal, () => {
    observedChanged = true;
  });
  setHandler(stateQuery, () => state);

  // ---- acting ----
  const planRequest = (operation: Operation): PlanRequest | undefined => {
    const desired = desiredOf(state);
    return (
      desired && {
        operation: operation.id,
        kind: operation.kind,
        desired,
        refusals: {},
        attempt: 1,
        seed: operation.id,
        nowMs: Date.now(),
      }
    );
  };

  const runChild = async (operation: Operation, request: PlanRequest): Promise<OperationOutcome> => {
    const fallback = fallbackOf(state);
    const childInput: OperationInput = { operation, request, ...(fallback ? { fallback } : {}) };
    const { release, scale } = request.desired;
    // Until the release has been healthy once, whatever changes can fail it, and has to be able to go back.
    const type = operation.kind === 'scale' && fallback ? WORKFLOW.deploy : CHILD_OF[operation.kind];
    return executeChild(type, {
      workflowId: operation.id,
      workflowIdReusePolicy: WorkflowIdReusePolicy.ALLOW_DUPLICATE,
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
  const runOperation = async (queued: Operation): Promise<OperationOutcome | 'superseded'> => {
    const operation: Operation = { ...queued, state: 'running', startedAtMs: Date.now() };
    const request = planRequest(operation);
    if (!request) return { kind: 'succeeded', message: 'there is nothing to do' };
    const scope = new CancellationScope();
    running = { operation, scope };
    try {
      return await scope.run(() => runChild(operation, request));
    } catch (error) {
      if (state.queued && isCancellation(error)) return 'superseded';
      return { kind: 'failed', error: errorOfChild(error) };
    } finally {
      running = undefined;
    }
  };

  const keepOnlyHostnamesOf = (release: Release) =>
    insist('give hostnames back', () => local.releaseHostnames({ ...key, keep: hostnamesOf(release.spec) }));

  const settle = async (operation: Operation, outcome: OperationOutcome | 'superseded'): Promise<void> => {
    const ended = { ...operation, endedAtMs: Date.now() };
    if (outcome === 'superseded') {
      supersede(operation, state.queued?.id ?? state.newestOperation);
      return;
    }
    const newest = state.queued === undefined;
    switch (outcome.kind) {
      case 'succeeded': {
        record({ ...ended, state: 'succeeded', message: outcome.message });
        announce(
          'info',
          'operation.succeeded',
          `${operation.kind} of ${state.name}: ${outcome.message}`,
          operation.id,
        );
        const hostnamesMayHaveGone = operation.kind === 'deploy' || operation.kind === 'rollback';
        state = { ...state, settledRelease: operation.release, failedReschedules: 0 };
        if (newest) {
          state = { ...state, state: 'steady', message: outcome.message };
          const desired = desiredOf(state);
          if (desired && hostnamesMayHaveGone && state.releases.length > 1)
            await keepOnlyHostnamesOf(desired.release);
        }
        return;
      }
      case 'failed':
        record({ ...ended, state: 'failed', message: outcome.error.message, error: outcome.error });
        announce(
          'error',
          'operation.failed',
          `${operation.kind} of ${state.name} failed: ${outcome.error.message}`,
          operation.id,
        );
        state = { ...state, failedReschedules: state.failedReschedules + 1 };
        if (newest) state = { ...state, state: 'failed', message: outcome.error.message };
        return;
      case 'rolled_back': {
        const message = `v${operation.release} was rolled back to v${state.settledRelease}: ${outcome.error.message}`;
        record({ ...ended, state: 'rolled_back', message, error: outcome.error });
        announce('error', 'operation.rolled_back', `${state.name}: ${message}`, operation.id);
        // A newer change has already said what is desired.
        if (newest && state.settledRelease !== undefined) {
          state = {
            ...state,
            desiredRelease: state.settledRelease,
            state: 'steady',
            message,
            generation: state.generation + 1,
          };
          dirty = true;
          const desired = desiredOf(state);
          if (desired) await keepOnlyHostnamesOf(desired.release);
        }
        return;
      }
    }
  };

  const forget = async (removal: Operation): Promise<void> => {
    forgetting = true;
    await insist('forget the microservice', () =>
      local.forgetMicroservice({
        ...key,
        operation: removal,
        events: [
          {
            atMs: Date.now(),
            level: 'info',
            type: 'microservice.removed',
            message: removal.message,
            project: state.project,
            microservice: state.name,
            operation: removal.id,
          },
        ],
      }),
    );
    forgetting = false;
    if (!state.queued) {
      finished = true;
      return;
    }
    // A change that came meanwhile begins a new life, of which the old releases are no part.
    const { settledRelease: _gone, ...rest } = state;
    state = { ...rest, releases: state.releases.filter(({ number }) => number === state.desiredRelease) };
    const hostnames = state.releases.flatMap(({ spec }) => hostnamesOf(spec));
    await insist('claim hostnames', () => local.claimHostnames({ ...key, hostnames }));
  };

  const execute = async (operation: Operation): Promise<void> => {
    setCurrentDetails(`Running \`${operation.id}\``);
    announce(
      'info',
      'operation.started',
      `${operation.kind} of ${state.name} v${operation.release} at scale ${operation.scale}`,
      operation.id,
    );
    const outcome = await runOperation(operation);
    if (operation.kind === 'remove' && outcome !== 'superseded' && outcome.kind === 'succeeded') {
      await condition(() => flushed() || state.queued !== undefined);
      if (!state.queued) {
        await forget({ ...operation, state: 'succeeded', message: outcome.message, endedAtMs: Date.now() });
        return;
      }
    }
    await settle(operation, outcome);
    setCurrentDetails(state.message);
  };

  /** Looks whether something has come apart, and mends it. */
  const reconcile = async (): Promise<void> => {
    observedChanged = false;
    const desired = desiredOf(state);
    if (!desired) return;
    const preview = await insist('look at what runs', () =>
      local.previewPlan({
        operation: 'preview',
        kind: state.removing ? 'remove' : 'reschedule',
        desired: state.removing ? { ...desired, scale: 0 } : desired,
        refusals: {},
        attempt: 1,
        seed: state.newestOperation,
        nowMs: Date.now(),
      }),
    );
    if (state.queued) return;
    if (preview.phases.length > 0) {
      const operation = newOperation(state.removing ? 'remove' : 'reschedule');
      const next = rememberOperation(state, operation);
      state = next.state;
      forgetOperations.push(...next.forgotten);
      record(operation);
      await execute(operation);
      return;
    }
    if (preview.converged && state.state === 'failed') {
      state = {
        ...state,
        state: 'steady',
        message: `v${desired.release.number} runs at scale ${desired.scale}`,
        settledRelease: desired.release.number,
        failedReschedules: 0,
      };
      announce('info', 'microservice.recovered', `${state.name}: ${state.message}`);
    }
  };

  const untilNextReconcileMs = (): number =>
    state.failedReschedules === 0
      ? TIMEOUT.reconcileEveryMs
      : Math.min(
          TIMEOUT.rescheduleBackoffMs * 2 ** (state.failedReschedules - 1),
          TIMEOUT.rescheduleMaxBackoffMs,
        );

  const published = publisher();
  for (;;) {
    if (state.queued) {
      const operation = state.queued;
      const { queued: _begun, ...rest } = state;
      state = rest;
      await execute(operation);
      if (finished) break;
      continue;
    }
    if (workflowInfo().continueAsNewSuggested && flushed() && allHandlersFinished()) {
      await continueAsNew<typeof microserviceWorkflow>({ ...key, carried: state });
    }
    if (state.desiredRelease === 0) {
      // Begun by a change that was refused: nothing to own.
      await condition(() => state.queued !== undefined || allHandlersFinished());
      if (!state.queued && allHandlersFinished()) return;
      continue;
    }
    const backingOff = state.failedReschedules > 0;
    await condition(
      () => state.queued !== undefined || (observedChanged && !backingOff),
      untilNextReconcileMs(),
    );
    if (!state.queued) await reconcile();
    if (finished) break;
  }
  await published;
  await condition(allHandlersFinished);
}
