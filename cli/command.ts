/**
 * What a command is: data, from which arguments are parsed, help is written, and the command is run.
 *
 * Invariants: a command reaches the cluster through the HTTP API only; it says what it has to say by its outcome, so
 * that `--json` and the words for people come out of the same answer.
 */

import type { ApiAnswer, ApiClient } from './api-client';
import type { Terminal } from './terminal';
import { manyLines } from './words';

export interface Flag {
  /** Without the dashes. */
  readonly name: string;
  /** One letter, which may stand for the name. */
  readonly short?: string;
  /** May be given several times. */
  readonly isList?: true;
  /** What stands for the value in the help; left out: the flag takes none. */
  readonly value?: string;
  readonly help: string;
  /** Used when the flag is not given. */
  readonly variable?: string;
}

export interface Invocation {
  readonly api: ApiClient;
  /** @throws {Error} when the command takes no such argument: a defect */
  readonly argument: (name: string) => string;
  /** Undefined when it was left out. */
  readonly optional: (name: string) => string | undefined;
  readonly flag: (name: string) => string | undefined;
  readonly isSet: (name: string) => boolean;
  /** All values of a flag that may be given several times. */
  readonly list: (name: string) => readonly string[];
  /** The words after `--`. */
  readonly rest: readonly string[];
  /** Whether the API's answer is to be printed as it is. */
  readonly asJson: boolean;
  readonly terminal: () => Terminal;
  /** Tells people how it goes; nothing is told when the answer is to be JSON. */
  readonly tell: (line: string) => void;
  /** Tells people, on standard error, how it goes meanwhile; nothing when the answer is to be JSON. */
  readonly note: (line: string) => void;
  /** Tells people, on standard error, of what is odd. */
  readonly warn: (line: string) => void;
  readonly nowMs: () => number;
}

export interface Outcome {
  /** What `--json` prints, as it is. */
  readonly answer: ApiAnswer<unknown>;
  /** The words for people; only made when they are wanted. */
  readonly words: () => string | Promise<string>;
  /** Left out: 0. */
  readonly exitCode?: number;
}

/** Of a command that has said all that there was to say. */
export interface Ended {
  readonly exitCode: number;
}

export interface Command {
  /** One word or two. */
  readonly name: string;
  /** All of them are needed. */
  readonly arguments: readonly string[];
  /** After those; may be left out. */
  readonly optionalArguments?: readonly string[];
  readonly flags: readonly Flag[];
  /** What stands for the words after `--`, in the help; left out: there may be none. */
  readonly rest?: string;
  /** One line in the list of all commands. */
  readonly summary: string;
  /** What more its own help says, in lines. */
  readonly details?: readonly string[];
  readonly run: (invocation: Invocation) => Promise<Outcome | Ended>;
}

/** A failure that people can do something about; `code` is a row of the error table, which has the exit code. */
export class CommandError extends Error {
  override readonly name = 'CommandError';

  /**
   * @param code as the API's problem+json has it; one of a newer API may be unknown here
   * @param message what happened, why, and what to do next
   */
  constructor(
    readonly code: string,
    message: string,
    options?: { readonly cause?: unknown },
  ) {
    // Parts of it came from elsewhere.
    super(manyLines(message), options);
  }
}
