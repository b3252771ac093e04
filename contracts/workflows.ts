/**
 * Names, ids and payloads of workflows, updates, signals and search attributes: what API, workers and watcher share
 * with workflows/ without importing its code.
 */

import type { ErrorCode, Problem } from '../domain/errors';
import {
  microserviceId,
  type Actor,
  type Desired,
  type MicroserviceKey,
  type Operation,
  type OperationError,
  type OperationKind,
  type PlanRequest,
  type Release,
} from '../domain/model';
import type { ReleaseSpec } from '../domain/spec/schema';

export const WORKFLOW = {
  microservice: 'microservice',
  cluster: 'cluster',
  deploy: 'deploy',
  scale: 'scale',
  reschedule: 'reschedule',
  remove: 'remove',
  pullAhead: 'pullAhead',
} as const;

export const CLUSTER_WORKFLOW_ID = 'cluster';

/** One at a time for each node. */
export const pullAheadWorkflowId = (nodeId: string): string => `pull-ahead:${nodeId}`;

export const microserviceWorkflowId = (key: MicroserviceKey): string => `microservice:${microserviceId(key)}`;

/**
 * @param suffix eight or more characters that make it unique
 * @returns the id of an operation, which is also the id of its workflow execution; fit for a URL's path
 */
export const operationId = (
  kind: OperationKind,
  { project, name }: MicroserviceKey,
  suffix: string,
): string => `${kind}.${project}.${name.toLowerCase()}.${suffix}`;

/** The microservice that an operation belongs to, or undefined when the text is no operation id. */
export const parseOperationId = (
  id: string,
): (MicroserviceKey & { readonly kind: OperationKind }) | undefined => {
  const match =
    /^(deploy|scale|reschedule|restart|rollback|remove)\.([a-z][a-z0-9-]*)\.([a-z][a-z0-9-]*)\.[a-z0-9]+$/.exec(
      id,
    );
  if (!match) return undefined;
  const [, kind, project, name] = match as unknown as [string, OperationKind, string, string];
  return { kind, project, name };
};

export const UPDATE = {
  apply: 'apply',
  scale: 'scale',
  rollback: 'rollback',
  restart: 'restart',
  redeploy: 'redeploy',
  remove: 'remove',
  /** Of the release that is under way: promote, abort, pause or resume it. */
  steer: 'steer',
} as const;

export const QUERY = {
  /** What a change would make of the microservice. */
  preview: 'preview',
} as const;

export const SIGNAL = {
  /** A replica or node of the microservice has changed: look whether something is to be mended. */
  observedChanged: 'observedChanged',
  /** To an operation: nodes are lost, do not wait for what they were asked. */
  nodesLost: 'nodesLost',
  /** From an operation to its microservice: which bits the images of a release are. */
  imagesResolved: 'imagesResolved',
  /** From one microservice to another: hostnames have been moved from it. */
  hostnamesTaken: 'hostnamesTaken',
  /** To an operation: what somebody wants of the release. */
  steer: 'steer',
  /** From an operation to its entity: how far the release is. */
  releaseProgress: 'releaseProgress',
  /** From an operation to its entity: whether the release has all requests. */
  releaseSwitched: 'releaseSwitched',
} as const;

/** What every change carries. */
export interface ChangeRequest {
  /** Refused with `precondition_failed` when the microservice has another generation (If-Match). 0: must not exist. */
  readonly ifGeneration?: number;
  /** The same key with the same content answers with the operation of the first time (Idempotency-Key). */
  readonly idempotencyKey?: string;
  /** Hash of the request, which tells a repeated request from another one under the same key. */
  readonly requestHash?: string;
  /** Who asks. */
  readonly by?: Actor;
}

export interface ApplyRequest extends ChangeRequest {
  /** The name as written by the user. */
  readonly name: string;
  /** Left out: the scale stays as it is, or is 1 when the microservice is new. */
  readonly scale?: number;
  readonly release: ReleaseSpec;
  /** Hostnames of others are taken from them once the release serves. */
  readonly movesHostnames?: boolean;
}

export interface ScaleRequest extends ChangeRequest {
  readonly scale: number;
}

export interface RollbackRequest extends ChangeRequest {
  /** Left out: the newest healthy release before the current one. */
  readonly toRelease?: number;
}

export type ReleaseCommand = 'promote' | 'abort' | 'pause' | 'resume';

export interface SteerRequest extends ChangeRequest {
  readonly command: ReleaseCommand;
  /** Who wants it, and why, for people: "an operator". */
  readonly wantedBy: string;
}

export interface SteerSignal {
  readonly command: ReleaseCommand;
  readonly by: string;
}

export interface ReleaseProgress {
  readonly operation: string;
  readonly state: 'running' | 'paused';
  readonly message: string;
  /** Somebody has paused it; otherwise it may be paused until it is promoted. */
  readonly isHalted: boolean;
  readonly canPromote: boolean;
}

export interface ReleaseSwitchedSignal {
  readonly operation: string;
  /** It has passed all of its stages; false: it goes back to the old release. */
  readonly isSwitched: boolean;
}

export type RestartRequest = ChangeRequest;
/** The same specification as a new release, its images looked up anew. */
export type RedeployRequest = ChangeRequest;
export type RemoveRequest = ChangeRequest;

/** A change that is only to be looked at. */
export type PreviewRequest =
  | { readonly kind: 'apply'; readonly change: ApplyRequest }
  | { readonly kind: 'scale'; readonly change: ScaleRequest }
  | { readonly kind: 'rollback'; readonly change: RollbackRequest }
  | { readonly kind: 'restart' | 'redeploy' | 'remove'; readonly change: ChangeRequest };

/** What a change would make of a microservice. */
export type Preview =
  | {
      readonly kind: 'possible';
      readonly operation: OperationKind;
      /** What would be desired then, as it would be planned. */
      readonly desired: Desired;
      /** What it would take over from in stages; undefined: it would be rolled out. */
      readonly takesOverFrom?: Desired;
      /** The release that is desired now; undefined when there is no microservice. */
      readonly before?: Release;
      readonly created: boolean;
    }
  | {
      readonly kind: 'refused';
      readonly code: ErrorCode;
      readonly message: string;
      readonly problems: readonly Problem[];
    };

/** The answer to every update. Failures are ApplicationFailure with a `type` of the error table. */
export interface ChangeAccepted {
  readonly operation: Operation;
  readonly generation: number;
  /** Whether the change made the microservice. */
  readonly created: boolean;
  /** Consul's index of the write that made it durable: a reader at this index sees it. */
  readonly index: number;
}

export interface ObservedChangedSignal {
  /** For people: "replica web-1a2b3c is broken". */
  readonly reason: string;
  /** There may be room that there was not: what could not be mended may be tried at once, without its back-off. */
  readonly hasRoom?: boolean;
  /** Nodes that have just been lost: the operation under way does not wait for them any more. */
  readonly lostNodes?: readonly string[];
}

export interface ImagesResolvedSignal extends Required<Pick<Release, 'images' | 'localImages'>> {
  readonly release: number;
  /** When the release was made: numbers begin anew with a microservice that is made anew. */
  readonly releasedAtMs: number;
}

export interface HostnamesTakenSignal {
  readonly hostnames: readonly string[];
  /** The microservice that has them now. */
  readonly by: string;
}

export interface NodesLostSignal {
  readonly nodeIds: readonly string[];
}

/** Input of the operation workflows. */
export interface OperationInput {
  readonly operation: Operation;
  readonly request: PlanRequest;
  /** What a failing release is rolled back to; undefined when nothing was healthy before. */
  readonly fallback?: PlanRequest['desired'];
  /** It was paused when its entity was lost. */
  readonly startsPaused?: true;
  /** Requests are split for a release that this operation has superseded. */
  readonly endsSplit?: true;
  /** The release is rolled out, whatever its strategy is. */
  readonly rolls?: true;
}

/** What an operation workflow returns; its entity turns it into the final record. */
export type OperationOutcome =
  | { readonly kind: 'succeeded'; readonly message: string }
  | { readonly kind: 'failed'; readonly error: OperationError }
  | { readonly kind: 'rolled_back'; readonly error: OperationError };

/** Search attributes, registered when the control plane starts. All keywords. */
export const SEARCH_ATTRIBUTE = {
  project: 'ContainerosProject',
  microservice: 'ContainerosMicroservice',
  release: 'ContainerosRelease',
  nodes: 'ContainerosNodes',
} as const;
