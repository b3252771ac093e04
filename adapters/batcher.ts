/**
 * Many writers sharing few transactions; what a write is, and where a transaction goes, is the caller's.
 *
 * Invariants: writes to one target arrive in the order of the calls; at most one transaction is under way, and what is
 * asked meanwhile goes with the next; a promise resolves when its own write is committed. When one transaction
 * fails, only the writes in it fail.
 */

const MAX_OPERATIONS = 64; // Consul takes no more in one transaction
const MAX_BYTES = 400_000; // and not more than 512 KB of a request

export interface WriteWeight {
  /** What it changes: two writes of one target in a transaction would be ambiguous. */
  readonly target: string;
  readonly operations: number;
  readonly bytes: number;
}

interface Pending<W, R> extends WriteWeight {
  readonly write: W;
  readonly resolve: (answer: R) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * @param commit writes all or nothing
 * @returns adds a write; resolves with what `commit` says of its transaction
 */
export const createBatcher = <W, R>(
  weigh: (write: W) => WriteWeight,
  commit: (writes: readonly W[]) => Promise<R>,
): ((write: W) => Promise<R>) => {
  const pending: Pending<W, R>[] = [];
  let isWriting = false;

  const commitBatch = async (batch: readonly Pending<W, R>[]): Promise<void> => {
    try {
      const answer = await commit(batch.map(({ write }) => write));
      for (const { resolve } of batch) resolve(answer);
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  };

  const run = async (): Promise<void> => {
    if (isWriting) return;
    isWriting = true;
    // Calls of the same turn of the event loop go together.
    await new Promise((resolve) => setImmediate(resolve));
    while (pending.length > 0) await commitBatch(takeBatch(pending));
    isWriting = false;
  };

  return (write) =>
    new Promise((resolve, reject) => {
      pending.push({ write, ...weigh(write), resolve, reject });
      void run();
    });
};

/** Takes the longest beginning that fits one transaction, one write at least. */
const takeBatch = <T extends WriteWeight>(pending: T[]): T[] => {
  const targets = new Set<string>();
  let bytes = 0;
  let operations = 0;
  for (const write of pending) {
    bytes += write.bytes;
    operations += write.operations;
    const isFull = operations > MAX_OPERATIONS || bytes > MAX_BYTES;
    if (targets.has(write.target) || (targets.size > 0 && isFull)) break;
    targets.add(write.target);
  }
  return pending.splice(0, targets.size);
};
