/**
 * Which nodes Consul's membership holds for alive, by blocking queries.
 *
 * Invariants: the handler is told all members, and only what is news; while Consul is away it is told nothing, and the
 * first answer after that is told anew.
 */

import type { MembersHandlers, MembersWatch } from '../../contracts/cluster';
import { pause } from '../pause';

import type { ConsulClient } from './consul-client';
import { nextPauseMs } from './strides';

interface SerfCheck {
  readonly Node: string;
  readonly Status: string;
}

const WAIT_MS = 60_000;
const RETRY_MS = 500;
/** Every check of every service wakes the query, for which Consul reads them all. */
const WHOLE_PAUSE_MS = 300;

const QUERY = { path: '/health/state/any', query: { filter: 'CheckID == "serfHealth"' } };

const membersIn = (checks: readonly SerfCheck[] | undefined): ReadonlyMap<string, boolean> =>
  new Map((checks ?? []).map(({ Node, Status }) => [Node, Status === 'passing']));

const isSame = (one: ReadonlyMap<string, boolean>, other: ReadonlyMap<string, boolean>): boolean =>
  one.size === other.size && [...one].every(([nodeId, up]) => other.get(nodeId) === up);

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
    let told: ReadonlyMap<string, boolean> | undefined;
    let pauseMs = 0;
    while (!abort.signal.aborted) {
      const askedAt = performance.now();
      try {
        const answer = await consul.request<readonly SerfCheck[] | undefined>({
          ...QUERY,
          wait: { index, waitMs: WAIT_MS },
          signal: abort.signal,
        });
        // An index that goes backwards belongs to a Consul that lost its data: read anew (Consul's own advice).
        index = answer.index < index ? 0 : answer.index;
        const members = membersIn(answer.body);
        if (told === undefined || !isSame(told, members)) handlers.changed(members);
        told = members;
        pauseMs = nextPauseMs(pauseMs, WHOLE_PAUSE_MS, performance.now() - askedAt);
        await pause(pauseMs, abort.signal);
      } catch (error) {
        if (abort.signal.aborted) return;
        handlers.unreachable(error);
        index = 0;
        told = undefined;
        await pause(RETRY_MS, abort.signal);
      }
    }
  };
  void run();

  return { close: () => abort.abort() };
};
