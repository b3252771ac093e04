/**
 * Keeps the ingress of this node at what the cluster says: hostnames in Caddy's configuration, endpoints in the slots, and
 * public ports in the forwarder's table.
 *
 * Invariants: endpoints change without a new configuration, and hostnames mostly; hostnames and public ports are led and
 * confirmed apart, so that what is wrong with Caddy or the forwarder holds up nothing else; while Consul or Caddy is away, requests go on to where they went; places are
 * there before the configuration that has them, lead nowhere when the next one has them no more, and are removed after
 * it has gone; on the disk is a configuration that Caddy has taken, and no request is led by what one says of endpoints
 * while it is wrong.
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
import type { HandoverEnd, HandoverEndOptions } from '../../adapters/ingress/handover-end';
import type { LaneFiles } from '../../adapters/ingress/lane-files';
import { ENDING, MOVED, hasMark, putMark, removeMark } from '../../adapters/ingress/marks';
import type { PlaceFiles } from '../../adapters/ingress/place-files';
import type { DocumentWriter } from '../../adapters/document-writer';
import type { MembersHandlers, MembersWatch } from '../../contracts/cluster';
import { createDocumentReader, type Documents } from '../../contracts/documents';
import { KV_PREFIX } from '../../contracts/kv';
import type { KvStore, KvWatch } from '../../contracts/kv-store';
import { anew, arrange, keyOfPlace, type Layout, type Place } from '../../domain/ingress/layout';
import type { MaintenanceState, ReleaseRoutes } from '../../domain/ingress/route-options';
import { routesOf, type Route } from '../../domain/ingress/routes';
import { isHostnameClaim, publicPortRoutesOf } from '../../domain/ingress/public-ports';
import { fillSlots } from '../../domain/ingress/slots';
import { createIngressReport, NOTHING_FOLLOWED } from './ingress-report';
import { createIngressTurns, type IngressTurns, type IngressTurnsOptions } from './ingress-turns';
import { createLostReplicas, type LostReplicasDeps } from './lost-replicas';
import { createPlaceParts } from './place-parts';
import type { PublicPorts } from './public-ports';
import { createSettling } from './settling';
import type { MicroserviceKey, ObservedReplica } from '../../domain/model';
import type { TrafficSplit } from '../../domain/traffic';
import { hostPort } from '../../domain/host-port';
import { readIfThere, writePrivateFile } from '../installation';
import { createSplitLanes, placeEndpoints, type LanePlan } from './split-lanes';

/** After a new configuration, old servers may take first requests on connections that they have for so long (Go's Shutdown). */
const OLD_SERVERS_TAKE_MS = 6_000;

type Part = 'hostnames' | 'publicPorts';

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
  /** Opened while one configuration takes over from another. */
  readonly openHandoverEnd: (options: HandoverEndOptions) => Promise<HandoverEnd>;
  readonly files: PlaceFiles;
  readonly laneFiles: LaneFiles;
  /** Where public ports lead; left out: nowhere. */
  readonly publicPorts?: PublicPorts;
  /** Of this machine; undefined: nobody knows (settling.ts). */
  readonly acceptedConnections: () => number | undefined;
  /** How long all has to stay as it is before requests need read it no more (settling.ts). */
  readonly settleAfterMs?: number;
  /** How long after a new configuration requests still read where they go: the one before may answer some. */
  readonly readAfterLoadMs?: number;
  /** Ends what is under way to replicas of lost nodes. */
  readonly endConnections: LostReplicasDeps['endConnections'];
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
  const lostReplicas = createLostReplicas(deps);
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
  let followed = NOTHING_FOLLOWED;
  const report = createIngressReport(nodeId, deps.documents, () =>
    [...claims.keys()].some((claim) => !isHostnameClaim(claim)),
  );
  /** As Caddy has it. */
  let layout = files.readLayout();
  /** Whether Caddy has had a configuration from this process. */
  let isLoaded = false;
  let toldReason: string | undefined | null = null;
  const allTurns = new Map<Part, IngressTurns>();

  const settling = createSettling({
    acceptedConnections: deps.acceptedConnections,
    onDue: () => allTurns.get('hostnames')?.wake(),
    ...(deps.settleAfterMs === undefined ? {} : { afterMs: deps.settleAfterMs }),
  });

  const read = createDocumentReader((message) => logger.error(message));
  const heard = (source: string): void => {
    unread.delete(source);
    for (const turns of allTurns.values()) turns.wake();
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
        if (kind === 'replicas') followed = { ...followed, index };
        // Of a prefix with nothing under it, no folder either, every write has a new index, also that of the confirmation.
        else if (changed.length + removed.length === 0 && !unread.has(kind)) return;
        // Nobody waits for a split to be over.
        if (kind !== 'replicas' && (kind !== 'traffic' || changed.length > 0))
          followed = { ...followed, [`${kind}Index`]: index };
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

  /** Without it, Caddy hands over after a second. */
  const openHandoverEnd = (): Promise<HandoverEnd | undefined> =>
    deps.openHandoverEnd(settings).catch((error: unknown) => {
      logger.warn({ err: error }, 'nobody tells when a new configuration of the ingress has taken over');
      return undefined;
    });

  let unmarking: NodeJS.Timeout | undefined;
  const unmark = (): void => {
    unmarking = undefined;
    try {
      files.removeMarkIfRight();
    } catch (error) {
      logger.warn({ err: error }, 'requests read where they go, as a mark cannot be removed');
    }
  };
  const unmarkLater = (): void => {
    clearTimeout(unmarking);
    unmarking = setTimeout(unmark, deps.readAfterLoadMs ?? OLD_SERVERS_TAKE_MS);
    unmarking.unref();
  };

  /** Takes over from the configuration in force, which ends its connections meanwhile (adapters/ingress/handover). */
  const load = async (next: Layout, lanePlan: LanePlan): Promise<void> => {
    const inForce = readIfThere(deps.configFile);
    const turn = turnOf(inForce);
    const inSameTurn = JSON.stringify(caddyConfig(settings, next, lanePlan.sizes, turn));
    const isOther = inSameTurn !== inForce;
    const config = isOther ? inOtherTurn(inSameTurn) : inSameTurn;
    // A worker that was killed meanwhile left this: then Caddy has the other turn's, and this one takes over from that.
    const wasCutShort = !isOther && hasMark(settings.directory, ENDING[turn]);
    const ending = wasCutShort ? ENDING[turn === 0 ? 1 : 0] : ENDING[turn];
    const isTakingOver = (isOther || wasCutShort) && layout.some(({ hostname }) => hostname !== undefined);
    const end = isTakingOver ? await openHandoverEnd() : undefined;
    try {
      // Until all of it is written, nobody knows which one Caddy has, or starts with.
      if (isOther) putMark(settings.directory, MOVED);
      if (wasCutShort) removeMark(settings.directory, ENDING[turn]);
      if (isTakingOver) putMark(settings.directory, ending);
      await admin.load(config);
      // Not before: with one that it refuses, Caddy could not start again.
      files.writeLayout(next);
      lanePlan.loaded();
      writePrivateFile(deps.configFile, config);
    } finally {
      for (const mark of ENDING) removeMark(settings.directory, mark);
      end?.close();
    }
    files.keepOnly(next);
  };

  /** With where slots lead now, for a configuration that says so. */
  const settled = (next: Layout): Layout =>
    next.map((place) => (place.isFixed ? { ...place, settled: files.slots(place.number) } : place));

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
    const wanted = routes.map(({ endpoints, ...route }) => ({ ...route, endpoints: endpoints.length }));
    const needed = arrange(layout, wanted);
    const isToSettle = settling.isDue() && splits.size === 0;
    const change = isToSettle ? { kind: 'reload', layout: anew(layout, wanted) } : needed;
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
    let hasMoved = false;
    for (const place of change.layout) {
      const route = byKey.get(keyOfPlace(place));
      hasMoved = files.writeSlots(place.number, addressesFor(route, place)) || hasMoved;
      parts.write(place, route === undefined ? [] : placeEndpoints(route, splits));
    }
    for (const place of change.layout) files.writeHostname(place.number, place.hostname);
    const lanePlan = lanes.plan(routes, splits);
    lanePlan.write();
    const isOther = change.kind === 'reload' || lanePlan.needsReload;
    const next = isOther ? settled(change.layout) : change.layout;
    if (isOther || !isLoaded) {
      isLoaded = false;
      // When it fails, it is tried again only when all has stayed for long enough again.
      if (isToSettle) settling.moved();
      await load(next, lanePlan);
      isLoaded = true;
      unmarkLater();
    } else if (unmarking === undefined) unmark();
    if (isToSettle) settling.done();
    layout = next;
    // While a release takes over, it will not stay as it is.
    if (splits.size > 0 || layout.every((place) => files.isSettled(place))) settling.rest();
    else if (hasMoved) settling.moved();
    else settling.stays();
    lostReplicas.follow(members, replicas.values());
    deps.onSplits?.(splits, replicas.values());
  };

  const { publicPorts } = deps;
  const reasons = new Map<Part, string | undefined>();
  const tell = (part: Part, partReason: string | undefined): void => {
    reasons.set(part, partReason);
    const reason = [...reasons.values()].find((one) => one !== undefined);
    // Before each of them has had a turn it is not known that all is well.
    if (reason === toldReason || (reason === undefined && reasons.size < allTurns.size)) return;
    toldReason = reason;
    deps.onState(reason);
  };

  const turnsOf = (part: Part, lead: () => Promise<void>, words: IngressTurnsOptions['words']) =>
    createIngressTurns({
      turn: async () => {
        const now = followed;
        await lead();
        const isAwaited = [...replicas.values()].some(({ state }) => state === 'stopping');
        await report.say(part, now, isAwaited);
      },
      isReady: () => unread.size === 0,
      onTurn: (reason) => tell(part, reason),
      words,
      logger,
    });

  allTurns.set(
    'hostnames',
    turnsOf('hostnames', leadHostnames, {
      failing: 'the ingress does not follow',
      well: 'the ingress follows again',
    }),
  );
  if (publicPorts !== undefined) {
    const lead = () =>
      publicPorts.lead(publicPortRoutesOf({ claims, replicas: replicas.values(), isUp }), splits);
    allTurns.set(
      'publicPorts',
      turnsOf('publicPorts', lead, {
        failing: 'the forwarder does not follow',
        well: 'the forwarder follows again',
      }),
    );
  }

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
      for (const turns of allTurns.values()) turns.start();
    },
    stop: () => {
      stopped.abort();
      publicPorts?.stop();
      settling.rest();
      clearTimeout(unmarking);
      lostReplicas.stop();
      for (const turns of allTurns.values()) turns.stop();
    },
  };
};
