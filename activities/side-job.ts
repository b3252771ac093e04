/** Work that goes on beside what asks for it: nobody waits for it, and it runs once at a time. */

export interface SideJob {
  /** Begins it, unless it is under way. */
  begin(): void;
  /** Resolves when it is not under way, however it has ended. */
  ended(): Promise<void>;
}

/** @param after called when it has ended, with the error if it has failed; it may begin it again */
export const createSideJob = (
  work: () => Promise<void>,
  after: (outcome: { readonly error?: unknown }) => void,
): SideJob => {
  let running: Promise<void> | undefined;
  const end = (outcome: { readonly error?: unknown }): void => {
    running = undefined;
    after(outcome);
  };
  return {
    begin: () => {
      running ??= work().then(
        () => end({}),
        (error: unknown) => end({ error }),
      );
    },
    ended: () => running ?? Promise.resolve(),
  };
};
