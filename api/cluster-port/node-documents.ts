/**
 * What a node publishes, checked against whose certificate sent it, and written in one transaction.
 *
 * Invariants: a node writes what is its own (./node-writes) and nothing else; what stands under a key and is of another
 * node is never replaced, whoever is quicker; what was remembered to judge by is a condition of the transaction; one wrong
 * write refuses all of them.
 */

import type { KeyValueStore, KvOperation } from '../../contracts/key-value-store';
import { KV_PREFIX, nodeKvKey } from '../../contracts/kv';
import {
  MAX_NODE_EVENTS_PER_MINUTE,
  MAX_NODE_SERVICES,
  type NodeDocumentsAnswer,
  type NodeDocumentWrite,
  type NodeServiceWrite,
  type NodeWrite,
} from '../../contracts/node-documents';
import type { ServiceCatalogue } from '../../contracts/service-catalogue';
import { nodeAliveCheckId } from '../../contracts/services';
import { ContainerOsError } from '../../domain/errors';
import { isObject } from '../../domain/is-object';
import type { ObservedNode } from '../../domain/model';

import { clockAheadOf, dateEvents, isEventWrite } from './event-times';
import type { NodeLiveness } from './node-liveness';
import {
  assertOwnService,
  isServiceWrite,
  planServices,
  replicaKeyOf,
  type Holder,
  type ServicePlan,
} from './node-services';
import { assertOwn, assertSize, foreign, parseWrites } from './node-writes';

export interface NodeDocuments {
  /**
   * @param body what the node sent
   * @throws {ContainerOsError} `invalid`, `forbidden` or `too_large` for a write that must not be; `rate_limited` for
   *   too many events; `unavailable` when the store is away, or what a service needs is not there yet
   */
  write(nodeId: string, body: unknown): Promise<NodeDocumentsAnswer>;
}

export interface NodeDocumentsDeps {
  readonly store: Pick<KeyValueStore, 'get' | 'transact'>;
  readonly catalogue: Pick<ServiceCatalogue, 'services' | 'checksOfNode' | 'transact'>;
  readonly liveness: Pick<NodeLiveness, 'heard' | 'isShownAlive'>;
  readonly clusterId: string;
  /** Milliseconds since the epoch. */
  readonly nowMs?: () => number;
}

const MAX_KNOWN_KEYS = 20_000;
const ATTEMPTS = 4;
const MINUTE_MS = 60_000;

/** What is known to stand under a key. */
interface KnownKey {
  readonly nodeId: string;
  readonly index: number;
  /** That the document says, if it is the node's own. */
  readonly address?: string;
}

interface Plan extends ServicePlan {
  /** What has to be so still when it is written. */
  readonly conditions: readonly KvOperation[];
  /** How many services it adds at most. */
  readonly created: number;
}

const NO_SERVICES: Plan = { operations: [], absent: [], conditions: [], created: 0 };

const ownerOf = (key: string, value: unknown): unknown => {
  if (!isObject(value)) return undefined;
  return key.startsWith(KV_PREFIX.replicas)
    ? value.nodeId
    : key.startsWith(KV_PREFIX.events)
      ? value.node
      : value.id;
};

/** Lets each node say so many things a minute. */
const createAllowance = (perMinute: number, nowMs: () => number) => {
  const spent = new Map<string, { readonly sinceMs: number; readonly count: number }>();
  return (nodeId: string, count: number): boolean => {
    const now = nowMs();
    const last = spent.get(nodeId);
    const current = last === undefined || now - last.sinceMs >= MINUTE_MS ? { sinceMs: now, count: 0 } : last;
    if (current.count + count > perMinute) return false;
    spent.set(nodeId, { ...current, count: current.count + count });
    return true;
  };
};

export const createNodeDocuments = ({
  store,
  catalogue,
  liveness,
  clusterId,
  nowMs = Date.now,
}: NodeDocumentsDeps): NodeDocuments => {
  /** Keys that are known to be of a node, at this index of the store; what is not here is asked for. */
  const known = new Map<string, KnownKey>();
  /** By node: how many services the catalogue has of it at most, unless somebody else has added some since. */
  const serviceCounts = new Map<string, number>();
  const allows = createAllowance(MAX_NODE_EVENTS_PER_MINUTE, nowMs);

  const remember = (key: string, nodeId: string, index: number, document: unknown): void => {
    known.delete(key);
    const address = key === nodeKvKey(nodeId) ? (document as ObservedNode | undefined)?.address : undefined;
    known.set(key, { nodeId, index, ...(address === undefined ? {} : { address }) });
    for (const oldest of known.keys()) {
      if (known.size <= MAX_KNOWN_KEYS) break;
      known.delete(oldest);
    }
  };

  /** Learns what stands under a key. @throws {ContainerOsError} `forbidden` when it is of another node */
  const learn = async (key: string, nodeId: string): Promise<void> => {
    known.delete(key);
    const found = await store.get<unknown>(key);
    if (found === undefined) return;
    // A node's own document may be replaced even when it cannot be read; of a replica it would not be known whose it was.
    if (key !== nodeKvKey(nodeId) && ownerOf(key, found.value) !== nodeId) {
      throw foreign(key, `what stands there is not of the node ${nodeId}`);
    }
    remember(key, nodeId, found.index, found.value);
  };

  const isKnown = (key: string, nodeId: string) => known.get(key)?.nodeId === nodeId;

  const operationOf = (write: NodeDocumentWrite, nodeId: string): KvOperation => {
    const { key } = write;
    if (write.kind === 'remove') return { kind: 'delete', key };
    const at = isKnown(key, nodeId) ? known.get(key) : undefined;
    if (at === undefined) return { kind: 'create', key, value: write.document };
    return { kind: 'replace', key, value: write.document, ifIndex: at.index };
  };

  const addressIn = (nodeId: string, documents: readonly NodeDocumentWrite[]): string | undefined => {
    const sent = documents.find((write) => write.key === nodeKvKey(nodeId));
    return sent?.kind === 'put' ? (sent.document as ObservedNode).address : undefined;
  };

  /** The address that the node's document says, or will say. */
  const addressOf = async (
    nodeId: string,
    documents: readonly NodeDocumentWrite[],
  ): Promise<string | undefined> => {
    const key = nodeKvKey(nodeId);
    const sent = addressIn(nodeId, documents);
    if (sent !== undefined) return sent;
    await learn(key, nodeId);
    return known.get(key)?.address;
  };

  const addServices = (nodeId: string, more: number): void => {
    const count = serviceCounts.get(nodeId);
    if (count !== undefined) serviceCounts.set(nodeId, count + more);
  };

  const ownReplicas = (nodeId: string, documents: readonly NodeDocumentWrite[]) => {
    const sent = new Set(documents.filter(({ kind }) => kind === 'put').map(({ key }) => key));
    return (key: string) => sent.has(key) || isKnown(key, nodeId);
  };

  const replicaKeysOf = (services: readonly NodeServiceWrite[], holder: Holder): readonly string[] =>
    services.flatMap((write) =>
      write.kind === 'putService' ? (replicaKeyOf(write.service, holder) ?? []) : [],
    );

  /**
   * Most services that are put are new, as replicas start: what has to be known of them is remembered, and their
   * transaction fails where it is so no more, or one stands there.
   *
   * @returns undefined when something has to be asked for
   */
  const planNew = (
    nodeId: string,
    documents: readonly NodeDocumentWrite[],
    services: readonly NodeServiceWrite[],
  ): Plan | undefined => {
    const holder = { nodeId, clusterId };
    const key = nodeKvKey(nodeId);
    const standing = isKnown(key, nodeId) ? known.get(key) : undefined;
    const sent = addressIn(nodeId, documents);
    const address = sent ?? standing?.address;
    const isThere = services.every(
      (write) => write.kind === 'putService' && write.service.address === address,
    );
    const count = serviceCounts.get(nodeId) ?? MAX_NODE_SERVICES;
    const ownsReplica = ownReplicas(nodeId, documents);
    if (!isThere || count + services.length > MAX_NODE_SERVICES) return undefined;
    if (!replicaKeysOf(services, holder).every(ownsReplica)) return undefined;
    const { operations } = planServices(services, {
      ...holder,
      address,
      ownsReplica,
      services: [],
      checks: [],
    });
    return {
      operations: operations.map((one) =>
        one.kind === 'putService' ? { ...one, kind: 'createService' } : one,
      ),
      absent: [],
      // There is room for it: creating a service takes an operation less than was counted.
      conditions: sent === undefined ? [{ kind: 'unchanged', key, index: standing?.index }] : [],
      created: services.length,
    };
  };

  const planAsItStands = async (
    nodeId: string,
    documents: readonly NodeDocumentWrite[],
    services: readonly NodeServiceWrite[],
  ): Promise<Plan> => {
    const holder = { nodeId, clusterId };
    const ownsReplica = ownReplicas(nodeId, documents);
    const puts = services.filter(({ kind }) => kind === 'putService').length;
    const reported = services.flatMap((write) => (write.kind === 'reportCheck' ? write.serviceId : []));
    const named = services.flatMap((write) => (write.kind === 'putService' ? [] : write.serviceId));
    const [address, found, checks] = await Promise.all([
      puts > 0 ? addressOf(nodeId, documents) : undefined,
      // How many there are matters only where one may be added.
      catalogue.services(nodeId, puts > 0 ? undefined : named),
      reported.length === 0 ? [] : catalogue.checksOfNode(nodeId, reported),
      ...[...new Set(replicaKeysOf(services, holder))]
        .filter((key) => !ownsReplica(key))
        .map((key) => learn(key, nodeId)),
    ]);
    if (puts > 0 && found !== undefined) serviceCounts.set(nodeId, found.length);
    const plan = planServices(services, { ...holder, address, ownsReplica, services: found, checks });
    return { ...plan, conditions: [], created: puts };
  };

  const commit = async (writes: readonly NodeWrite[], nodeId: string): Promise<NodeDocumentsAnswer> => {
    const services = writes.filter(isServiceWrite);
    const documents = writes.filter((write) => !isServiceWrite(write));
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const unsure = documents.filter(({ kind, key }) => {
        if (isKnown(key, nodeId)) return false;
        // Most of what is put and not known yet is new: that is tried before anything is asked.
        return attempt > 0 || kind === 'remove' || known.has(key);
      });
      await Promise.all(unsure.map(({ key }) => learn(key, nodeId)));
      const { operations, absent, conditions, created } =
        services.length === 0
          ? NO_SERVICES
          : ((attempt === 0 ? planNew(nodeId, documents, services) : undefined) ??
            (await planAsItStands(nodeId, documents, services)));
      const kv = [...conditions, ...documents.map((write) => operationOf(write, nodeId))];
      if (kv.length + operations.length === 0) return { index: 0, absent };
      const result =
        operations.length === 0 ? await store.transact(kv) : await catalogue.transact([...kv, ...operations]);
      if (result.kind === 'written') {
        for (const write of documents) {
          if (write.kind === 'put') remember(write.key, nodeId, result.index, write.document);
          else known.delete(write.key);
        }
        addServices(nodeId, created);
        return { index: result.index, absent };
      }
      for (const key of [nodeKvKey(nodeId), ...documents.map((write) => write.key)]) {
        if (result.key === '' || result.key === key) known.delete(key);
      }
    }
    throw new ContainerOsError(
      'unavailable',
      'What these writes replace is changing all the time. Try again.',
    );
  };

  /** A node says that it lives every few seconds, and hardly ever changes anything by it. */
  const isNews = (write: NodeWrite, nodeId: string): boolean =>
    write.kind !== 'reportCheck' ||
    write.checkId !== nodeAliveCheckId(nodeId) ||
    write.status !== 'passing' ||
    !liveness.isShownAlive(nodeId);

  return {
    write: async (nodeId, body) => {
      liveness.heard(nodeId);
      const writes = parseWrites(body);
      const now = nowMs();
      const clockAheadMs = clockAheadOf(body, now);
      for (const write of writes) {
        if (isServiceWrite(write)) assertOwnService(write, { nodeId, clusterId });
        else assertOwn(write, nodeId);
      }
      assertSize(writes);
      const events = writes.filter(isEventWrite).length;
      if (events > 0 && !allows(nodeId, events)) {
        throw new ContainerOsError(
          'rate_limited',
          `The node ${nodeId} tells more than ${MAX_NODE_EVENTS_PER_MINUTE} events a minute. Try again in a minute.`,
        );
      }
      const answer = await commit(
        dateEvents(writes, now, clockAheadMs).filter((write) => isNews(write, nodeId)),
        nodeId,
      );
      return clockAheadMs === undefined ? answer : { ...answer, clockAheadMs };
    },
  };
};
