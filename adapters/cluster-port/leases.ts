/**
 * Leases through the cluster port, where the session is that of the node of the certificate.
 *
 * Invariants: as of contracts/leases and port-client; how long a lease lasts counts from before the question was sent,
 * so that the way to the port and back takes from it and never adds.
 */

import {
  nodeLeasesPath,
  type Lease,
  type LeaseGrant,
  type LeaseHolder,
  type LeaseQuestion,
  type LeaseRenewal,
  type Leases,
} from '../../contracts/leases';
import { isObject } from '../../domain/is-object';
import { mismatch, type Shape } from '../../domain/shape';

import { createPortClient, type ClusterPortOptions } from './port-client';

/** Of one question: the port asks Consul several times for some, and one has to fit before a lease runs out. */
const TIMEOUT_MS = 4_000;
const MAX_ANSWER_CHARACTERS = 400_000;

interface HeldAnswer {
  readonly leases: readonly Lease[];
}

type GrantOf<K extends LeaseGrant['kind']> = Extract<LeaseGrant, { readonly kind: K }>;

type Check<T> = (answer: unknown) => answer is T;

const has =
  <T>(shape: Shape<T>): Check<T> =>
  (answer): answer is T =>
    mismatch<T>(answer, shape) === undefined;

const LEASE: Shape<Lease> = { project: 'text', name: 'text', replicaId: 'text' };
const HOLDER: Shape<LeaseHolder> = { ...LEASE, nodeId: 'text' };

const isHeldGrant = has<GrantOf<'held'>>({ lastsMs: 'number' });
const isTakenGrant = has<GrantOf<'taken'>>({ forAtMostMs: 'number', holder: ['optional', HOLDER] });
const isRenewal = has<LeaseRenewal>({ lastsMs: 'number', lost: ['list', 'text'] });
const isHeldAnswer = has<HeldAnswer>({ leases: ['list', LEASE] });

const isGrant: Check<LeaseGrant> = (answer): answer is LeaseGrant => {
  switch (isObject(answer) ? answer['kind'] : undefined) {
    case 'held':
      return isHeldGrant(answer);
    case 'taken':
      return isTakenGrant(answer);
    default:
      return false;
  }
};

export const createClusterPortLeases = (options: ClusterPortOptions): Leases => {
  const client = createPortClient(options, {
    method: 'POST',
    path: nodeLeasesPath(options.nodeId),
    timeoutMs: TIMEOUT_MS,
    maxAnswerCharacters: MAX_ANSWER_CHARACTERS,
    failing: 'gives no leases',
  });

  const ask = async <T>(question: LeaseQuestion, isUnderstood: Check<T>): Promise<T> => {
    const answer = await client.send(JSON.stringify(question));
    if (isUnderstood(answer)) return answer;
    throw client.away('its answer is not understood. It may be of another version');
  };

  return {
    acquire: ({ project, name, replicaId }) =>
      ask({ kind: 'acquire', lease: { project, name, replicaId } }, isGrant),
    renew: (leases) => ask({ kind: 'renew', leases }, isRenewal),
    held: async () => (await ask({ kind: 'held' }, isHeldAnswer)).leases,
    release: async ({ project, name, replicaId }) => {
      await ask({ kind: 'release', lease: { project, name, replicaId } }, isObject);
    },
    close: () => client.close(),
  };
};
