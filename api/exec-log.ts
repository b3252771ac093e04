/**
 * Who had what run where, in the cluster's events.
 *
 * Invariants: the command is told, but neither its input nor values of its environment; while Consul takes no events, a
 * command runs all the same, because that is when it is needed, and the log of the API has what the events lack.
 */

import type { Logger } from 'pino';

import type { KeyValueStore } from '../contracts/key-value-store';
import { eventKvKey } from '../contracts/kv';
import type { ClusterEvent } from '../domain/model';

import type { ShownReplica } from './read-model';

export interface ExecutedCommand {
  readonly replica: ShownReplica;
  readonly container: string;
  readonly command: readonly string[];
  readonly user: string | undefined;
  /** Address of the client. */
  readonly from: string;
}

export interface ExecLog {
  /** Resolves when it is written, or cannot be. */
  executed(command: ExecutedCommand): Promise<void>;
}

const MAX_CHARACTERS = 500;

/** As one would type it into a shell. */
const quoted = (word: string): string =>
  /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

export const commandInWords = (command: readonly string[]): string => {
  const words = command.map(quoted).join(' ').replace(/\s+/g, ' ');
  return words.length > MAX_CHARACTERS ? `${words.slice(0, MAX_CHARACTERS)}…` : words;
};

export const createExecLog = (deps: {
  readonly store: Pick<KeyValueStore, 'transact'>;
  /** At least eight characters of chance. */
  readonly randomSuffix: () => string;
  readonly nowMs: () => number;
  readonly log: Logger;
}): ExecLog => ({
  executed: async ({ replica, container, command, user, from }) => {
    const atMs = deps.nowMs();
    const asUser = user === undefined ? '' : ` as ${user}`;
    const event: ClusterEvent = {
      atMs,
      level: 'info',
      type: 'replica.command_run',
      message: `${from} had a command run in container ${container} of ${replica.id}${asUser}: ${commandInWords(command)}`,
      project: replica.project,
      microservice: replica.name,
      replica: replica.id,
      node: replica.nodeId,
    };
    try {
      const key = eventKvKey(atMs, deps.randomSuffix());
      const { kind } = await deps.store.transact([{ kind: 'set', key, value: event }]);
      if (kind !== 'written') throw new Error(`Consul answered ${kind}`);
    } catch (error) {
      deps.log.warn({ err: error, event }, 'an event about a command was lost');
    }
  },
});
