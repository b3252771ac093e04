/** Commands run as from a command line, against the real API over a store in memory. */

import { CommandError, runCommandLine, type Surroundings } from '../../../cli/run';
import { nodeKvKey } from '../../../contracts/kv';
import type { ObservedNode } from '../../../domain/model';
import { suggestKey } from '../../../domain/spec/suggest';
import { NOW_MS } from '../../support/builders';
import { PASSWORD, nodeDocument } from '../api/api-under-test';

export interface Ended {
  readonly out: string;
  readonly err: string;
  /** `0`, the exit code of help, or the code of the failure in the error table. */
  readonly end: number | string;
}

export interface Running {
  readonly out: () => string;
  readonly err: () => string;
  readonly ended: Promise<Ended>;
}

/** Starts a command line; a defect makes `ended` fail. */
export const startCli = (argv: readonly string[], given: Partial<Surroundings> = {}): Running => {
  const [out, err]: [string[], string[]] = [[], []];
  const run = async (): Promise<number | string> => {
    try {
      return await runCommandLine(argv, {
        environment: {},
        defaultDataDir: '/nowhere/containeros',
        suggest: suggestKey,
        otherCommands: [{ name: 'up', usage: '[flags]', summary: 'Start everything.' }],
        write: (text) => void out.push(text),
        writeError: (text) => void err.push(text),
        nowMs: () => NOW_MS,
        terminal: () => {
          throw new Error('not faked: the terminal');
        },
        ...given,
      });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      err.push(`containeros: ${error.message}\n`);
      return error.code;
    }
  };
  return {
    out: () => out.join(''),
    err: () => err.join(''),
    ended: run().then((end) => ({ out: out.join(''), err: err.join(''), end })),
  };
};

/** As the variables of somebody who uses the API at this address. */
export const at = (url: string): Partial<Surroundings> => ({
  environment: { CONTAINEROS_API_URL: url, CONTAINEROS_PASSWORD: PASSWORD },
});

export const nodeWith = (id: string, overrides: Partial<ObservedNode> = {}): Record<string, unknown> => ({
  [nodeKvKey(id)]: { ...(nodeDocument(id)[nodeKvKey(id)] as ObservedNode), ...overrides },
});
