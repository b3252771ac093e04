/**
 * Renews a certificate long before it runs out, and has the Consul agent of this machine read the new one.
 *
 * Invariants: whatever shows the certificate is told, so that nothing goes on with one that has run out. That the agent
 * has to read it is on the disk before the certificate is: a process that is killed in between, or before the agent has
 * read it, is followed by one that has it read. The agent reads it once too often rather than not at all. What failed
 * is tried again.
 */

import { existsSync, rmSync } from 'node:fs';

import type { Logger } from 'pino';

import { pause } from '../../adapters/pause';
import { writePrivateFile } from '../installation';
import { createTroubles } from '../troubles';

import { isDueForRenewal } from './certificate-time';

const LOOK_EVERY_MS = 3_600_000;
/** The agent is away for moments only. */
const RETRY_RELOAD_MS = 10_000;

export interface Renewal {
  /** Whose certificate it is, for people: "node pi-2". */
  readonly owner: string;
  /** PEM of what is shown now. */
  readonly shown: () => string;
  /**
   * Gets a new one.
   *
   * @returns how to write it where the agent reads it
   */
  readonly renew: () => Promise<() => void>;
  /** There is a new one; the agent may not have it yet. */
  readonly onRenewed: () => void;
  /** Has the agent read its files again. */
  readonly reloadAgent: () => Promise<void>;
  /** The file that is there while the agent has to. */
  readonly reloadMark: string;
  readonly log: Logger;
  readonly retryReloadMs?: number;
}

export interface Renewing {
  stop(): void;
}

export const keepRenewed = (renewal: Renewal): Renewing => {
  const { owner, reloadMark, log, retryReloadMs = RETRY_RELOAD_MS } = renewal;
  const stopped = new AbortController();
  const troubles = createTroubles(log);
  const isReloadDue = (): boolean => existsSync(reloadMark);

  const renewIfDue = async (): Promise<void> => {
    if (!isDueForRenewal(renewal.shown(), Date.now())) return;
    const write = await renewal.renew();
    if (stopped.signal.aborted) return;
    writePrivateFile(reloadMark, '');
    write();
    log.info(`the certificate of ${owner} was renewed`);
    renewal.onRenewed();
  };

  const reloadIfDue = async (): Promise<void> => {
    if (!isReloadDue()) return;
    try {
      await renewal.reloadAgent();
      rmSync(reloadMark, { force: true });
      log.info(`the Consul agent has the new certificate of ${owner}`);
      troubles.over('reload', 'the Consul agent can be told of certificates again');
    } catch (error) {
      const words = `the Consul agent could not be told of the new certificate of ${owner} yet; trying again`;
      troubles.note('reload', error, words);
    }
  };

  const run = async (): Promise<void> => {
    while (!stopped.signal.aborted) {
      try {
        await renewIfDue();
      } catch (error) {
        const words = `the certificate of ${owner} could not be renewed; trying again within the hour`;
        log.error({ err: error }, words);
      }
      await reloadIfDue();
      await pause(isReloadDue() ? retryReloadMs : LOOK_EVERY_MS, stopped.signal);
    }
  };
  void run();
  return { stop: () => stopped.abort() };
};
