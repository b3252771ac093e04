/**
 * Keeps the ingress of this node at what the cluster says: hostnames in Caddy's configuration, endpoints in the slots, and
 * public ports in the forwarder's table.
 *
 * Invariants: endpoints change without a new configuration, and hostnames mostly; one turn at a time, each with what is
 * known then, and what failed is done again; while Consul or Caddy is away, requests go on to where they went; places are
 * there before the configuration that has them, lead nowhere when the next one has them no more, and are removed after
 * it has gone; on the disk is a configuration that Caddy has taken.
 */

import type { Logger } from 'pino';

import {
  caddyConfig,
  unknownAddress,
  unservedAddress,
  type CaddySettings,
} from '../../adapters/ingress/caddy-config';
import type { CaddyAdmin } from '../../adapters/ingress/caddy-admin';
import { inOtherTurn, turnOf } from '../../adapters/ingress/handover';
import type { LaneFiles } from '../../adapters/ingress/lane-files';
import { ENDING, putMark, removeMark } from '../../adapters/ingress/marks';
import type { PlaceFiles } from '../../adapters/ingress/place-files';
import type { DocumentWriter } from '../../adapters/document-writer';
import { pause } from '../../adapters/pause';
import type { MembersHandlers, MembersWatch } from '../../contracts/cluster';
import { createDocumentReader, type Documents } from '../../contracts/documents';
import { KV_PREFIX, ingressKvKey } from '../../contracts/kv';
import type { KvStore, KvWatch } from '../../contracts/kv-store';
import { allOrFirstError } from '../../domain/all-or-first-error';
import { arrange, keyOfPlace, type Layout, type Place } from '../../domain/ingress/layout';
import type { MaintenanceState, ReleaseRoutes } from '../../domain/ingress/route-options';
import { routesOf, type Route } from '../../domain/ingress/routes';
import { isHostnameClaim, publicPortRoutesOf } from '../../domain/ingress/public-ports';
import { fillSlots } from '../../domain/ingress/slots';
import { sameJson } from '../../domain/spec/diff';

import { createPlaceParts } from './place-parts';
import type { PublicPorts } from './public-ports';
import type { IngressState, MicroserviceKey, ObservedReplica } from '../../domain/model';
import type { TrafficSplit } from '../../domain/traffic';
import { hostPort } from '../../domain/host-port';
import { readIfThere, writePrivateFile } from '../installation';
import { createTroubles } from '../troubles';

import { createSplitLanes, placeEndpoints, type LanePlan } from './split-lanes';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 2_000;

/** What is confirmed one by one. */
type HeardOthers = Required<Omit<IngressState, 'id' | 'index'>>;

export interface IngressKeeper {
  start(): void;
  stop(): void;
}

export interface IngressKeeperDeps {
  readonly nodeId: string;
  readonly settings: CaddySettings;
  /** Caddy's configuration for when it starts. */
  readonly configFile: string;
  readonly kv: KvStore;
  readonly watchMembers: (handlers: MembersHandlers) => MembersWatch;
  readonly documents: Pick<DocumentWriter, 'put'>;
  readonly admin: CaddyAdmin;
  readonly files: PlaceFiles;
  readonly laneFiles: LaneFiles;
  /** Where public ports lead; left out: nowhere. */
  readonly publicPorts?: PublicPorts;
  /** Told of every split when requests go as it says. */
  readonly onSplits?: (
    splits: ReadonlyMap<string, TrafficSplit>,
    replicas: Iterable<ObservedReplica>,
  ) => void;
  /** Told when requests go where they should for the first time, and whenever that changes. @param reason why not */
  readonly onState: (reason: string | undefined) => void;
  readonly logger: Logger;
}

export const createIngressKeeper = (deps: IngressKeeperDeps): IngressKeeper => {
  const { nodeId, settings, kv, admin, files, logger } = deps;
  const troubles = createTroubles(logger);
  const stopped = new AbortController();
  /** Who holds which hostname, path of one, and public port. */
  const claims = new Map<string, MicroserviceKey>();
  const replicas = new Map<string, ObservedReplica>();
  const splits = new Map<string, TrafficSplit>();
  const lanes = createSplitLanes(deps.laneFiles);
  const routesOfReleases = new Map<string, ReleaseRoutes>();
  const maintenance = new Map<string, MaintenanceState>();
  const parts = createPlaceParts(files, nodeId, unservedAddress(settings.directory));
  let members: ReadonlyMap<string, boolean> = new Map();
  /** Before everything has been read once, what is missing is not gone. */
  const unread = new Set<string>(['hostnames', 'routes', 'maintenance']);
  let wake: () => void = () => undefined;
  let isStale = false;
  let heardIndex = 0;
  let heardOthers: HeardOthers = { trafficIndex: 0, maintenanceIndex: 0, hostnamesIndex: 0, routesIndex: 0 };
  let confirmedIndex: number | undefined;
  let confirmedOthers = heardOthers;
  /** As Caddy has it. */
  let layout = files.readLayout();
  /** Whether Caddy has had a configuration from this process. */
  let isLoaded = false;
  let toldReason: string | undefined | null = null;

  const read = createDocumentReader((message) => logger.error(message));
  const heard = (source: string): void => {
    unread.delete(source);
    isStale = true;
    wake();
  };
  const notHeard = (error: unknown): void => logger.debug({ err: error }, 'the ingress cannot follow Consul');

  const watches: { close(): void }[] = [];

  /** What changes often matters to nobody here as long as there is no hostname and no public port. */
  let isFollowingReplicas = false;
  const followReplicas = (): void => {
    if (isFollowingReplicas || claims.size === 0 || stopped.signal.aborted) return;
    isFollowingReplicas = true;
    unread.add('members').add('replicas').add('traffic');
    watches.push(
      deps.watchMembers({
        changed: (now) => {
          members = now;
          heard('members');
        },
        unreachable: notHeard,
      }),
      follow('replicas', replicas),
      follow('traffic', splits),
    );
  };

  const follow = <K extends 'hostnames' | 'replicas' | 'routes' | 'maintenance' | 'traffic'>(
    kind: K,
    rows: Map<string, Documents[K]>,
  ): KvWatch =>
    kv.watch(KV_PREFIX[kind], {
      changed: ({ index, changed, removed }) => {
        for (const stored of changed) {
          const row = read(kind, stored);
          const key = stored.key.slice(KV_PREFIX[kind].length);
          if (row === undefined) rows.delete(key);
          else rows.set(key, row);
        }
        for (const key of removed) rows.delete(key.slice(KV_PREFIX[kind].length));
        if (kind === 'replicas') heardIndex = index;
        // Of a prefix with nothing under it, no folder either, every write has a new index, also that of the confirmation.
        else if (changed.length + removed.length === 0 && !unread.has(kind)) return;
        // Nobody waits for a split to be over.
        if (kind !== 'replicas' && (kind !== 'traffic' || changed.length > 0))
          heardOthers = { ...heardOthers, [`${kind}Index`]: index };
        followReplicas();
        heard(kind);
      },
      unreachable: notHeard,
    });

  const addressesFor = (route: Route | undefined, { number, slots }: Place): readonly string[] => {
    if (route === undefined) return Array<string>(slots).fill(unknownAddress(settings.directory));
    // Where two say that they have one address, one of them is gone.
    const users = new Map(
      placeEndpoints(route, splits).map((endpoint) => {
        const address = hostPort(endpoint.address, endpoint.port);
        return [address, { address, isLocal: endpoint.nodeId === nodeId, weight: endpoint.weight }];
      }),
    );
    return users.size === 0
      ? Array<string>(slots).fill(unservedAddress(settings.directory))
      : fillSlots(slots, [...users.values()], files.slots(number));
  };

  /** Takes over from the configuration in force, which ends its connections meanwhile (adapters/ingress/handover). */
  const load = async (next: Layout, lanePlan: LanePlan): Promise<void> => {
    const inForce = readIfThere(deps.configFile);
    const turn = turnOf(inForce);
    const inSameTurn = JSON.stringify(caddyConfig(settings, next, lanePlan.sizes, turn));
    const isOther = inSameTurn !== inForce;
    const config = isOther ? inOtherTurn(inSameTurn) : inSameTurn;
    try {
      if (isOther && layout.some(({ hostname }) => hostname !== undefined))
        putMark(settings.directory, ENDING[turn]);
      await admin.load(config);
      // Not before: with one that it refuses, Caddy could not start again.
      files.writeLayout(next);
      lanePlan.loaded();
      writePrivateFile(deps.configFile, config);
    } finally {
      removeMark(settings.directory, ENDING[turn]);
    }
    files.keepOnly(next);
  };

  /** Waited for by who stops a replica, splits requests, begins maintenance or has new routes (ingress-confirmation.ts). */
  const confirm = async (index: number, others: HeardOthers): Promise<void> => {
    const isAwaited = [...replicas.values()].some(({ state }) => state === 'stopping');
    const isNews = index !== confirmedIndex && (confirmedIndex === undefined || isAwaited);
    if (!isNews && sameJson(others, confirmedOthers)) return;
    const state: IngressState = { id: nodeId, index, ...others };
    await deps.documents.put(ingressKvKey(nodeId), state);
    confirmedIndex = index;
    confirmedOthers = others;
  };

  const isUp = (id: string): boolean => members.get(id) === true;

  const leadHostnames = async (): Promise<void> => {
    const routes = routesOf({
      hostnames: new Map([...claims].filter(([claim]) => isHostnameClaim(claim))),
      replicas: replicas.values(),
      routes: routesOfReleases,
      maintenance,
      isUp,
    });
    const byKey = new Map(routes.map((route) => [keyOfPlace(route), route]));
    const change = arrange(
      layout,
      routes.map(({ endpoints, ...route }) => ({ ...route, endpoints: endpoints.length })),
    );
    // A place loses its hostname before its slots lead elsewhere, and gets another one after.
    for (const place of change.layout) {
      if (place.hostname === undefined) files.writeHostname(place.number, undefined);
    }
    // Those that the next configuration does not have hold until then.
    const isKept = new Set(change.layout.map(({ number }) => number));
    for (const place of layout) {
      if (isKept.has(place.number)) continue;
      files.writeSlots(place.number, addressesFor(undefined, place));
      parts.write(place, []);
    }
    for (const place of change.layout) {
      const route = byKey.get(keyOfPlace(place));
      files.writeSlots(place.number, addressesFor(route, place));
      parts.write(place, route === undefined ? [] : placeEndpoints(route, splits));
    }
    for (const place of change.layout) files.writeHostname(place.number, place.hostname);
    const lanePlan = lanes.plan(routes, splits);
    lanePlan.write();
    if (change.kind === 'reload' || lanePlan.needsReload || !isLoaded) await load(change.layout, lanePlan);
    isLoaded = true;
    layout = change.layout;
    deps.onSplits?.(splits, replicas.values());
  };

  const turn = async (): Promise<void> => {
    const index = heardIndex;
    const others = heardOthers;
    const publicRoutes = publicPortRoutesOf({ claims, replicas: replicas.values(), isUp });
    // One waits for Caddy, one for the forwarder: neither is held up by what is wrong with the other.
    await allOrFirstError([
      leadHostnames(),
      ...(deps.publicPorts === undefined ? [] : [deps.publicPorts.lead(publicRoutes, splits)]),
    ]);
    await confirm(index, others);
  };

  const tell = (reason: string | undefined): void => {
    if (reason === toldReason) return;
    toldReason = reason;
    deps.onState(reason);
  };

  const run = async (): Promise<void> => {
    let retryMs = FIRST_RETRY_MS;
    while (!stopped.signal.aborted) {
      if (!isStale || unread.size > 0) {
        await new Promise<void>((resolve) => (wake = resolve));
        continue;
      }
      isStale = false;
      try {
        await turn();
        troubles.over('turn', 'the ingress follows again');
        tell(undefined);
        retryMs = FIRST_RETRY_MS;
      } catch (error) {
        isStale = true;
        troubles.note('turn', error, 'the ingress does not follow');
        tell((error as Error).message);
        await pause(retryMs, stopped.signal);
        retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
      }
    }
  };

  return {
    start: () => {
      watches.push(
        follow('hostnames', claims),
        follow('routes', routesOfReleases),
        follow('maintenance', maintenance),
      );
      stopped.signal.addEventListener('abort', () => watches.forEach((watch) => watch.close()), {
        once: true,
      });
      void run();
    },
    stop: () => {
      stopped.abort();
      deps.publicPorts?.stop();
      wake();
    },
  };
};
