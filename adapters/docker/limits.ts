/** How long calls to the engine may take, as options of the Docker client. */

const QUICK_TIMEOUT_MS = 15_000;
/** Creating, starting and removing wait for disks; the engine itself gives up after two minutes. */
const SLOW_TIMEOUT_MS = 150_000;

interface Limit {
  readonly abortSignal: AbortSignal;
}

export const quickLimit = (): Limit => ({ abortSignal: AbortSignal.timeout(QUICK_TIMEOUT_MS) });
/** @param alsoMs what the call takes beside the engine's own work */
export const slowLimit = (alsoMs = 0): Limit => ({
  abortSignal: AbortSignal.timeout(SLOW_TIMEOUT_MS + alsoMs),
});
