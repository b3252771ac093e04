/**
 * Makes of any JSON a bounded copy that is safe to work with.
 *
 * Invariants: the copy holds no key through which a prototype could be reached, whatever the input held; nothing of
 * the input is called or changed; neither depth nor size of the input costs more than the limits below.
 */

import type { Problem } from '../errors';
import { appendPointer } from './pointer';

/** The deepest path of a specification, /containers/<name>/check/http/path, has five levels. */
const MAX_DEPTH = 16;
/** A body of 1 MB of sensible JSON has fewer values. */
const MAX_VALUES = 100_000;
/** Keys are repeated in the place of each problem, so long ones would make long answers. */
const MAX_KEY_LENGTH = 1_000;

// JSON.parse makes own properties of these; assigning them elsewhere would reach or shadow a prototype.
const PROTOTYPE_KEYS: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);

export interface Sanitised {
  readonly value: unknown;
  readonly problems: readonly Problem[];
  /** The input was beyond a limit: the copy lacks parts of it, and says nothing about the rest. */
  readonly truncated: boolean;
}

/**
 * @param input what JSON.parse gave, or anything else
 * @returns the copy without prototype keys, and a problem for each of them and for each limit passed
 */
export const sanitise = (input: unknown): Sanitised => {
  const problems: Problem[] = [];
  let values = 0;
  let truncated = false;

  const copy = (value: unknown, path: string, depth: number): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    if (truncated) return undefined;
    if (depth > MAX_DEPTH) {
      truncated = true;
      problems.push({ path, message: `is nested too deeply; the limit is ${MAX_DEPTH} levels` });
      return undefined;
    }
    const entries = Array.isArray(value)
      ? value.map((item: unknown, index) => [String(index), item] as const)
      : Object.entries(value);
    values += entries.length;
    if (values > MAX_VALUES) {
      truncated = true;
      problems.push({ path: '', message: `has too many values; the limit is ${MAX_VALUES}` });
      return undefined;
    }
    if (Array.isArray(value))
      return entries.map(([key, item]) => copy(item, appendPointer(path, key), depth + 1));
    const result: Record<string, unknown> = {};
    for (const [key, item] of entries) {
      if (key.length > MAX_KEY_LENGTH) {
        problems.push({
          path,
          message: `has a key of ${key.length} characters; the limit is ${MAX_KEY_LENGTH}`,
        });
      } else if (PROTOTYPE_KEYS.has(key)) {
        problems.push({
          path: appendPointer(path, key),
          message: `must not be used as a key: "${key}" has a meaning of its own in JavaScript; choose another`,
        });
      } else {
        result[key] = copy(item, appendPointer(path, key), depth + 1);
      }
    }
    return result;
  };

  const value = copy(input, '', 0);
  return { value, problems, truncated };
};
