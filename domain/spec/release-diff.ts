/**
 * What has changed from one release to another, in the words of the specification.
 *
 * Invariants: two normalised releases are the same exactly when no line tells them apart; no line shows the value of
 * a variable whose name says that it is a secret.
 */

import { sameJson } from './diff';
import type { RawContainerSpec, ReleaseSpec } from './schema';
import { releaseInFull } from './to-user';

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

const isMap = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const diffFields = (path: string, before: object, after: object): readonly string[] => {
  const [left, right] = [before as Record<string, unknown>, after as Record<string, unknown>];
  return sortedUnion(Object.keys(left), Object.keys(right)).flatMap((key) => {
    const [from, to] = [left[key], right[key]];
    if (sameJson(from, to)) return [];
    if (isMap(from ?? {}) && isMap(to ?? {})) return diffFields(`${path}${key}.`, from ?? {}, to ?? {});
    return [`${path}${key}: ${show(from)} → ${show(to)}`];
  });
};

const diffContainer = (
  path: string,
  before: RawContainerSpec,
  after: RawContainerSpec,
): readonly string[] => {
  const { env: envBefore, ...restBefore } = before;
  const { env: envAfter, ...restAfter } = after;
  // Written as a list of KEY=value.
  const env = diffEnv(`${path}env`, (envBefore ?? []) as string[], (envAfter ?? []) as string[]);
  return [...diffFields(path, restBefore, restAfter), ...env];
};

/**
 * @returns a line for each difference, "containers.web.image: nginx:1.27 → nginx:1.28", in a stable order; values
 *   of variables that look secret, and of whole containers, are not shown
 */
export const diffRelease = (before: ReleaseSpec, after: ReleaseSpec): readonly string[] => {
  const { containers: left, ...restBefore } = releaseInFull(before);
  const { containers: right, ...restAfter } = releaseInFull(after);
  const containers = sortedUnion(Object.keys(left), Object.keys(right)).flatMap((name) => {
    const [from, to] = [left[name], right[name]];
    if (from !== undefined && to !== undefined) return diffContainer(`containers.${name}.`, from, to);
    return [`containers.${name}: ${show(from?.image)} → ${show(to?.image)}`];
  });
  return [...containers, ...diffFields('', restBefore, restAfter)];
};
