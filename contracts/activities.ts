/**
 * What workflows may ask for, and of whom. Implemented in activities/, called through proxies in workflows/.
 *
 * Invariants: every activity is idempotent, a retry finds what already exists; what can be expected (no room, image
 * missing, release unhealthy) is a return value; a thrown ApplicationFailure has a `type` of the error table.
 */

import type { ErrorCode } from '../domain/errors';
import type { ImageSources } from '../domain/release-images';
import type { JudgeSpec, Verdict } from '../domain/judgement';
import type {
  ClusterEvent,
  Microservice,
  MicroserviceKey,
  MissingBuild,
  ObservedPort,
  Operation,
  Plan,
  PlanRequest,
  Release,
  StopReason,
} from '../domain/model';
import type { Way } from '../domain/ingress/route-options';
import type { TrafficSplit } from '../domain/traffic';

export interface ImagePull {
  readonly image: string;
  readonly pull: 'always' | 'missing' | 'never';
}

export interface PullImages extends MicroserviceKey {
  readonly nodeId: string;
  readonly operation: string;
  readonly images: readonly ImagePull[];
}

export type PullOutcome =
  | { readonly kind: 'pulled' | 'present'; readonly image: string; readonly imageId: string }
  | {
      readonly kind: 'failed';
      readonly image: string;
      readonly code: ErrorCode;
      readonly reason: string;
      /** Only for the architecture of this node it cannot be had. */
      readonly missingBuild?: MissingBuild;
    };

/** What is to be looked up once for a release. */
export interface ResolveImages extends PullImages {
  /** Whether the registry decides also where the node has the image, as for a release that is deployed again. */
  readonly asksRegistry: boolean;
}

/** Which bits an image is. */
export type ImageResolution =
  /** In a registry, for all architectures together. */
  | { readonly kind: 'digest'; readonly image: string; readonly digest: string }
  /** On this node, and nobody knows a registry that has it. */
  | { readonly kind: 'local'; readonly image: string; readonly imageId: string }
  | {
      readonly kind: 'unknown';
      readonly image: string;
      readonly code: ErrorCode;
      readonly reason: string;
      /** Whether asking again may help. */
      readonly mayPass: boolean;
    };

/** Images that a node may need soon. */
export interface PullAhead {
  readonly nodeId: string;
  readonly images: readonly string[];
}

export type PullAheadOutcome =
  | { readonly kind: 'pulled' | 'present'; readonly image: string }
  /** Something that is needed now was to be pulled. */
  | { readonly kind: 'gave_way'; readonly image: string }
  | { readonly kind: 'failed'; readonly image: string; readonly reason: string };

/** What a node needs to know of one replica. */
export interface StartReplica extends MicroserviceKey {
  readonly replicaId: string;
  readonly release: Release;
  readonly operation: string;
  /** When it was planned; left out by a control plane of before it said so. */
  readonly placedAtMs?: number;
}

/** Each release stands in it once, however many replicas are started: a payload has 2 MB at most. */
export interface StartReplicas extends MicroserviceKey {
  readonly nodeId: string;
  readonly operation: string;
  readonly releases: readonly Release[];
  readonly placedAtMs?: number;
  readonly replicas: readonly { readonly replicaId: string; readonly release: number }[];
}

export type StartOutcome =
  | { readonly kind: 'ready'; readonly replicaId: string; readonly ports: readonly ObservedPort[] }
  /** The node has no room for it, or cannot run it; nothing of it was left behind. */
  | {
      readonly kind: 'refused';
      readonly replicaId: string;
      readonly reason: string;
      /** Why it cannot, when its image is made for another architecture. */
      readonly missingBuild?: MissingBuild;
    }
  /** It was started and did not become healthy, or could not be started. It is left as it is for the caller to stop. */
  | {
      readonly kind: 'failed';
      readonly replicaId: string;
      readonly code: ErrorCode;
      readonly reason: string;
      readonly logTail: readonly string[];
    };

export interface StopReplicas {
  readonly nodeId: string;
  readonly replicas: readonly (MicroserviceKey & {
    readonly replicaId: string;
    readonly reason: StopReason;
  })[];
}

export interface StopOutcome {
  readonly replicaId: string;
  /** False when there was nothing of it any more. */
  readonly existed: boolean;
  /** Nodes that had not confirmed that they lead nobody there; left out when there was none. */
  readonly behind?: readonly string[];
}

/** Run by the worker of one node, on its own queue. */
export interface NodeActivities {
  /** Pulls each image once, however many ask at the same time. Network trouble is thrown as `pull_failed` (retryable). */
  pullImages(input: PullImages): Promise<readonly PullOutcome[]>;
  /** Finds out which bits the images are, without pulling them. Fails of nothing but an engine that is away. */
  resolveImages(input: ResolveImages): Promise<readonly ImageResolution[]>;
  /** Pulls one image after the other for as long as nothing is pulled that is needed now. Fails of nothing. */
  pullAhead(input: PullAhead): Promise<readonly PullAheadOutcome[]>;
  /** Creates, starts and registers replicas, and returns when each is ready, refused or failed. */
  startReplicas(input: StartReplicas): Promise<readonly StartOutcome[]>;
  /** Deregisters replicas, waits for their stop grace, and removes their containers. */
  stopReplicas(input: StopReplicas): Promise<readonly StopOutcome[]>;
}

export interface Published {
  /** Consul's index of the write: a reader at this index has seen it. */
  readonly index: number;
}

export interface PublishMicroservice {
  readonly microservice: Microservice;
  /** Operations whose record has changed. */
  readonly operations: readonly Operation[];
  readonly events: readonly ClusterEvent[];
  /** Ids of operations, and numbers of releases, that fall out of what is kept. */
  readonly forgetOperations: readonly string[];
  readonly forgetReleases: readonly number[];
}

/** A hostname, or what else is claimed like one (domain/ingress/public-ports), and the microservice that has it. */
export interface HeldHostname {
  readonly hostname: string;
  readonly owner: string;
}

export interface PublishTraffic extends TrafficSplit {
  /** By what it is led to: what leads to nobody confirms nothing. */
  readonly ways: readonly Way[];
}

export interface JudgeTraffic extends MicroserviceKey {
  readonly operation: string;
  readonly stage: number;
  readonly judge: JudgeSpec;
  readonly release: number;
  readonly oldRelease: number;
}

export type HostnameClaim =
  /** `moving`: others have these still, and it may take them from them. */
  | { readonly kind: 'claimed'; readonly moving?: readonly HeldHostname[] }
  | (HeldHostname & {
      readonly kind: 'conflict';
      /** What else is asked for that others have. */
      readonly others?: readonly HeldHostname[];
    });

/** Run by the control-plane worker, as local activities. */
export interface ControlPlaneActivities {
  /** Reads a snapshot from Consul, plans, and publishes the plan with the operation. */
  planOperation(input: {
    readonly request: PlanRequest;
    readonly record: Operation;
    /** What the operation goes through, in words; told before the first plan. */
    readonly outline?: readonly string[];
    /** What has happened since the plan before, to be told with this one. */
    readonly events?: readonly ClusterEvent[];
  }): Promise<Plan>;
  /** Plans without publishing: what would be done now. Used by the periodic reconcile. */
  previewPlan(request: PlanRequest): Promise<Plan>;
  /** Where the images of the release are to be looked up. */
  findImageSources(request: PlanRequest): Promise<ImageSources>;
  /** A microservice that is not changing has no split of its requests any more. */
  publishMicroservice(input: PublishMicroservice): Promise<Published>;
  /** Splits requests, and waits a moment until the ingress of every node does. Tells which nodes did not confirm it. */
  publishTraffic(input: PublishTraffic): Promise<{ readonly behind: readonly string[] }>;
  readTraffic(key: MicroserviceKey): Promise<TrafficSplit | undefined>;
  clearTraffic(key: MicroserviceKey): Promise<void>;
  /** How a release does beside the old one, by what all ingresses have counted under a split. */
  judgeTraffic(input: JudgeTraffic): Promise<Verdict>;
  /**
   * Deletes all documents of a microservice but its operations, and gives back its hostnames. Remembers that it was
   * removed: replicas of it may be on nodes that are away.
   */
  forgetMicroservice(
    input: MicroserviceKey & { readonly operation: Operation; readonly events: readonly ClusterEvent[] },
  ): Promise<Published>;
  /** All hostnames are claimed, or none; those that the microservice had and does not name are kept until `releaseHostnames`. */
  claimHostnames(
    input: MicroserviceKey & { readonly hostnames: readonly string[]; readonly moves?: boolean },
  ): Promise<HostnameClaim>;
  /**
   * Takes hostnames from whoever has them, all in one transaction: the ingress routes them to one microservice before
   * it and to the other one after it.
   */
  moveHostnames(input: MicroserviceKey & { readonly hostnames: readonly string[] }): Promise<void>;
  /** Gives back every hostname of the microservice that is not in `keep`. */
  releaseHostnames(input: MicroserviceKey & { readonly keep: readonly string[] }): Promise<void>;
}

/** Run by the control-plane worker, as normal long activities of the cluster workflow. */
export interface ClusterActivities {
  /**
   * Follows replicas and nodes in Consul and signals the entities that have something to mend; has what turns up of
   * removed microservices removed; deletes old events and records. Heartbeats; returns after half a day, to be begun
   * anew.
   */
  watchCluster(): Promise<void>;
  /** Starts the entity of every microservice that is in KV but unknown to Temporal. */
  recoverEntities(): Promise<{ readonly recovered: readonly string[] }>;
}
