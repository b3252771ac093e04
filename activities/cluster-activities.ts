/**
 * The watch over the cluster: tells entities when something of theirs has come apart, records what becomes of nodes,
 * brings entities back that Temporal has lost, has images pulled ahead, and keeps house.
 *
 * Invariants: it plans nothing, entities look for themselves; a word too many costs one look, a word lost is made
 * good by the entity's own periodic look.
 */

import { CancelledFailure, Context } from '@temporalio/activity';

import type { ClusterActivities } from '../contracts/activities';
import type { ClusterChange } from '../contracts/cluster';
import type { KeyValueStore } from '../contracts/key-value-store';
import { KV_PREFIX, operationsKvPrefix, releasesKvPrefix, trafficKvKey } from '../contracts/kv';
import type { LeaseKeys } from '../contracts/leases';
import { RETRY, TIMEOUT } from '../contracts/timeouts';
import type { ObservedChangedSignal } from '../contracts/workflows';
import { byText } from '../domain/by-text';
import {
  microserviceId,
  type Microservice,
  type MicroserviceKey,
  type NodeAvailability,
  type ObservedReplica,
  type Operation,
  type Release,
} from '../domain/model';
import type { TrafficSplit } from '../domain/traffic';

import { createClusterChanges } from './cluster-changes';
import { createEntityWords, type Word } from './entity-words';
import { createHousekeeping } from './housekeeping';
import type { ImagesAhead } from './images-ahead';
import { createMembershipRecord } from './membership-record';
import { createSideJob } from './side-job';

export interface ClusterDependencies {
  readonly store: KeyValueStore;
  readonly view: {
    /** Resolves when everything has been read once. */
    readonly ready: Promise<void>;
    nodes(): readonly {
      readonly id: string;
      readonly up: boolean;
      readonly availability: NodeAvailability;
      readonly engineLostAtMs?: number;
      readonly updatedAtMs: number;
    }[];
    replicas(): readonly ObservedReplica[];
    subscribe(listener: (change: ClusterChange) => void): () => void;
  };
  readonly entities: {
    /** @returns whether there is such an entity */
    signal(key: MicroserviceKey, signal: ObservedChangedSignal): Promise<boolean>;
    /** Microservices of which an operation runs that has work for the node. */
    operatingOn(nodeId: string): Promise<readonly MicroserviceKey[]>;
    /** Ids of the microservices whose entities run, as `project/name` in lower case. */
    running(): Promise<ReadonlySet<string>>;
    /**
     * Starts the entity from what was published, unless it runs.
     *
     * @param operations the records that are kept of it, oldest first
     */
    recover(
      microservice: Microservice,
      releases: readonly Release[],
      operations: readonly Operation[],
      split: TrafficSplit | undefined,
    ): Promise<void>;
  };
  readonly leases: LeaseKeys;
  readonly imagesAhead: ImagesAhead;
  readonly warn: (message: string, error: unknown) => void;
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
}

/** Begun anew this often, so that the workflow's history shows a watch that lives. */
const WATCH_FOR_MS = 12 * 3_600_000;

export const createClusterActivities = (deps: ClusterDependencies): ClusterActivities => {
  const recoverOne = async (microservice: Microservice) => {
    const releases = await deps.store.list<Release>(releasesKvPrefix(microservice));
    const operations = await deps.store.list<Operation>(operationsKvPrefix(microservice));
    const split = await deps.store.get<TrafficSplit>(trafficKvKey(microservice));
    await deps.entities.recover(
      microservice,
      releases.map(({ value }) => value).sort((a, b) => a.number - b.number),
      operations
        .map(({ value }) => value)
        .sort((a, b) => a.createdAtMs - b.createdAtMs || byText(a.id, b.id)),
      split?.value,
    );
  };

  const housekeeping = createHousekeeping({
    store: deps.store,
    leases: deps.leases,
    view: deps.view,
    removeAgain: (microservice) => deps.entities.recover(microservice, [], [], undefined),
  });

  /** To the very end of what it waits for: without a heartbeat, another watch would begin beside it. */
  const heartbeating = async <T>(body: () => Promise<T>): Promise<T> => {
    const context = Context.current();
    const timer = setInterval(() => context.heartbeat(), TIMEOUT.watcherHeartbeatMs / 5);
    try {
      return await body();
    } finally {
      clearInterval(timer);
    }
  };

  /** Tells an entity; brings it back when Temporal has lost it. */
  const tellEntity = async ({ key, reason, hasRoom, lostNodes }: Word): Promise<void> => {
    const signal = { reason, hasRoom, ...(lostNodes.length === 0 ? {} : { lostNodes }) };
    if (await deps.entities.signal(key, signal)) return;
    const id = microserviceId(key);
    const known = await deps.store.list<Microservice>(`${KV_PREFIX.microservices}${id}`);
    const document = known.map(({ value }) => value).find((one) => microserviceId(one) === id);
    if (document) await recoverOne(document);
  };

  const watch = async (): Promise<void> => {
    const context = Context.current();
    const words = createEntityWords();
    const membership = createMembershipRecord({ ...deps, nowMs: Date.now });
    let housekeepingAtMs = 0;
    const keepHouseSoon = () => {
      housekeepingAtMs = 0;
    };
    const changes = createClusterChanges({ ...deps, words, membership, context, keepHouseSoon });

    // These go on beside the words, not between them: they read and write much, and the loss of a node is told at once.
    const house = createSideJob(
      async () => {
        if (Date.now() < housekeepingAtMs) return;
        housekeepingAtMs = Date.now() + TIMEOUT.housekeepingEveryMs;
        await housekeeping();
      },
      ({ error }) => {
        if (error === undefined) return;
        deps.warn('could not delete what is old, or look for replicas of what was removed', error);
        housekeepingAtMs = Date.now() + TIMEOUT.watcherHeartbeatMs;
      },
    );
    const nodeIsBack = (nodeId: string) => {
      keepHouseSoon();
      changes.nodeIsBack(nodeId);
    };
    const recording = createSideJob(
      () => membership.keep(nodeIsBack, (nodeId) => changes.nodeHasRoom(nodeId)),
      ({ error }) => {
        if (error !== undefined) deps.warn('could not record what has become of nodes', error);
        else if (membership.hasNews()) words.wake();
      },
    );
    const pulls = createSideJob(
      () => deps.imagesAhead.keep(),
      ({ error }) => {
        if (error !== undefined) deps.warn('could not have images pulled ahead', error);
      },
    );

    const tell = async (word: Word): Promise<void> => {
      try {
        await tellEntity(word);
      } catch (error) {
        deps.warn(`could not tell ${microserviceId(word.key)} that ${word.reason}`, error);
        words.tellAgain(word);
        await context.sleep(RETRY.node.initialIntervalMs);
      }
    };

    const unsubscribe = deps.view.subscribe((change) => {
      deps.imagesAhead.note(change);
      changes.note(change);
    });
    const endsAtMs = Date.now() + WATCH_FOR_MS;
    try {
      await Promise.race([deps.view.ready, context.cancelled]);
      changes.noteAll();
      while (Date.now() < endsAtMs) {
        const taken = words.take();
        await Promise.all(taken.map(tell));
        if (context.cancellationSignal.aborted) throw new CancelledFailure('the watch was cancelled');
        recording.begin();
        if (taken.length > 0 && !words.isEmpty()) continue;
        house.begin();
        pulls.begin();
        await Promise.race([words.waiting(), context.sleep(TIMEOUT.watcherHeartbeatMs)]);
      }
    } finally {
      unsubscribe();
      await Promise.all([house, recording, pulls].map((job) => job.ended()));
    }
  };

  return {
    recoverEntities: async () => {
      const documents = await deps.store.list<Microservice>(KV_PREFIX.microservices);
      const running = await deps.entities.running();
      const missing = documents.map(({ value }) => value).filter((one) => !running.has(microserviceId(one)));
      for (const microservice of missing) await recoverOne(microservice);
      return { recovered: missing.map(microserviceId) };
    },

    watchCluster: () => heartbeating(watch),
  };
};
