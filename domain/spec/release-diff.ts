/**
 * What has changed from one release to another, in the words of the specification.
 *
 * Invariants: two normalised releases are the same exactly when no line tells them apart; no line shows the value of
 * a variable, which may be a secret whatever its name is, or the hash of a password.
 */

import { sameJson } from './diff';
import type { Release } from '../model';
import type { RawContainerSpec, ReleaseSpec } from './schema';
import { releaseInFull } from './to-user';

const MASKED = '(hidden)';
/** Hashes of passwords, as routes have them. */
const HASHES = /\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}/g;
const MAX_VALUE_LENGTH = 200;

const show = (value: unknown): string => {
  if (value === undefined || value === null) return '(none)';
  const text = (typeof value === 'string' ? value : JSON.stringify(value)).replace(HASHES, MASKED);
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
    const what =
      from === undefined ? 'added' : to === undefined ? 'removed' : 'changed (values are not shown)';
    return [`${path}.${key}: ${what}`];
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
 *   of variables, and what whole containers are like, are not shown
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

const SHORT_DIGEST_LENGTH = 19;

/** "sha256:0123456789ab": enough to tell them apart. */
const shortDigest = (digest: string): string => digest.slice(0, SHORT_DIGEST_LENGTH);

/**
 * @returns the differences of their specifications, and then of what was found under the same tags:
 *   "image nginx:1.27: sha256:0123456789ab → sha256:ba9876543210"
 */
export const diffReleases = (
  before: Pick<Release, 'spec' | 'images'>,
  after: Pick<Release, 'spec' | 'images'>,
): readonly string[] => {
  const [left, right] = [before.images ?? {}, after.images ?? {}];
  const moved = Object.keys(right)
    .sort()
    .flatMap((image) => {
      const [from, to] = [Object.hasOwn(left, image) ? left[image] : undefined, right[image]];
      if (from === undefined || to === undefined || from === to) return [];
      return [`image ${image}: ${shortDigest(from)} → ${shortDigest(to)}`];
    });
  return [...diffRelease(before.spec, after.spec), ...moved];
};
