/**
 * Says in Consul how far the ingress and the forwarder of this node have followed, to who waits for it: who stops a
 * replica, splits requests, begins maintenance or has new routes (workers/ingress-confirmation.ts).
 *
 * Invariants: one document, written by one at a time; what one of the two has followed is said whatever the other one is at;
 * what nobody waits for is not written.
 */

import type { DocumentWriter } from '../../adapters/document-writer';
import { ingressKvKey } from '../../contracts/kv';
import type { IngressState } from '../../domain/model';
import { sameJson } from '../../domain/spec/diff';

/** Consul's indexes of what requests go by. */
export type Followed = Required<Omit<IngressState, 'id' | 'publicPorts'>>;

export const NOTHING_FOLLOWED: Followed = {
  index: 0,
  trafficIndex: 0,
  maintenanceIndex: 0,
  hostnamesIndex: 0,
  routesIndex: 0,
};

export interface IngressReport {
  /**
   * @param part who has followed
   * @param isAwaited whether a replica stops: nobody else waits for the replicas' index
   */
  say(part: 'hostnames' | 'publicPorts', followed: Followed, isAwaited: boolean): Promise<void>;
}

/** What is compared: all but the replicas' index. */
const withoutReplicas = ({ publicPorts, ...state }: IngressState): IngressState => ({
  ...state,
  index: 0,
  ...(publicPorts === undefined ? {} : { publicPorts: { ...publicPorts, index: 0 } }),
});

/** @param hasPublicPorts whether the forwarder has anything to follow: otherwise it is as far as the ingress */
export const createIngressReport = (
  nodeId: string,
  documents: Pick<DocumentWriter, 'put'>,
  hasPublicPorts: () => boolean,
): IngressReport => {
  let followed = { hostnames: NOTHING_FOLLOWED, publicPorts: NOTHING_FOLLOWED };
  let said: IngressState | undefined;
  let turn: Promise<void> = Promise.resolve();

  const write = async (isAwaited: boolean): Promise<void> => {
    const { index, trafficIndex, hostnamesIndex } = followed.publicPorts;
    const state: IngressState = {
      id: nodeId,
      ...followed.hostnames,
      ...(hasPublicPorts() ? { publicPorts: { index, trafficIndex, hostnamesIndex } } : {}),
    };
    const isNews =
      said === undefined ||
      !sameJson(withoutReplicas(state), withoutReplicas(said)) ||
      (isAwaited && !sameJson(state, said));
    if (!isNews) return;
    await documents.put(ingressKvKey(nodeId), state);
    said = state;
  };

  return {
    say: (part, now, isAwaited) => {
      followed = { ...followed, [part]: now };
      if (part === 'publicPorts' && !hasPublicPorts()) return turn;
      const mine = turn.then(() => write(isAwaited));
      turn = mine.catch(() => undefined);
      return mine;
    },
  };
};
