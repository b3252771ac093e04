/**
 * What Caddy is told of lanes, and of the log from which requests to releases under judgement are counted. Pure.
 *
 * Invariant: nothing is logged but requests of lanes that are under judgement, and of those no more than what is counted.
 */

import { join } from 'node:path';

import { LANE_HOSTNAMES, type LaneSizes } from '../../domain/ingress/lanes';

import { HANDOVER_LOGGER } from './handover';
import { LANES_IN_USE, isMarked } from './marks';

/** No request has such a host. */
export const NO_HOSTNAME = '-';
/** While a lane has such a file, its requests are logged. */
export const JUDGED = 'judged';
const NOW = 'now';

export const laneDirectory = (directory: string, lane: number): string =>
  join(directory, 'lanes', String(lane));
/** Leads to what the lane is now. */
export const laneLink = (directory: string, lane: number): string =>
  join(laneDirectory(directory, lane), NOW);

export const judgedLog = (directory: string): string => join(directory, 'judged', 'requests.log');

/** Caddy writes the request down for each logger before it knows whether there is anything to say. */
const WITHOUT_REQUEST = {
  format: 'filter',
  wrap: { format: 'json' },
  fields: { request: { filter: 'delete' }, resp_headers: { filter: 'delete' } },
};

const LOGGER = 'http.log.access';
/** Every second it is read; so much is kept of what the file before had. */
const ROLL_MEGABYTES = 16;

/** Loggers of the configuration: what is wrong, and requests under judgement. */
export const logging = (directory: string): object => ({
  logs: {
    default: {
      writer: { output: 'stderr' },
      encoder: WITHOUT_REQUEST,
      level: 'WARN',
      exclude: [LOGGER, HANDOVER_LOGGER],
    },
    judged: {
      writer: {
        output: 'file',
        filename: judgedLog(directory),
        roll_size_mb: ROLL_MEGABYTES,
        roll_keep: 1,
        roll_compression: 'none',
      },
      include: [LOGGER],
      encoder: WITHOUT_REQUEST,
    },
  },
});

/** Nothing is logged unless a lane says otherwise. */
export const logNothing = { handler: 'vars', log_skip: true };

const laneRoute = (
  directory: string,
  lane: number,
  slots: number,
  proxyTo: (addresses: readonly string[]) => object,
): object => {
  const now = laneLink(directory, lane);
  return {
    match: [
      {
        host: Array.from({ length: LANE_HOSTNAMES }, (_, index) => `{file.${join(now, `hostname${index}`)}}`),
      },
    ],
    handle: [
      {
        handler: 'subroute',
        routes: [
          {
            match: [{ file: { root: now, try_files: [JUDGED] } }],
            handle: [
              { handler: 'vars', log_skip: false },
              { handler: 'log_append', key: 'upstream', value: '{http.reverse_proxy.upstream.hostport}' },
              { handler: 'log_append', key: 'took', value: '{http.reverse_proxy.upstream.latency_ms}' },
              { handler: 'log_append', key: 'host', value: '{http.request.host}' },
            ],
          },
          {
            // One without slots only counts.
            match: [{ file: { root: now, try_files: ['0'] } }],
            handle: [
              proxyTo(Array.from({ length: slots }, (_, slot) => `{file.${join(now, String(slot))}}`)),
            ],
            terminal: true,
          },
        ],
      },
    ],
  };
};

const USED = 'containeros.lanes';

/** Lets a request that comes along here be led by lanes, where it has one. */
export const useLanes = (directory: string): object => ({
  match: [isMarked(directory, [LANES_IN_USE])],
  handle: [{ handler: 'vars', [USED]: 'yes' }],
});

/** @param proxyTo the handler that leads to one of these addresses, each as likely */
export const laneRoutes = (
  directory: string,
  { count, slots }: LaneSizes,
  proxyTo: (addresses: readonly string[]) => object,
): object => ({
  match: [{ vars: { [USED]: ['yes'] } }],
  handle: [
    {
      handler: 'subroute',
      routes: Array.from({ length: count }, (_, lane) => laneRoute(directory, lane, slots, proxyTo)),
    },
  ],
});
