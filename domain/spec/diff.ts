/**
 * Compares releases. Free of zod, so that workflows may use it.
 *
 * Invariants: two normalised releases are the same exactly when no line of `diffRelease` tells them apart; no line
 * shows the value of a variable whose name says that it is a secret.
 */

import type { ContainerSpec, ReleaseSpec } from './schema';

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

const SECRET =
  /pass(word|wd|phrase)?|secret|token|credential|private|api_?key|access_?key|auth|cert|dsn|(^|_)(pw|pwd|key|salt|sas)(_|$)|(database|db|redis|mongo\w*|postgres\w*|mysql|amqp|broker|connection)_?(url|uri|string)/i;
const MASKED = '(hidden)';
const MAX_VALUE_LENGTH = 200;

const show = (value: unknown): string => {
  if (value === undefined || value === null) return '(none)';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return text.length > MAX_VALUE_LENGTH ? `${text.slice(0, MAX_VALUE_LENGTH)}…` : text;
};

const splitEnv = (entries: readonly string[]): ReadonlyMap<string, string> =>
  new Map(entries.map((entry) => [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)]));

const sortedUnion = (left: Iterable<string>, right: Iterable<string>): readonly string[] =>
  [...new Set([...left, ...right])].sort();

const diffEnv = (path: string, before: readonly string[], after: readonly string[]): readonly string[] => {
  const [left, right] = [splitEnv(before), splitEnv(after)];
  return sortedUnion(left.keys(), right.keys()).flatMap((key) => {
    const [from, to] = [left.get(key), right.get(key)];
    if (from === to) return [];
    const value = (text: string | undefined) =>
      text === undefined ? '(none)' : SECRET.test(key) ? MASKED : show(JSON.stringify(text));
    return [`${path}.${key}: ${value(from)} → ${value(to)}`];
  });
};

const diffFields = (path: string, before: object, after: object): readonly string[] => {
  const [left, right] = [before as Record<string, unknown>, after as Record<string, unknown>];
  return sortedUnion(Object.keys(left), Object.keys(right)).flatMap((key) => {
    const [from, to] = [left[key], right[key]];
    return sameJson(from, to) ? [] : [`${path}.${key}: ${show(from)} → ${show(to)}`];
  });
};

const diffContainer = (before: ContainerSpec, after: ContainerSpec): readonly string[] => {
  const path = `containers.${after.name}`;
  const { env: envBefore, ...restBefore } = before;
  const { env: envAfter, ...restAfter } = after;
  return [...diffFields(path, restBefore, restAfter), ...diffEnv(`${path}.env`, envBefore, envAfter)];
};

/**
 * @returns a line for each difference, "containers.web.image: nginx:1.27 → nginx:1.28", in a stable order; values
 *   of variables that look secret, and of whole containers, are not shown
 */
export const diffRelease = (before: ReleaseSpec, after: ReleaseSpec): readonly string[] => {
  const left = new Map(before.containers.map((container) => [container.name, container]));
  const right = new Map(after.containers.map((container) => [container.name, container]));
  const containers = sortedUnion(left.keys(), right.keys()).flatMap((name) => {
    const [from, to] = [left.get(name), right.get(name)];
    if (from === undefined) return [`containers.${name}: (none) → ${to?.image ?? ''}`];
    if (to === undefined) return [`containers.${name}: ${from.image} → (none)`];
    return diffContainer(from, to);
  });
  const { containers: _before, ...restBefore } = before;
  const { containers: _after, ...restAfter } = after;
  const rest = Object.keys(restAfter).flatMap((key) => {
    const [from, to] = [restBefore[key as keyof typeof restBefore], restAfter[key as keyof typeof restAfter]];
    return typeof from === 'object' && typeof to === 'object'
      ? diffFields(key, from, to)
      : sameJson(from, to)
        ? []
        : [`${key}: ${show(from)} → ${show(to)}`];
  });
  return [...containers, ...rest];
};
