/**
 * The only way into a normalised specification.
 *
 * Invariants: never throws and never changes its input, whatever it is given; either a specification with every
 * default filled in, or every problem at once (the first hundred), each with its place.
 */

import type { ErrorCode, Problem } from '../errors';
import { jsonBytes } from '../json-bytes';
import { normaliseRelease } from './normalise';
import type { ReservedPort } from './public-ports';
import { checkRules, type RuleProblem } from './rules';
import { sanitise } from './sanitise';
import { microserviceSpecSchema, type MicroserviceSpec } from './schema';
import { wellFormedPartsOf } from './well-formed';
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
  const broken = checkRules(wellFormedPartsOf(value), policy);
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
