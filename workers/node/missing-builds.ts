/**
 * What this node has found out about images that are made for other processor architectures.
 *
 * Invariants: kept in memory only, and for a day at most, so that an image that is built anew is found; the newest
 * ones are kept when there are more than the node may tell of.
 */

import { MAX_AVAILABLE_BUILDS, MAX_MISSING_BUILDS } from '../../contracts/node-documents';
import type { MissingBuild } from '../../domain/model';

const KEPT_MS = 24 * 3_600_000;

export interface MissingBuilds {
  /** @param available architectures that there are builds for; none when that is not known */
  note(image: string, available: readonly string[]): MissingBuild;
  /** There is a build of it. */
  forget(image: string): void;
  /** In the order in which they were found. */
  all(): readonly MissingBuild[];
}

export const createMissingBuilds = (deps: {
  readonly nowMs: () => number;
  /** Something was noted or forgotten. */
  readonly onChange: () => void;
}): MissingBuilds => {
  const { nowMs, onChange } = deps;
  const found = new Map<string, MissingBuild>();

  return {
    note: (image, available) => {
      const seen: MissingBuild = {
        image,
        available: available.slice(0, MAX_AVAILABLE_BUILDS),
        seenAtMs: nowMs(),
      };
      found.delete(image);
      found.set(image, seen);
      for (const oldest of [...found.keys()].slice(0, -MAX_MISSING_BUILDS)) found.delete(oldest);
      onChange();
      return seen;
    },
    forget: (image) => {
      if (found.delete(image)) onChange();
    },
    all: () => {
      for (const { image, seenAtMs } of found.values())
        if (nowMs() - seenAtMs >= KEPT_MS) found.delete(image);
      return [...found.values()];
    },
  };
};
