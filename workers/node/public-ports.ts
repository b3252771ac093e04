/**
 * Has the forwarder of this machine lead public ports where the cluster says, and tells what it cannot.
 *
 * Invariants: the table is on the disk before the forwarder is told, so that one that starts goes by it; what is led is
 * only said to be so when the forwarder has confirmed it; without public ports there is nothing to wait for, and no table
 * and no forwarder once the last connection has ended; what this machine needs itself is in no table, also while nobody has it.
 */

import { rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { isDeepStrictEqual } from 'node:util';

import type { Logger } from 'pino';

import { pause } from '../../adapters/pause';
import type { ForwardedPort, ForwarderState, ForwarderTable } from '../../contracts/forwarder';
import { endpointKey, type EndpointGroup, type ForwardEndpoint } from '../../domain/ingress/balancing';
import {
  claimOfPublicPort,
  publicPortInWords,
  type PublicPortRoute,
} from '../../domain/ingress/public-ports';
import type { MicroserviceKey, PublicPortTrouble } from '../../domain/model';
import type { ReservedPort } from '../../domain/spec/public-ports';
import { servingUnder, splitOf, weightOf, type TrafficSplits } from '../../domain/traffic';
import { forwarderSocket, forwarderTableFile } from '../forwarder/files';
import { readIfThere, writePrivateFile } from '../installation';
import { createTroubles } from '../troubles';

import type { EventLog } from './event-log';

/** A forwarder that has just been asked for has to start. */
const CONFIRM_WITHIN_MS = 2_000;
const RECONNECT_MS = 100;

/** Of a forwarder that has not said anything yet. */
const UNKNOWN: ForwarderState = { serial: 0, troubles: [], isIdle: false };

const groupsOf = (
  route: PublicPortRoute,
  splits: TrafficSplits,
  nodeId: string,
): readonly EndpointGroup[] => {
  // Where two say that they have one address, one of them is gone.
  const all = [...new Map(route.endpoints.map((one) => [endpointKey(one), one])).values()];
  const toEndpoint = (one: PublicPortRoute['endpoints'][number]): ForwardEndpoint => ({
    address: one.address,
    port: one.port,
    isLocal: one.nodeId === nodeId,
    ...(one.proxyProtocol === undefined ? {} : { proxyProtocol: one.proxyProtocol }),
  });
  const split = splitOf(splits, route);
  const serving = split && servingUnder(split, all);
  if (split === undefined || serving === undefined) {
    return all.length === 0 ? [] : [{ weight: 1, endpoints: all.map(toEndpoint) }];
  }
  return [...new Set(serving.map(({ release }) => release))]
    .sort((a, b) => a - b)
    .map((release) => ({
      weight: weightOf(split, release),
      endpoints: serving.filter((one) => one.release === release).map(toEndpoint),
    }));
};

/** @returns what the table of a node has, in the order of the routes */
export const forwardedPorts = (
  routes: readonly PublicPortRoute[],
  splits: TrafficSplits,
  nodeId: string,
): readonly ForwardedPort[] =>
  routes.map((route) => {
    const serving = new Set(route.endpoints.map(endpointKey));
    return {
      port: route.port,
      protocol: route.protocol,
      groups: groupsOf(route, splits, nodeId),
      lost: route.lost.filter((one) => !serving.has(endpointKey(one))),
    };
  });

/** @returns a reason for each port that is reserved on this machine, in the order of the routes */
const withheldOf = (
  routes: readonly PublicPortRoute[],
  reserved: readonly ReservedPort[],
): readonly PublicPortTrouble[] =>
  routes.flatMap(({ port, protocol }) => {
    const owner = reserved.find((one) => one.port === port && one.protocol === protocol);
    return owner === undefined
      ? []
      : [{ port, protocol, reason: `belongs to ${owner.what} on this machine` }];
  });

export interface PublicPorts {
  /** @throws {Error} when the forwarder has not confirmed in time */
  lead(routes: readonly PublicPortRoute[], splits: TrafficSplits): Promise<void>;
  stop(): void;
}

export interface PublicPortsDeps {
  readonly nodeId: string;
  /** Of the ingress. */
  readonly directory: string;
  /** What no microservice gets on this machine, whatever the API has allowed. */
  readonly reservedPorts: readonly ReservedPort[];
  /** Whether a forwarder has to run; told when that changes, and at the first table. */
  readonly onWanted: (isWanted: boolean) => void;
  readonly onTroubles: (troubles: readonly PublicPortTrouble[]) => void;
  readonly eventLog: Pick<EventLog, 'append'>;
  readonly logger: Logger;
}

const readTable = (file: string): ForwarderTable | undefined => {
  try {
    const text = readIfThere(file);
    return text === undefined ? undefined : (JSON.parse(text) as ForwarderTable);
  } catch {
    // Whatever it was, the next one takes its place.
    return { serial: 0, ports: [] };
  }
};

export const createPublicPorts = (deps: PublicPortsDeps): PublicPorts => {
  const { nodeId, directory, eventLog, logger } = deps;
  const file = forwarderTableFile(directory);
  const troubleLog = createTroubles(logger);
  const stopped = new AbortController();
  let table = readTable(file);
  let wanted: boolean | undefined;
  let socket: Socket | undefined;
  let state = UNKNOWN;
  let owners: ReadonlyMap<string, MicroserviceKey> = new Map();
  let withheld: readonly PublicPortTrouble[] = [];
  let told: readonly PublicPortTrouble[] = [];
  let heard: () => void = () => undefined;

  const want = (isWanted: boolean): void => {
    if (wanted === isWanted) return;
    wanted = isWanted;
    deps.onWanted(isWanted);
  };

  const tell = (troubles: readonly PublicPortTrouble[]): void => {
    if (isDeepStrictEqual(troubles, told)) return;
    const before = new Map(told.map((one) => [claimOfPublicPort(one), one]));
    told = troubles;
    deps.onTroubles(troubles);
    const append = (
      port: PublicPortTrouble,
      event: Pick<Parameters<EventLog['append']>[0], 'level' | 'type' | 'message'>,
    ) => {
      const owner = owners.get(claimOfPublicPort(port));
      eventLog.append({
        ...event,
        ...(owner === undefined ? {} : { project: owner.project, microservice: owner.name }),
      });
    };
    for (const trouble of troubles) {
      const known = before.get(claimOfPublicPort(trouble));
      before.delete(claimOfPublicPort(trouble));
      if (known?.reason === trouble.reason) continue;
      append(trouble, {
        level: 'warning',
        type: 'public_port.troubled',
        message: `Node ${nodeId}: public ${publicPortInWords(trouble)} ${trouble.reason}.`,
      });
    }
    for (const trouble of before.values()) {
      if (!owners.has(claimOfPublicPort(trouble))) continue;
      append(trouble, {
        level: 'info',
        type: 'public_port.recovered',
        message: `Node ${nodeId} answers on public ${publicPortInWords(trouble)} again.`,
      });
    }
  };

  const clear = (): void => {
    rmSync(file, { force: true });
    table = undefined;
    want(false);
    socket?.destroy();
  };

  const hear = (line: string): void => {
    state = JSON.parse(line) as ForwarderState;
    // Before its first table it knows nothing of ports.
    if (state.serial > 0) tell([...withheld, ...state.troubles]);
    heard();
    if (owners.size === 0 && table?.ports.length === 0 && state.serial === table.serial && state.isIdle) {
      clear();
    }
  };

  /** As long as there is a table. */
  const follow = (): void => {
    if (socket !== undefined || table === undefined || stopped.signal.aborted) return;
    const next = connect(forwarderSocket(directory));
    socket = next;
    let rest = '';
    next.setEncoding('utf8');
    next.on('connect', () => next.write('\n'));
    next.on('data', (text: string) => {
      const lines = `${rest}${text}`.split('\n');
      rest = lines.pop() ?? '';
      lines.forEach(hear);
    });
    next.on('error', (error) => logger.debug({ err: error }, 'the forwarder does not answer'));
    next.on('close', () => {
      if (socket === next) socket = undefined;
      state = UNKNOWN;
      setTimeout(follow, RECONNECT_MS).unref();
    });
  };

  const confirmed = async (serial: number): Promise<void> => {
    const endMs = performance.now() + CONFIRM_WITHIN_MS;
    while (state.serial !== serial) {
      const leftMs = endMs - performance.now();
      if (leftMs <= 0 || stopped.signal.aborted) {
        throw new Error('the forwarder of public ports does not answer');
      }
      const news = new AbortController();
      heard = () => news.abort();
      await pause(leftMs, AbortSignal.any([news.signal, stopped.signal]));
    }
  };

  /** Another one than a forwarder goes by that has not ended yet. */
  const write = (ports: readonly ForwardedPort[]): ForwarderTable => {
    const next = { serial: (table?.serial ?? Date.now()) + 1, ports };
    table = next;
    writePrivateFile(file, JSON.stringify(next));
    socket?.write('\n');
    return next;
  };

  /** Ports are closed at once; what is open goes on, and when it has ended, so does the forwarder. */
  const giveUp = ({ ports }: ForwarderTable): void => {
    owners = new Map();
    withheld = [];
    if (ports.length > 0) write([]);
    want(true);
    follow();
  };

  return {
    lead: async (routes, splits) => {
      if (routes.length === 0) {
        if (table !== undefined) giveUp(table);
        return;
      }
      owners = new Map(routes.map((route) => [claimOfPublicPort(route), route]));
      withheld = withheldOf(routes, deps.reservedPorts);
      const isWithheld = new Set(withheld.map(claimOfPublicPort));
      const open = routes.filter((route) => !isWithheld.has(claimOfPublicPort(route)));
      const ports = forwardedPorts(open, splits, nodeId);
      const isNews = !isDeepStrictEqual(table?.ports, ports);
      const { serial } = isNews || table === undefined ? write(ports) : table;
      want(true);
      follow();
      try {
        await confirmed(serial);
        tell([...withheld, ...state.troubles]);
        troubleLog.over('forwarder', 'public ports lead where they should again');
      } catch (error) {
        troubleLog.note('forwarder', error, 'public ports do not lead where they should');
        throw error;
      }
    },
    stop: () => {
      stopped.abort();
      heard();
      socket?.destroy();
    },
  };
};
