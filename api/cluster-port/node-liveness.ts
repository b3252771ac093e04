/**
 * Tells in Consul which node workers have gone silent: the check of a node's own service turns critical, as a check
 * with a time to live would at an agent.
 *
 * Invariants: only checks that were written through the cluster port are touched, and only changes are written; who was
 * not heard because this process did not listen gets its time again; a node itself says when it is back.
 */

import type { Logger } from 'pino';

import { NODE_SILENCE_MS } from '../../contracts/node-documents';
import type { CatalogueCheck, ServiceCatalogue } from '../../contracts/service-catalogue';
import { NODE_SERVICE, nodeAliveCheckId } from '../../contracts/services';

/** By these the check is known again; those that an agent runs have none. */
export const LIVENESS_NOTES = 'Told through the cluster port.';

const LOOK_EVERY_MS = 5_000;

export interface NodeLiveness {
  /** The node has sent something. */
  heard(nodeId: string): void;
  /** Whether Consul shows it as alive, as of the last look: to say so again changes nothing. */
  isShownAlive(nodeId: string): boolean;
  /** One look at who is silent. Rejects with ContainerOsError when Consul is away. */
  look(): Promise<void>;
  /** Looks from now on, until it is stopped; nobody could be heard before. */
  start(): void;
  stop(): void;
}

/** @param nowMs a clock that never goes back, in milliseconds */
export const createNodeLiveness = (deps: {
  readonly catalogue: Pick<ServiceCatalogue, 'checksOfService' | 'transact'>;
  readonly log: Logger;
  readonly nowMs?: () => number;
}): NodeLiveness => {
  const { catalogue, log, nowMs = () => performance.now() } = deps;
  const heardAtMs = new Map<string, number>();
  let shownAlive: ReadonlySet<string> = new Set();
  let listeningSinceMs = nowMs();
  let lookedAtMs = listeningSinceMs;
  let timer: NodeJS.Timeout | undefined;

  const isSilent = (nodeId: string): boolean =>
    nowMs() - Math.max(heardAtMs.get(nodeId) ?? -Infinity, listeningSinceMs) > NODE_SILENCE_MS;

  const markSilent = async (check: CatalogueCheck): Promise<void> => {
    const output = `The node worker has sent nothing for ${NODE_SILENCE_MS / 1_000} s. See whether it runs on ${check.node}, and reaches the cluster port.`;
    const result = await catalogue.transact([
      { kind: 'replaceCheck', check: { ...check, status: 'critical', output } },
    ]);
    // Another state was written meanwhile: the next look sees which.
    if (result.kind === 'written') log.warn({ node: check.node }, 'a node worker has gone silent');
  };

  const look = async (): Promise<void> => {
    const now = nowMs();
    // This process was frozen: it would have heard nobody.
    if (now - lookedAtMs > NODE_SILENCE_MS) listeningSinceMs = now;
    lookedAtMs = now;
    let checks: readonly CatalogueCheck[];
    try {
      checks = await catalogue.checksOfService(NODE_SERVICE);
    } catch (error) {
      shownAlive = new Set();
      throw error;
    }
    const ours = checks.filter(
      ({ id, node, notes }) => id === nodeAliveCheckId(node) && notes === LIVENESS_NOTES,
    );
    const nodes = new Set(ours.map(({ node }) => node));
    for (const [nodeId, atMs] of heardAtMs) {
      if (!nodes.has(nodeId) && now - atMs > NODE_SILENCE_MS) heardAtMs.delete(nodeId);
    }
    const passing = ours.filter(({ status }) => status === 'passing');
    shownAlive = new Set(passing.map(({ node }) => node).filter((node) => !isSilent(node)));
    for (const check of passing) if (isSilent(check.node)) await markSilent(check);
  };

  const turn = (): void => {
    timer = setTimeout(() => {
      look()
        .catch((error: unknown) => log.debug({ err: error }, 'could not look which nodes are silent'))
        .finally(() => {
          if (timer !== undefined) turn();
        });
    }, LOOK_EVERY_MS);
  };

  return {
    heard: (nodeId) => heardAtMs.set(nodeId, nowMs()),
    isShownAlive: (nodeId) => shownAlive.has(nodeId),
    look,
    start: () => {
      if (timer !== undefined) return;
      listeningSinceMs = lookedAtMs = nowMs();
      turn();
    },
    stop: () => {
      clearTimeout(timer);
      timer = undefined;
    },
  };
};
