/**
 * The well-formed parts of a document, for the rules to look at: what is malformed is cut out, and no more than that.
 *
 * Invariants: a rule sees each part that can be judged although others cannot, at the place where the user has written
 * it; it can ask whether something was cut out, so that one mistake is not told as two.
 */

import { z } from 'zod';

import { isObject } from '../is-object';
import { fromPointer, toPointer } from './pointer';
import { containerSchema, microserviceSpecSchema } from './schema';
import { wordIssue, wordProblems } from './wording';

/** Stands for what leads to a port while that is malformed: the port itself is known. */
const NOTHING = null;
const nothingSchema = z.null().transform((): [] => []);

/** @returns the schema of ports of containers, of which one may lead to nothing */
const lenientPortsSchema = <K extends z.core.$ZodRecordKey, V extends z.ZodType>(ports: z.ZodRecord<K, V>) =>
  z.record(ports.keyType, z.union([ports.valueType, nothingSchema])).optional();

const { httpPorts, publicPorts } = containerSchema.shape;

/** The schema without "must be there": what remains of a specification once its malformed parts are cut out. */
const lenientSpecSchema = microserviceSpecSchema.partial().extend({
  containers: z
    .record(
      z.string(),
      containerSchema.partial().extend({
        httpPorts: lenientPortsSchema(httpPorts.unwrap()),
        publicPorts: lenientPortsSchema(publicPorts.unwrap()),
      }),
    )
    .optional(),
});

export type LenientSpec = z.output<typeof lenientSpecSchema>;
export type LenientContainer = NonNullable<LenientSpec['containers']>[string];

export type Path = readonly PropertyKey[];

/** Where things stand in the document that the user has written. */
export interface Places {
  /** @param path where it stands in what is left of the document */
  readonly pointer: (path: Path) => string;
  /** Whether nothing of it was cut out, neither it nor anything right below it. */
  readonly isWhole: (path: Path) => boolean;
}

export interface WellFormed {
  readonly spec: LenientSpec;
  readonly places: Places;
}

/** What is to be cut, as a tree of keys. */
interface Cut {
  isHere: boolean;
  readonly below: Map<string, Cut>;
}

/** Each round cuts something; a document needs as many as its malformed parts are wrapped into others. */
const MAX_ROUNDS = 32;

/** A route without its path would be one for all of the hostname. */
const reachOf = (path: readonly string[]): readonly string[] =>
  path[0] === 'containers' && path[2] === 'httpPorts' && path.at(-1) === 'path' ? path.slice(0, -1) : path;

const isPortEntry = (path: Path): boolean =>
  path.length === 4 && path[0] === 'containers' && (path[2] === 'httpPorts' || path[2] === 'publicPorts');

const cutTree = (paths: readonly (readonly string[])[]): Cut => {
  const root: Cut = { isHere: false, below: new Map() };
  for (const path of paths) {
    let at = root;
    for (const key of path) {
      const next = at.below.get(key) ?? { isHere: false, below: new Map<string, Cut>() };
      at.below.set(key, next);
      at = next;
    }
    at.isHere = true;
  }
  return root;
};

/** Cuts again and again, and remembers where what is left has come from. */
const createCutter = () => {
  /** For lists of which something is gone: where each item stood. */
  const origins = new WeakMap<readonly unknown[], readonly number[]>();
  const gone = new Set<string>();
  const parentsOfGone = new Set<string>();

  const originOf = (list: readonly unknown[], index: number): number => origins.get(list)?.[index] ?? index;

  /** @returns undefined when all of it goes */
  const cut = (value: unknown, tree: Cut, written: readonly PropertyKey[]): unknown => {
    const hasKey = (key: string) => typeof value === 'object' && value !== null && Object.hasOwn(value, key);
    // What is wrong with what is not there is wrong with what it is missing in.
    if (tree.isHere || [...tree.below.keys()].some((key) => !hasKey(key))) {
      if (isPortEntry(written) && value !== NOTHING) return NOTHING;
      gone.add(toPointer(written));
      parentsOfGone.add(toPointer(written.slice(0, -1)));
      return undefined;
    }
    if (Array.isArray(value)) {
      const kept = value.flatMap((item: unknown, index) => {
        const below = tree.below.get(String(index));
        const origin = originOf(value, index);
        const left = below === undefined ? item : cut(item, below, [...written, origin]);
        return left === undefined ? [] : [{ left, origin }];
      });
      const list = kept.map(({ left }) => left);
      origins.set(
        list,
        kept.map(({ origin }) => origin),
      );
      return list;
    }
    if (!isObject(value)) return value;
    return Object.fromEntries(
      Object.entries(value).flatMap(([key, item]) => {
        const below = tree.below.get(key);
        const left = below === undefined ? item : cut(item, below, [...written, key]);
        return left === undefined ? [] : [[key, left]];
      }),
    );
  };

  const placesIn = (left: unknown): Places => {
    const writtenAt = (path: Path): Path => {
      let value = left;
      return path.map((key) => {
        const list = Array.isArray(value) ? (value as readonly unknown[]) : undefined;
        const found = list === undefined ? key : originOf(list, Number(key));
        value = list?.[Number(key)] ?? (isObject(value) ? value[String(key)] : undefined);
        return found;
      });
    };
    const pointer = (path: Path): string => toPointer(writtenAt(path));
    return {
      pointer,
      isWhole: (path) =>
        !parentsOfGone.has(pointer(path)) &&
        path.every((_, index) => !gone.has(pointer(path.slice(0, index + 1)))),
    };
  };

  return {
    cut: (value: unknown, paths: readonly (readonly string[])[]): unknown =>
      cut(value, cutTree(paths), []) ?? {},
    placesIn,
  };
};

/** @returns what the rules can look at of a document, be it as malformed as it may */
export const wellFormedPartsOf = (document: unknown): WellFormed => {
  const cutter = createCutter();
  let left = isObject(document) ? document : {};
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const parsed = lenientSpecSchema.safeParse(left, { error: wordIssue });
    if (parsed.success) return { spec: parsed.data, places: cutter.placesIn(left) };
    const problems = wordProblems(lenientSpecSchema, left, parsed.error);
    const next = cutter.cut(
      left,
      problems.map(({ path }) => reachOf(fromPointer(path))),
    );
    left = isObject(next) ? next : {};
  }
  return { spec: {}, places: cutter.placesIn({}) };
};
