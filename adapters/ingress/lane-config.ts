/**
 * What Caddy is told of lanes, and of what it says of requests to releases under judgement. Pure.
 *
 * Invariant: other requests are not traced, and cost nothing for it (docs/decisions/releases.md).
 */

import { join } from 'node:path';

import { LANE_HOSTNAMES, type LaneSizes } from '../../domain/ingress/lanes';

import { LANES_IN_USE, isMarked } from './marks';
import { JUDGED_REQUEST } from './request-spans';

/** No request has such a host. */
export const NO_HOSTNAME = '-';
/** While a lane has such a file, its requests are traced. */
export const JUDGED = 'judged';
const NOW = 'now';

export const laneDirectory = (directory: string, lane: number): string =>
  join(directory, 'lanes', String(lane));
/** Leads to what the lane is now. */
export const laneLink = (directory: string, lane: number): string =>
  join(laneDirectory(directory, lane), NOW);

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
            handle: [JUDGED_REQUEST],
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

/**
 * Leads requests by lanes, while there is any.
 *
 * @param before what comes before any route of a hostname
 * @param proxyTo the handler that leads to one of these addresses, each as likely
 */
export const laneRoutes = (
  directory: string,
  { count, slots }: LaneSizes,
  before: readonly object[],
  proxyTo: (addresses: readonly string[]) => object,
): object => ({
  match: [isMarked(directory, [LANES_IN_USE])],
  handle: [
    {
      handler: 'subroute',
      routes: [
        ...before,
        ...Array.from({ length: count }, (_, lane) => laneRoute(directory, lane, slots, proxyTo)),
      ],
    },
  ],
});
