/**
 * Turns what zod found into problems that say what is wrong and what is expected, each with its place.
 *
 * Invariants: every issue becomes at least one problem; a union never yields "invalid input", but the problems of
 * the branch that was meant; messages are predicates ("must be …"), so that "<path> <message>" reads as a sentence.
 * The schema's own messages win over the ones here.
 */

import { z } from 'zod';
import type { Problem } from '../errors';
import { toPointer } from './pointer';
import { suggestKey } from './suggest';

type Path = readonly PropertyKey[];
type Issue = z.core.$ZodIssue;

const ARTICLES: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  record: 'an object',
  object: 'an object',
};

/** What a value is, for people; never longer than a line. */
const describe = (value: unknown): string => {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'string') {
    return value.length === 0 ? 'empty text' : `text (${JSON.stringify(shorten(value))})`;
  }
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return typeof value === 'object' ? 'an object' : typeof value;
};

const shorten = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}…` : text);

/** What stands at places that take several forms or that must not be left out. */
const EXPECTED: readonly (readonly [pattern: RegExp, expected: string])[] = [
  [/\/env$/, 'a list like ["KEY=value"] or a map like { "KEY": "value" }'],
  [/\/env\/\D[^/]*$/, 'text, a number, true or false'],
  [/\/ports\/\d+$/, 'a port like 5432, "5432/tcp" or "53/udp"'],
  [
    /\/httpPorts\/[^/]*$/,
    'a hostname like "hello.example.com", a list of hostnames, or an object like { "hostnames": "example.com", "path": "/api" }',
  ],
  [
    /\/httpPorts\/[^/]*\/\d+$/,
    'a hostname like "hello.example.com" or an object like { "hostnames": "example.com", "path": "/api" }',
  ],
  [
    /\/publicPorts\/[^/]*$/,
    'a port like 5432, a list of ports, or an object like { "port": 5432, "proxyProtocol": "v2" }',
  ],
  [/\/publicPorts\/[^/]*\/port$/, 'a port like 5432, or a list of ports'],
  [/\/publicPorts\/[^/]*(\/port)?\/\d+$/, 'a port from 1 to 65535'],
  [/\/hostnames$/, 'a hostname like "hello.example.com" or a list of hostnames'],
  [/\/volumes\/\d+$/, 'an object like { "name": "data", "path": "/var/lib/data" }'],
  [/\/check$/, 'an object like { "http": { "port": 80, "path": "/" } }'],
  [/\/update\/max[A-Z][a-z]+$/, 'a number or a percentage like "25%"'],
  [/^\/name$/, 'a name like "hello"'],
  [/^\/containers$/, 'an object like { "web": { "image": "nginx:1.27" } }'],
  [/\/image$/, 'an image reference like "nginx:1.27"'],
  [/\/port$/, 'a port from 1 to 65535'],
];

const expectedAt = (path: Path): string | undefined => {
  const pointer = toPointer(path);
  return EXPECTED.find(([pattern]) => pattern.test(pointer))?.[1];
};

const MISSING = 'is missing';

/** Zod's error map: words for what the schema itself has no message for. */
export const wordIssue = (issue: z.core.$ZodRawIssue): string => {
  switch (issue.code) {
    case 'invalid_type': {
      const expected = ARTICLES[issue.expected] ?? issue.expected;
      if (issue.input === undefined) return MISSING;
      return `must be ${expected}, not ${describe(issue.input)}`;
    }
    case 'invalid_value': {
      if (issue.input === undefined) return MISSING;
      const values = issue.values.map((value) => JSON.stringify(value)).join(', ');
      return `must be ${issue.values.length === 1 ? '' : 'one of '}${values}, not ${describe(issue.input)}`;
    }
    case 'too_small': {
      const minimum = String(issue.minimum);
      if (issue.origin === 'string') return `must have ${minimum} characters at least`;
      if (issue.origin === 'array') return `must have ${minimum} items at least`;
      return `must be ${minimum} or more, not ${describe(issue.input)}`;
    }
    case 'too_big': {
      const maximum = String(issue.maximum);
      if (issue.origin === 'string') return `must have ${maximum} characters at most`;
      if (issue.origin === 'array') return `must have ${maximum} items at most`;
      return `must be ${maximum} at most, not ${describe(issue.input)}`;
    }
    case 'invalid_format':
    case 'invalid_key':
    case 'invalid_union':
    case 'invalid_element':
    case 'unrecognized_keys':
    case 'not_multiple_of':
    case 'custom':
      return issue.message ?? 'is not valid';
  }
};

/** Schemas below wrappers and unions: what may really stand there. */
const unfold = (schema: unknown): readonly unknown[] => {
  if (schema instanceof z.ZodOptional) return unfold(schema.unwrap());
  if (schema instanceof z.ZodUnion) return schema.options.flatMap(unfold);
  return [schema];
};

const objectsAt = (root: z.ZodType, path: Path): readonly z.ZodObject[] => {
  let schemas = unfold(root);
  for (const key of path) {
    schemas = schemas.flatMap((schema) => {
      if (schema instanceof z.ZodObject)
        return Object.hasOwn(schema.shape, key) ? unfold(schema.shape[String(key)]) : [];
      if (schema instanceof z.ZodRecord) return unfold(schema.valueType);
      if (schema instanceof z.ZodArray) return typeof key === 'number' ? unfold(schema.element) : [];
      return [];
    });
  }
  return schemas.filter((schema) => schema instanceof z.ZodObject);
};

const valueAt = (root: unknown, path: Path): unknown => {
  let value = root;
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
};

const quote = (keys: readonly string[]): string => {
  const quoted = keys.map((key) => JSON.stringify(key));
  return quoted.length < 2 ? quoted.join('') : `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1) ?? ''}`;
};

interface Document {
  readonly schema: z.ZodType;
  readonly value: unknown;
}

const wordUnknownKey = (document: Document, path: Path, key: string): string => {
  const objects = objectsAt(document.schema, path);
  const allowed = [...new Set(objects.flatMap((object) => Object.keys(object.shape)))];
  if (allowed.includes(key)) {
    const partners = objects
      .filter((object) => Object.hasOwn(object.shape, key))
      .flatMap((object) => Object.keys(object.shape));
    const rivals = Object.keys(valueAt(document.value, path) ?? {}).filter(
      (other) => allowed.includes(other) && !partners.includes(other),
    );
    return `cannot be combined with ${rivals.length > 0 ? quote(rivals) : 'the keys beside it'}`;
  }
  const meant = suggestKey(key, allowed);
  if (meant !== undefined) return `is not a known key; did you mean "${meant}"?`;
  const elsewhere = wordMisplacedKey(document, path, key);
  if (elsewhere !== undefined) return elsewhere;
  return `is not a known key; known here: ${allowed.join(', ') || 'none'}`;
};

/** A key that belongs into a container but stands beside `containers`, or the other way round. */
const wordMisplacedKey = (document: Document, path: Path, key: string): string | undefined => {
  const keysAt = (place: Path) =>
    objectsAt(document.schema, place).flatMap((object) => Object.keys(object.shape));
  if (path.length === 0) {
    const meant = suggestKey(key, keysAt(['containers', 'any']));
    return meant && `belongs into a container: "containers": { "main": { "${meant}": … } }`;
  }
  const meant = path.length === 2 ? suggestKey(key, keysAt([])) : undefined;
  return meant && `belongs beside "containers", as "${meant}"`;
};

const isRootMismatch = (issue: Issue): boolean =>
  issue.path.length === 0 && (issue.code === 'invalid_type' || issue.code === 'invalid_value');

/** How far the value is from a branch of a union: type of the value first, then keys, then their values. */
const distance = (issues: readonly Issue[]): number => {
  let sum = 0;
  for (const issue of issues) {
    if (isRootMismatch(issue)) sum += 1_000;
    else if (issue.code === 'unrecognized_keys') sum += 10 * issue.keys.length;
    else if (issue.message === MISSING) sum += 10;
    else sum += 1;
  }
  return sum;
};

const wordUnion = (
  document: Document,
  path: Path,
  issue: z.core.$ZodIssueInvalidUnion,
): readonly Problem[] => {
  const branches = issue.errors
    .map((issues) => ({ issues, distance: distance(issues) }))
    .sort((left, right) => left.distance - right.distance);
  const best = branches[0];
  if (best === undefined || best.distance >= 1_000) {
    const value = valueAt(document.value, path);
    const expected = expectedAt(path) ?? 'of another type';
    const message =
      value === undefined
        ? `${MISSING}; expected ${expected}`
        : `must be ${expected}, not ${describe(value)}`;
    return [{ path: toPointer(path), message }];
  }
  const tied = branches.filter((branch) => branch.distance === best.distance);
  const missing = tied.flatMap((branch) =>
    branch.issues
      .filter((one) => one.message === MISSING && one.path.length === 1)
      .map((one) => String(one.path[0])),
  );
  if (tied.length > 1 && missing.length >= tied.length) {
    // Nothing tells the branches apart: name what would, and what else stands in the way.
    const rest = best.issues.filter((one) => one.message !== MISSING);
    const unknown = wordIssues(document, path, rest);
    const mistyped = unknown.some((problem) => problem.message.includes('did you mean'));
    const choice = {
      path: toPointer(path),
      message: `must have one of the keys ${quote([...new Set(missing)])}`,
    };
    return mistyped ? unknown : [choice, ...unknown];
  }
  return wordIssues(document, path, best.issues);
};

const wordIssues = (document: Document, base: Path, issues: readonly Issue[]): readonly Problem[] =>
  issues.flatMap((issue): readonly Problem[] => {
    const path = [...base, ...issue.path];
    switch (issue.code) {
      case 'unrecognized_keys':
        return issue.keys.map((key) => ({
          path: toPointer([...path, key]),
          message: wordUnknownKey(document, path, key),
        }));
      case 'invalid_key':
        return issue.issues.map((one) => ({
          path: toPointer(path),
          message: `has a key that ${one.message}`,
        }));
      case 'invalid_union':
        return wordUnion(document, path, issue);
      case 'invalid_type':
      case 'invalid_value':
      case 'invalid_format':
      case 'invalid_element':
      case 'too_small':
      case 'too_big':
      case 'not_multiple_of':
      case 'custom': {
        const expected = issue.message === MISSING ? expectedAt(path) : undefined;
        const message = expected === undefined ? issue.message : `${MISSING}; expected ${expected}`;
        return [{ path: toPointer(path), message }];
      }
    }
  });

/**
 * @param schema the schema that refused the value
 * @param value what it refused
 * @param error what it said
 * @returns a problem for each issue, in the order of the document
 */
export const wordProblems = (schema: z.ZodType, value: unknown, error: z.ZodError): readonly Problem[] =>
  wordIssues({ schema, value }, [], error.issues);
