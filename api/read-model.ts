/**
 * What the cluster publishes in Consul, in memory: every GET of the API answers from here.
 *
 * Invariants: nothing here is ever newer or other than what Consul holds; it follows by blocking queries, one for
 * each prefix and one for the membership; replicas, which change the most, are followed calmly, and each request has them
 * caught up first; while Consul is away it keeps what it has and says since when; a document that cannot be read is logged
 * and left out, and never takes the rest down; what a node published before it was lost is not shown as if it were so now.
 */

import type { Logger } from 'pino';

import type { MembersHandlers, MembersWatch } from '../contracts/cluster';
import {
  KV_PREFIX,
  microserviceKvKey,
  nodeKvKey,
  nodeSettingsKvKey,
  nodeStabilityKvKey,
  releasesKvPrefix,
  replicasKvPrefix,
  trafficKvKey,
} from '../contracts/kv';
import type { KvStore, KvWatch } from '../contracts/kv-store';
import { ContainerOsError } from '../domain/errors';
import { instabilityInWords, isUnstable, returnOf } from '../domain/flapping';
import { publicPortInWords } from '../domain/ingress/public-ports';
import type {
  Microservice,
  MicroserviceKey,
  NodeAvailability,
  ObservedNode,
  ObservedReplica,
  Release,
  Snapshot,
} from '../domain/model';
import { snapshotNodes } from '../domain/placement/snapshot';
import type { TrafficSplit } from '../domain/traffic';

import type { EventLog } from './event-log';
import { FOLLOWED, TOPIC, createReadDocuments, ownerOf, type Followed } from './read-documents';
import { createVersions, type Versions } from './versions';

const SOURCES = [...FOLLOWED, 'members'] as const;
type Source = (typeof SOURCES)[number];

/** How long a writer's own write is waited for on the way that all changes come, before it is fetched. */
const OWN_WRITE_PATIENCE_MS = 100;
/** How long who asks waits for replicas that Consul may have by now; later they come by themselves. */
const CATCH_UP_PATIENCE_MS = 250;

/** `lost`: its node does not answer, so nobody knows. */
export type ShownReplica = Omit<ObservedReplica, 'state'> & {
  readonly state: ObservedReplica['state'] | 'lost';
};
export type ShownNode = Omit<ObservedNode, 'health'> & {
  readonly health: ObservedNode['health'] | 'lost';
  readonly availability: NodeAvailability;
  /** It comes and goes: until then it is used only where no other node will do. */
  readonly unstableUntilMs?: number;
};

export interface ReadModelStatus {
  /** Whether everything has been read once. */
  readonly loaded: boolean;
  /** Since when Consul has not answered; undefined while it does. */
  readonly staleSinceMs?: number;
  readonly staleReason?: string;
  readonly indexes: Readonly<Record<Followed, number>>;
}

export interface ReadModel {
  readonly versions: Versions;
  readonly events: EventLog;
  status(): ReadModelStatus;
  /** @throws {ContainerOsError} `unavailable` while nothing has been read yet */
  assertLoaded(): void;
  whenLoaded(timeoutMs: number): Promise<boolean>;
  /** In the order of their names. */
  microservices(): readonly Microservice[];
  microservice(key: MicroserviceKey): Microservice | undefined;
  /** Kept releases, the newest first. */
  releases(key: MicroserviceKey): readonly Release[];
  replicasOf(key: MicroserviceKey): readonly ShownReplica[];
  replicas(): readonly ShownReplica[];
  replica(id: string): ShownReplica | undefined;
  /** What stands in an operation's way: its newest event, if that is of such a kind. */
  troubleOf(operation: string): string | undefined;
  /** How its requests are split between releases; undefined: they are not. */
  splitOf(key: MicroserviceKey): TrafficSplit | undefined;
  /** Whether there is a certificate that is good for a hostname. */
  isCertified(hostname: string): boolean;
  nodes(): readonly ShownNode[];
  node(id: string): ShownNode | undefined;
  /** What the planner would see of a microservice now. */
  snapshot(key: MicroserviceKey): Snapshot;
  /** Resolves when the replicas are those that there were at the time of the call, or Consul does not answer. */
  catchUp(): Promise<void>;
  /** Reads the microservices from Consul now. */
  refresh(): Promise<void>;
  /** Resolves when writes up to this index of Consul are seen here; false after `timeoutMs`. */
  waitForIndex(
    index: number,
    timeoutMs: number,
    source?: 'microservices' | 'nodes' | 'nodeSettings',
  ): Promise<boolean>;
  close(): void;
}

/** Nodes of versions that did not say theirs yet are left alone. */
const otherVersionInWords = (
  { containerosVersion: found }: ObservedNode,
  version: string,
): readonly string[] =>
  found === undefined || found === version
    ? []
    : [`it runs ContainerOS ${found}, and the control plane ${version}: install the same version on both`];

export interface ReadModelDeps {
  readonly kv: KvStore;
  readonly watchMembers: (handlers: MembersHandlers) => MembersWatch;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** Of this ContainerOS. */
  readonly version: string;
}

export const createReadModel = ({ kv, watchMembers, log, nowMs, version }: ReadModelDeps): ReadModel => {
  const versions = createVersions(nowMs());
  const read = createReadDocuments((message) => log.error(message), versions);
  const { microservices, releases, replicas, replicasByOwner, nodes, nodeSettings, nodeStability, events } =
    read;
  const indexes: Record<Followed, number> = {
    microservices: 0,
    releases: 0,
    replicas: 0,
    nodes: 0,
    nodeSettings: 0,
    nodeStability: 0,
    events: 0,
    traffic: 0,
    certificates: 0,
  };
  let members: ReadonlyMap<string, boolean> = new Map();
  const unread = new Set<Source>(SOURCES);
  const unreachable = new Map<Source, string>();
  let staleSinceMs: number | undefined;

  const heard = (source: Source, topics: Iterable<string>) => {
    unread.delete(source);
    if (unreachable.delete(source) && unreachable.size === 0) {
      log.info({ staleForMs: nowMs() - (staleSinceMs ?? nowMs()) }, 'Consul answers again');
      staleSinceMs = undefined;
    }
    versions.bump([...topics, `index:${source}`]);
  };

  const notHeard = (source: Source) => (error: unknown) => {
    const reason = error instanceof Error ? error.message : String(error);
    if (unreachable.size === 0) {
      staleSinceMs = nowMs();
      log.warn({ err: error }, 'Consul does not answer; the API shows what it knew');
    }
    unreachable.set(source, reason);
  };

  const follow = (prefix: Followed): KvWatch =>
    kv.watch(
      KV_PREFIX[prefix],
      {
        changed: (change) => {
          const topics = read.enter(prefix, change);
          indexes[prefix] = change.index;
          heard(prefix, topics);
          // Nobody can ask for what is gone by its number, so its number need not be kept.
          for (const key of change.removed) {
            if (prefix === 'microservices') {
              const owner = ownerOf(KV_PREFIX.microservices, key);
              if (owner) versions.forget(TOPIC.microservice(owner));
            } else if (prefix === 'replicas')
              versions.forget(TOPIC.replica(key.slice(key.lastIndexOf('/') + 1)));
            else if (prefix === 'nodes') versions.forget(TOPIC.node(key.slice(KV_PREFIX.nodes.length)));
          }
        },
        unreachable: notHeard(prefix),
      },
      // Every start and stop writes them, and nobody may be asking; who asks catches up.
      prefix === 'replicas' ? 'calm' : undefined,
    );

  const watches = Object.fromEntries(FOLLOWED.map((prefix) => [prefix, follow(prefix)])) as Readonly<
    Record<Followed, KvWatch>
  >;

  const isUp = (nodeId: string) => members.get(nodeId) === true;

  const membersWatch = watchMembers({
    changed: (now) => {
      const before = members;
      members = now;
      const turned = new Set(
        [...before.keys(), ...now.keys()].filter((id) => (before.get(id) === true) !== isUp(id)),
      );
      const topics = new Set<string>();
      for (const id of turned) topics.add(TOPIC.nodes).add(TOPIC.node(id));
      for (const replica of replicas.all()) {
        if (!turned.has(replica.nodeId)) continue;
        topics.add(TOPIC.replicas).add(TOPIC.replica(replica.id));
        topics.add(TOPIC.microservices).add(TOPIC.microservice(replica));
      }
      heard('members', turned.size > 0 ? read.addThoseOfNodes(topics) : topics);
    },
    unreachable: notHeard('members'),
  });

  const availabilityOf = (nodeId: string): NodeAvailability =>
    nodeSettings.get(nodeSettingsKvKey(nodeId))?.availability ?? 'active';

  const stabilityOf = (nodeId: string) => nodeStability.get(nodeStabilityKvKey(nodeId));

  /** What is said of a node that comes and goes, until that is over. */
  const instabilityOf = (
    nodeId: string,
  ): Pick<ShownNode, 'unstableUntilMs'> & { readonly reason?: string } => {
    const known = stabilityOf(nodeId);
    const reason = known && instabilityInWords(known);
    return known?.unstableUntilMs === undefined || reason === undefined || !isUnstable(known, nowMs())
      ? {}
      : { unstableUntilMs: known.unstableUntilMs, reason };
  };

  const snapshot = (key: MicroserviceKey): Snapshot => ({
    nodes: snapshotNodes(nodes.all(), replicas.all(), {
      isUp,
      availabilityOf,
      unstableUntilMs: (nodeId) => stabilityOf(nodeId)?.unstableUntilMs,
      returnedAtMs: (nodeId) => {
        const known = stabilityOf(nodeId);
        return known && returnOf(known);
      },
      lostWithAll: (nodeId) => stabilityOf(nodeId)?.lostWithAll,
    }),
    replicas: replicasByOwner.of(replicasKvPrefix(key)),
  });

  const shownReplica = (replica: ObservedReplica): ShownReplica =>
    isUp(replica.nodeId)
      ? replica
      : { ...replica, state: 'lost', reason: `node ${replica.nodeId} does not answer` };
  const shownNode = (node: ObservedNode): ShownNode => {
    const availability = availabilityOf(node.id);
    if (!isUp(node.id)) return { ...node, health: 'lost', reasons: ['it does not answer'], availability };
    const { reason, ...instability } = instabilityOf(node.id);
    const reasons = [
      ...node.reasons,
      ...(reason === undefined ? [] : [`it ${reason}`]),
      ...otherVersionInWords(node, version),
      ...(node.publicPortTroubles ?? []).map((one) => `${publicPortInWords(one)} ${one.reason}`),
    ];
    return { ...node, ...instability, reasons, availability };
  };

  const microservice = (key: MicroserviceKey) => microservices.get(microserviceKvKey(key));

  return {
    versions,
    events,
    status: () => ({
      loaded: unread.size === 0,
      ...(staleSinceMs === undefined ? {} : { staleSinceMs }),
      ...(unreachable.size === 0 ? {} : { staleReason: [...unreachable.values()][0] ?? '' }),
      indexes: { ...indexes },
    }),
    assertLoaded: () => {
      if (unread.size === 0) return;
      const [reason] = unreachable.values();
      throw new ContainerOsError(
        'unavailable',
        `The state of the cluster has not been read from Consul yet${reason === undefined ? '' : `: ${reason}`} Try again in a moment.`,
      );
    },
    whenLoaded: async (timeoutMs) => {
      const deadlineMs = nowMs() + timeoutMs;
      for (const prefix of SOURCES) {
        while (unread.has(prefix) && nowMs() < deadlineMs) {
          await versions.waitBeyond(`index:${prefix}`, versions.current(), deadlineMs - nowMs());
        }
      }
      return unread.size === 0;
    },
    microservices: () => microservices.all(),
    microservice,
    releases: (key) => {
      const current = microservice(key)?.release;
      const kept = new Map(releases.of(releasesKvPrefix(key)).map((release) => [release.number, release]));
      // The newest one is in the microservice's own document too, which may have come a moment earlier.
      if (current) kept.set(current.number, current);
      return [...kept.values()].sort((a, b) => b.number - a.number);
    },
    replicasOf: (key) => replicasByOwner.of(replicasKvPrefix(key)).map(shownReplica),
    replicas: () => replicas.all().map(shownReplica),
    replica: (id) => {
      const replica = read.replica(id);
      return replica && shownReplica(replica);
    },
    troubleOf: (operation) => {
      const newest = events.all().findLast(({ event }) => event.operation === operation)?.event;
      return newest === undefined || newest.level === 'info' ? undefined : newest.message;
    },
    splitOf: (key) => read.splits.get(trafficKvKey(key)),
    isCertified: (hostname) => read.isCertified(hostname),
    nodes: () => nodes.all().map(shownNode),
    node: (id) => {
      const node = nodes.get(nodeKvKey(id));
      return node && shownNode(node);
    },
    snapshot,
    catchUp: async () => {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, CATCH_UP_PATIENCE_MS);
      });
      await Promise.race([watches.replicas.catchUp(), limit]);
      clearTimeout(timer);
    },
    refresh: () => watches.microservices.refresh(),
    waitForIndex: async (index, timeoutMs, source = 'microservices') => {
      const deadlineMs = nowMs() + timeoutMs;
      const seen = () => indexes[source] >= index;
      const patienceMs = Math.min(OWN_WRITE_PATIENCE_MS, timeoutMs);
      const patientUntilMs = nowMs() + patienceMs;
      while (!seen() && nowMs() < patientUntilMs) {
        await versions.waitBeyond(`index:${source}`, versions.current(), patientUntilMs - nowMs());
      }
      if (seen()) return true;
      // The write may have touched another prefix only, or a burst of changes is being read in strides.
      const limit = new Promise<boolean>((resolve) => {
        setTimeout(() => resolve(false), Math.max(0, deadlineMs - nowMs())).unref();
      });
      const refreshed = watches[source].refresh().then(
        () => true,
        () => false,
      );
      return Promise.race([refreshed, limit]);
    },
    close: () => {
      membersWatch.close();
      for (const watch of Object.values(watches)) watch.close();
    },
  };
};
