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
import { eventKvKey, KV_PREFIX, nodeSettingsKvKey, operationKvKey, releasesKvPrefix } from '../contracts/kv';
import type { LeaseKeys } from '../contracts/leases';
import { RETRY, TIMEOUT } from '../contracts/timeouts';
import type { ObservedChangedSignal } from '../contracts/workflows';
import {
  microserviceId,
  type ClusterEvent,
  type Microservice,
  type MicroserviceKey,
  type NodeAvailability,
  type NodeSettings,
  type ObservedReplica,
  type Operation,
  type Release,
} from '../domain/model';

import { createHousekeeping } from './housekeeping';
import type { ImagesAhead } from './images-ahead';
import { createMembershipRecord } from './membership-record';

/** What an entity is to be told. */
interface Word {
  readonly key: MicroserviceKey;
  readonly reason: string;
  readonly hasRoom: boolean;
  readonly lostNodes: readonly string[];
}

export interface ClusterDependencies {
  readonly store: KeyValueStore;
  readonly view: {
    /** Resolves when everything has been read once. */
    readonly ready: Promise<void>;
    nodes(): readonly {
      readonly id: string;
      readonly up: boolean;
      readonly availability: NodeAvailability;
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
    /** Starts the entity from what was published, unless it runs. */
    recover(
      microservice: Microservice,
      releases: readonly Release[],
      newest: Operation | undefined,
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
const SIGNALS_AT_ONCE = 16;
/** Which operations have work for a node is known this much later at the latest. */
const OPERATIONS_KNOWN_AFTER_MS = 2_000;

/** What is wrong with a replica after a change, in words; undefined when nothing is to be mended. */
const troubleOf = (change: ClusterChange & { kind: 'replica' }): string | undefined => {
  const { before, after } = change;
  if (!after) {
    return before && before.state !== 'stopping' ? `replica ${before.id} is gone` : undefined;
  }
  if (after.state === before?.state) return undefined;
  switch (after.state) {
    case 'broken':
    case 'exited':
    case 'crash_looping':
      return `replica ${after.id} is ${after.state.replace('_', '-')}`;
    case 'running':
      return before === undefined || before.state === 'starting'
        ? undefined
        : `replica ${after.id} runs again`;
    case 'starting':
    case 'unhealthy':
    case 'restarting':
    case 'paused':
    case 'stopping':
      return undefined;
  }
};

/**
 * Whether a node that has joined, is back or has other labels may change where its replicas run: when some found no
 * node, when it belongs on every node, and when it could be spread more evenly.
 */
const mayUseRoom = ({ state, scale, release: { spec } }: Microservice): boolean =>
  state === 'failed' || spec.daemon === true || (scale > 1 && spec.rebalance !== false);

/** Tells that a drain is done, once for each drain, whichever watch has seen its end. */
const tellDrained = async (
  { store, randomSuffix }: Pick<ClusterDependencies, 'store' | 'randomSuffix'>,
  nodeId: string,
): Promise<void> => {
  const settings = await store.get<NodeSettings>(nodeSettingsKvKey(nodeId));
  if (settings?.value?.availability !== 'draining') return;
  const { setAtMs } = settings.value;
  const events = await store.list<ClusterEvent>(KV_PREFIX.events);
  const isTold = events.some(
    ({ value }) => value.type === 'node.drained' && value.node === nodeId && value.atMs >= setAtMs,
  );
  if (isTold) return;
  const atMs = Math.max(Date.now(), setAtMs);
  const event: ClusterEvent = {
    atMs,
    level: 'info',
    type: 'node.drained',
    message: `node ${nodeId} is drained: no replica is left`,
    node: nodeId,
  };
  await store.transact([{ kind: 'set', key: eventKvKey(atMs, randomSuffix()), value: event }]);
};

export const createClusterActivities = (deps: ClusterDependencies): ClusterActivities => {
  const recoverOne = async (microservice: Microservice) => {
    const releases = await deps.store.list<Release>(releasesKvPrefix(microservice));
    const newest = await deps.store.get<Operation>(operationKvKey(microservice, microservice.operation));
    await deps.entities.recover(
      microservice,
      releases.map(({ value }) => value).sort((a, b) => a.number - b.number),
      newest?.value,
    );
  };

  const housekeeping = createHousekeeping({
    store: deps.store,
    leases: deps.leases,
    view: deps.view,
    removeAgain: (microservice) => deps.entities.recover(microservice, [], undefined),
  });

  const heartbeating = async <T>(body: () => Promise<T>): Promise<T> => {
    const context = Context.current();
    const timer = setInterval(() => context.heartbeat(), TIMEOUT.watcherHeartbeatMs / 5);
    try {
      return await body();
    } finally {
      clearInterval(timer);
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

    watchCluster: async () => {
      const context = Context.current();
      const waiting = new Map<string, Word>();
      let wake: () => void = () => undefined;
      const tell = (
        key: MicroserviceKey,
        reason: string,
        about: { readonly hasRoom?: boolean; readonly lostNodes?: readonly string[] } = {},
      ) => {
        const id = microserviceId(key);
        const before = waiting.get(id);
        waiting.set(id, {
          key: { project: key.project, name: key.name },
          reason,
          hasRoom: about.hasRoom === true || before?.hasRoom === true,
          lostNodes: [...new Set([...(before?.lostNodes ?? []), ...(about.lostNodes ?? [])])],
        });
        wake();
      };
      const tellAll = (reason: string, nodeId: string) => {
        for (const replica of deps.view.replicas()) if (replica.nodeId === nodeId) tell(replica, reason);
      };
      /** Those that have replicas there, and those whose operations wait for it. */
      const tellOfLoss = async (nodeId: string) => {
        const reason = `node ${nodeId} is lost`;
        const lost = { lostNodes: [nodeId] };
        for (const replica of deps.view.replicas()) {
          if (replica.nodeId === nodeId) tell(replica, reason, lost);
        }
        for (const key of await deps.entities.operatingOn(nodeId)) tell(key, reason, lost);
        await context.sleep(OPERATIONS_KNOWN_AFTER_MS);
        if (isUp(nodeId)) return;
        for (const key of await deps.entities.operatingOn(nodeId)) tell(key, reason, lost);
      };
      let housekeepingAtMs = 0;
      /** Those that may have something to gain from a node that can take replicas. */
      const tellOfRoom = async (nodeId: string) => {
        const reason = `node ${nodeId} can take replicas`;
        for (const { value } of await deps.store.list<Microservice>(KV_PREFIX.microservices)) {
          if (mayUseRoom(value)) tell(value, reason, { hasRoom: true });
        }
      };
      const inBackground = (what: string, body: Promise<void>) => {
        body.catch((error: unknown) => {
          // A watch that has ended leaves the rest to the next one.
          if (!context.cancellationSignal.aborted) deps.warn(what, error);
        });
      };
      const gainsRoom = (nodeId: string) =>
        inBackground('could not look for microservices that wait for a node', tellOfRoom(nodeId));

      const membership = createMembershipRecord({ ...deps, nowMs: Date.now });
      /** Told once its stability is known, which decides over what it gets. */
      const isBack = (nodeId: string) => {
        tellAll(`node ${nodeId} is back`, nodeId);
        housekeepingAtMs = 0;
        gainsRoom(nodeId);
      };

      const isLost = (nodeId: string) =>
        inBackground(`could not tell operations that node ${nodeId} is lost`, tellOfLoss(nodeId));

      const isUp = (nodeId: string): boolean => deps.view.nodes().some(({ id, up }) => id === nodeId && up);

      const isDraining = (nodeId: string): boolean =>
        deps.view.nodes().some(({ id, availability }) => id === nodeId && availability === 'draining');

      /** Daemons leave a node that is being drained after all others; when they have, it is told. */
      const followDrain = (nodeId: string) => {
        if (!isDraining(nodeId)) return;
        const left = deps.view
          .replicas()
          .filter((replica) => replica.nodeId === nodeId && replica.state !== 'exited');
        if (left.length === 0) {
          inBackground(`could not tell that node ${nodeId} is drained`, tellDrained(deps, nodeId));
        } else if (left.every(({ daemon }) => daemon === true)) {
          tellAll(`node ${nodeId} has no other replicas left`, nodeId);
        }
      };

      const unsubscribe = deps.view.subscribe((change) => {
        deps.imagesAhead.note(change);
        switch (change.kind) {
          case 'replica': {
            const trouble = troubleOf(change);
            const key = change.after ?? change.before;
            if (trouble !== undefined && key) tell(key, trouble);
            // Begun before its node was drained: nobody has told its entity that it has to leave.
            if (change.after && !change.before && isDraining(change.after.nodeId)) {
              tell(change.after, `replica ${change.after.id} has come to a node that is being drained`);
            }
            if (key && (!change.after || change.after.state === 'exited')) followDrain(key.nodeId);
            return;
          }
          case 'availability':
            tellAll(`node ${change.nodeId} is ${change.availability}`, change.nodeId);
            if (change.availability === 'active') gainsRoom(change.nodeId);
            else followDrain(change.nodeId);
            return;
          case 'membership':
            if (!change.up) isLost(change.nodeId);
            membership.note(change.nodeId, change.up);
            wake();
            return;
          case 'node':
            if (change.isRelabelled === true)
              tellAll(`node ${change.nodeId} has other labels`, change.nodeId);
            if (change.isNew) {
              membership.noteNew(change.nodeId, isUp(change.nodeId));
              wake();
            }
            if (change.isNew || change.isRelabelled === true) gainsRoom(change.nodeId);
            return;
        }
      });

      const signalOne = async ({ key, reason, hasRoom, lostNodes }: Word) => {
        const about = { hasRoom, ...(lostNodes.length === 0 ? {} : { lostNodes }) };
        try {
          if (await deps.entities.signal(key, { reason, ...about })) return;
          const known = await deps.store.list<Microservice>(
            `${KV_PREFIX.microservices}${microserviceId(key)}`,
          );
          const document = known
            .map(({ value }) => value)
            .find((one) => microserviceId(one) === microserviceId(key));
          if (document) await recoverOne(document);
        } catch (error) {
          deps.warn(`could not tell ${microserviceId(key)} that ${reason}`, error);
          tell(key, waiting.get(microserviceId(key))?.reason ?? reason, about);
          await context.sleep(RETRY.node.initialIntervalMs);
        }
      };

      // Beside the words, not between them: it reads much, and the loss of a node is told at once.
      let keeping: Promise<void> | undefined;
      const keepHouse = () => {
        if (keeping !== undefined || Date.now() < housekeepingAtMs) return;
        housekeepingAtMs = Date.now() + TIMEOUT.housekeepingEveryMs;
        keeping = housekeeping()
          .catch((error: unknown) => {
            deps.warn('could not delete what is old, or look for replicas of what was removed', error);
            housekeepingAtMs = Date.now() + TIMEOUT.watcherHeartbeatMs;
          })
          .finally(() => {
            keeping = undefined;
          });
      };

      let pullingAhead: Promise<void> | undefined;
      const pullAhead = () => {
        pullingAhead ??= deps.imagesAhead
          .keep()
          .catch((error: unknown) => deps.warn('could not have images pulled ahead', error))
          .finally(() => {
            pullingAhead = undefined;
          });
      };

      // Beside the words too: Consul may be slow to write while entities can be told.
      let recording: Promise<void> | undefined;
      const recordMembership = () => {
        recording ??= membership.keep(isBack, gainsRoom).then(
          () => {
            recording = undefined;
            if (membership.hasNews()) wake();
          },
          (error: unknown) => {
            recording = undefined;
            deps.warn('could not record what has become of nodes', error);
          },
        );
      };

      const endsAtMs = Date.now() + WATCH_FOR_MS;
      try {
        await heartbeating(async () => {
          await Promise.race([deps.view.ready, context.cancelled]);
          // What happened while nobody watched.
          for (const replica of deps.view.replicas()) {
            const trouble = troubleOf({ kind: 'replica', after: replica });
            if (trouble !== undefined) tell(replica, trouble);
          }
          for (const { id, up } of deps.view.nodes()) {
            if (!up) isLost(id);
            followDrain(id);
          }
          while (Date.now() < endsAtMs) {
            const batch = [...waiting.values()].slice(0, SIGNALS_AT_ONCE);
            for (const { key } of batch) waiting.delete(microserviceId(key));
            await Promise.all(batch.map(signalOne));
            if (context.cancellationSignal.aborted) throw new CancelledFailure('the watch was cancelled');
            recordMembership();
            if (waiting.size > 0 && batch.length > 0) continue;
            keepHouse();
            pullAhead();
            await Promise.race([
              new Promise<void>((resolve) => {
                wake = resolve;
                if (waiting.size > 0) resolve();
              }),
              context.sleep(TIMEOUT.watcherHeartbeatMs),
            ]);
          }
        });
      } finally {
        unsubscribe();
        await Promise.all([keeping, recording, pullingAhead]);
      }
    },
  };
};
