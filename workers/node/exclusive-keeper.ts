/**
 * Lets an exclusive replica run only as long as this node holds its lease: gets leases, renews them, and stops what has
 * lost its own.
 *
 * Invariants: nothing is started before the lease is had, and written down for the guard; what stops, stops without
 * waiting for Consul or for other work on the replica, and is looked at again when that has ended; a replica that runs
 * here for reasons that nobody knows (no lease is written down for it) is stopped first and asked about later.
 */

import type { Logger } from 'pino';

import { pause } from '../../adapters/pause';
import type { ReplicaContainers } from '../../adapters/docker/replica-containers';
import type { ReplicaLocks } from '../../adapters/docker/replica-locks';
import type { StartReplica } from '../../contracts/activities';
import { LABEL } from '../../contracts/docker';
import { LEASE_FREE_AFTER_MS, type Lease, type LeaseGrant, type Leases } from '../../contracts/leases';
import type { MicroserviceKey } from '../../domain/model';
import type { EventLog } from './event-log';
import { createLeaseBook, HALT_GRACE_MS, RENEW_EVERY_MS } from './lease-book';
import { machineClockMs, readDeadlines, writeDeadlines } from './lease-file';
import type { LeaseGuard } from './lease-guard-process';
import type { NodeMemory } from './node-memory';
import { createTroubles } from '../troubles';

export interface ExclusiveKeeper {
  start(): void;
  /** Everything on the engine is in the memory: what may go on, and what has to stop. */
  adopt(): void;
  /**
   * Gets the lease of a replica that is kept, if it is exclusive; what runs of it without one is stopped before.
   *
   * @returns why it may not run, for people; undefined when it may
   */
  whyNot(spec: StartReplica): Promise<string | undefined>;
  /**
   * Waits for the lease of a replica that is to be started, until whoever has it must have renewed it.
   *
   * @param say is told what it waits for
   * @returns why it may not run, for people; undefined when it may
   */
  waitFor(spec: StartReplica, signal: AbortSignal, say: (words: string) => void): Promise<string | undefined>;
  /** It has stopped, or never ran: others may. Tried again until Consul has heard of it. */
  release(key: MicroserviceKey & { readonly replicaId: string }): Promise<void>;
  stop(): void;
}

const WAIT_RETRY_MS = 500;
const HALT_RETRY_MS = 200;
const RENEW_RETRY_MS = 500;
/** Timers do not count a machine's sleep. */
const MAX_LOOK_MS = 500;
/** Releases that were lost with a worker are found after this. */
const SWEEP_EVERY_MS = 5 * 60_000;

const isExclusive = ({ release }: Pick<StartReplica, 'release'>): boolean => release.spec.exclusive === true;

const leaseOf = ({ project, name, replicaId }: Lease): Lease => ({ project, name, replicaId });

const seconds = (ms: number): string => `${Math.ceil(ms / 1_000)} s`;

/** For people: "replica clock-1 of node a has its lease, for 45 s at most unless node a renews it". */
const describeTaken = ({ holder, forAtMostMs }: Extract<LeaseGrant, { kind: 'taken' }>): string =>
  holder === undefined
    ? `its lease is not given to anybody for ${seconds(forAtMostMs)} at most`
    : `replica ${holder.replicaId} on node ${holder.nodeId} has or had its lease, for ${seconds(forAtMostMs)} at most unless it is renewed`;

export const createExclusiveKeeper = (deps: {
  readonly leases: Leases;
  readonly memory: NodeMemory;
  readonly containers: Pick<ReplicaContainers, 'list' | 'halt'>;
  readonly locks: ReplicaLocks;
  readonly guard: LeaseGuard;
  /** Where the guard looks. */
  readonly file: string;
  readonly eventLog: EventLog;
  readonly look: (replicaId: string) => void;
  readonly logger: Logger;
  readonly nowMs?: () => number;
}): ExclusiveKeeper => {
  const { leases, memory, containers, locks, guard, eventLog, logger, nowMs = machineClockMs } = deps;
  const book = createLeaseBook();
  const stopped = new AbortController();
  const troubles = createTroubles(logger);
  /** Not given back yet. */
  const owed = new Map<string, Lease>();
  const lapsing = new Set<string>();
  const inherited = readDeadlines(deps.file) ?? {};
  let written = 4_096;
  let sweptAt = -Infinity;
  let isAdopted = false;
  let timer: NodeJS.Timeout | undefined;

  const writeDown = (): void => {
    written = Math.max(written, writeDeadlines(deps.file, book.deadlines(), written));
  };

  /** What is not written down, the guard will stop: that is safe, and nothing to stop a renewal for. */
  const tryToWriteDown = (): void => {
    try {
      writeDown();
      troubles.over('write', `the leases of this node are written to ${deps.file} again`);
    } catch (error) {
      troubles.note(
        'write',
        error,
        `the leases of this node cannot be written to ${deps.file}; trying again`,
      );
    }
  };

  const lookLater = (): void => {
    clearTimeout(timer);
    const inMs = book.dueInMs(nowMs());
    if (inMs === undefined || stopped.signal.aborted) return;
    timer = setTimeout(
      () => {
        for (const lease of book.takeDue(nowMs())) lapse(lease, 'it could not be renewed');
        lookLater();
      },
      Math.min(Math.max(inMs, 0), MAX_LOOK_MS),
    );
  };

  /** Stops all that runs of a replica, whatever the engine says at first; gives up when it may run again. */
  const halt = async (replicaId: string): Promise<void> => {
    const haltedAt = performance.now();
    const trouble = `halt ${replicaId}`;
    for (;;) {
      if (stopped.signal.aborted || book.mayRun(replicaId, nowMs())) return troubles.forget(trouble);
      try {
        const found = (await containers.list(replicaId)).filter(
          ({ labels }) => labels[LABEL.role] !== 'sandbox',
        );
        const graceMs = Math.max(0, HALT_GRACE_MS - (performance.now() - haltedAt));
        const wereRunning = await Promise.all(found.map(({ id }) => containers.halt(id, graceMs)));
        troubles.over(trouble, `replica ${replicaId}, which has no lease, can be stopped again`);
        if (!wereRunning.includes(true)) return;
        const replica = memory.get(replicaId);
        if (replica !== undefined) replica.isHalted = true;
      } catch (error) {
        troubles.note(
          trouble,
          error,
          `replica ${replicaId}, which has no lease, cannot be stopped; trying again until it has stopped`,
        );
      }
      await pause(HALT_RETRY_MS, stopped.signal);
    }
  };

  const lapse = (lease: Lease, why: string): void => {
    const { replicaId, project, name } = lease;
    if (lapsing.has(replicaId)) return;
    lapsing.add(replicaId);
    tryToWriteDown();
    eventLog.append({
      level: 'warning',
      type: 'replica.lease_lost',
      message: `Replica ${replicaId} stops, because its lease is lost: ${why}. It starts again when it has the lease again.`,
      project,
      microservice: name,
      replica: replicaId,
    });
    const end = async (): Promise<void> => {
      await halt(replicaId);
      // Whoever was just starting something of it has to give up first. What is being stopped goes on being stopped.
      if (memory.get(replicaId)?.phase !== 'stopping') {
        await locks.take(replicaId, stopped.signal, () => halt(replicaId));
      }
    };
    end()
      .catch((error: unknown) => logger.debug({ err: error, replica: replicaId }, 'a halt was given up'))
      .finally(() => {
        lapsing.delete(replicaId);
        deps.look(replicaId);
      });
  };

  const acquire = async (spec: StartReplica): Promise<LeaseGrant> => {
    const lease = leaseOf(spec);
    const askedAtMs = nowMs();
    const grant = await leases.acquire(lease);
    if (grant.kind === 'taken') return grant;
    book.grant(lease, askedAtMs, grant.lastsMs);
    try {
      writeDown();
    } catch (error) {
      // The guard would not know of it. Nothing of it runs yet.
      book.drop(lease.replicaId);
      throw error;
    }
    guard.ensure();
    lookLater();
    return grant;
  };

  const whyNot = async (spec: StartReplica): Promise<string | undefined> => {
    try {
      const grant = await acquire(spec);
      if (grant.kind === 'taken') return describeTaken(grant);
      // An answer that took too long leaves no time to run.
      return book.mayRun(spec.replicaId, nowMs()) ? undefined : 'its lease came too late';
    } catch (error) {
      logger.debug({ err: error, replica: spec.replicaId }, 'a lease could not be asked for');
      return `its lease cannot be asked for: ${(error as Error).message}`;
    }
  };

  const renew = async (): Promise<void> => {
    const held = book.held();
    if (held.length === 0) return;
    const askedAtMs = nowMs();
    const { lastsMs, lost } = await leases.renew(held.map(leaseOf));
    const isLost = new Set(lost);
    book.renewed(
      held.filter(({ replicaId }) => !isLost.has(replicaId)),
      askedAtMs,
      lastsMs,
    );
    for (const lease of held.filter(({ replicaId }) => isLost.has(replicaId))) {
      if (!book.has(lease.replicaId)) continue;
      book.drop(lease.replicaId);
      lapse(lease, 'Consul has it no more');
    }
    tryToWriteDown();
    guard.ensure();
    lookLater();
  };

  const payBack = async (): Promise<void> => {
    for (const lease of owed.values()) {
      await leases.release(lease);
      owed.delete(lease.replicaId);
    }
    if (!isAdopted || book.held().length === 0 || performance.now() - sweptAt < SWEEP_EVERY_MS) return;
    // A session that is renewed for some keeps all. A replica that is gone never comes back under its id.
    const isGone = ({ replicaId }: Lease): boolean => !memory.has(replicaId) && !book.has(replicaId);
    for (const lease of (await leases.held()).filter(isGone)) await leases.release(lease);
    sweptAt = performance.now();
  };

  const run = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      let pauseMs = RENEW_EVERY_MS;
      try {
        await renew();
        await payBack();
      } catch (error) {
        logger.debug({ err: error }, 'could not renew the leases of this node');
        pauseMs = RENEW_RETRY_MS;
      }
      await pause(pauseMs, stopped.signal);
    }
  };

  return {
    start: () => void run(),
    adopt: () => {
      const isFirst = !isAdopted;
      isAdopted = true;
      for (const { spec } of memory.values()) {
        if (!isExclusive(spec) || book.has(spec.replicaId)) continue;
        const untilMs = isFirst ? inherited[spec.replicaId] : undefined;
        if (untilMs !== undefined) book.grant(leaseOf(spec), untilMs, 0);
        else void halt(spec.replicaId).then(() => deps.look(spec.replicaId));
      }
      if (book.held().length > 0) guard.ensure();
      lookLater();
      void renew().catch(() => undefined); // the next turn tries again, and says why
    },
    whyNot: async (spec) => {
      if (!isExclusive(spec) || book.mayRun(spec.replicaId, nowMs())) return undefined;
      if (lapsing.has(spec.replicaId)) return 'its lease is lost';
      await halt(spec.replicaId);
      return whyNot(spec);
    },
    waitFor: async (spec, signal, say) => {
      if (!isExclusive(spec)) return undefined;
      const endAt = performance.now() + LEASE_FREE_AFTER_MS;
      for (;;) {
        if (book.mayRun(spec.replicaId, nowMs())) return undefined;
        const reason = await whyNot(spec);
        signal.throwIfAborted();
        if (reason === undefined) return undefined;
        if (performance.now() > endAt) return reason;
        say(`waits: ${reason}`);
        await pause(WAIT_RETRY_MS, signal);
        signal.throwIfAborted();
      }
    },
    release: async (key) => {
      const lease = leaseOf(key);
      book.drop(lease.replicaId);
      tryToWriteDown();
      try {
        await leases.release(lease);
      } catch (error) {
        logger.debug({ err: error, replica: lease.replicaId }, 'a lease could not be given back yet');
        owed.set(lease.replicaId, lease);
      }
    },
    stop: () => {
      stopped.abort();
      clearTimeout(timer);
      leases.close();
    },
  };
};
