/**
 * A cluster in memory: nodes, replicas and Consul's documents, behind the same activities as the real one. Planning
 * and publishing are the real activities over a store in memory; only what reaches Docker and Consul is made up.
 *
 * Invariants: nothing happens unless an activity or the test does it; what is not made up here throws.
 */

import { createHash } from 'node:crypto';

import { ApplicationFailure, Context } from '@temporalio/activity';

import { createControlPlaneActivities } from '../../activities/control-plane-activities';
import type { ClusterDependencies } from '../../activities/cluster-activities';
import { eachReplica } from '../../activities/node-activities';
import type {
  ControlPlaneActivities,
  ImageResolution,
  NodeActivities,
  PullAheadOutcome,
  PullOutcome,
  StartOutcome,
  StartReplica,
} from '../../contracts/activities';
import type { ClusterChange } from '../../contracts/cluster';
import { KV_PREFIX, requestCountsKvKey } from '../../contracts/kv';
import type {
  ClusterEvent,
  Microservice,
  MissingBuild,
  NodeAvailability,
  ObservedReplica,
  Operation,
  Release,
  ReplicaState,
  Snapshot,
  SnapshotNode,
} from '../../domain/model';

import type { RequestCounts } from '../../domain/judgement';
import type { TrafficSplit } from '../../domain/traffic';
import { snapshotNodes } from '../../domain/placement/snapshot';
import { engineReference, imageInWords } from '../../domain/release-images';

import { buildNode } from './builders';
import { createHold, createMemoryStore, type Hold, type MemoryStore } from './memory-store';

/** What becomes of a container of an image. */
export type ImageBehaviour =
  | { readonly kind: 'healthy' }
  | {
      readonly kind: 'unhealthy';
      readonly reason: string;
      readonly logTail: readonly string[];
      /** What its replicas are seen as; `unhealthy` when left out. */
      readonly leaves?: ReplicaState;
    }
  /** There are builds for these processor architectures only, which the registry tells. */
  | { readonly kind: 'built-for'; readonly architectures: readonly string[] }
  /** It is there for any node, and its program runs on this architecture only. */
  | { readonly kind: 'runs-on'; readonly architecture: string }
  /** The registry does not have it. */
  | { readonly kind: 'missing' }
  /** The registry does not answer: pulls fail, whatever becomes of who asked, at once or after this. */
  | { readonly kind: 'unreachable'; readonly after?: Promise<void> };

/** @param work does what was asked, and has the answer of a worker that can be trusted */
export type Garbler = (activity: keyof NodeActivities, work: () => Promise<unknown>) => Promise<unknown>;

export interface FakeCluster {
  readonly controlPlane: ControlPlaneActivities;
  readonly nodeActivities: NodeActivities;
  readonly store: MemoryStore;
  /** What the watch over the cluster sees of it. */
  readonly view: ClusterDependencies['view'] & { nodes(): readonly SnapshotNode[] };

  // ---- what the test scripts ----
  addNode(id: string, overrides?: Partial<SnapshotNode>): void;
  /** There was never such a node. */
  removeNode(id: string): void;
  /** What Consul's membership says. */
  setUp(nodeId: string, up: boolean): void;
  /** The machine loses its power: whatever it is asked or was asked, nobody hears of it again. */
  kill(nodeId: string): void;
  /** It has its power again; what it was asked before is gone. */
  revive(nodeId: string): void;
  /** What an operator says of the node. */
  setAvailability(nodeId: string, availability: NodeAvailability): void;
  /** The node refuses replicas with these words; undefined: it takes them again. */
  refuse(nodeId: string, reason: string | undefined): void;
  /** The node finds on the way that it has no room, and leaves what it had begun; undefined: it has room again. */
  fill(nodeId: string, reason: string | undefined): void;
  /** By how much the clock of the node is ahead. */
  setClock(nodeId: string, aheadMs: number): void;
  /** The node's worker answers what this makes of what it was asked; undefined: what it has done, again. */
  garble(nodeId: string, garbler: Garbler | undefined): void;
  setImage(image: string, behaviour: ImageBehaviour): void;
  /** Where the tag of an image leads in the registry from now on. */
  setDigest(image: string, digest: string): void;
  /** No registry has the image; these nodes do, with these ids. */
  setLocalImage(image: string, ids: Readonly<Record<string, string>>): void;
  /** What nodes were asked to look up, in order: `a: shop:1`. */
  readonly resolved: readonly string[];
  /** Starts wait, with their replicas in the state `starting`, until they are released or cancelled. */
  holdStarts(): Hold;
  setReplica(replicaId: string, state: ReplicaState): void;
  /** Removes a replica behind everyone's back. */
  loseReplica(replicaId: string): void;

  // ---- what the test sees ----
  replicas(name: string): readonly ObservedReplica[];
  running(name: string): readonly ObservedReplica[];
  /** The fewest and the most replicas that have run since `watchRunning` was called. */
  watchRunning(name: string): { readonly fewest: number; readonly most: number };
  /** What nodes were asked to do, in order: `a: start web-1 v1`. */
  readonly journal: readonly string[];
  microservice(name: string): Microservice | undefined;
  /** How requests are split now. */
  split(name: string): TrafficSplit | undefined;
  /** The ingress of these nodes confirms no split. */
  leaveBehind(nodeIds: readonly string[]): void;
  /** What the ingress of a node has counted. */
  count(counts: RequestCounts): void;
  releases(name: string): readonly Release[];
  operations(name: string): readonly Operation[];
  operation(id: string): Operation | undefined;
  events(): readonly ClusterEvent[];
  /** Owner by hostname. */
  hostnames(): Readonly<Record<string, string>>;
}

const HEARTBEAT_EVERY_MS = 50;

/** What the registry has under a tag until the test moves it. */
export const fakeDigest = (text: string): string =>
  `sha256:${createHash('sha256').update(text).digest('hex')}`;

/** Waits, telling Temporal that the activity lives; throws when it is cancelled. */
export const waitWhile = async (
  waiting: Promise<void>,
  isAlive: () => boolean = () => true,
): Promise<void> => {
  const context = Context.current();
  const timer = setInterval(() => {
    if (isAlive()) context.heartbeat();
  }, HEARTBEAT_EVERY_MS);
  try {
    await Promise.race([waiting, context.cancelled]);
  } finally {
    clearInterval(timer);
  }
};

const isNamed = (one: { readonly name: string }, name: string): boolean =>
  one.name.toLowerCase() === name.toLowerCase();

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** @param nodeIds nodes that the cluster begins with */
export const createFakeCluster = (nodeIds: readonly string[]): FakeCluster => {
  const store = createMemoryStore();
  const nodes = new Map<string, SnapshotNode>(nodeIds.map((id) => [id, buildNode(id, { images: [] })]));
  const replicas = new Map<string, ObservedReplica>();
  const images = new Map<string, ImageBehaviour>();
  const refusals = new Map<string, string>();
  const aheadMs = new Map<string, number>();
  const garblers = new Map<string, Garbler>();
  const full = new Map<string, string>();
  /** Of machines without power: what ends the wait for them. */
  const dead = new Map<string, ReturnType<typeof createHold>>();
  const listeners = new Set<(change: ClusterChange) => void>();
  const watches: { name: string; fewest: number; most: number }[] = [];
  const digests = new Map<string, string>();
  const locals = new Map<string, Readonly<Record<string, string>>>();
  const resolved: string[] = [];
  const journal: string[] = [];
  let behind: readonly string[] = [];
  let starts: ReturnType<typeof createHold> | undefined;
  let suffix = 0;

  const nodeOf = (id: string): SnapshotNode => {
    const node = nodes.get(id);
    if (!node) throw new Error(`the fake cluster has no node ${id}`);
    return node;
  };

  const ofName = (name: string) => [...replicas.values()].filter((replica) => isNamed(replica, name));
  const runningOf = (name: string) => ofName(name).filter(({ state }) => state === 'running');

  const tell = (change: ClusterChange) => {
    for (const listener of listeners) listener(change);
  };

  /** What a machine without power is asked is never answered; when it has its power again, it knows of nothing. */
  const powered = async (nodeId: string): Promise<void> => {
    const hold = dead.get(nodeId);
    if (hold === undefined) return;
    await hold.pass();
    throw new Error(`the node ${nodeId} had no power`);
  };

  const look = () => {
    for (const watch of watches) {
      const { length } = runningOf(watch.name);
      watch.fewest = Math.min(watch.fewest, length);
      watch.most = Math.max(watch.most, length);
    }
  };
  const put = (replica: ObservedReplica, state: ReplicaState) => {
    const before = replicas.get(replica.id);
    const after = { ...replica, state, updatedAtMs: Date.now() };
    replicas.set(replica.id, after);
    tell({ kind: 'replica', after, ...(before ? { before } : {}) });
    look();
  };

  const remove = (replicaId: string): boolean => {
    const before = replicas.get(replicaId);
    if (before === undefined) return false;
    replicas.delete(replicaId);
    tell({ kind: 'replica', before });
    look();
    return true;
  };

  const seenNodes = (): readonly SnapshotNode[] =>
    snapshotNodes([...nodes.values()], [...replicas.values()], {
      isUp: (nodeId) => nodeOf(nodeId).up,
      availabilityOf: (nodeId) => nodeOf(nodeId).availability,
      unstableUntilMs: (nodeId) => nodeOf(nodeId).unstableUntilMs,
      returnedAtMs: (nodeId) => nodeOf(nodeId).returnedAtMs,
      lostWithAll: (nodeId) => nodeOf(nodeId).lostWithAll,
    });

  const readSnapshot = async (key: { name: string }): Promise<Snapshot> => {
    if (store.away) await store.list('');
    return { nodes: seenNodes(), replicas: ofName(key.name) };
  };

  /** A node tells what it has found out before it answers. */
  const noteMissingBuild = (nodeId: string, image: string, available: readonly string[]): MissingBuild => {
    const found: MissingBuild = { image, available, seenAtMs: Date.now() };
    const { missingBuilds = [], ...node } = nodeOf(nodeId);
    const others = missingBuilds.filter((one) => one.image !== image);
    nodes.set(nodeId, { ...node, missingBuilds: [...others, found] });
    return found;
  };

  const failureOf = (release: Release): Extract<ImageBehaviour, { kind: 'unhealthy' }> | undefined => {
    for (const { image } of release.spec.containers) {
      const behaviour = images.get(imageInWords(image));
      if (behaviour?.kind === 'unhealthy') return behaviour;
    }
    return undefined;
  };

  const observe = (nodeId: string, asked: StartReplica): ObservedReplica => {
    const { containers } = asked.release.spec;
    return {
      project: asked.project,
      name: asked.name,
      id: asked.replicaId,
      release: asked.release.number,
      releasedAtMs: asked.release.createdAtMs,
      nodeId,
      operation: asked.operation,
      state: 'starting',
      containers: [],
      ports: [],
      restartCount: 0,
      ...(asked.release.spec.daemon === true ? { daemon: true } : {}),
      cpusReserved: sum(containers.map(({ cpusReserved }) => cpusReserved)),
      memoryReservedBytes: sum(containers.map(({ memoryReservedBytes }) => memoryReservedBytes)),
      ...(asked.placedAtMs === undefined ? {} : { placedAtMs: asked.placedAtMs }),
      createdAtMs: Date.now() + (aheadMs.get(nodeId) ?? 0),
      updatedAtMs: Date.now() + (aheadMs.get(nodeId) ?? 0),
    };
  };

  const startOne = async (nodeId: string, asked: StartReplica): Promise<StartOutcome> => {
    const { replicaId, release } = asked;
    const refusal = refusals.get(nodeId);
    if (refusal !== undefined && !replicas.has(replicaId)) {
      return { kind: 'refused', replicaId, reason: refusal };
    }
    journal.push(`${nodeId}: start ${replicaId} v${release.number}`);
    const replica = replicas.get(replicaId) ?? observe(nodeId, asked);
    if (replica.nodeId !== nodeId)
      throw new Error(`${replicaId} runs on ${replica.nodeId}, not on ${nodeId}`);
    const lack = full.get(nodeId);
    if (lack !== undefined) {
      put(replica, 'broken');
      return { kind: 'failed', replicaId, code: 'no_capacity', reason: lack, logTail: [] };
    }
    for (const { image } of release.spec.containers) {
      const behaviour = images.get(imageInWords(image));
      if (behaviour?.kind !== 'runs-on' || behaviour.architecture === nodeOf(nodeId).architecture) continue;
      const missingBuild = noteMissingBuild(nodeId, image, [behaviour.architecture]);
      return { kind: 'refused', replicaId, reason: `${image} does not run here`, missingBuild };
    }
    if (replica.state !== 'running') put(replica, 'starting');
    const settle = () => {
      const failure = failureOf(release);
      if (replicas.has(replicaId)) put(replica, failure ? (failure.leaves ?? 'unhealthy') : 'running');
    };
    try {
      if (starts) await waitWhile(starts.pass(), () => !dead.has(nodeId));
    } finally {
      await powered(nodeId);
      // A node goes on with what it has begun, whether or not anyone waits for it.
      settle();
    }
    const failure = failureOf(release);
    if (!failure) return { kind: 'ready', replicaId, ports: [] };
    const { reason, logTail } = failure;
    return { kind: 'failed', replicaId, code: 'unhealthy', reason, logTail };
  };

  const resolveOne = async (nodeId: string, image: string): Promise<ImageResolution> => {
    const behaviour = images.get(image);
    if (behaviour?.kind === 'unreachable') {
      await behaviour.after;
      const reason = `${image}: the registry is away`;
      return { kind: 'unknown', image, code: 'pull_failed', reason, mayPass: true };
    }
    if (behaviour?.kind === 'missing') {
      const reason = `there is no image ${image}`;
      return { kind: 'unknown', image, code: 'image_not_found', reason, mayPass: false };
    }
    const local = locals.get(image);
    if (local !== undefined) {
      const imageId = local[nodeId];
      if (imageId !== undefined) return { kind: 'local', image, imageId };
      const reason = `${image}: the registry does not have it`;
      return { kind: 'unknown', image, code: 'image_not_found', reason, mayPass: false };
    }
    return { kind: 'digest', image, digest: digests.get(image) ?? fakeDigest(image) };
  };

  const pullOne = async (nodeId: string, asked: string): Promise<PullOutcome> => {
    const image = imageInWords(asked);
    journal.push(`${nodeId}: pull ${image}`);
    const behaviour = images.get(image);
    if (behaviour?.kind === 'unreachable') {
      await behaviour.after;
      throw ApplicationFailure.create({ type: 'pull_failed', message: `${image}: the registry is away` });
    }
    if (behaviour?.kind === 'missing') {
      return { kind: 'failed', image: asked, code: 'image_not_found', reason: `there is no image ${image}` };
    }
    const local = locals.get(image);
    if (local !== undefined && local[nodeId] === undefined) {
      return { kind: 'failed', image: asked, code: 'image_not_found', reason: `no registry has ${image}` };
    }
    const node = nodeOf(nodeId);
    if (behaviour?.kind === 'built-for' && !behaviour.architectures.includes(node.architecture)) {
      const missingBuild = noteMissingBuild(nodeId, asked, behaviour.architectures);
      return {
        kind: 'failed',
        image: asked,
        code: 'image_not_found',
        reason: `${image}: not made for it`,
        missingBuild,
      };
    }
    nodes.set(nodeId, { ...node, images: [...new Set([...node.images, image, engineReference(asked)])] });
    return { kind: 'pulled', image: asked, imageId: `sha256:${image}` };
  };

  const garbled = (honest: NodeActivities): NodeActivities => {
    const dishonest = (activity: keyof NodeActivities) => (input: never) => {
      const work = (): Promise<unknown> => honest[activity](input);
      return garblers.get((input as { readonly nodeId: string }).nodeId)?.(activity, work) ?? work();
    };
    const activities = Object.keys(honest) as (keyof NodeActivities)[];
    return Object.fromEntries(
      activities.map((activity) => [activity, dishonest(activity)]),
    ) as unknown as NodeActivities;
  };

  const values = <T>(prefix: string): readonly T[] => store.peek<T>(prefix).map(({ value }) => value);

  return {
    controlPlane: createControlPlaneActivities({
      confirmTraffic: () => Promise.resolve(behind),
      store,
      readSnapshot,
      randomSuffix: () => String((suffix += 1)).padStart(12, '0'),
    }),
    nodeActivities: garbled({
      pullImages: async ({ nodeId, images: asked }) => {
        await powered(nodeId);
        return Promise.all(asked.map(({ image }) => pullOne(nodeId, image)));
      },
      resolveImages: async ({ nodeId, images: asked }) => {
        nodeOf(nodeId);
        await powered(nodeId);
        resolved.push(...asked.map(({ image }) => `${nodeId}: ${image}`));
        return Promise.all(asked.map(({ image }) => resolveOne(nodeId, image)));
      },
      pullAhead: async ({ nodeId, images: asked }) => {
        await powered(nodeId);
        const outcomes: PullAheadOutcome[] = [];
        for (const image of asked) {
          journal.push(`${nodeId}: pull ahead ${image}`);
          const outcome = await pullOne(nodeId, image);
          outcomes.push(outcome.kind === 'failed' ? outcome : { kind: outcome.kind, image });
        }
        return outcomes;
      },
      startReplicas: async (input) => {
        const { nodeId } = input;
        nodeOf(nodeId);
        await powered(nodeId);
        const settled = await Promise.allSettled(
          eachReplica(input).map((replica) => startOne(nodeId, replica)),
        );
        return settled.map((one) => {
          if (one.status === 'rejected') throw one.reason;
          return one.value;
        });
      },
      stopReplicas: async ({ nodeId, replicas: asked }) => {
        nodeOf(nodeId);
        await powered(nodeId);
        return asked.map(({ replicaId, reason }) => {
          const replica = replicas.get(replicaId);
          if (replica && replica.nodeId !== nodeId) throw new Error(`${replicaId} is not on ${nodeId}`);
          journal.push(`${nodeId}: stop ${replicaId} ${reason}`);
          return { replicaId, existed: remove(replicaId), ...(behind.length === 0 ? {} : { behind }) };
        });
      },
    }),
    store,
    view: {
      ready: Promise.resolve(),
      nodes: seenNodes,
      replicas: () => [...replicas.values()],
      subscribe: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },

    addNode: (id, overrides = {}) => {
      const isNew = !nodes.has(id);
      nodes.set(id, buildNode(id, { images: [], ...overrides }));
      tell({ kind: 'node', nodeId: id, isNew });
    },
    removeNode: (id) => void nodes.delete(id),
    setUp: (nodeId, up) => {
      const before = nodeOf(nodeId);
      const isBack = up && !before.up;
      nodes.set(nodeId, { ...before, up, ...(isBack ? { returnedAtMs: Date.now() } : {}) });
      tell({ kind: 'membership', nodeId, up });
    },
    kill: (nodeId) => {
      nodeOf(nodeId);
      if (!dead.has(nodeId)) dead.set(nodeId, createHold());
    },
    revive: (nodeId) => {
      dead.get(nodeId)?.release();
      dead.delete(nodeId);
    },
    setAvailability: (nodeId, availability) => {
      nodes.set(nodeId, { ...nodeOf(nodeId), availability });
      tell({ kind: 'availability', nodeId, availability });
    },
    refuse: (nodeId, reason) => {
      if (reason === undefined) refusals.delete(nodeId);
      else refusals.set(nodeId, reason);
    },
    fill: (nodeId, reason) => {
      if (reason === undefined) full.delete(nodeId);
      else full.set(nodeId, reason);
    },
    setClock: (nodeId, ahead) => void aheadMs.set(nodeId, ahead),
    garble: (nodeId, garbler) => {
      if (garbler === undefined) garblers.delete(nodeId);
      else garblers.set(nodeId, garbler);
    },
    setImage: (image, behaviour) => void images.set(image, behaviour),
    setDigest: (image, digest) => void digests.set(image, digest),
    setLocalImage: (image, ids) => void locals.set(image, ids),
    resolved,
    holdStarts: () => {
      const hold = createHold();
      starts = hold;
      return {
        get waiting() {
          return hold.waiting;
        },
        release: () => {
          if (starts === hold) starts = undefined;
          hold.release();
        },
      };
    },
    setReplica: (replicaId, state) => {
      const replica = replicas.get(replicaId);
      if (!replica) throw new Error(`the fake cluster has no replica ${replicaId}`);
      put(replica, state);
    },
    loseReplica: (replicaId) => {
      if (!remove(replicaId)) throw new Error(`the fake cluster has no replica ${replicaId}`);
    },

    replicas: ofName,
    running: runningOf,
    watchRunning: (name) => {
      const { length } = runningOf(name);
      const watch = { name, fewest: length, most: length };
      watches.push(watch);
      return watch;
    },
    journal,
    microservice: (name) => values<Microservice>(KV_PREFIX.microservices).find((one) => isNamed(one, name)),
    split: (name) => values<TrafficSplit>(KV_PREFIX.traffic).find((one) => isNamed(one, name)),
    leaveBehind: (nodeIds) => {
      behind = nodeIds;
    },
    count: (counts) =>
      void store.transact([{ kind: 'set', key: requestCountsKvKey(counts.id), value: counts }]),
    releases: (name) =>
      store
        .peek<Release>(KV_PREFIX.releases)
        .filter(({ key }) => key.split('/').at(-2) === name.toLowerCase())
        .map(({ value }) => value)
        .sort((left, right) => left.number - right.number),
    operations: (name) =>
      values<Operation>(KV_PREFIX.operations)
        .filter((one) => isNamed(one, name))
        .sort((left, right) => left.createdAtMs - right.createdAtMs),
    operation: (id) => values<Operation>(KV_PREFIX.operations).find((one) => one.id === id),
    events: () => values<ClusterEvent>(KV_PREFIX.events),
    hostnames: () =>
      Object.fromEntries(
        store
          .peek<{ name: string }>(KV_PREFIX.hostnames)
          .map(({ key, value }) => [key.slice(KV_PREFIX.hostnames.length), value.name]),
      ),
  };
};
