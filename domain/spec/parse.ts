/**
 * The only way into a normalised specification.
 *
 * Invariants: never throws and never changes its input, whatever it is given; either a specification with every
 * default filled in, or every problem at once (the first hundred), each with its place.
 */

import type { ErrorCode, Problem } from '../errors';
import { jsonBytes } from '../json-bytes';
import { normaliseRelease } from './normalise';
import { fromPointer } from './pointer';
import type { ReservedPort } from './public-ports';
import { checkRules, lenientSpecSchema, type RuleProblem } from './rules';
import { sanitise } from './sanitise';
import { microserviceSpecSchema, type MicroserviceSpec } from './schema';
import { wordIssue, wordProblems } from './wording';

export interface ParsePolicy {
  /** Whether containers may have the host: privileged, host paths, the host's network, more capabilities. */
  readonly allowHostAccess: boolean;
  /** Public ports that nobody may ask for, because ContainerOS itself has them. */
  readonly reservedPorts?: readonly ReservedPort[];
}

export interface ParsedSpec extends MicroserviceSpec {
  /** Whether the document names a scale; if not, `scale` is 1 and an existing microservice keeps the one it has. */
  readonly scaleGiven: boolean;
}

export type ParseOutcome =
  | { readonly kind: 'ok'; readonly spec: ParsedSpec }
  | {
      readonly kind: 'invalid';
      /** `forbidden` when the document is fine and this cluster just does not allow what it asks for. */
      readonly code: Extract<ErrorCode, 'invalid' | 'forbidden'>;
      readonly problems: readonly Problem[];
    };

const DEFAULT_SCALE = 1;
/** More than anybody reads, and few enough for an answer. */
const MAX_PROBLEMS = 100;

/**
 * Of the release as JSON in UTF-8. It travels with every activity, in workflow history (2 MB a payload), in Consul KV
 * (512 KB a value by default) and in a label of each container.
 */
export const MAX_RELEASE_BYTES = 131_072;

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** How deep into the document a malformed part is cut out: a key of a container, or else a key of the whole. */
const partOf = (path: string): readonly string[] => {
  const keys = fromPointer(path);
  return keys.slice(0, keys[0] === 'containers' ? 3 : 1);
};

/** What cannot be judged once another key of the container is cut out. */
const DEPENDENTS: Readonly<Record<string, string>> = {
  ports: 'check',
  httpPorts: 'check',
  publicPorts: 'check',
  cpus: 'reserve',
  memLimit: 'reserve',
};

/** The document without the parts that have problems, for the rules to look at. */
const withoutMalformed = (value: unknown, problems: readonly Problem[]): unknown => {
  if (!isObject(value)) return {};
  const parts = problems.map(({ path }) => partOf(path));
  const dependents = parts.flatMap(([, container, key]) => {
    const dependent = key !== undefined && Object.hasOwn(DEPENDENTS, key) ? DEPENDENTS[key] : undefined;
    return container === undefined || dependent === undefined ? [] : [['containers', container, dependent]];
  });
  const malformed = new Set([...parts, ...dependents].map((part) => JSON.stringify(part)));
  const keep = (value: unknown, path: readonly string[], levels: number): unknown =>
    !isObject(value) || levels === 0
      ? value
      : Object.fromEntries(
          Object.entries(value)
            .filter(([key]) => !malformed.has(JSON.stringify([...path, key])))
            .map(([key, item]) => [key, keep(item, [...path, key], key === 'containers' ? 2 : levels - 1)]),
        );
  return keep(value, [], 1);
};

const invalid = (problems: readonly RuleProblem[]): ParseOutcome => {
  const code = problems.every((problem) => problem.forbidden === true) ? 'forbidden' : 'invalid';
  const kept = problems.slice(0, MAX_PROBLEMS).map(({ path, message }) => ({ path, message }));
  const left = problems.length - kept.length;
  if (left > 0) kept.push({ path: '', message: `has ${left} more problems` });
  return { kind: 'invalid', code, problems: kept };
};

/**
 * @param input the document as JSON.parse gave it
 * @param policy what this cluster allows
 * @returns the normalised specification, or all that is wrong with the document
 */
export const parseMicroserviceSpec = (input: unknown, policy: ParsePolicy): ParseOutcome => {
  const { value, problems: unsafe, truncated } = sanitise(input);
  if (truncated) return invalid(unsafe);

  const parsed = microserviceSpecSchema.safeParse(value, { error: wordIssue });
  const malformed = parsed.success ? [] : wordProblems(microserviceSpecSchema, value, parsed.error);
  const wellFormed = lenientSpecSchema.safeParse(withoutMalformed(value, malformed));
  const broken = wellFormed.success ? checkRules(wellFormed.data, policy) : [];
  const problems = [...unsafe, ...malformed, ...broken];
  if (!parsed.success || problems.length > 0) return invalid(problems);

  const { name, scale } = parsed.data;
  const release = normaliseRelease(parsed.data);
  const bytes = jsonBytes(release);
  if (bytes > MAX_RELEASE_BYTES) {
    const message = `is too large: with its defaults it has ${bytes} bytes, of which ${MAX_RELEASE_BYTES} are allowed; large contents belong in the image or in a volume`;
    return invalid([{ path: '', message }]);
  }
  return {
    kind: 'ok',
    spec: {
      name,
      scale: (scale ?? DEFAULT_SCALE) + 0,
      scaleGiven: scale !== undefined,
      release,
    },
  };
};
