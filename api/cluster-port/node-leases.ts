/**
 * Leases of nodes that have no right to write to Consul, for the node of the certificate.
 *
 * Invariants: a node has leases by its own session only, so that it can neither take nor give back what another one
 * holds; a lease that is nobody's it may have, whatever microservice it is of: who is to run what is known to plans,
 * and not here.
 */

import { z } from 'zod';

import { MAX_LEASES, type LeaseAnswer, type LeaseQuestion, type Leases } from '../../contracts/leases';
import { ContainerOsError } from '../../domain/errors';

export interface NodeLeases {
  /**
   * @param nodeId of the certificate
   * @param body what the node sent
   * @throws {ContainerOsError} `invalid` when it is no question; `unavailable` when Consul is away
   */
  ask(nodeId: string, body: unknown): Promise<LeaseAnswer>;
}

/** The parts of a key, which is a path. */
const part = z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?$/);
const lease = z.strictObject({ project: part, name: part, replicaId: part });
const leases = z.array(lease).max(MAX_LEASES);
const question = z.union([
  z.strictObject({ kind: z.enum(['acquire', 'release']), lease }),
  z.strictObject({ kind: z.literal('renew'), leases }),
  z.strictObject({ kind: z.literal('held') }),
]);

const WORDS = `The body must be {"kind": "acquire" or "release", "lease": {"project", "name", "replicaId"}}, or {"kind": "renew", "leases": [at most ${MAX_LEASES} of these]}, or {"kind": "held"}.`;

/** @param leasesOf the leases of a node; what it gives is kept, as it knows the node's session */
export const createNodeLeases = (leasesOf: (nodeId: string) => Omit<Leases, 'close'>): NodeLeases => {
  const known = new Map<string, Omit<Leases, 'close'>>();
  const ofNode = (nodeId: string): Omit<Leases, 'close'> => {
    const found = known.get(nodeId) ?? leasesOf(nodeId);
    known.set(nodeId, found);
    return found;
  };

  return {
    ask: async (nodeId, body) => {
      const parsed = question.safeParse(body);
      if (!parsed.success) throw new ContainerOsError('invalid', WORDS);
      const asked: LeaseQuestion = parsed.data;
      const own = ofNode(nodeId);
      switch (asked.kind) {
        case 'acquire':
          return own.acquire(asked.lease);
        case 'renew':
          return own.renew(asked.leases);
        case 'release':
          await own.release(asked.lease);
          return {};
        case 'held':
          return { leases: await own.held() };
      }
    },
  };
};
