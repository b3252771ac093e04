/**
 * What the parts of a microservice's entity share: its state, its way out to Consul, and turns for what must not
 * overlap.
 */

import {
  ApplicationFailure,
  condition,
  currentUpdateInfo,
  uuid4,
  type CancellationScope,
} from '@temporalio/workflow';

import { operationId, type ReleaseProgress } from '../contracts/workflows';
import { ContainerOsError } from '../domain/errors';
import { longId } from '../domain/hash';
import type { Actor, EventLevel, MicroserviceKey, Operation, OperationKind } from '../domain/model';

import { documentOf, emptyEntityState, type EntityState } from './entity-state';
import { createLocalActivities, type LocalActivities } from './local-activities';
import { createPublisher, type Publisher } from './publisher';

export interface MicroserviceInput extends MicroserviceKey {
  /** The state of the run before, or the one rebuilt from what was published. */
  readonly carried?: EntityState;
  /** Records of operations that had given way to newer ones and never ended, as their entity was lost. */
  readonly lost?: readonly Operation[];
}

export interface UnderWay {
  readonly operation: Operation;
  /** Left out until it has told of any. */
  readonly progress?: ReleaseProgress;
  /** It began where another one was paused. */
  readonly startsPaused?: true;
}

/** Whether somebody has paused the release that is under way, and nobody has it go on. */
export const isHalted = ({ current }: Entity): boolean =>
  current?.progress?.isHalted ?? current?.startsPaused === true;

export interface Entity {
  readonly key: MicroserviceKey;
  state: EntityState;
  /** What the operation under way runs in; a newer change cancels it. */
  running: CancellationScope | undefined;
  /** Tells the operation under way that nodes are lost. */
  tellLost: ((nodeIds: readonly string[]) => void) | undefined;
  /** The operation under way, and how far its release is, as far as it goes on in stages or is paused. */
  current: UnderWay | undefined;
  /** Signals the operation under way. @throws when it has ended */
  signalCurrent: (<T>(signal: string, payload: T) => Promise<void>) | undefined;
  /** Somebody has seen a change of what runs: look whether it has come apart. */
  observedChanged: boolean;
  /** There may be room for what could not be mended: look, whatever the back-off says. */
  hasRoom: boolean;
  readonly local: LocalActivities;
  readonly publisher: Publisher;
  readonly announce: (level: EventLevel, type: string, message: string, operation?: string) => void;
  newOperation(kind: OperationKind, by: Actor | undefined): Operation;
  /**
   * Records that an operation has given way to a newer one.
   *
   * @param more for people
   */
  supersede(operation: Operation, by: string, more?: string): void;
  /**
   * What waits for Consul between looking at the state and changing it takes turns: changes, so that they take effect
   * in the order they came, and the entity's own dealings with hostnames.
   */
  readonly inTurn: <T>(body: () => Promise<T>) => Promise<T>;
}

/**
 * An update whose workflow task was lost comes again, maybe to the next run, when its record has been published
 * already: so its operation gets the same id again.
 */
const newSuffix = (): string => {
  const update = currentUpdateInfo();
  return update ? longId(update.id) : uuid4().replaceAll('-', '').slice(0, 12);
};

/** Expected refusals cross the update's edge as ApplicationFailure; defects stay as they are. */
export const atTheEdge = <T>(body: () => T): T => {
  try {
    return body();
  } catch (error) {
    if (!(error instanceof ContainerOsError)) throw error;
    throw ApplicationFailure.nonRetryable(error.message, error.code, error.problems);
  }
};

export const createEntity = (input: MicroserviceInput): Entity => {
  const key: MicroserviceKey = { project: input.project, name: input.name };
  const state = input.carried ?? emptyEntityState(key, Date.now());
  const local = createLocalActivities();
  const publisher = createPublisher(local, () => documentOf(entity.state, Date.now()), state.generation);
  let turns = 0;
  let turn = 0;

  const entity: Entity = {
    key,
    state,
    running: undefined,
    tellLost: undefined,
    current: undefined,
    signalCurrent: undefined,
    observedChanged: input.carried !== undefined,
    hasRoom: false,
    local,
    publisher,
    announce: (level, type, message, operation) =>
      publisher.announce({
        atMs: Date.now(),
        level,
        type,
        message,
        project: entity.state.project,
        microservice: entity.state.name,
        ...(operation === undefined ? {} : { operation }),
      }),
    newOperation: (kind, by) => ({
      project: entity.state.project,
      name: entity.state.name,
      id: operationId(kind, key, newSuffix()),
      kind,
      state: 'queued',
      release: entity.state.desiredRelease,
      scale: entity.state.scale,
      message: '',
      plan: [],
      ...(by === undefined ? {} : { by }),
      createdAtMs: Date.now(),
    }),
    supersede: (operation, by, more = '') =>
      publisher.record({
        ...operation,
        state: 'superseded',
        message: `superseded by ${by}${more}`,
        endedAtMs: Date.now(),
      }),
    inTurn: async (body) => {
      const mine = turns;
      turns += 1;
      if (turn !== mine) await condition(() => turn === mine);
      try {
        return await body();
      } finally {
        turn += 1;
      }
    },
  };
  return entity;
};
