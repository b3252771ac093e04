/**
 * Runs the forwarder of public ports as long as it is wanted.
 *
 * Invariant: one that is to end has ended before another one starts, as both would want the same ports.
 */

import type { Logger } from 'pino';

import type { Config } from '../config';
import { FORWARDER_PROGRAM } from '../forwarder/files';
import { ingressDirectory, ingressHost } from '../ingress-files';
import { runDirectory } from '../installation';

import { superviseProcess, type SupervisedProcess } from './supervised-process';

export interface ForwarderProcess {
  want(isWanted: boolean): void;
  /** Ends it, if it runs. */
  stop(): Promise<void>;
}

/** @param nodeFlags for Node.js */
export const createForwarderProcess = (
  config: Config,
  nodeFlags: readonly string[],
  logger: Logger,
): ForwarderProcess => {
  let isWanted = false;
  let running: SupervisedProcess | undefined;
  let turn: Promise<void> = Promise.resolve();

  const follow = async (): Promise<void> => {
    if (isWanted === (running !== undefined)) return;
    if (running !== undefined) {
      const ending = running;
      running = undefined;
      return ending.stop();
    }
    running = superviseProcess(
      {
        role: 'forwarder',
        command: process.execPath,
        args: [...nodeFlags, FORWARDER_PROGRAM, ingressDirectory(config), ingressHost(config)],
        env: process.env,
        runDirectory: runDirectory(config),
        ipc: true,
      },
      logger,
    );
  };

  const want = (next: boolean): void => {
    isWanted = next;
    turn = turn.then(follow);
  };

  return {
    want,
    stop: () => {
      want(false);
      return turn;
    },
  };
};
