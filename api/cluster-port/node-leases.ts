/**
 * Leases of nodes that have no right to write to Consul, for the node of the certificate.
 *
 * Invariants: a node has leases by its own session only, so that it can neither take nor give back what another one
 * holds; a lease that is nobody's it may have when there is such a microservice, and up to a limit: who is to run what is
 * known to plans, and not here. What it holds it keeps, whatever becomes of the microservice.
 */

import { z } from 'zod';

import {
  MAX_LEASES,
  MAX_NODE_LEASES,
  type Lease,
  type LeaseAnswer,
  type LeaseGrant,
  type LeaseQuestion,
  type Leases,
} from '../../contracts/leases';
import { ContainerOsError } from '../../domain/errors';
import { microserviceId, type MicroserviceKey } from '../../domain/model';

export interface NodeLeases {
  /**
   * @param nodeId of the certificate
   * @param body what the node sent
   * @throws {ContainerOsError} `invalid` when it is no question; `not_found` when there is no such microservice,
   *   `forbidden` when the node has as many leases as it may; `unavailable` when Consul is away
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

export interface NodeLeasesDeps {
  /** The leases of a node; what it gives is kept, as it knows the node's session. */
  readonly leasesOf: (nodeId: string) => Omit<Leases, 'close'>;
  readonly isMicroservice: (key: MicroserviceKey) => Promise<boolean>;
  /** How many leases a node may have. */
  readonly limit?: number;
}

export const createNodeLeases = (deps: NodeLeasesDeps): NodeLeases => {
  const { leasesOf, isMicroservice, limit = MAX_NODE_LEASES } = deps;
  const known = new Map<string, Omit<Leases, 'close'>>();
  /** The last question for a lease of each node: many at once would all see that there is room for one more. */
  const turns = new Map<string, Promise<unknown>>();
  const ofNode = (nodeId: string): Omit<Leases, 'close'> => {
    const found = known.get(nodeId) ?? leasesOf(nodeId);
    known.set(nodeId, found);
    return found;
  };

  const acquire = async (nodeId: string, asked: Lease): Promise<LeaseGrant> => {
    const { project, name } = asked;
    if (!(await isMicroservice({ project, name }))) {
      throw new ContainerOsError(
        'not_found',
        `There is no microservice ${name} in the project ${project} whose lease node ${nodeId} could have. It may have been removed.`,
      );
    }
    const held = await ofNode(nodeId).held();
    const isIts = held.some((one) => microserviceId(one) === microserviceId(asked));
    if (!isIts && held.length >= limit) {
      throw new ContainerOsError(
        'forbidden',
        `Node ${nodeId} has ${held.length} leases of exclusive microservices, and may have ${limit}. Run some of them on other nodes.`,
      );
    }
    return ofNode(nodeId).acquire(asked);
  };

  const inTurn = (nodeId: string, asked: Lease): Promise<LeaseGrant> => {
    const before = turns.get(nodeId) ?? Promise.resolve();
    const own = before.then(
      () => acquire(nodeId, asked),
      () => acquire(nodeId, asked),
    );
    turns.set(nodeId, own);
    return own.finally(() => {
      if (turns.get(nodeId) === own) turns.delete(nodeId);
    });
  };

  return {
    ask: async (nodeId, body) => {
      const parsed = question.safeParse(body);
      if (!parsed.success) throw new ContainerOsError('invalid', WORDS);
      const asked: LeaseQuestion = parsed.data;
      const own = ofNode(nodeId);
      switch (asked.kind) {
        case 'acquire':
          return inTurn(nodeId, asked.lease);
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
