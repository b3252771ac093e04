/**
 * Leases as locks on keys of Consul KV, held by one session of the node.
 *
 * Invariants: the session belongs to the node in Consul's catalogue, and is found again by its name, so that a worker
 * that was started anew goes on with the leases of the one before; a lock is taken only from the very state that was
 * looked at, so that two replicas of one node, which share the session, do not hold a lease together; a lease that is
 * given back is free at once, one whose session ends is not before the lock delay.
 *
 * The session ends with gossip's word that the node is lost, or when it was not renewed in time. Gossip decides too
 * when replicas are replaced, so that no plan waits for a session that nobody believes in. The lock delay makes that
 * safe: it is as long as a holder may believe in its lease after its last renewal.
 */

import {
  LEASE_FREE_AFTER_MS,
  LEASE_LASTS_MS,
  LEASE_LOCK_DELAY_MS,
  type Lease,
  type LeaseKeys,
  type LeaseHolder,
  type Leases,
} from '../../contracts/leases';
import { LEASES_KV_PREFIX, leaseKvKey } from '../../contracts/kv';
import { ContainerOsError } from '../../domain/errors';

import { kvPath, kvText, type ConsulClient, type ConsulKvEntry } from './consul-client';

/** Also what people see in Consul's own tools. */
const SESSION_NAME = 'containeros-leases';
/** Of one request: several have to fit before a lease runs out. */
const TIMEOUT_MS = 2_500;
const ATTEMPTS = 4;
/** Consul's limit of operations in one transaction. */
const MAX_OPERATIONS = 64;

interface Session {
  readonly ID: string;
  readonly Name: string;
}

interface LockEntry extends ConsulKvEntry {
  readonly Session?: string;
}

interface TransactionAnswer {
  readonly Errors?: readonly { readonly OpIndex: number; readonly What: string }[] | null;
}

type KvOperation = Readonly<Record<string, string | number>>;

const seconds = (ms: number): string => `${ms / 1_000}s`;

/** Anybody with access to Consul may have written it; whose session holds the key counts all the same. */
const holderOf = (entry: LockEntry): LeaseHolder | undefined => {
  try {
    const { project, name, replicaId, nodeId } = JSON.parse(kvText(entry)) as Partial<LeaseHolder>;
    return typeof project === 'string' &&
      typeof name === 'string' &&
      typeof replicaId === 'string' &&
      typeof nodeId === 'string'
      ? { project, name, replicaId, nodeId }
      : undefined;
  } catch {
    return undefined;
  }
};

/**
 * @param consul with a token that may write sessions of the node, and keys below `containeros/leases/`
 * @param nodeId what Consul calls the node, too
 */
export const createConsulLeases = (
  consul: Pick<ConsulClient, 'request'>,
  nodeId: string,
): Omit<Leases, 'close'> => {
  let session: string | undefined;
  /** So that two questions at a time make one session. */
  let opening: Promise<string> | undefined;

  const find = async (): Promise<string | undefined> => {
    const { status, body } = await consul.request<readonly Session[]>({
      path: `/session/node/${encodeURIComponent(nodeId)}`,
      query: { consistent: true },
      timeoutMs: TIMEOUT_MS,
    });
    // Should there ever be two, everybody has to choose the same one.
    return status === 404
      ? undefined
      : body
          .filter(({ Name }) => Name === SESSION_NAME)
          .map(({ ID }) => ID)
          .sort()[0];
  };

  /** @returns whether there is such a session; if so, it lasts from now on */
  const renewSession = async (id: string): Promise<boolean> => {
    const { status } = await consul.request({
      method: 'PUT',
      path: `/session/renew/${id}`,
      timeoutMs: TIMEOUT_MS,
    });
    return status !== 404;
  };

  const make = async (): Promise<string> => {
    const { body } = await consul.request<{ readonly ID: string }>({
      method: 'PUT',
      path: '/session/create',
      body: {
        Name: SESSION_NAME,
        Node: nodeId,
        NodeChecks: ['serfHealth'],
        TTL: seconds(LEASE_LASTS_MS),
        LockDelay: seconds(LEASE_LOCK_DELAY_MS),
        // The key stays, and says who held it last.
        Behavior: 'release',
      },
      timeoutMs: TIMEOUT_MS,
    });
    return body.ID;
  };

  /** The session, which lasts from after the call on: one that is found, or a new one. */
  const open = async (): Promise<string> => {
    session ??= await find();
    if (session !== undefined && (await renewSession(session))) return session;
    // One that another process has made meanwhile.
    session = await find();
    if (session !== undefined && (await renewSession(session))) return session;
    session = await make();
    return session;
  };

  const live = (): Promise<string> => {
    opening ??= open().finally(() => {
      opening = undefined;
    });
    return opening;
  };

  const read = async (key: string): Promise<LockEntry | undefined> => {
    const { status, body } = await consul.request<readonly LockEntry[]>({
      path: kvPath(key),
      query: { consistent: true },
      timeoutMs: TIMEOUT_MS,
    });
    return status === 404 ? undefined : body[0];
  };

  /** @returns what stood in its way: by the index of the operation, in words; undefined when all was done */
  const transact = async (
    operations: readonly KvOperation[],
  ): Promise<NonNullable<TransactionAnswer['Errors']> | undefined> => {
    const { status, body } = await consul.request<TransactionAnswer>({
      method: 'PUT',
      path: '/txn',
      body: operations.map((operation) => ({ KV: operation })),
      timeoutMs: TIMEOUT_MS,
    });
    if (status !== 409) return undefined;
    const errors = (typeof body === 'string' ? (JSON.parse(body) as TransactionAnswer) : body).Errors ?? [];
    const denied = errors.find(({ What }) => /permission denied/i.test(What));
    if (denied === undefined) return errors;
    throw new ContainerOsError(
      'unavailable',
      `Consul does not let node ${nodeId} have leases: ${denied.What}`,
    );
  };

  const stateAsSeen = (key: string, entry: LockEntry | undefined): KvOperation =>
    entry === undefined
      ? { Verb: 'check-not-exists', Key: key }
      : { Verb: 'check-index', Key: key, Index: entry.ModifyIndex };

  const acquire: Leases['acquire'] = async (lease) => {
    const key = leaseKvKey(lease);
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const mine = await live();
      const entry = await read(key);
      const holder = entry === undefined ? undefined : holderOf(entry);
      const taken = (forAtMostMs: number) =>
        ({ kind: 'taken', forAtMostMs, ...(holder === undefined ? {} : { holder }) }) as const;
      if (entry?.Session === mine && holder?.replicaId === lease.replicaId) {
        return { kind: 'held', lastsMs: LEASE_LASTS_MS };
      }
      if (entry?.Session !== undefined) return taken(LEASE_FREE_AFTER_MS);
      const { project, name, replicaId } = lease;
      const value: LeaseHolder = { project, name, replicaId, nodeId };
      const errors = await transact([
        stateAsSeen(key, entry),
        {
          Verb: 'lock',
          Key: key,
          Value: Buffer.from(JSON.stringify(value)).toString('base64'),
          Session: mine,
        },
      ]);
      if (errors === undefined) return { kind: 'held', lastsMs: LEASE_LASTS_MS };
      if (errors.some(({ What }) => /lock delay/i.test(What))) return taken(LEASE_LOCK_DELAY_MS);
      // Somebody else was quicker, or the session has just ended: look again.
    }
    throw new ContainerOsError(
      'unavailable',
      `The lease of ${lease.name} is changing all the time. It is tried again.`,
    );
  };

  /** @returns replicas of these whose lease is not held by the session */
  const withoutLock = async (held: string, leases: readonly Lease[]): Promise<readonly string[]> => {
    const errors = await transact(
      leases.map((lease) => ({ Verb: 'check-session', Key: leaseKvKey(lease), Session: held })),
    );
    return (errors ?? []).flatMap(({ OpIndex }) => leases[OpIndex]?.replicaId ?? []);
  };

  const isOurs = (entry: LockEntry): boolean => entry.Session !== undefined && entry.Session === session;

  return {
    acquire,
    renew: async (leases) => {
      session ??= await find();
      const held = session;
      if (held === undefined || !(await renewSession(held))) {
        session = undefined;
        return { lastsMs: 0, lost: leases.map(({ replicaId }) => replicaId) };
      }
      // A session may live on without its locks: an operator can take them away.
      const lost: string[] = [];
      for (let at = 0; at < leases.length; at += MAX_OPERATIONS) {
        lost.push(...(await withoutLock(held, leases.slice(at, at + MAX_OPERATIONS))));
      }
      return { lastsMs: LEASE_LASTS_MS, lost };
    },
    release: async (lease) => {
      const key = leaseKvKey(lease);
      session ??= await find();
      const entry = await read(key);
      if (entry !== undefined && isOurs(entry) && holderOf(entry)?.replicaId === lease.replicaId) {
        // When it has changed since, it is not ours any more.
        await transact([stateAsSeen(key, entry), { Verb: 'delete', Key: key }]);
      }
    },
    held: async () => {
      session ??= await find();
      if (session === undefined) return [];
      const { status, body } = await consul.request<readonly LockEntry[]>({
        path: kvPath(LEASES_KV_PREFIX),
        query: { recurse: true, consistent: true },
        timeoutMs: TIMEOUT_MS,
      });
      if (status === 404) return [];
      return body.filter(isOurs).flatMap((entry) => {
        const { project, name, replicaId } = holderOf(entry) ?? {};
        return project === undefined || name === undefined || replicaId === undefined
          ? []
          : [{ project, name, replicaId }];
      });
    },
  };
};

/** @param consul with a token that may write keys below `containeros/leases/` */
export const createConsulLeaseKeys = (consul: Pick<ConsulClient, 'request'>): LeaseKeys => ({
  free: async () => {
    const { status, body } = await consul.request<readonly LockEntry[]>({
      path: kvPath(LEASES_KV_PREFIX),
      query: { recurse: true, consistent: true },
    });
    return status === 404
      ? []
      : body
          .filter(({ Session }) => Session === undefined)
          .map(({ Key, ModifyIndex }) => ({
            microservice: Key.slice(LEASES_KV_PREFIX.length),
            index: ModifyIndex,
          }));
  },
  // The lock delay of a key, if it has one still, outlives it: it is kept by name.
  forget: async ({ microservice, index }) => {
    const path = kvPath(`${LEASES_KV_PREFIX}${microservice}`);
    await consul.request({ method: 'DELETE', path, query: { cas: index } });
  },
});
