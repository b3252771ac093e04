/**
 * Leases through the cluster port, where the session is that of the node of the certificate.
 *
 * Invariants: as of contracts/leases and port-client; how long a lease lasts counts from before the question was sent,
 * so that the way to the port and back takes from it and never adds.
 */

import { z } from 'zod';

import {
  nodeLeasesPath,
  type LeaseGrant,
  type LeaseQuestion,
  type LeaseRenewal,
  type Leases,
} from '../../contracts/leases';

import { createPortClient, type ClusterPortOptions } from './port-client';

/** Of one question: the port asks Consul several times for some, and one has to fit before a lease runs out. */
const TIMEOUT_MS = 4_000;
const MAX_ANSWER_CHARACTERS = 400_000;

const lease = z.object({ project: z.string(), name: z.string(), replicaId: z.string() });
const holder = lease.extend({ nodeId: z.string() });
const grant = z.union([
  z.object({ kind: z.literal('held'), lastsMs: z.number() }),
  z.object({ kind: z.literal('taken'), forAtMostMs: z.number(), holder: holder.optional() }),
]);
const renewal = z.object({ lastsMs: z.number(), lost: z.array(z.string()) });

export const createClusterPortLeases = (options: ClusterPortOptions): Leases => {
  const client = createPortClient(options, {
    method: 'POST',
    path: nodeLeasesPath(options.nodeId),
    timeoutMs: TIMEOUT_MS,
    maxAnswerCharacters: MAX_ANSWER_CHARACTERS,
    failing: 'gives no leases',
  });

  const ask = async <T>(question: LeaseQuestion, schema: z.ZodType<T>): Promise<T> => {
    const answer = schema.safeParse(await client.send(JSON.stringify(question)));
    if (answer.success) return answer.data;
    throw client.away('its answer is not understood. It may be of another version');
  };

  return {
    // Optional fields may be undefined for zod, and are only ever left out.
    acquire: ({ project, name, replicaId }) =>
      ask({ kind: 'acquire', lease: { project, name, replicaId } }, grant) as Promise<LeaseGrant>,
    renew: (leases) => ask<LeaseRenewal>({ kind: 'renew', leases }, renewal),
    held: async () => (await ask({ kind: 'held' }, z.object({ leases: z.array(lease) }))).leases,
    release: async ({ project, name, replicaId }) => {
      await ask({ kind: 'release', lease: { project, name, replicaId } }, z.object({}));
    },
    close: () => client.close(),
  };
};
