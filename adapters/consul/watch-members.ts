/**
 * Which nodes Consul's membership holds for alive, by blocking queries.
 *
 * Invariants: the handler is told all members each time; while Consul is away it is told nothing, and the first
 * answer after that is told anew.
 */

import type { MembersHandlers, MembersWatch } from '../../contracts/cluster';
import { pause } from '../pause';

import type { ConsulClient } from './consul-client';

interface SerfCheck {
  readonly Node: string;
  readonly Status: string;
}

const WAIT_MS = 60_000;
const RETRY_MS = 500;
/** Every check of every service wakes the query, for which Consul reads them all: it is asked again no sooner than this. */
const MIN_TURN_MS = 150;

const QUERY = { path: '/health/state/any', query: { filter: 'CheckID == "serfHealth"' } };

const membersIn = (checks: readonly SerfCheck[] | undefined): ReadonlyMap<string, boolean> =>
  new Map((checks ?? []).map(({ Node, Status }) => [Node, Status === 'passing']));

/**
 * All nodes that the membership knows now, and whether it holds each for alive.
 *
 * @throws {ContainerOsError} `unavailable` when Consul does not answer
 */
export const readMembers = async (consul: ConsulClient): Promise<ReadonlyMap<string, boolean>> =>
  membersIn((await consul.request<readonly SerfCheck[] | undefined>(QUERY)).body);

export const watchMembers = (consul: ConsulClient, handlers: MembersHandlers): MembersWatch => {
  const abort = new AbortController();

  const run = async (): Promise<void> => {
    let index = 0;
    while (!abort.signal.aborted) {
      try {
        const answer = await consul.request<readonly SerfCheck[] | undefined>({
          ...QUERY,
          wait: { index, waitMs: WAIT_MS },
          signal: abort.signal,
        });
        // An index that goes backwards belongs to a Consul that lost its data: read anew (Consul's own advice).
        index = answer.index < index ? 0 : answer.index;
        handlers.changed(membersIn(answer.body));
        await pause(MIN_TURN_MS, abort.signal);
      } catch (error) {
        if (abort.signal.aborted) return;
        handlers.unreachable(error);
        index = 0;
        await pause(RETRY_MS, abort.signal);
      }
    }
  };
  void run();

  return { close: () => abort.abort() };
};
