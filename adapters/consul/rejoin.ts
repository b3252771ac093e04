/**
 * Brings a node back at once that Consul's membership holds for failed although it has just been heard of: left to
 * itself, gossip tries again every half minute.
 *
 * Invariants: one attempt at a time for a node, and not many; an attempt that fails changes nothing.
 */

import type { Logger } from 'pino';

import type { ConsulClient } from './consul-client';
import { hostPort } from '../../domain/host-port';

interface Member {
  readonly Name: string;
  readonly Addr: string;
  readonly Port: number;
}

const QUIET_MS = 1_000;
const ATTEMPT_TIMEOUT_MS = 5_000;

/**
 * @param consul of a server's agent, with a token that may write the agent
 * @returns what to call with a node that was heard of, and the address it goes by now
 */
export const createRejoin = (
  consul: ConsulClient,
  log: Logger,
): ((nodeId: string, address: string) => void) => {
  const triedAtMs = new Map<string, number>();

  const rejoin = async (nodeId: string, address: string): Promise<void> => {
    const { body } = await consul.request<readonly Member[]>({ path: '/agent/members' });
    const known = body.find(({ Name }) => Name === nodeId);
    if (known === undefined) return;
    // It may have come back under another address.
    const addresses = new Set([address, known.Addr]);
    for (const each of addresses) {
      await consul
        .request({
          method: 'PUT',
          path: `/agent/join/${encodeURIComponent(hostPort(each, known.Port))}`,
          timeoutMs: ATTEMPT_TIMEOUT_MS,
        })
        .catch((error: unknown) => log.debug({ err: error, node: nodeId }, 'a node could not be joined'));
    }
  };

  return (nodeId, address) => {
    const now = performance.now();
    if (now - (triedAtMs.get(nodeId) ?? -Infinity) < QUIET_MS) return;
    triedAtMs.set(nodeId, Infinity); // until the attempt has ended
    rejoin(nodeId, address)
      .catch((error: unknown) => log.debug({ err: error, node: nodeId }, 'could not look for a lost node'))
      .finally(() => triedAtMs.set(nodeId, performance.now()));
  };
};
