// Waiting for conditions, never for time to pass.
// Invariant: a wait that fails says what it waited for, and the last value or error that it saw.
import { setTimeout as delay } from 'node:timers/promises';
import { inspect } from 'node:util';

export interface EventuallyOptions {
  readonly timeoutMs?: number;
  readonly intervalMs?: number;
  /** What is waited for, in words, for the failure's message. */
  readonly describe?: string;
}

const DEFAULT_TIMEOUT_MS = 20_000;
const DEFAULT_INTERVAL_MS = 50;

/** Thrown by a probe when waiting longer cannot help: the wait ends at once. */
export class Hopeless extends Error {}

/**
 * Calls `probe` until it returns without throwing (so that it may hold `expect` assertions), and returns its
 * value. A probe that hangs counts as failing when the time is over.
 */
export async function eventually<T>(
  probe: () => T | Promise<T>,
  options: EventuallyOptions = {},
): Promise<Awaited<T>> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const startedAt = performance.now();
  const deadline = startedAt + timeoutMs;
  let lastError: unknown = new Error('the first look did not end');
  let looks = 0;
  for (;;) {
    looks += 1;
    try {
      return await endingBefore(Promise.resolve().then(probe), deadline + 1_000);
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      if (!(error instanceof ProbeOverdue)) lastError = error;
    }
    if (performance.now() >= deadline) break;
    await delay(options.intervalMs ?? DEFAULT_INTERVAL_MS);
  }
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  const seen = lastError instanceof Error ? lastError.message : inspect(lastError, { depth: 6 });
  throw new Error(
    `not within ${seconds} s (${looks} looks): ${options.describe ?? 'the condition'}\nlast seen: ${seen}`,
    { cause: lastError },
  );
}

/** Calls `look` until its value satisfies `condition`; the failure's message holds the last value. */
export async function eventuallyValue<T>(
  look: () => T | Promise<T>,
  condition: (value: Awaited<T>) => boolean,
  options: EventuallyOptions = {},
): Promise<Awaited<T>> {
  return eventually(async () => {
    const value = await look();
    if (!condition(value)) throw new Error(inspect(value, { depth: 8, breakLength: 110 }));
    return value;
  }, options);
}

/** Looks again and again for `durationMs`, and fails at the first look that throws: for what must stay true. */
export async function consistently<T>(
  probe: () => T | Promise<T>,
  options: { readonly durationMs: number; readonly intervalMs?: number },
): Promise<number> {
  const end = performance.now() + options.durationMs;
  let looks = 0;
  while (performance.now() < end) {
    await probe();
    looks += 1;
    await delay(options.intervalMs ?? DEFAULT_INTERVAL_MS);
  }
  return looks;
}

class ProbeOverdue extends Error {}

async function endingBefore<T>(promise: Promise<T>, deadline: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const overdue = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new ProbeOverdue('the look did not end')),
      Math.max(0, deadline - performance.now()),
    );
  });
  try {
    return await Promise.race([promise, overdue]);
  } finally {
    clearTimeout(timer);
  }
}
