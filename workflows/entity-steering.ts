/**
 * Takes in what users ask of a release that is under way (promote, abort, pause, resume), and what its operation tells of
 * it.
 *
 * Invariants: what cannot be is refused in words before anything is recorded; what the operation was told is what the
 * user was answered with.
 */

import {
  ApplicationFailure,
  condition,
  defineSignal,
  defineUpdate,
  log,
  setHandler,
} from '@temporalio/workflow';

import {
  SIGNAL,
  UPDATE,
  type ChangeAccepted,
  type ChangeRequest,
  type ReleaseProgress,
  type ReleaseSwitchedSignal,
  type SteerRequest,
  type SteerSignal,
} from '../contracts/workflows';
import { ContainerOsError } from '../domain/errors';

import { atTheEdge, isHalted, type Entity } from './entity';
import { checkChange, desiredOf, fallbackOf, rememberRequest, takenOverInStages } from './entity-state';
import { withSwitched } from './switched-release';

const steerUpdate = defineUpdate<ChangeAccepted, [SteerRequest]>(UPDATE.steer);
const releaseProgressSignal = defineSignal<[ReleaseProgress]>(SIGNAL.releaseProgress);
const releaseSwitchedSignal = defineSignal<[ReleaseSwitchedSignal]>(SIGNAL.releaseSwitched);

const RELEASING = new Set(['deploy', 'rollback', 'restart']);

/** @throws {ContainerOsError} `conflict` when there is nothing that the command could be for */
const checkSteering = (entity: Entity, { command }: SteerRequest): void => {
  const { name } = entity.state;
  const conflict = (message: string) => new ContainerOsError('conflict', message);
  const { operation, progress } = entity.current ?? {};
  const fallback = fallbackOf(entity.state);
  const isReleasing =
    operation !== undefined &&
    (RELEASING.has(operation.kind) || (operation.kind === 'scale' && fallback !== undefined));
  if (!isReleasing) {
    const why =
      operation === undefined
        ? `No release of ${name} is under way.`
        : `${operation.id} is no release: there is nothing to ${command}.`;
    throw conflict(`${why} GET /v1/microservices/${name} tells what there is.`);
  }
  const isStaged = takenOverInStages(entity.state, operation.kind) !== undefined;
  switch (command) {
    case 'promote':
      if (!isStaged) {
        throw conflict(
          `v${operation.release} of ${name} does not take over in stages, so there is nothing to promote. "update.strategy" is for "canary" and "blue-green".`,
        );
      }
      // One that has only begun has told nothing yet.
      if (progress?.canPromote !== false) return;
      throw conflict(
        `v${operation.release} of ${name} gets all requests already: there is nothing more to promote.`,
      );
    case 'abort':
      if (fallback !== undefined) return;
      throw conflict(
        `There is no earlier healthy release of ${name} that it could go back to. Deploy another one, scale it to 0, or remove it.`,
      );
    case 'pause':
      if (desiredOf(entity.state)?.release.spec.update.strategy === 'recreate') {
        throw conflict(
          `v${operation.release} of ${name} stops all old replicas before it starts ("recreate"): paused in between, nothing would run. Abort it, or let it go on.`,
        );
      }
      if (!isHalted(entity)) return;
      throw conflict(`v${operation.release} of ${name} is paused already.`);
    case 'resume':
      if (isHalted(entity)) return;
      throw conflict(
        progress?.state === 'paused'
          ? `v${operation.release} of ${name} waits to be promoted; nobody has paused it.`
          : `v${operation.release} of ${name} is not paused.`,
      );
  }
};

/** @param change runs the body in turn, and answers a repeated request as the first time */
export const steerReleases = (
  entity: Entity,
  change: (request: ChangeRequest, body: () => Promise<ChangeAccepted>) => Promise<ChangeAccepted>,
): void => {
  const { publisher, announce } = entity;

  const checked = (request: SteerRequest) =>
    atTheEdge(() => {
      checkChange(entity.state, request);
      checkSteering(entity, request);
    });

  setHandler(
    steerUpdate,
    (request) =>
      change(request, async () => {
        checked(request);
        // It may be about to start.
        await condition(() => entity.signalCurrent !== undefined || entity.current === undefined);
        checked(request);
        const { command, wantedBy: by } = request;
        const { operation } = entity.current ?? {};
        const { signalCurrent } = entity;
        if (operation === undefined || signalCurrent === undefined)
          throw new Error('what is checked is there');
        try {
          await signalCurrent<SteerSignal>(SIGNAL.steer, { command, by });
        } catch (error) {
          log.debug('an operation ended before it could be steered', { error: String(error) });
          throw ApplicationFailure.nonRetryable(
            `${operation.id} has just ended: there is nothing to ${command} any more.`,
            'conflict',
          );
        }
        entity.state = {
          ...entity.state,
          remembered: rememberRequest(entity.state, operation, request),
        };
        // Whoever gives it up does not go on from it.
        if (command === 'abort') entity.state = withSwitched(entity.state, undefined);
        announce(
          'info',
          `release.${command}`,
          `${operation.id}: ${command}, asked for by ${by}`,
          operation.id,
        );
        const { generation } = entity.state;
        const index = await publisher.published(generation);
        return { operation, generation, created: false, index };
      }),
    { validator: checked },
  );

  setHandler(releaseProgressSignal, (progress) => {
    const { current } = entity;
    if (current === undefined || current.operation.id !== progress.operation) return;
    const operation = { ...current.operation, state: progress.state, message: progress.message };
    const isNews = progress.message !== '' && progress.message !== current.progress?.message;
    entity.current = { operation, progress };
    publisher.record(operation);
    if (entity.state.queued) return;
    entity.state = { ...entity.state, message: progress.message };
    if (isNews) {
      const words = `${entity.state.name} v${operation.release}: ${progress.message}`;
      announce('info', 'release.progress', words, operation.id);
    }
  });

  setHandler(releaseSwitchedSignal, ({ operation, isSwitched }) => {
    const { current } = entity;
    if (current === undefined || current.operation.id !== operation) return;
    entity.state = withSwitched(entity.state, isSwitched ? current.operation.release : undefined);
  });
};
