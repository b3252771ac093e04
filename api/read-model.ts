/**
 * What the cluster publishes in Consul, in memory: every GET of the API answers from here.
 *
 * Invariants: nothing here is ever newer or other than what Consul holds; it follows by blocking queries, one for
 * each prefix and one for the membership; while Consul is away it keeps what it has and says since when; a document
 * that cannot be read is logged and left out, and never takes the rest down; what a node published before it was lost
 * is not shown as if it were so now.
 */

import type { Logger } from 'pino';

import { createDocumentReader, type DocumentKind, type Documents } from '../contracts/documents';
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
import { ContainerOsError } from '../domain/errors';
import { instabilityInWords, isUnstable, returnOf, type NodeStability } from '../domain/flapping';
import {
  microserviceId,
  type Microservice,
  type MicroserviceKey,
  type NodeAvailability,
  type NodeSettings,
  type ObservedNode,
  type ObservedReplica,
  type Release,
  type Snapshot,
} from '../domain/model';
import { publicPortInWords } from '../domain/ingress/public-ports';
import { wildcardFor } from '../domain/ingress/wildcard';
import { snapshotNodes } from '../domain/placement/snapshot';
import { sameJson } from '../domain/spec/diff';
import type { TrafficSplit } from '../domain/traffic';

import { createEventLog, type EventLog } from './event-log';
import { createGroups, createTable } from './tables';
import type { KvChange, KvStore, KvWatch } from '../contracts/kv-store';
import { createVersions, type Versions } from './versions';

const FOLLOWED = [
  'microservices',
  'releases',
  'replicas',
  'nodes',
  'nodeSettings',
  'nodeStability',
  'events',
  'traffic',
  'certificates',
] as const satisfies DocumentKind[];
type Followed = (typeof FOLLOWED)[number];
const SOURCES = [...FOLLOWED, 'members'] as const;
type Source = (typeof SOURCES)[number];

/** How long a writer's own write is waited for on the way that all changes come, before it is fetched. */
const OWN_WRITE_PATIENCE_MS = 100;

export const TOPIC = {
  microservices: 'microservices',
  replicas: 'replicas',
  nodes: 'nodes',
  events: 'events',
  microservice: (key: MicroserviceKey) => `microservice:${microserviceId(key)}`,
  replica: (id: string) => `replica:${id}`,
  node: (id: string) => `node:${id}`,
  /** What happened on its way. */
  operation: (id: string) => `operation:${id}`,
} as const;

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

export interface ReadModelDeps {
  readonly kv: KvStore;
  readonly watchMembers: (handlers: MembersHandlers) => MembersWatch;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** The microservice that a key below a prefix belongs to. */
const ownerOf = (prefix: string, key: string): MicroserviceKey | undefined => {
  const [project, name] = key.slice(prefix.length).split('/');
  return project === undefined || name === undefined ? undefined : { project, name };
};

export const createReadModel = ({ kv, watchMembers, log, nowMs }: ReadModelDeps): ReadModel => {
  const versions = createVersions(nowMs());
  const microservices = createTable<Microservice>();
  const releases = createGroups<Release>();
  const replicas = createTable<ObservedReplica>();
  const replicasByOwner = createGroups<ObservedReplica>();
  const replicaKeys = new Map<string, string>();
  const nodes = createTable<ObservedNode>();
  const nodeSettings = createTable<NodeSettings>();
  const nodeStability = createTable<NodeStability>();
  const events = createEventLog();
  const splits = createTable<TrafficSplit>();
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
  /** Names of each certificate. */
  const namesOf = new Map<string, readonly string[]>();
  let certified: ReadonlySet<string> = new Set();
  let members: ReadonlyMap<string, boolean> = new Map();
  const unread = new Set<Source>(SOURCES);
  const unreachable = new Map<Source, string>();
  let staleSinceMs: number | undefined;

  const read = createDocumentReader((message) => log.error(message));

  /** What a change brings: documents that can be read, and keys under which there is nothing that can. */
  const unpack = <K extends Followed>(kind: K, { changed, removed }: KvChange) => {
    const rows: { readonly key: string; readonly index: number; readonly row: Documents[K] }[] = [];
    const gone = [...removed];
    for (const document of changed) {
      const row = read(kind, document);
      if (row) rows.push({ key: document.key, index: document.index, row });
      else gone.push(document.key);
    }
    return { rows, gone, keys: [...rows.map(({ key }) => key), ...gone] };
  };

  /** How many replicas a daemon is to have is a matter of the nodes, and whether public ports answer. */
  const addThoseOfNodes = (topics: Set<string>): Set<string> => {
    for (const microservice of microservices.all()) {
      const { daemon, containers } = microservice.release.spec;
      const isPublic = containers.some(({ ports }) => ports.some((port) => port.publicPorts !== undefined));
      if (daemon !== true && !isPublic) continue;
      topics.add(TOPIC.microservices).add(TOPIC.microservice(microservice));
    }
    return topics;
  };

  /** Enters what has changed, and returns the topics that it touches. */
  const enter: Readonly<Record<Followed, (change: KvChange) => Set<string>>> = {
    microservices: (change) => {
      const { rows, gone, keys } = unpack('microservices', change);
      for (const { key, row } of rows) microservices.set(key, row);
      for (const key of gone) microservices.delete(key);
      const topics = new Set<string>();
      for (const key of keys) {
        const owner = ownerOf(KV_PREFIX.microservices, key);
        if (owner) topics.add(TOPIC.microservice(owner)).add(TOPIC.microservices);
      }
      return topics;
    },
    releases: (change) => {
      const { rows, gone, keys } = unpack('releases', change);
      for (const { key, row } of rows) releases.set(key, row);
      for (const key of gone) releases.delete(key);
      const topics = new Set<string>();
      for (const key of keys) {
        const owner = ownerOf(KV_PREFIX.releases, key);
        if (owner) topics.add(TOPIC.microservice(owner));
      }
      return topics;
    },
    replicas: (change) => {
      const { rows, gone, keys } = unpack('replicas', change);
      for (const { key, row } of rows) {
        replicas.set(key, row);
        replicasByOwner.set(key, row);
        replicaKeys.set(row.id, key);
      }
      for (const key of gone) {
        const row = replicas.get(key);
        if (row && replicaKeys.get(row.id) === key) replicaKeys.delete(row.id);
        replicas.delete(key);
        replicasByOwner.delete(key);
      }
      const topics = new Set<string>();
      for (const key of keys) {
        const owner = ownerOf(KV_PREFIX.replicas, key);
        if (owner) topics.add(TOPIC.microservice(owner));
        topics.add(TOPIC.replica(key.slice(key.lastIndexOf('/') + 1)));
        topics.add(TOPIC.replicas).add(TOPIC.microservices);
      }
      return topics;
    },
    nodes: (change) => {
      const { rows, gone, keys } = unpack('nodes', change);
      const isSame = (before: ObservedNode | undefined, after: ObservedNode) =>
        before?.architecture === after.architecture &&
        sameJson(before.labels, after.labels) &&
        sameJson(before.publicPortTroubles, after.publicPortTroubles);
      const areSame = gone.length === 0 && rows.every(({ key, row }) => isSame(nodes.get(key), row));
      for (const { key, row } of rows) nodes.set(key, row);
      for (const key of gone) nodes.delete(key);
      const topics = new Set<string>();
      for (const key of keys) topics.add(TOPIC.nodes).add(TOPIC.node(key.slice(KV_PREFIX.nodes.length)));
      return areSame ? topics : addThoseOfNodes(topics);
    },
    nodeSettings: (change) => {
      const { rows, gone, keys } = unpack('nodeSettings', change);
      for (const { key, row } of rows) nodeSettings.set(key, row);
      for (const key of gone) nodeSettings.delete(key);
      const topics = new Set<string>();
      for (const key of keys) {
        topics.add(TOPIC.nodes).add(TOPIC.node(key.slice(KV_PREFIX.nodeSettings.length)));
      }
      return addThoseOfNodes(topics);
    },
    nodeStability: (change) => {
      const { rows, gone, keys } = unpack('nodeStability', change);
      for (const { key, row } of rows) nodeStability.set(key, row);
      for (const key of gone) nodeStability.delete(key);
      const topics = new Set<string>();
      for (const key of keys) {
        topics.add(TOPIC.nodes).add(TOPIC.node(key.slice(KV_PREFIX.nodeStability.length)));
      }
      return topics;
    },
    events: (change) => {
      const { rows, gone } = unpack('events', change);
      const idOf = (key: string) => key.slice(KV_PREFIX.events.length);
      const fresh = events.add(rows.map(({ key, index, row }) => ({ id: idOf(key), index, event: row })));
      for (const { event } of events.remove(gone.map(idOf))) {
        if (event.operation !== undefined) versions.forget(TOPIC.operation(event.operation));
      }
      const topics = new Set<string>(fresh.length > 0 ? [TOPIC.events] : []);
      // While it runs, what stands in its way is shown with it and with its microservice.
      for (const { project, microservice: name, operation } of fresh.map(({ event }) => event)) {
        if (operation === undefined) continue;
        topics.add(TOPIC.operation(operation)).add(TOPIC.microservices);
        if (project !== undefined && name !== undefined) topics.add(TOPIC.microservice({ project, name }));
      }
      return topics;
    },
    traffic: (change) => {
      const { rows, gone, keys } = unpack('traffic', change);
      for (const { key, row } of rows) splits.set(key, row);
      for (const key of gone) splits.delete(key);
      const topics = new Set<string>();
      for (const key of keys) {
        const owner = ownerOf(KV_PREFIX.traffic, key);
        if (owner) topics.add(TOPIC.microservice(owner)).add(TOPIC.microservices);
      }
      return topics;
    },
    certificates: (change) => {
      const { rows, gone, keys } = unpack('certificates', change);
      const before = keys.map((key) => namesOf.get(key));
      for (const { key, row } of rows) namesOf.set(key, row.hostnames);
      for (const key of gone) namesOf.delete(key);
      const topics = new Set<string>();
      // A renewal is no news to anybody.
      if (keys.every((key, index) => sameJson(before[index], namesOf.get(key)))) return topics;
      certified = new Set([...namesOf.values()].flat());
      for (const microservice of microservices.all()) topics.add(TOPIC.microservice(microservice));
      return topics.size === 0 ? topics : topics.add(TOPIC.microservices);
    },
  };

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
    kv.watch(KV_PREFIX[prefix], {
      changed: (change) => {
        const topics = enter[prefix](change);
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
    });

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
      heard('members', turned.size > 0 ? addThoseOfNodes(topics) : topics);
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
      const replica = replicas.get(replicaKeys.get(id) ?? '');
      return replica && shownReplica(replica);
    },
    troubleOf: (operation) => {
      const newest = events.all().findLast(({ event }) => event.operation === operation)?.event;
      return newest === undefined || newest.level === 'info' ? undefined : newest.message;
    },
    splitOf: (key) => splits.get(trafficKvKey(key)),
    isCertified: (hostname) => certified.has(hostname) || certified.has(wildcardFor(hostname) ?? hostname),
    nodes: () => nodes.all().map(shownNode),
    node: (id) => {
      const node = nodes.get(nodeKvKey(id));
      return node && shownNode(node);
    },
    snapshot,
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
