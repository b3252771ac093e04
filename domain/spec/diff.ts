/** Compares releases. Free of zod, so that workflows may use it. */

import type { ReleaseSpec } from './schema';

/** Deep equality of JSON values; the order of keys does not count, that of lists does. */
export const sameJson = (left: unknown, right: unknown): boolean => {
  if (Object.is(left, right)) return true;
  if (typeof left !== 'object' || typeof right !== 'object' || left === null || right === null) return false;
  if (Array.isArray(left) !== Array.isArray(right)) return false;
  const leftKeys = Object.keys(left);
  if (leftKeys.length !== Object.keys(right).length) return false;
  return leftKeys.every(
    (key) =>
      Object.hasOwn(right, key) &&
      sameJson((left as Record<string, unknown>)[key], (right as Record<string, unknown>)[key]),
  );
};

/** @returns whether deploying one over the other would change nothing */
export const sameRelease = (left: ReleaseSpec, right: ReleaseSpec): boolean => sameJson(left, right);
