/**
 * The documents of Consul that the read model is made of, and which of its topics each change touches.
 *
 * Invariant: a document that cannot be read is told and left out, and never takes the rest down.
 */

import { createDocumentReader, type DocumentKind, type Documents } from '../contracts/documents';
import { KV_PREFIX } from '../contracts/kv';
import type { KvChange } from '../contracts/kv-store';
import type { NodeStability } from '../domain/flapping';
import { wildcardFor } from '../domain/ingress/wildcard';
import {
  microserviceId,
  type Microservice,
  type MicroserviceKey,
  type NodeSettings,
  type ObservedNode,
  type ObservedReplica,
  type Release,
} from '../domain/model';
import { sameJson } from '../domain/spec/diff';
import type { TrafficSplit } from '../domain/traffic';

import { createEventLog } from './event-log';
import { createGroups, createTable } from './tables';
import type { Versions } from './versions';

export const FOLLOWED = [
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
export type Followed = (typeof FOLLOWED)[number];

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

/** The microservice that a key below a prefix belongs to. */
export const ownerOf = (prefix: string, key: string): MicroserviceKey | undefined => {
  const [project, name] = key.slice(prefix.length).split('/');
  return project === undefined || name === undefined ? undefined : { project, name };
};

/**
 * @param onUnreadable called with what is left out, and why
 * @param versions in which topics of what is gone are forgotten
 */
export const createReadDocuments = (
  onUnreadable: (message: string) => void,
  versions: Pick<Versions, 'forget'>,
) => {
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
  /** Names of each certificate. */
  const namesOf = new Map<string, readonly string[]>();
  let certified: ReadonlySet<string> = new Set();
  const read = createDocumentReader(onUnreadable);

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

  return {
    microservices,
    releases,
    replicas,
    replicasByOwner,
    nodes,
    nodeSettings,
    nodeStability,
    events,
    splits,
    replica: (id: string): ObservedReplica | undefined => replicas.get(replicaKeys.get(id) ?? ''),
    isCertified: (hostname: string): boolean =>
      certified.has(hostname) || certified.has(wildcardFor(hostname) ?? hostname),
    addThoseOfNodes,
    /** Enters what has changed. @returns the topics that it touches */
    enter: (kind: Followed, change: KvChange): Set<string> => enter[kind](change),
  };
};
