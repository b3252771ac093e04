/** What a command has of the terminal, or of whatever else it reads from and writes to. */

import type { Readable, Writable } from 'node:stream';

export type TerminalSignal = 'SIGINT' | 'SIGTERM' | 'SIGHUP';

export interface Terminal {
  readonly input: Readable & { readonly isTTY?: boolean; setRawMode?(isRaw: boolean): unknown };
  readonly output: Writable & { readonly isTTY?: boolean; readonly columns?: number; readonly rows?: number };
  readonly errors: Writable;
  /**
   * Has signals handled, which otherwise end the process.
   *
   * @returns how to end it
   */
  onSignal(listener: (signal: TerminalSignal) => void): () => void;
}

const SIGNALS: readonly TerminalSignal[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Those of this process. */
export const processTerminal = (): Terminal => ({
  input: process.stdin,
  output: process.stdout,
  errors: process.stderr,
  onSignal: (listener) => {
    for (const signal of SIGNALS) process.on(signal, listener);
    return () => {
      for (const signal of SIGNALS) process.off(signal, listener);
    };
  },
});
