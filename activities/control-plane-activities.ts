/**
 * The control plane's own activities: planning over a snapshot, and publishing what entities decide.
 *
 * Invariants: each write is one transaction, so readers never see half of a change; all are idempotent.
 */

import type {
  ControlPlaneActivities,
  HeldHostname,
  HostnameClaim,
  Published,
  PublishMicroservice,
} from '../contracts/activities';
import type { KeyValueStore, KvOperation } from '../contracts/key-value-store';
import {
  eventKvKey,
  hostnameKvKey,
  KV_PREFIX,
  maintenanceKvKey,
  microserviceKvKey,
  operationKvKey,
  releaseKvKey,
  releasesKvPrefix,
  removedKvKey,
  trafficKvKey,
  routesKvKey,
} from '../contracts/kv';
import type { ReleaseRoutes, Way } from '../domain/ingress/route-options';
import {
  isSameMicroservice,
  type ClusterEvent,
  type Microservice,
  type MicroserviceKey,
  type Operation,
  type Snapshot,
} from '../domain/model';
import { findImageSources } from '../domain/release-images';
import type { Webhook } from '../domain/webhook';
import { countsOf, judgeRelease, type RequestCounts } from '../domain/judgement';
import { describePlan } from '../domain/plan';
import { planFor } from '../domain/plan-beside';
import type { TrafficSplit } from '../domain/traffic';

import { throwingFailures } from './activity-error';
import { createMoveMemory } from './move-memory';
import { deleteAll } from './delete-all';
import { releaseRoutesOf } from './release-routes';

export interface ControlPlaneDependencies {
  readonly store: KeyValueStore;
  /** The nodes with what is reserved on them, and the replicas of one microservice, as of now. */
  readSnapshot(key: MicroserviceKey): Promise<Snapshot>;
  /** Waits a moment until every node splits requests as was written; tells which ones did not. */
  confirmTraffic(index: number, ways: readonly Way[]): Promise<readonly string[]>;
  /** At least eight characters of chance. */
  randomSuffix(): string;
}

/** A release that waits for weeks may have much to heal; what it is told by has to fit a KV value. */
const MAX_TOLD_LINES = 1_200;
const FIRST_LINES = 200;

const shortened = (lines: readonly string[]): readonly string[] =>
  lines.length <= MAX_TOLD_LINES
    ? lines
    : [...lines.slice(0, FIRST_LINES), '…', ...lines.slice(lines.length - MAX_TOLD_LINES + FIRST_LINES + 1)];

/** Thrown errors are failures whose `type` is a code of the error table, or defects. */
export const createControlPlaneActivities = (deps: ControlPlaneDependencies): ControlPlaneActivities => {
  const { store } = deps;
  const moves = createMoveMemory(Date.now);

  const eventWrites = (events: readonly ClusterEvent[]): KvOperation[] =>
    events.map((event) => ({ kind: 'set', key: eventKvKey(event.atMs, deps.randomSuffix()), value: event }));

  const write = async (operations: readonly KvOperation[]): Promise<Published> => {
    const result = await store.transact(operations);
    if (result.kind === 'conflict') throw new Error(`unconditional write to ${result.key} was refused`);
    return { index: result.index };
  };

  const hostnamesOfOwner = async (key: MicroserviceKey) =>
    (await store.list<MicroserviceKey>(KV_PREFIX.hostnames)).filter(({ value }) =>
      isSameMicroservice(value, key),
    );

  /** With the microservice itself, so before anything of the release runs. */
  const routesWrites = async (microservice: Microservice): Promise<KvOperation[]> => {
    const key = routesKvKey(microservice);
    const before = await store.get<ReleaseRoutes>(key);
    const value = releaseRoutesOf(microservice, before?.value);
    if (value !== undefined) return [{ kind: 'set', key, value }];
    return before ? [{ kind: 'delete', key }] : [];
  };

  return throwingFailures<ControlPlaneActivities>({
    planOperation: async ({ request, record, outline = [], events = [] }) => {
      const snapshot = moves.applied(request.desired, await deps.readSnapshot(request.desired));
      const plan = planFor(request, snapshot);
      moves.remember(request.desired, plan, snapshot);
      const key = operationKvKey(request.desired, request.operation);
      // Later plans of an operation are told after the earlier ones: what was done first is part of the story.
      const heading = `plan ${request.attempt}, towards v${request.desired.release.number}:`;
      const told = request.attempt > 1 ? ((await store.get<Operation>(key))?.value?.plan ?? []) : outline;
      const earlier = told.includes(heading) ? told.slice(0, told.indexOf(heading)) : told;
      const lines = [...events.map(({ message }) => message), ...describePlan(plan, snapshot)];
      const isFirst = request.attempt === 1 && outline.length === 0;
      // A look that has found nothing to do is not told.
      const news = isFirst ? lines : lines.length === 0 ? [] : [heading, ...lines];
      const published: Operation = { ...record, plan: shortened([...earlier, ...news]) };
      await write([{ kind: 'set', key, value: published }, ...eventWrites(events)]);
      return plan;
    },

    previewPlan: async (request) =>
      planFor(request, moves.applied(request.desired, await deps.readSnapshot(request.desired))),

    findImageSources: async ({ desired }) =>
      findImageSources(desired.release, await deps.readSnapshot(desired)),

    publishMicroservice: async (input: PublishMicroservice) => {
      const { microservice } = input;
      // The plan of an operation was written by its own workflow, maybe before its first record: keep it.
      const operations = await Promise.all(
        input.operations.map(async (operation): Promise<KvOperation> => {
          const key = operationKvKey(microservice, operation.id);
          const known = await store.get<Operation>(key);
          if (!known) return { kind: 'create', key, value: operation };
          const isBehind = operation.state === 'queued';
          const { plan = operation.plan } = known.value ?? {};
          const value = isBehind && known.value ? known.value : { ...operation, plan };
          return { kind: 'replace', key, value, ifIndex: known.index };
        }),
      );
      const result = await store.transact([
        ...operations,
        {
          kind: 'set',
          key: releaseKvKey(microservice, microservice.release.number),
          value: microservice.release,
        },
        ...(await routesWrites(microservice)),
        ...eventWrites(input.events),
        ...input.forgetOperations.map((id): KvOperation => ({
          kind: 'delete',
          key: operationKvKey(microservice, id),
        })),
        ...input.forgetReleases.map((number): KvOperation => ({
          kind: 'delete',
          key: releaseKvKey(microservice, number),
        })),
        { kind: 'set', key: microserviceKvKey(microservice), value: microservice },
        { kind: 'delete', key: removedKvKey(microservice) },
        ...(microservice.state === 'changing'
          ? []
          : [{ kind: 'delete' as const, key: trafficKvKey(microservice) }]),
      ]);
      if (result.kind === 'conflict') throw new Error(`${result.key} has just been planned; look again`);
      return { index: result.index };
    },

    publishTraffic: async ({ ways, ...split }) => {
      const { index } = await write([{ kind: 'set', key: trafficKvKey(split), value: split }]);
      const behind = ways.length === 0 ? [] : await deps.confirmTraffic(index, ways);
      if (behind.length > 0) {
        const nodes = behind.join(', ');
        const event: ClusterEvent = {
          atMs: Date.now(),
          level: 'warning',
          type: 'ingress.behind',
          message: `The ingress of ${nodes} has not confirmed yet how requests of ${split.name} are split between releases: those that come to ${nodes} may go as before. Look whether its node worker and its Consul agent run.`,
          project: split.project,
          microservice: split.name,
          operation: split.operation,
        };
        await write(eventWrites([event]));
      }
      return { behind };
    },

    readTraffic: async (key) => (await store.get<TrafficSplit>(trafficKvKey(key)))?.value,

    clearTraffic: async (key) => {
      await write([{ kind: 'delete', key: trafficKvKey(key) }]);
    },

    judgeTraffic: async ({ judge, release, oldRelease, ...split }) => {
      const nodes = (await store.list<RequestCounts>(KV_PREFIX.requestCounts)).map(({ value }) => value);
      return judgeRelease(judge, countsOf(nodes, split, release), countsOf(nodes, split, oldRelease));
    },

    forgetMicroservice: async ({ operation, events, ...key }) => {
      // Who may have known a secret of it has nothing to do with what is made under its name later.
      const webhooks = (await store.list<Webhook>(KV_PREFIX.webhooks)).filter(({ value }) =>
        isSameMicroservice(value.microservice, key),
      );
      await deleteAll(
        store,
        [...(await hostnamesOfOwner(key)), ...webhooks].map((entry) => entry.key),
      );
      const known = await store.get<Operation>(operationKvKey(key, operation.id));
      const last = await store.get<Microservice>(microserviceKvKey(key));
      const removed: KvOperation[] = last?.value
        ? [{ kind: 'set', key: removedKvKey(key), value: { ...last.value, state: 'removing' } }]
        : [];
      return write([
        {
          kind: 'set',
          key: operationKvKey(key, operation.id),
          value: { ...operation, plan: known?.value?.plan ?? operation.plan },
        },
        { kind: 'deletePrefix', prefix: releasesKvPrefix(key) },
        { kind: 'delete', key: routesKvKey(key) },
        { kind: 'delete', key: maintenanceKvKey(key) },
        ...eventWrites(events),
        ...removed,
        { kind: 'delete', key: microserviceKvKey(key) },
        { kind: 'delete', key: trafficKvKey(key) },
      ]);
    },

    moveHostnames: async ({ hostnames, ...key }) => {
      const owner: MicroserviceKey = { project: key.project, name: key.name };
      const found = await Promise.all(
        hostnames.map(async (hostname) => {
          const entryKey = hostnameKvKey(hostname);
          return { entryKey, entry: await store.get<MicroserviceKey>(entryKey) };
        }),
      );
      const writes = found.flatMap(({ entryKey, entry }): KvOperation[] => {
        if (!entry) return [{ kind: 'create', key: entryKey, value: owner }];
        if (entry.value && isSameMicroservice(entry.value, key)) return [];
        return [{ kind: 'replace', key: entryKey, value: owner, ifIndex: entry.index }];
      });
      if (writes.length === 0) return;
      const result = await store.transact(writes);
      if (result.kind === 'conflict') throw new Error(`${result.key} has just changed hands; look again`);
    },

    claimHostnames: async ({ hostnames, moves = false, ...key }): Promise<HostnameClaim> => {
      const entries = await store.list<MicroserviceKey>(KV_PREFIX.hostnames);
      const held = new Set(
        entries.filter(({ value }) => isSameMicroservice(value, key)).map((entry) => entry.key),
      );
      const owners = new Map(entries.map((entry) => [entry.key, entry.value]));
      const heldByOthers = (asked: readonly string[]): readonly HeldHostname[] =>
        asked.flatMap((hostname) => {
          const other = owners.get(hostnameKvKey(hostname));
          return other === undefined || isSameMicroservice(other, key)
            ? []
            : [{ hostname, owner: other.name }];
        });
      const moving = moves ? heldByOthers(hostnames) : [];
      const claimed: HostnameClaim = { kind: 'claimed', ...(moving.length === 0 ? {} : { moving }) };
      const missing = hostnames.filter(
        (hostname) => !held.has(hostnameKvKey(hostname)) && !moving.some((one) => one.hostname === hostname),
      );
      if (missing.length === 0) return claimed;
      const owner: MicroserviceKey = { project: key.project, name: key.name };
      const all = await store.transact(
        missing.map((hostname) => ({ kind: 'create', key: hostnameKvKey(hostname), value: owner })),
      );
      if (all.kind === 'written') return claimed;
      const hostname = all.key.slice(KV_PREFIX.hostnames.length);
      const other = await store.get<MicroserviceKey>(all.key);
      if (other && !other.value) {
        // Nobody can tell whose it was, so it is whoever asks for it next.
        await store.transact([{ kind: 'replace', key: all.key, value: owner, ifIndex: other.index }]);
      }
      if (!other?.value || isSameMicroservice(other.value, key))
        throw new Error(`${hostname} changed hands; look again`);
      const others = heldByOthers(missing.filter((one) => one !== hostname));
      return {
        kind: 'conflict',
        hostname,
        owner: other.value.name,
        ...(others.length === 0 ? {} : { others }),
      };
    },

    releaseHostnames: async ({ keep, ...key }) => {
      const kept = new Set(keep.map(hostnameKvKey));
      const gone = (await hostnamesOfOwner(key)).filter((entry) => !kept.has(entry.key));
      await deleteAll(
        store,
        gone.map((entry) => entry.key),
      );
    },
  });
};
