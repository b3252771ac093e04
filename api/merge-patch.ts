/** JSON merge patch (RFC 7396). Pure; neither argument is changed. */

import { isObject } from '../domain/is-object';

/** @returns the target with what the patch names replaced, and what it names null left out */
export const mergePatch = (target: unknown, patch: unknown): unknown => {
  if (!isObject(patch)) return patch;
  const merged = new Map(Object.entries(isObject(target) ? target : {}));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, mergePatch(merged.get(key), value));
  }
  return Object.fromEntries(merged);
};
