/**
 * Who is told what when something changes in the cluster. Part of the watch over it.
 *
 * Invariants: it plans nothing, entities look for themselves; what cannot be found out now is left to the next watch, or
 * to the entity's own periodic look.
 */

import type { Context } from '@temporalio/activity';

import type { ClusterChange } from '../contracts/cluster';
import type { KeyValueStore } from '../contracts/key-value-store';
import { eventKvKey, KV_PREFIX, nodeSettingsKvKey } from '../contracts/kv';
import { scaleOf } from '../domain/exclusive';
import { groupBy } from '../domain/group-by';
import {
  microserviceId,
  type ClusterEvent,
  type Microservice,
  type MicroserviceKey,
  type NodeAvailability,
  type NodeSettings,
  type ObservedReplica,
} from '../domain/model';

import type { EntityWords } from './entity-words';

export interface ClusterChangesDependencies {
  readonly store: KeyValueStore;
  readonly view: {
    nodes(): readonly {
      readonly id: string;
      readonly up: boolean;
      readonly availability: NodeAvailability;
      readonly engineLostAtMs?: number;
    }[];
    replicas(): readonly ObservedReplica[];
  };
  readonly entities: {
    /** Microservices of which an operation runs that has work for the node. */
    operatingOn(nodeId: string): Promise<readonly MicroserviceKey[]>;
  };
  /** What was out of reach can be removed now. */
  readonly keepHouseSoon: () => void;
  readonly words: Pick<EntityWords, 'tell' | 'wake'>;
  readonly membership: {
    note(nodeId: string, up: boolean): void;
    noteNew(nodeId: string, up: boolean): void;
  };
  /** Of the watch. */
  readonly context: Pick<Context, 'sleep' | 'cancellationSignal'>;
  readonly warn: (message: string, error: unknown) => void;
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
}

export interface ClusterChanges {
  note(change: ClusterChange): void;
  /** Finds what has happened while nobody watched. */
  noteAll(): void;
  /** A node is back, and it is known how stable it is: that decides over what it gets. */
  nodeIsBack(nodeId: string): void;
  /** A node can take replicas. */
  nodeHasRoom(nodeId: string): void;
}

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

/** What a node mends by itself, as long as its engine answers. */
const isMendedByNode = ({ before, after }: ClusterChange & { kind: 'replica' }): boolean =>
  after !== undefined &&
  after.state !== before?.state &&
  (after.state === 'unhealthy' || after.state === 'restarting' || after.state === 'paused');

/**
 * Whether a node that has joined, is back or has other labels may change where its replicas run: when some found no
 * node, when it belongs on every node, and when it could be spread more evenly.
 */
const mayUseRoom = ({ state, scale, release: { spec } }: Microservice): boolean =>
  state === 'failed' || spec.daemon === true || (scale > 1 && spec.rebalance !== false);

/** Tells that a drain is done, once for each drain, whichever watch has seen its end. */
const tellDrained = async (
  { store, randomSuffix }: Pick<ClusterChangesDependencies, 'store' | 'randomSuffix'>,
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

export const createClusterChanges = (deps: ClusterChangesDependencies): ClusterChanges => {
  const { store, view, entities, words, membership, context, warn, keepHouseSoon } = deps;

  const inBackground = (what: string, body: Promise<void>) => {
    body.catch((error: unknown) => {
      // A watch that has ended leaves the rest to the next one.
      if (!context.cancellationSignal.aborted) warn(what, error);
    });
  };

  const replicasOn = (nodeId: string) => view.replicas().filter((replica) => replica.nodeId === nodeId);

  const isUp = (nodeId: string): boolean => view.nodes().some(({ id, up }) => id === nodeId && up);

  const isDraining = (nodeId: string): boolean =>
    view.nodes().some(({ id, availability }) => id === nodeId && availability === 'draining');

  const tellAllOn = (nodeId: string, reason: string) => {
    for (const replica of replicasOn(nodeId)) words.tell(replica, reason);
  };

  const hasLostEngine = (nodeId: string): boolean =>
    view.nodes().some(({ id, engineLostAtMs }) => id === nodeId && engineLostAtMs !== undefined);

  /** Those that have replicas there, and those whose operations wait for it. */
  const tellOfLoss = async (nodeId: string, reason: string, isLost: () => boolean) => {
    const lost = { lostNodes: [nodeId] };
    for (const replica of replicasOn(nodeId)) words.tell(replica, reason, lost);
    for (const key of await entities.operatingOn(nodeId)) words.tell(key, reason, lost);
    await context.sleep(OPERATIONS_KNOWN_AFTER_MS);
    if (!isLost()) return;
    for (const key of await entities.operatingOn(nodeId)) words.tell(key, reason, lost);
  };

  const nodeIsLost = (nodeId: string) =>
    inBackground(
      `could not tell operations that node ${nodeId} is lost`,
      tellOfLoss(nodeId, `node ${nodeId} is lost`, () => !isUp(nodeId)),
    );

  /** Nothing can be started or stopped there, so what waits for it is given up as on a node that is lost. */
  const engineIsLost = (nodeId: string) =>
    inBackground(
      `could not tell operations that the Docker Engine of node ${nodeId} does not answer`,
      tellOfLoss(nodeId, `the Docker Engine of node ${nodeId} does not answer`, () => hasLostEngine(nodeId)),
    );

  /** Those that may have something to gain from a node that can take replicas. */
  const tellOfRoom = async (nodeId: string) => {
    const reason = `node ${nodeId} can take replicas`;
    for (const { value } of await store.list<Microservice>(KV_PREFIX.microservices)) {
      if (mayUseRoom(value)) words.tell(value, reason, { hasRoom: true });
    }
  };

  /** What an operation left on a node that was not there for a moment of which nobody has heard. */
  const tellOfSurplus = async () => {
    const running = groupBy(
      view.replicas().filter(({ state }) => state !== 'stopping' && state !== 'exited'),
      microserviceId,
    );
    for (const { value } of await store.list<Microservice>(KV_PREFIX.microservices)) {
      const { scale, release, state } = value;
      const count = running.get(microserviceId(value))?.length ?? 0;
      // An operation that runs has more of them for a while, and ends what it has begun.
      if (state === 'changing' || release.spec.daemon === true) continue;
      if (count > scaleOf(release.spec, scale)) {
        words.tell(value, `${count} of its replicas run, and ${scale} are desired`);
      }
    }
  };

  const nodeHasRoom = (nodeId: string) =>
    inBackground('could not look for microservices that wait for a node', tellOfRoom(nodeId));

  const engineIsBack = (nodeId: string) => {
    tellAllOn(nodeId, `the Docker Engine of node ${nodeId} answers again`);
    nodeHasRoom(nodeId);
    keepHouseSoon();
    words.wake();
  };

  /** Daemons leave a node that is being drained after all others; when they have, it is told. */
  const followDrain = (nodeId: string) => {
    if (!isDraining(nodeId)) return;
    const left = replicasOn(nodeId).filter(({ state }) => state !== 'exited');
    if (left.length === 0) {
      inBackground(`could not tell that node ${nodeId} is drained`, tellDrained(deps, nodeId));
    } else if (left.every(({ daemon }) => daemon === true)) {
      tellAllOn(nodeId, `node ${nodeId} has no other replicas left`);
    }
  };

  const noteReplica = (change: ClusterChange & { kind: 'replica' }) => {
    const { before, after } = change;
    const trouble = troubleOf(change);
    const key = after ?? before;
    if (trouble !== undefined && key) words.tell(key, trouble);
    if (after && isMendedByNode(change) && hasLostEngine(after.nodeId)) {
      words.tell(after, `replica ${after.id} is ${after.state}, and the Docker Engine there does not answer`);
    }
    // Begun before its node was drained: nobody has told its entity that it has to leave.
    if (after && !before && isDraining(after.nodeId)) {
      words.tell(after, `replica ${after.id} has come to a node that is being drained`);
    }
    if (key && (!after || after.state === 'exited')) followDrain(key.nodeId);
  };

  return {
    note: (change) => {
      switch (change.kind) {
        case 'replica':
          return noteReplica(change);
        case 'availability':
          tellAllOn(change.nodeId, `node ${change.nodeId} is ${change.availability}`);
          if (change.availability === 'active') nodeHasRoom(change.nodeId);
          else followDrain(change.nodeId);
          return;
        case 'membership':
          if (!change.up) nodeIsLost(change.nodeId);
          membership.note(change.nodeId, change.up);
          words.wake();
          return;
        case 'node':
          if (change.isRelabelled === true)
            tellAllOn(change.nodeId, `node ${change.nodeId} has other labels`);
          if (change.isNew) {
            membership.noteNew(change.nodeId, isUp(change.nodeId));
            words.wake();
          }
          if (change.isNew || change.isRelabelled === true) nodeHasRoom(change.nodeId);
          if (change.engine === 'lost') engineIsLost(change.nodeId);
          if (change.engine === 'back') engineIsBack(change.nodeId);
          return;
      }
    },
    noteAll: () => {
      for (const replica of view.replicas()) {
        const trouble = troubleOf({ kind: 'replica', after: replica });
        if (trouble !== undefined) words.tell(replica, trouble);
      }
      for (const { id, up, engineLostAtMs } of view.nodes()) {
        if (!up) nodeIsLost(id);
        else if (engineLostAtMs !== undefined) engineIsLost(id);
        // Who was told of the drain may have planned while the node did not seem to be there.
        else if (isDraining(id)) tellAllOn(id, `node ${id} is draining`);
        followDrain(id);
      }
      inBackground('could not look for replicas that are too many', tellOfSurplus());
    },
    nodeIsBack: (nodeId) => {
      tellAllOn(nodeId, `node ${nodeId} is back`);
      nodeHasRoom(nodeId);
    },
    nodeHasRoom,
  };
};
