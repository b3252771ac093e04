/**
 * Ends what the ingress of this machine has under way with replicas whose node is lost: no answer comes from there, and TCP
 * itself would find out after a quarter of an hour. What may be asked again then is, of another replica.
 *
 * Invariants: a node that is well again within the grace keeps its connections; it is done once for each loss; nothing of a
 * replica that serves is ended.
 */

import type { Logger } from 'pino';

import type { RemoteEndpoint } from '../../adapters/host/end-connections';
import { hostPort } from '../../domain/host-port';
import type { ObservedReplica } from '../../domain/model';
import { createTroubles } from '../troubles';

/** A machine that is only busy is known to be well again within that. */
const GRACE_MS = 5_000;

export interface LostReplicas {
  /** When no new requests are led to replicas of lost nodes any more. @param members whether each is alive */
  follow(members: ReadonlyMap<string, boolean>, replicas: Iterable<ObservedReplica>): void;
  stop(): void;
}

export interface LostReplicasDeps {
  readonly endConnections: (endpoints: readonly RemoteEndpoint[]) => Promise<void>;
  readonly logger: Logger;
  readonly graceMs?: number;
}

const endpointsOf = (replicas: readonly ObservedReplica[]): ReadonlyMap<string, RemoteEndpoint> =>
  new Map(
    replicas.flatMap(({ ports }) =>
      ports
        .filter(({ protocol }) => protocol === 'tcp')
        .map(({ address, hostPort: port }) => [hostPort(address, port), { address, port }]),
    ),
  );

export const createLostReplicas = ({
  endConnections,
  logger,
  graceMs = GRACE_MS,
}: LostReplicasDeps): LostReplicas => {
  const troubles = createTroubles(logger);
  /** Of nodes that are lost, what ends connections to them, or has ended them. */
  const timers = new Map<string, NodeJS.Timeout>();
  let serving: ReadonlyMap<string, RemoteEndpoint> = new Map();

  const end = async (nodeId: string, lost: ReadonlyMap<string, RemoteEndpoint>): Promise<void> => {
    const gone = [...lost].filter(([key]) => !serving.has(key)).map(([, endpoint]) => endpoint);
    try {
      await endConnections(gone);
      troubles.over('end', 'requests that are under way to lost nodes are ended again');
    } catch (error) {
      const words = `requests that were under way to the lost node ${nodeId} wait until TCP gives up`;
      troubles.note('end', error, words);
    }
  };

  return {
    follow: (members, replicas) => {
      const all = [...replicas];
      serving = endpointsOf(all.filter(({ nodeId }) => members.get(nodeId) === true));
      for (const [nodeId, isUp] of members) {
        const timer = timers.get(nodeId);
        if (isUp) {
          clearTimeout(timer);
          timers.delete(nodeId);
        } else if (timer === undefined) {
          // Now: they are planned elsewhere, and forgotten, before the grace is over.
          const lost = endpointsOf(all.filter((replica) => replica.nodeId === nodeId));
          const endLater = () => (lost.size === 0 ? undefined : void end(nodeId, lost));
          timers.set(nodeId, setTimeout(endLater, graceMs).unref());
        }
      }
    },
    stop: () => {
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
    },
  };
};
