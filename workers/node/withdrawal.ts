/**
 * Takes a replica out of the ingress before it is stopped: waits until every ingress has confirmed that it leads nobody
 * there any more, then until the requests that are under way have ended: connections are open for as long as they take, and
 * of UDP nobody knows more than that no datagram has come or gone for a while.
 *
 * Invariants: both waits have an end, as a node that hangs must not keep a replica from being stopped; what an ingress
 * that has not confirmed still sends there is refused then, and tried elsewhere; who has not confirmed is told.
 */

import type { Logger } from 'pino';

import { countDatagrams } from '../../adapters/host/datagrams';
import { countOpenConnections } from '../../adapters/host/open-connections';
import { pause } from '../../adapters/pause';
import type { KvStore } from '../../contracts/kv-store';

import type { Way } from '../../domain/ingress/route-options';
import { CONFIRM_WITHIN_MS, createIngressConfirmation, indexBy } from '../ingress-confirmation';

const LOOK_EVERY_MS = 50;
/** As long as Caddy keeps a connection that nobody uses, and a little: where connections cannot be seen. */
const BLIND_MS = 1_000;
/**
 * How much longer a replica of an old release is kept for an ingress that does not confirm: when a release takes over, all
 * that such a node knows may be about to stop.
 */
const PATIENCE_MS = 15_000;
/** Who answers over UDP does so within this after the last datagram. */
const UDP_QUIET_MS = 1_000;
/** The forwarder takes no more answers to its clients after that (workers/forwarder/udp-port.ts). */
const UDP_WITHIN_MS = 5_000;

/** What the nodes lead to of a replica, as it is there. */
export interface LedPorts {
  readonly tcp: ReadonlySet<number>;
  readonly hasUdp: boolean;
}

export interface Withdrawal {
  /**
   * @param index Consul's of the write that says that the replica stops
   * @param ways by what requests and connections are led to it
   * @param onPatience left out: those that do not confirm soon are not waited for; told who they are when they are
   * @returns nodes that are up and whose ingress has not confirmed it in time
   */
  confirmed(
    index: number,
    ways: readonly Way[],
    signal: AbortSignal,
    onPatience?: (nodeIds: readonly string[]) => void,
  ): Promise<readonly string[]>;
  /**
   * @param pid a process in the replica's network
   * @param withinMs how long requests may take
   */
  drained(pid: number, ports: LedPorts, withinMs: number, signal: AbortSignal): Promise<void>;
}

export const createWithdrawal = (deps: {
  readonly kv: KvStore;
  /** Whether the membership holds each node for alive. */
  readonly readMembers: () => Promise<ReadonlyMap<string, boolean>>;
  readonly logger: Logger;
  /** Left out: as long as above. */
  readonly patienceMs?: number;
}): Withdrawal => {
  const { patienceMs = PATIENCE_MS } = deps;
  /** Nodes that were waited for in vain: they are not again, for each replica, until they have confirmed something. */
  const hopeless = new Set<string>();
  return {
    confirmed: async (index, ways, signal, onPatience) => {
      const indexOf = indexBy(ways, (followed) => followed.index);
      const within = (ms: number) => createIngressConfirmation(deps, indexOf, ms)(index, signal);
      const forgive = (missing: readonly string[]): void => {
        for (const nodeId of hopeless) if (!missing.includes(nodeId)) hopeless.delete(nodeId);
      };
      const soon = await within(CONFIRM_WITHIN_MS);
      forgive(soon);
      if (onPatience === undefined || soon.every((nodeId) => hopeless.has(nodeId))) return soon;
      onPatience(soon);
      const late = await within(patienceMs);
      forgive(late);
      for (const nodeId of late) hopeless.add(nodeId);
      return late;
    },
    drained: async (pid, { tcp, hasUdp }, withinMs, signal) => {
      const beginMs = performance.now();
      const endMs = beginMs + withinMs;
      let datagrams: number | undefined;
      let heardMs = beginMs;
      const isQuiet = async (): Promise<boolean> => {
        if (!hasUdp) return true;
        const before = datagrams;
        datagrams = await countDatagrams(pid);
        const now = performance.now();
        if (before !== undefined && datagrams !== before) heardMs = now;
        return now - heardMs >= UDP_QUIET_MS || now - beginMs >= UDP_WITHIN_MS;
      };
      // A request that has just read its slot is about to connect: none has to be open twice in a row.
      let wasNone = false;
      for (;;) {
        const [open, quiet] = await Promise.all([countOpenConnections(pid, tcp), isQuiet()]);
        if (open === 0 && wasNone && quiet) return;
        wasNone = open === 0;
        if (open === undefined) return pause(Math.min(BLIND_MS, withinMs), signal);
        const leftMs = endMs - performance.now();
        if (leftMs <= 0) return;
        await pause(Math.min(LOOK_EVERY_MS, leftMs), signal);
        signal.throwIfAborted();
      }
    },
  };
};
