/**
 * The words of the product as types: what is desired, what is observed, and the plan between them.
 *
 * Invariants: everything here is plain JSON (it travels through workflow history and Consul KV); times are
 * milliseconds since the epoch; lists that a planner returns have a stable order.
 */

import type { ErrorCode } from './errors';
import type { LostWithAll } from './flapping';
import type { ProxyProtocol, PublicPort } from './ingress/public-ports';
import type { ReleaseSpec } from './spec/schema';

/** The only project until projects can be made. */
export const DEFAULT_PROJECT = 'default';

export interface MicroserviceKey {
  readonly project: string;
  readonly name: string;
}

/** What tells microservices apart: names are told apart without their capitals. */
export const microserviceId = ({ project, name }: MicroserviceKey): string =>
  `${project}/${name.toLowerCase()}`;

/** Whether both are of one microservice, however its name was written at the time. */
export const isSameMicroservice = (one: MicroserviceKey, other: MicroserviceKey): boolean =>
  one.project === other.project &&
  (one.name === other.name || one.name.toLowerCase() === other.name.toLowerCase());

/**
 * Who asked for something. `system`: nobody did, ContainerOS keeps what was asked for before. Where they asked from is
 * not kept.
 */
export interface Actor {
  readonly kind: 'password' | 'webhook' | 'user' | 'system';
  /** Of the webhook or the user. */
  readonly name?: string;
}

/** "webhook ci", "password". */
export const actorInWords = ({ kind, name }: Actor): string =>
  name === undefined ? kind : `${kind} ${name}`;

/** An immutable, numbered specification. Scale is not part of it: scaling makes no release. */
export interface Release {
  readonly number: number;
  readonly spec: ReleaseSpec;
  readonly createdAtMs: number;
  /** Who made it; not known of the oldest releases. */
  readonly by?: Actor;
  /** The release whose specification a rollback took up again. */
  readonly rollbackOf?: number;
  /** The newest release that had been healthy when this one was made, 0 for none; not known of the oldest releases. */
  readonly healthyBefore?: number;
  /** The release that was deployed again, its images looked up anew. */
  readonly redeployOf?: number;
  /** What another microservice has taken from it: all that it differs by from the release before it. */
  readonly hostnamesTaken?: readonly string[];
  /**
   * The digest of each image that the specification names by a tag, looked up before anything was started. Left out
   * until then, and by releases of before digests were looked up.
   */
  readonly images?: Readonly<Record<string, string>>;
  /** Ids of images that are in no registry, by image and architecture of the nodes. */
  readonly localImages?: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

export type ReplicaState =
  /** Created, not yet passed its checks for the first time. */
  | 'starting'
  /** All containers run and all checks pass. */
  | 'running'
  /** Containers run, a check fails. */
  | 'unhealthy'
  /** A container has ended and is about to be started again. */
  | 'restarting'
  /** A container keeps ending; it is started again with growing delays. */
  | 'crash_looping'
  | 'paused'
  | 'stopping'
  /** A container has ended and its restart policy says that it stays so. */
  | 'exited'
  /** A container of it is gone, or it was given up; the replica has to be replaced. */
  | 'broken';

export interface ObservedContainer {
  readonly name: string;
  readonly containerId: string;
  readonly image: string;
  readonly imageId: string;
  readonly running: boolean;
  readonly restartCount: number;
  readonly exitCode?: number;
  readonly oomKilled?: boolean;
  readonly startedAtMs?: number;
}

export interface ObservedPort {
  readonly container: string;
  readonly port: number;
  readonly protocol: 'tcp' | 'udp';
  /** Address and port on which the node exposes it. */
  readonly address: string;
  readonly hostPort: number;
  /** Id of the Consul service instance. */
  readonly serviceId: string;
  readonly hostnames: readonly string[];
  /** Ports of every node that lead to it; left out when there are none. */
  readonly publicPorts?: readonly number[];
  readonly proxyProtocol?: ProxyProtocol;
}

/** What a node sees of one replica; published by its node worker, and by nothing else. */
export interface ObservedReplica extends MicroserviceKey {
  readonly id: string;
  readonly release: number;
  /**
   * When that release was made: numbers begin anew with a microservice that is made anew under an old name. Left out
   * by nodes of before it was told.
   */
  readonly releasedAtMs?: number;
  readonly nodeId: string;
  /** The operation that started it. */
  readonly operation: string;
  readonly state: ReplicaState;
  /** Why it is not running, for people. */
  readonly reason?: string;
  readonly containers: readonly ObservedContainer[];
  readonly ports: readonly ObservedPort[];
  readonly restartCount: number;
  readonly cpusReserved: number;
  readonly memoryReservedBytes: number;
  /** One of a daemon: it belongs to its node. Left out when it is not. */
  readonly daemon?: boolean;
  /**
   * When it was planned to be there, by the clock of the control plane: what is newer is decided by this. Left out by
   * nodes of before they were told.
   */
  readonly placedAtMs?: number;
  /** By the clock of its node. */
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

/** When the replica came to where it is; of replicas of several nodes, as far as that can be compared. */
export const placedAt = ({
  placedAtMs,
  createdAtMs,
}: Pick<ObservedReplica, 'placedAtMs' | 'createdAtMs'>): number => placedAtMs ?? createdAtMs;

/** Whether the replica was made for this very release. */
export const isOfRelease = (
  { release, releasedAtMs }: Pick<ObservedReplica, 'release' | 'releasedAtMs'>,
  { number, createdAtMs }: Pick<Release, 'number' | 'createdAtMs'>,
): boolean => release === number && (releasedAtMs ?? createdAtMs) === createdAtMs;

export interface NodeCapacity {
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
}

/** An image that a node could not get for its processor architecture, or could not run because it is for another one. */
export interface MissingBuild {
  /** As a specification names it. */
  readonly image: string;
  /** The architectures that there are builds for (`amd64`), sorted; none when that is not known. */
  readonly available: readonly string[];
  /** When the node found out. */
  readonly seenAtMs: number;
}

/** Why a node does not answer on a public port, for people: "is taken by another program". */
export interface PublicPortTrouble extends PublicPort {
  readonly reason: string;
}

/** How far the ingress of a node has followed the replicas' documents; said by its node worker. */
export interface IngressState {
  /** Of the node. */
  readonly id: string;
  /** Consul's index: requests go as the documents said then, or say later. */
  readonly index: number;
  /** The same of how requests are split between releases. Left out by nodes of before there were splits. */
  readonly trafficIndex?: number;
  /** The same of who is under maintenance. */
  readonly maintenanceIndex?: number;
  /** The same of who holds which hostname. Left out by nodes of before they said so, like the next one. */
  readonly hostnamesIndex?: number;
  /** The same of what releases say of their routes. */
  readonly routesIndex?: number;
  /**
   * How far the forwarder of the node has followed the same. Left out when it has nothing to follow, and by nodes that
   * say nothing before both have: then it is as far.
   */
  readonly publicPorts?: {
    readonly index: number;
    readonly trafficIndex: number;
    readonly hostnamesIndex: number;
  };
}

/** What a node says of itself; published by its node worker when it changes. */
export interface ObservedNode {
  readonly id: string;
  readonly address: string;
  readonly architecture: string;
  readonly dockerVersion: string;
  /** Left out by versions that do not tell it yet. */
  readonly containerosVersion?: string;
  readonly capacity: NodeCapacity;
  readonly cpuPercent: number;
  readonly memoryAvailableBytes: number;
  readonly diskFreeBytes: number;
  /** `degraded`: it serves what it has, new replicas go elsewhere when they can. */
  readonly health: 'healthy' | 'degraded';
  readonly reasons: readonly string[];
  /** Images that the engine has, by the reference that a specification uses. */
  readonly images: readonly string[];
  /** What it lately found out about images for other architectures. Left out when nothing. */
  readonly missingBuilds?: readonly MissingBuild[];
  /**
   * Since when its Docker Engine has not answered, once that is for longer than a restart takes: what does not serve
   * there is replaced elsewhere. Left out while the engine answers.
   */
  readonly engineLostAtMs?: number;
  /** Public ports that it does not answer on. Left out when there are none. */
  readonly publicPortTroubles?: readonly PublicPortTrouble[];
  readonly labels: Readonly<Record<string, string>>;
  readonly updatedAtMs: number;
}

/**
 * What an operator lets a node do. `cordoned`: it keeps what it has and takes nothing new; `draining`: what it has
 * moves elsewhere.
 */
export type NodeAvailability = 'active' | 'cordoned' | 'draining';

/** What an operator says of a node, apart from what the node says of itself; written by the API, and by nothing else. */
export interface NodeSettings {
  readonly id: string;
  readonly availability: NodeAvailability;
  readonly setAtMs: number;
}

/** A node as the planner sees it: what it and its operator said, and whether Consul's membership holds it for alive. */
export interface SnapshotNode extends ObservedNode {
  readonly up: boolean;
  readonly availability: NodeAvailability;
  /** It comes and goes: until then it is used only where no other will do. Left out when it is calm. */
  readonly unstableUntilMs?: number;
  /** When it was back after its last loss. Left out when it was not lost, as far as that is remembered. */
  readonly returnedAtMs?: number;
  /** It is back from a loss of all nodes at once but for one: when that one was alone. */
  readonly lostWithAll?: LostWithAll;
  /** A move there for the sake of balance has come to nothing: until then none is tried again. */
  readonly noMovesUntilMs?: number;
  /** How many replicas of each microservice are there, by `project/name` in lower case. */
  readonly microservices: Readonly<Record<string, number>>;
  /** Whose replicas there use which ports of the host, by `port/protocol`. */
  readonly hostPorts: Readonly<Record<string, readonly MicroserviceKey[]>>;
  /** Replicas there that a drain waits for: those that have not ended, without daemons, which go last. */
  readonly movableReplicas: number;
  /** Reserved by all replicas on it, of every microservice. */
  readonly cpusReserved: number;
  readonly memoryReservedBytes: number;
  readonly replicaCount: number;
}

export interface Snapshot {
  readonly nodes: readonly SnapshotNode[];
  /** Replicas of the microservice that is planned for. */
  readonly replicas: readonly ObservedReplica[];
}

/** What an operation has to bring about. */
export interface Desired extends MicroserviceKey {
  readonly release: Release;
  readonly scale: number;
}

export type OperationKind = 'deploy' | 'scale' | 'reschedule' | 'restart' | 'rollback' | 'remove';

/** What the planner is asked. `seed`, `nowMs` and `operation` make it a pure function. */
export interface PlanRequest {
  readonly operation: string;
  readonly kind: OperationKind;
  readonly desired: Desired;
  /** Nodes that refused a replica in this operation, with their words. */
  readonly refusals: Readonly<Record<string, string>>;
  /** What nodes have found out in this operation about images for other architectures, by node. */
  readonly missingBuilds?: Readonly<Record<string, readonly MissingBuild[]>>;
  /** A release that goes on beside the desired one, at a scale of its own, or at one that is both together. */
  readonly beside?: Pick<Desired, 'release' | 'scale'> & { readonly isShared?: true };
  /** Of the desired release no more is started than stands: only what is lost or broken of the other one is replaced. */
  readonly isHeld?: true;
  /** Counts the plans of one operation, from 1; replica ids differ between attempts. */
  readonly attempt: number;
  readonly seed: string;
  readonly nowMs: number;
}

export type StopReason =
  | 'scaled_down'
  | 'outdated'
  | 'removed'
  | 'surplus'
  | 'broken'
  | 'failed_release'
  | 'exited'
  | 'drained'
  | 'rebalanced';

export type Step =
  | {
      readonly kind: 'pull';
      readonly nodeId: string;
      readonly images: readonly string[];
      /** Whose images they are; plans from before there were two releases beside each other do not say it. */
      readonly release?: number;
    }
  | { readonly kind: 'start'; readonly nodeId: string; readonly replicaId: string; readonly release: number }
  | {
      readonly kind: 'stop';
      readonly nodeId: string;
      readonly replicaId: string;
      readonly reason: StopReason;
    };

/** Steps that may run at the same time. All of one kind, so that one activity per node carries them. */
export interface Phase {
  readonly kind: Step['kind'];
  readonly steps: readonly Step[];
}

export interface NodeRejection {
  readonly nodeId: string;
  /** One line for people: "needs 2 CPUs, 0.5 are free". */
  readonly reason: string;
  /** It is for the architecture of the node that there is no build of an image; left out otherwise. */
  readonly noBuild?: true;
  /** It would do, but for a microservice that has to be there; left out otherwise. */
  readonly noNeighbour?: true;
}

export interface Plan {
  /** Run in order; a phase begins when the one before has succeeded. */
  readonly phases: readonly Phase[];
  /** Replicas that found no node. */
  readonly unplaced: number;
  readonly rejections: readonly NodeRejection[];
  /** Whether there is nothing to do: the observed state is the desired one. */
  readonly converged: boolean;
}

export type OperationState =
  | 'queued'
  | 'running'
  /** It goes on when somebody says so. */
  | 'paused'
  | 'succeeded'
  | 'failed'
  | 'rolled_back'
  | 'superseded';

export const FINAL_OPERATION_STATES: readonly OperationState[] = [
  'succeeded',
  'failed',
  'rolled_back',
  'superseded',
];

export interface OperationError {
  readonly code: ErrorCode;
  readonly message: string;
  /** Last lines of the container that failed, oldest first. */
  readonly logTail: readonly string[];
}

/** One deploy, scale, reschedule, restart, rollback or removal; its id is the id of its workflow execution. */
export interface Operation extends MicroserviceKey {
  readonly id: string;
  readonly kind: OperationKind;
  readonly state: OperationState;
  readonly release: number;
  readonly scale: number;
  readonly message: string;
  /** The plan in words, a step a line. */
  readonly plan: readonly string[];
  readonly error?: OperationError;
  /** Who asked for it; not known of the oldest operations. */
  readonly by?: Actor;
  readonly createdAtMs: number;
  readonly startedAtMs?: number;
  readonly endedAtMs?: number;
}

export type MicroserviceState =
  /** The last operation succeeded: what runs is what is desired, or is being healed. */
  | 'steady'
  | 'changing'
  /** The desired release never became healthy, and there was nothing to go back to. */
  | 'failed'
  | 'removing';

/** What an entity publishes of its microservice: the desired state, and the seed of recovery. */
export interface Microservice extends MicroserviceKey {
  /** Grows by one with every accepted change, and when a release is rolled back by itself; the ETag of the API. */
  readonly generation: number;
  readonly scale: number;
  readonly release: Release;
  /** The newest release that was healthy at the desired scale; what a failing one is rolled back to. */
  readonly settledRelease?: number;
  readonly releaseNumbers: readonly number[];
  readonly state: MicroserviceState;
  readonly message: string;
  /** The newest operation. */
  readonly operation: string;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
}

export type EventLevel = 'info' | 'warning' | 'error';

export interface ClusterEvent {
  readonly atMs: number;
  /** What the clock of the node said, where that could not be: `atMs` is when the cluster heard of it then. */
  readonly nodeAtMs?: number;
  readonly level: EventLevel;
  /** Dotted, past tense: `operation.succeeded`, `replica.crashed`, `node.degraded`. */
  readonly type: string;
  readonly message: string;
  readonly project?: string;
  readonly microservice?: string;
  readonly operation?: string;
  readonly replica?: string;
  readonly node?: string;
}
