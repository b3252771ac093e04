/**
 * The state of a microservice's entity, and how accepted changes turn one state into the next. Pure.
 *
 * Invariants: `generation` grows by one with each accepted change and each automatic rollback; release numbers only grow; the settled release is
 * never forgotten; the state is plain JSON, because it is carried into the next run.
 */

import { KEPT_OPERATIONS, KEPT_RELEASES, KEPT_RELEASES_BYTES } from '../contracts/kv';
import type { HeldHostname } from '../contracts/activities';
import type { ApplyRequest, ChangeRequest, ImagesResolvedSignal } from '../contracts/workflows';
import { ContainerOsError } from '../domain/errors';
import { claimsOfPort, withoutClaims } from '../domain/ingress/route-options';
import { jsonBytes } from '../domain/json-bytes';
import { FINAL_OPERATION_STATES } from '../domain/model';
import type {
  Desired,
  Microservice,
  MicroserviceKey,
  MicroserviceState,
  Operation,
  OperationKind,
  Release,
} from '../domain/model';
import { withDigests } from '../domain/release-images';
import { isRolledOut, takesOverInStages } from '../domain/release-stages';
import type { ReleaseSpec } from '../domain/spec/schema';
import type { TrafficSplit } from '../domain/traffic';

const KEPT_IDEMPOTENCY_KEYS = 100;

export interface RememberedRequest {
  readonly key: string;
  readonly hash: string;
  readonly operation: Operation;
}

export interface EntityState extends MicroserviceKey {
  readonly createdAtMs: number;
  readonly generation: number;
  readonly scale: number;
  /** Newest last; the last one is the desired one unless it was rolled back. */
  readonly releases: readonly Release[];
  readonly desiredRelease: number;
  readonly lastReleaseNumber: number;
  readonly settledRelease?: number;
  readonly state: MicroserviceState;
  readonly message: string;
  readonly removing: boolean;
  /** Accepted, not yet begun. */
  readonly queued?: Operation;
  readonly newestOperation: string;
  /** Ids, oldest first. */
  readonly operations: readonly string[];
  readonly remembered: readonly RememberedRequest[];
  /** Hostnames may be held that the desired release does not ask for. */
  readonly holdsSpareHostnames: boolean;
  /** What others have of the desired release's hostnames, to be taken from them once it serves. */
  readonly movingHostnames?: readonly HeldHostname[];
  /** The desired release is a job that may run once (restart policy never), and has failed: it is not run again. */
  readonly hasFailedForGood?: boolean;
  /** The release that requests are split for, by an operation that may have been superseded. */
  readonly splitRelease?: number;
  /** The release that all requests have been switched to, by an operation that has not settled it yet. */
  readonly switchedRelease?: number;
  /** Failed attempts at healing in a row: the exponent of the back-off. */
  readonly failedReschedules: number;
}

export const emptyEntityState = (key: MicroserviceKey, nowMs: number): EntityState => ({
  project: key.project,
  name: key.name,
  createdAtMs: nowMs,
  generation: 0,
  scale: 1,
  releases: [],
  desiredRelease: 0,
  lastReleaseNumber: 0,
  state: 'changing',
  message: '',
  removing: false,
  newestOperation: '',
  operations: [],
  remembered: [],
  holdsSpareHostnames: false,
  failedReschedules: 0,
});

/** As when it was made: without releases, but for their numbers, of which replicas may still run. */
export const withoutReleases = (state: EntityState, nowMs: number): EntityState => {
  const { settledRelease: _removed, ...rest } = state;
  return {
    ...rest,
    createdAtMs: nowMs,
    releases: [],
    desiredRelease: 0,
    removing: false,
    holdsSpareHostnames: state.desiredRelease > 0,
  };
};

/** Whether the microservice exists for users: it has a release and is not on its way out. */
export const exists = (state: EntityState): boolean => state.desiredRelease > 0 && !state.removing;

export const findRelease = (state: EntityState, number: number): Release | undefined =>
  state.releases.find((release) => release.number === number);

export const desiredOf = (state: EntityState): Desired | undefined => {
  const release = findRelease(state, state.desiredRelease);
  return (
    release && { project: state.project, name: state.name, release: withDigests(release), scale: state.scale }
  );
};

/** What a failing release goes back to: the settled one, unless that is the failing one. */
export const fallbackOf = (state: EntityState): Desired | undefined => {
  if (state.settledRelease === undefined || state.settledRelease === state.desiredRelease) return undefined;
  const release = findRelease(state, state.settledRelease);
  return (
    release && { project: state.project, name: state.name, release: withDigests(release), scale: state.scale }
  );
};

/** What the desired release takes over from in stages, by an operation of this kind; undefined: it is rolled out. */
export const takenOverInStages = (state: EntityState, kind: OperationKind): Desired | undefined => {
  const desired = desiredOf(state);
  const old = fallbackOf(state);
  const isStaged =
    desired !== undefined && !isRolledOut(desired.release) && takesOverInStages(kind, desired, old);
  return isStaged ? old : undefined;
};

/** Enters which bits the images of a release are, unless that is known; a release that is gone stays so. */
export const withImages = (
  state: EntityState,
  { release, releasedAtMs, images, localImages }: ImagesResolvedSignal,
): EntityState => ({
  ...state,
  releases: state.releases.map((one) =>
    one.number === release && one.createdAtMs === releasedAtMs && one.images === undefined
      ? { ...one, images, ...(Object.keys(localImages).length === 0 ? {} : { localImages }) }
      : one,
  ),
});

/** All that a release's ports ask for: hostnames, some with a path, and public ports; each once, in a stable order. */
export const hostnamesOf = (spec: ReleaseSpec): string[] =>
  [...new Set(spec.containers.flatMap((container) => container.ports.flatMap(claimsOfPort)))].sort();

/** The specification without some of what it asks for; a port that loses all of it is a plain port. */
export const withoutHostnames = (spec: ReleaseSpec, gone: readonly string[]): ReleaseSpec => ({
  ...spec,
  containers: spec.containers.map((container) => ({
    ...container,
    ports: container.ports.map((port) => withoutClaims(port, gone)),
  })),
});

/**
 * The earlier answer to a request with the same idempotency key, if there is one.
 *
 * @throws ContainerOsError `conflict` when the key was used for another request
 */
export const findRemembered = (state: EntityState, change: ChangeRequest): RememberedRequest | undefined => {
  if (change.idempotencyKey === undefined) return undefined;
  const found = state.remembered.find(({ key }) => key === change.idempotencyKey);
  if (found && found.hash !== (change.requestHash ?? '')) {
    throw new ContainerOsError(
      'conflict',
      `The idempotency key ${change.idempotencyKey} was used for another request. Use a new key for a new request.`,
    );
  }
  return found;
};

/**
 * Refuses a change that was made for another generation.
 *
 * @throws ContainerOsError `precondition_failed`
 */
export const checkGeneration = (state: EntityState, change: ChangeRequest): void => {
  if (change.ifGeneration === undefined) return;
  const generation = exists(state) ? state.generation : 0;
  if (change.ifGeneration === generation) return;
  const why =
    generation === 0
      ? `There is no microservice ${state.name}.`
      : change.ifGeneration === 0
        ? `There is a microservice ${state.name} already.`
        : `${state.name} is at generation ${generation}, not ${change.ifGeneration}. Read it again and repeat the change.`;
  throw new ContainerOsError('precondition_failed', why);
};

/** Makes an operation the newest one; forgets the oldest beyond what is kept. */
export const rememberOperation = (
  state: EntityState,
  operation: Operation,
): { readonly state: EntityState; readonly forgotten: readonly string[] } => {
  const operations = [...state.operations, operation.id];
  const forgotten = operations.slice(0, Math.max(0, operations.length - KEPT_OPERATIONS));
  return {
    state: { ...state, newestOperation: operation.id, operations: operations.slice(forgotten.length) },
    forgotten,
  };
};

/** Remembers under which key an operation was asked for, or something of it. */
export const rememberRequest = (
  state: EntityState,
  operation: Operation,
  change: ChangeRequest,
): EntityState['remembered'] =>
  change.idempotencyKey === undefined
    ? state.remembered
    : [...state.remembered, { key: change.idempotencyKey, hash: change.requestHash ?? '', operation }].slice(
        -KEPT_IDEMPOTENCY_KEYS,
      );

/** Enters an accepted operation: it becomes the queued one, and the one before it, if any, is superseded. */
export const enqueue = (
  state: EntityState,
  operation: Operation,
  change: ChangeRequest,
): { readonly state: EntityState; readonly forgotten: readonly string[] } => {
  const entered = rememberOperation(state, operation);
  const remembered = rememberRequest(state, operation, change);
  return {
    state: {
      ...entered.state,
      generation: state.generation + 1,
      state: operation.kind === 'remove' ? 'removing' : 'changing',
      message: '',
      queued: operation,
      remembered,
      hasFailedForGood: false,
      failedReschedules: 0,
    },
    forgotten: entered.forgotten,
  };
};

/** The newest releases that together are small enough to be kept. */
const newestKept = (releases: readonly Release[]): readonly Release[] => {
  let bytes = 0;
  const fitting = releases.toReversed().findIndex((release) => {
    bytes += jsonBytes(release);
    return bytes > KEPT_RELEASES_BYTES;
  });
  return releases.slice(-(fitting === -1 ? KEPT_RELEASES : Math.max(1, Math.min(fitting, KEPT_RELEASES))));
};

/** Adds a release and makes it the desired one; forgets the oldest beyond what is kept. */
export const addRelease = (
  state: EntityState,
  spec: ReleaseSpec,
  nowMs: number,
  origin: Omit<Release, 'number' | 'spec' | 'createdAtMs'> = {},
): { readonly state: EntityState; readonly forgotten: readonly number[] } => {
  const number = state.lastReleaseNumber + 1;
  const release: Release = { number, spec, createdAtMs: nowMs, ...origin };
  const all = [...state.releases, release];
  const kept = new Set(newestKept(all).map((one) => one.number));
  if (state.settledRelease !== undefined) kept.add(state.settledRelease);
  return {
    state: {
      ...state,
      releases: all.filter((one) => kept.has(one.number)),
      desiredRelease: number,
      lastReleaseNumber: number,
      holdsSpareHostnames: state.holdsSpareHostnames || state.desiredRelease > 0,
    },
    forgotten: all.filter((one) => !kept.has(one.number)).map((one) => one.number),
  };
};

/** What is published of the entity; undefined while it has no release. */
export const documentOf = (state: EntityState, nowMs: number): Microservice | undefined => {
  const release = findRelease(state, state.desiredRelease);
  if (!release) return undefined;
  return {
    project: state.project,
    name: state.name,
    generation: state.generation,
    scale: state.scale,
    release,
    ...(state.settledRelease === undefined ? {} : { settledRelease: state.settledRelease }),
    releaseNumbers: state.releases.map(({ number }) => number),
    state: state.state,
    message: state.message,
    operation: state.newestOperation,
    createdAtMs: state.createdAtMs,
    updatedAtMs: nowMs,
  };
};

/**
 * Rebuilds the state from what was published, for an entity whose history is lost.
 *
 * @param operations the records that are kept, oldest first
 */
export const stateFromDocument = (
  document: Microservice,
  releases: readonly Release[],
  operations: readonly Operation[] = [],
  split?: Pick<TrafficSplit, 'release'>,
): EntityState => {
  const newest = operations.find(({ id }) => id === document.operation);
  const older = operations.filter((one) => one !== newest).map(({ id }) => id);
  return {
    ...emptyEntityState(document, document.createdAtMs),
    generation: document.generation,
    scale: document.scale,
    releases: releases.some(({ number }) => number === document.release.number)
      ? releases
      : [...releases, document.release],
    desiredRelease: document.release.number,
    lastReleaseNumber: Math.max(document.release.number, ...document.releaseNumbers),
    ...(document.settledRelease === undefined ? {} : { settledRelease: document.settledRelease }),
    state: document.state,
    message: document.message,
    removing: document.state === 'removing',
    newestOperation: document.operation,
    operations: [...older.slice(1 - KEPT_OPERATIONS), document.operation],
    // What was under way begins again, under the id that its users know.
    ...(newest && !FINAL_OPERATION_STATES.includes(newest.state)
      ? {
          queued: { ...newest, state: newest.state === 'paused' ? ('paused' as const) : ('queued' as const) },
        }
      : {}),
    ...(split === undefined ? {} : { splitRelease: split.release }),
    holdsSpareHostnames: true,
  };
};

/** @throws ContainerOsError `not_found` */
export const mustExist = (state: EntityState): void => {
  if (!exists(state)) throw new ContainerOsError('not_found', `There is no microservice ${state.name}.`);
};

/**
 * Whether a change of an existing microservice can be accepted.
 *
 * @throws ContainerOsError `conflict`, `precondition_failed` or `not_found`
 */
export const checkChange = (state: EntityState, change: ChangeRequest): void => {
  if (findRemembered(state, change)) return;
  checkGeneration(state, change);
  mustExist(state);
};

/**
 * Whether a microservice can be restarted: what a restart starts, it starts at once, and not in stages.
 *
 * @throws ContainerOsError `conflict`, `precondition_failed` or `not_found`
 */
export const checkRestart = (state: EntityState, change: ChangeRequest): void => {
  checkChange(state, change);
  if (findRemembered(state, change)) return;
  const old = state.state === 'changing' ? takenOverInStages(state, 'deploy') : undefined;
  if (old === undefined) return;
  throw new ContainerOsError(
    'conflict',
    `v${state.desiredRelease} of ${state.name} takes over from v${old.release.number} in stages: a restart would let it take over at once. Promote or abort it first; a redeploy begins its stages anew.`,
  );
};

/**
 * Whether a specification can be applied.
 *
 * @throws ContainerOsError `conflict` or `precondition_failed`
 */
export const checkApply = (state: EntityState, change: ApplyRequest): void => {
  if (findRemembered(state, change)) return;
  checkGeneration(state, change);
  if (exists(state) && change.name !== state.name) {
    throw new ContainerOsError(
      'conflict',
      `There is a microservice ${state.name}, whose name differs from ${change.name} in capitals only. Use its name, or another one.`,
    );
  }
};

/**
 * The release that a rollback goes back to: the one named, else the newest one before the current that was healthy.
 *
 * @throws ContainerOsError `not_found` when there is none
 */
export const rollbackTarget = (state: EntityState, toRelease: number | undefined): Release => {
  mustExist(state);
  if (toRelease !== undefined) {
    const target = findRelease(state, toRelease);
    if (target) return target;
    const numbers = state.releases.map(({ number }) => `v${number}`).join(', ');
    throw new ContainerOsError('not_found', `${state.name} has no release v${toRelease}. It has ${numbers}.`);
  }
  const others = state.releases.filter(({ number }) => number !== state.desiredRelease);
  const healthyBefore = findRelease(state, state.desiredRelease)?.healthyBefore;
  const target =
    others.find(({ number }) => number === state.settledRelease) ??
    // Of the oldest releases it is not known: there the one before has to do.
    (healthyBefore === undefined
      ? others.filter(({ number }) => number < state.desiredRelease).at(-1)
      : others.find(({ number }) => number === healthyBefore));
  if (!target) {
    const named = others.map(({ number }) => `v${number}`).join(', ');
    throw new ContainerOsError(
      'not_found',
      `${state.name} has no earlier release that was healthy.${named === '' ? '' : ` It has ${named}, which toRelease can name.`}`,
    );
  }
  return target;
};
