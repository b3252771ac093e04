/**
 * What a microservice's entity does by itself: runs operations one at a time, enters how they ended, and heals what
 * has come apart.
 */

import { log, patched, setCurrentDetails } from '@temporalio/workflow';

import { TIMEOUT } from '../contracts/timeouts';
import type { OperationOutcome } from '../contracts/workflows';
import { describeDesired } from '../domain/describe-desired';
import type { ClusterEvent, Desired, Operation, OperationError, OperationKind, Plan } from '../domain/model';

import type { Entity } from './entity';
import { createHostnames } from './entity-hostnames';
import { createOperationRunner, planRequest } from './entity-run';
import { desiredOf, emptyEntityState, rememberOperation } from './entity-state';
import { insist } from './publisher';
import { withSwitched } from './switched-release';

/** Whether a plan of this kind waits until every replica is healthy, also those that were there before. */
const provesHealth = (kind: OperationKind): boolean =>
  kind === 'deploy' || kind === 'rollback' || kind === 'restart';

const isMoveForBalance = ({ phases }: Plan): boolean =>
  phases.some(({ steps }) => steps.some((step) => step.kind === 'stop' && step.reason === 'rebalanced'));

/** An event is one line, so it has the end of the log only. */
const EVENT_LOG_LINES = 3;
const EVENT_LINE_LENGTH = 200;

const withLastWords = (message: string, { logTail }: OperationError): string => {
  const lines = logTail
    .slice(-EVENT_LOG_LINES)
    .map((line) => JSON.stringify(line.slice(0, EVENT_LINE_LENGTH)));
  if (lines.length === 0) return message;
  return `${message.replace(/[^.!?]$/, '$&.')} Its last lines: ${lines.join(', ')}.`;
};

export interface Operations {
  /** Runs what a change has queued, until it has ended or a newer change supersedes it. */
  execute(queued: Operation): Promise<void>;
  /** Looks whether something has come apart, and mends it. */
  reconcile(): Promise<void>;
  untilNextLookMs(): number;
}

export const createOperations = (entity: Entity): Operations => {
  const { key, local, publisher, announce, inTurn } = entity;
  const runOperation = createOperationRunner(entity);
  const hostnames = createHostnames(entity);

  const previewOf = (desired: Desired): Promise<Plan> =>
    insist('look at what runs', () =>
      local.previewPlan(planRequest('preview', 'reschedule', desired, entity.state.newestOperation)),
    );

  /** Whether a release that was made without replicas runs for the first time, and as it should. */
  const isFirstRun = async ({ kind, release }: Operation): Promise<boolean> => {
    const desired = desiredOf(entity.state);
    if (kind !== 'scale' || !desired || entity.state.settledRelease === release) return false;
    // Histories from before it have no look here.
    if (!patched('prove-first-run')) return false;
    return (await previewOf(desired)).converged;
  };

  /** Enters how an operation ended; when its record says so, everything that ends with it has ended. */
  const settle = async (operation: Operation, outcome: OperationOutcome): Promise<void> => {
    const ended = { ...operation, endedAtMs: Date.now() };
    // A newer change has already said what is desired, and is about to run.
    const isNewest = entity.state.queued === undefined;
    // Whatever is published of what is not changing ends the split.
    if (isNewest) {
      const { splitRelease: _ended, ...rest } = entity.state;
      entity.state = withSwitched(rest, undefined);
    }
    const { id, kind } = operation;
    switch (outcome.kind) {
      case 'succeeded': {
        const { message } = outcome;
        if (kind !== 'remove') {
          entity.state = { ...entity.state, failedReschedules: 0 };
          // What has no replicas proves nothing, and lacks nothing.
          const isIdle = operation.scale === 0;
          if (!isIdle && (provesHealth(kind) || (await isFirstRun(operation)))) {
            entity.state = { ...entity.state, settledRelease: operation.release };
            if (isNewest) await hostnames.take();
          }
          if (isNewest && (isIdle || entity.state.settledRelease === operation.release)) {
            entity.state = { ...entity.state, state: 'steady', message };
          } else if (isNewest) {
            entity.state = {
              ...entity.state,
              state: 'failed',
              message: `${message}, and has not been healthy yet`,
            };
            entity.observedChanged = true;
          }
          await hostnames.giveBack();
        }
        publisher.record({ ...ended, state: 'succeeded', message });
        announce('info', 'operation.succeeded', `${kind} of ${entity.state.name}: ${message}`, id);
        return;
      }
      case 'failed': {
        const { error } = outcome;
        if (isNewest) {
          const { policy } = desiredOf(entity.state)?.release.spec.restart ?? {};
          const hasFailedForGood =
            policy === 'never' && error.code === 'unhealthy' && patched('a-job-that-failed');
          entity.state = {
            ...entity.state,
            hasFailedForGood,
            // A removal that failed is still a removal, also for an entity that is rebuilt from its document.
            state: entity.state.removing ? 'removing' : 'failed',
            message: error.message,
            failedReschedules: entity.state.failedReschedules + 1,
          };
        }
        publisher.record({ ...ended, state: 'failed', message: error.message, error });
        announce(
          'error',
          'operation.failed',
          `${kind} of ${entity.state.name} failed: ${withLastWords(error.message, error)}`,
          id,
        );
        return;
      }
      case 'rolled_back': {
        const { error } = outcome;
        const message = `v${operation.release} was rolled back to v${entity.state.settledRelease}: ${error.message}`;
        if (isNewest && entity.state.settledRelease !== undefined) {
          const generation = entity.state.generation + 1;
          entity.state = {
            ...entity.state,
            desiredRelease: entity.state.settledRelease,
            state: 'steady',
            message,
            generation,
          };
          // Going back may not have been finished.
          entity.observedChanged = true;
          // What it goes back to may have been about to take some.
          await hostnames.take();
          await hostnames.giveBack();
        }
        publisher.record({ ...ended, state: 'rolled_back', message, error });
        announce(
          'error',
          'operation.rolled_back',
          `${entity.state.name}: ${withLastWords(message, error)}`,
          id,
        );
        log.warn('a release was rolled back', {
          microservice: entity.state.name,
          operation: id,
          why: message,
          logTail: error.logTail,
        });
        return;
      }
    }
  };

  /** Deletes what was published, unless a change came meanwhile; changes that come now begin a new life of it. */
  const forget = (removal: Operation): Promise<void> =>
    inTurn(async () => {
      if (entity.state.queued) return settle(removal, { kind: 'succeeded', message: removal.message });
      const removed: ClusterEvent = {
        atMs: Date.now(),
        level: 'info',
        type: 'microservice.removed',
        message: removal.message,
        project: entity.state.project,
        microservice: entity.state.name,
        operation: removal.id,
      };
      await publisher.alone(() =>
        insist('forget the microservice', () =>
          local.forgetMicroservice({ ...key, operation: removal, events: [removed] }),
        ),
      );
      entity.state = { ...emptyEntityState(key, Date.now()), generation: entity.state.generation };
    });

  const execute = async (queued: Operation): Promise<void> => {
    const operation: Operation = { ...queued, state: 'running', startedAtMs: Date.now() };
    const { id, kind, release, scale } = operation;
    const desired = desiredOf(entity.state);
    const howMany = desired ? describeDesired(desired) : `at scale ${scale}`;
    setCurrentDetails(`Running \`${id}\``);
    announce('info', 'operation.started', `${kind} of ${entity.state.name} v${release} ${howMany}`, id);
    const outcome = await runOperation(operation, queued.state === 'paused');
    if (outcome === 'superseded') {
      entity.supersede(operation, entity.state.queued?.id ?? entity.state.newestOperation);
    } else if (kind === 'remove' && outcome.kind === 'succeeded') {
      await forget({ ...operation, state: 'succeeded', message: outcome.message, endedAtMs: Date.now() });
    } else {
      await settle(operation, outcome);
    }
    setCurrentDetails(entity.state.message);
  };

  /** Runs an operation that nobody has asked for. */
  const mend = async (kind: 'reschedule' | 'remove'): Promise<void> => {
    const operation = entity.newOperation(kind, { kind: 'system' });
    const next = rememberOperation(entity.state, operation);
    entity.state = next.state;
    publisher.forget({ operations: next.forgotten });
    publisher.record(operation);
    await execute(operation);
  };

  /** Looks whether something has come apart, and mends it. */
  const reconcile = async (): Promise<void> => {
    const { hasRoom } = entity;
    entity.observedChanged = false;
    entity.hasRoom = false;
    const desired = desiredOf(entity.state);
    if (!desired) return;
    if (entity.state.removing) return mend('remove');
    if (entity.state.hasFailedForGood) return;
    const preview = await previewOf(desired);
    if (entity.state.queued) return;
    if (preview.phases.length > 0) {
      await mend('reschedule');
      // Replicas move to where there are fewer when nothing else is to be mended, one at a time: when one has, or could
      // not because something else came first, the next one is due, and nobody tells.
      if ((hasRoom || isMoveForBalance(preview)) && patched('level-until-even'))
        entity.observedChanged = true;
      return;
    }
    if (preview.unplaced > 0 && patched('say-what-is-unplaced')) {
      // Once it has been said, there is nothing to do but to look again, less and less often.
      if (entity.state.state === 'steady') return mend('reschedule');
      entity.state = { ...entity.state, failedReschedules: entity.state.failedReschedules + 1 };
      return;
    }
    if (preview.converged && entity.state.state === 'steady' && entity.state.holdsSpareHostnames) {
      if (patched('give-back-spare-hostnames')) await hostnames.giveBack();
      return;
    }
    if (preview.converged && entity.state.state !== 'steady') {
      entity.state = {
        ...entity.state,
        state: 'steady',
        message: `v${desired.release.number} runs ${describeDesired(desired)}`,
        ...(desired.scale > 0 ? { settledRelease: desired.release.number } : {}),
        failedReschedules: 0,
      };
      if (desired.scale > 0) await hostnames.take();
      await hostnames.giveBack();
      announce('info', 'microservice.recovered', `${entity.state.name}: ${entity.state.message}`);
    }
  };

  const untilNextLookMs = (): number =>
    entity.state.failedReschedules === 0 || entity.state.hasFailedForGood
      ? TIMEOUT.reconcileEveryMs
      : Math.min(
          TIMEOUT.rescheduleBackoffMs * 2 ** (entity.state.failedReschedules - 1),
          TIMEOUT.rescheduleMaxBackoffMs,
        );

  return { execute, reconcile, untilNextLookMs };
};
