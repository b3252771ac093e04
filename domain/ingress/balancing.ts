/**
 * Which replica a new connection to a public port goes to. Pure.
 *
 * Invariants: while one release takes over from another, each release gets its share, however long its connections
 * last; within a release it is the replica that has the fewest, and among equals one on the same node most of the time,
 * as the ingress does it with requests (slots.ts).
 */

import type { ProxyProtocol } from './public-ports';
import { LOCAL_WEIGHT } from './slots';

export interface ForwardEndpoint {
  readonly address: string;
  readonly port: number;
  /** Whether it is on the same node. */
  readonly isLocal: boolean;
  readonly proxyProtocol?: ProxyProtocol;
}

/** Endpoints that share what their weight says. */
export interface EndpointGroup {
  readonly weight: number;
  readonly endpoints: readonly ForwardEndpoint[];
}

/** What tells endpoints apart. */
export const endpointKey = ({ address, port }: Pick<ForwardEndpoint, 'address' | 'port'>): string =>
  `${address} ${port}`;

/** @param random from 0 to less than 1 */
const drawByWeight = <T>(
  items: readonly T[],
  weightOf: (item: T) => number,
  random: number,
): T | undefined => {
  const all = items.reduce((sum, item) => sum + weightOf(item), 0);
  let left = random * all;
  for (const item of items) {
    left -= weightOf(item);
    if (left < 0) return item;
  }
  return items.at(-1);
};

/**
 * @param openOf how many connections an endpoint has
 * @param isTried those that are left out
 * @param random gives numbers from 0 to less than 1
 * @returns undefined when there is none
 */
export const chooseEndpoint = (
  groups: readonly EndpointGroup[],
  openOf: (key: string) => number,
  isTried: (key: string) => boolean,
  random: () => number,
): ForwardEndpoint | undefined => {
  const untried = groups
    .map(({ weight, endpoints }) => ({
      weight,
      endpoints: endpoints.filter((endpoint) => !isTried(endpointKey(endpoint))),
    }))
    .filter(({ endpoints }) => endpoints.length > 0);
  const group = drawByWeight(untried, ({ weight }) => weight, random());
  if (group === undefined) return undefined;
  const open = group.endpoints.map((endpoint) => openOf(endpointKey(endpoint)));
  const fewest = Math.min(...open);
  return drawByWeight(
    group.endpoints.filter((_, index) => open[index] === fewest),
    ({ isLocal }) => (isLocal ? LOCAL_WEIGHT : 1),
    random(),
  );
};
