/**
 * Whether a JSON value from outside is what a type says, as far as its readers need it. Pure, and free of zod, whose
 * 12 MB no role has to carry that parses no specification.
 *
 * Invariant: a field that a shape does not name is not looked at, so that documents of earlier and later versions
 * can be read.
 */

import { isObject } from './is-object';

/** `time`: milliseconds since the epoch that a date can hold. `optional`: may be missing or null. */
export type Shape<T> = [T] extends [string]
  ? 'text'
  : [T] extends [number]
    ? 'number' | 'time'
    : [T] extends [boolean]
      ? 'boolean'
      : [T] extends [readonly (infer E)[]]
        ? readonly ['list', Shape<E>]
        : string extends keyof T
          ? readonly ['map', Shape<T[keyof T]>]
          : { readonly [K in keyof T]?: FieldShape<T[K]> };

type FieldShape<T> = [T] extends [NonNullable<T>] ? Shape<T> : readonly ['optional', Shape<NonNullable<T>>];

type AnyShape =
  | 'text'
  | 'number'
  | 'time'
  | 'boolean'
  | readonly ['list' | 'map' | 'optional', AnyShape]
  | { readonly [field: string]: AnyShape };

const MAX_TIME_MS = 8.64e15;

const WORDS = { text: 'text', number: 'a number', time: 'a time in milliseconds', boolean: 'true or false' };

const isPlain = (value: unknown, shape: keyof typeof WORDS): boolean => {
  switch (shape) {
    case 'text':
      return typeof value === 'string';
    case 'boolean':
      return typeof value === 'boolean';
    case 'number':
      return typeof value === 'number';
    case 'time':
      return typeof value === 'number' && Math.abs(value) <= MAX_TIME_MS;
  }
};

const firstOf = <T>(items: readonly T[], look: (item: T) => string | undefined): string | undefined => {
  for (const item of items) {
    const found = look(item);
    if (found !== undefined) return found;
  }
  return undefined;
};

const mismatchAt = (path: string, value: unknown, shape: AnyShape): string | undefined => {
  const says = (words: string) => `${path === '' ? 'it' : path} ${words}`;
  const below = (key: string, inner: unknown, of: AnyShape) => mismatchAt(`${path}/${key}`, inner, of);
  if (Array.isArray(shape)) {
    const [kind, inner] = shape as readonly ['list' | 'map' | 'optional', AnyShape];
    switch (kind) {
      case 'optional':
        return value === undefined || value === null ? undefined : mismatchAt(path, value, inner);
      case 'list':
        return Array.isArray(value)
          ? firstOf([...value.entries()], ([index, item]) => below(String(index), item, inner))
          : says(value === undefined ? 'is missing' : 'is not a list');
      case 'map':
        return isObject(value)
          ? firstOf(Object.entries(value), ([key, item]) => below(key, item, inner))
          : says(value === undefined ? 'is missing' : 'is not an object');
    }
  }
  if (typeof shape === 'string') {
    if (isPlain(value, shape)) return undefined;
    return says(value === undefined ? 'is missing' : `is not ${WORDS[shape]}`);
  }
  if (!isObject(value)) return says(value === undefined ? 'is missing' : 'is not an object');
  return firstOf(Object.entries(shape as Readonly<Record<string, AnyShape>>), ([key, inner]) =>
    below(key, Object.hasOwn(value, key) ? value[key] : undefined, inner),
  );
};

/** @returns the first thing that is wrong, with its place ("/capacity/cpus is missing"); undefined when all is well */
export const mismatch = <T>(value: unknown, shape: Shape<T>): string | undefined =>
  mismatchAt('', value, shape as AnyShape);
