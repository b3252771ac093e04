/**
 * Since when a Docker Engine does not answer, and whether it counts as lost.
 *
 * Invariants: answers that are soon over do not end an absence: several that follow each other closely count as one, of
 * which only the time without answers counts; times are those of a clock that nobody sets, but for what people are told.
 */

/**
 * So long an engine may be away before what does not serve is replaced elsewhere. A restart, as for an update of
 * Docker, takes some seconds and up to ten more for containers that do not end when they are asked to; moving
 * everything for that would cost more than waiting. What the engine ended is then down for 15 s longer than what a lost
 * node ran.
 */
export const ENGINE_LOST_AFTER_MS = 15_000;

export interface EngineAbsence {
  /** It does not answer; may be told again and again. */
  gone(): void;
  /** It answers; may be told again and again. */
  back(): void;
  isAway(): boolean;
  /** Since when it counts as lost, in milliseconds since the epoch; undefined: it does not. */
  lostAtMs(): number | undefined;
}

/**
 * @param nowMs a clock that nobody sets
 * @param dateMs milliseconds since the epoch
 */
export const createEngineAbsence = (nowMs: () => number, dateMs: () => number): EngineAbsence => {
  let atMs = dateMs();
  /** Since when it is away, if it is. */
  let awaySince: number | undefined = nowMs();
  let backSince = 0;
  /** Of the absences before that belong to this one. */
  let awayMs = 0;
  let absences = 1;

  /**
   * An answer for as long as it was away ends it, and 15 s always do; one that was lost for having been away once, and not
   * for coming and going, is there when it is back.
   */
  const isOver = (): boolean =>
    (absences === 1 && awayMs >= ENGINE_LOST_AFTER_MS) ||
    nowMs() - backSince >= Math.min(awayMs, ENGINE_LOST_AFTER_MS);

  return {
    gone: () => {
      if (awaySince !== undefined) return;
      if (isOver()) {
        atMs = dateMs();
        awayMs = 0;
        absences = 0;
      }
      absences += 1;
      awaySince = nowMs();
    },
    back: () => {
      if (awaySince === undefined) return;
      backSince = nowMs();
      awayMs += backSince - awaySince;
      awaySince = undefined;
    },
    isAway: () => awaySince !== undefined,
    lostAtMs: () => {
      const total = awayMs + (awaySince === undefined ? 0 : nowMs() - awaySince);
      if (total < ENGINE_LOST_AFTER_MS) return undefined;
      return awaySince === undefined && isOver() ? undefined : atMs;
    },
  };
};
