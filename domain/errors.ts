/**
 * The error table: every code that ContainerOS answers with, everywhere.
 *
 * Invariants: the API takes its HTTP status from here, an activity failure's `type` is one of these codes, the
 * CLI exits with the code given here, and docs/errors.md lists exactly these rows (a test compares both ways).
 */

export interface ErrorRow {
  /** HTTP status of the problem+json answer. */
  readonly status: number;
  /** One line for people; the `title` of the problem. */
  readonly title: string;
  /** Whether the same request may succeed later without being changed. */
  readonly retryable: boolean;
  /** Exit code of a command that fails with this. */
  readonly exitCode: number;
}

export const ERROR_TABLE = {
  invalid: { status: 400, title: 'The request is not valid', retryable: false, exitCode: 2 },
  unauthenticated: { status: 401, title: 'The password is missing or wrong', retryable: false, exitCode: 3 },
  forbidden: { status: 403, title: 'This is not allowed', retryable: false, exitCode: 4 },
  not_found: { status: 404, title: 'There is no such thing', retryable: false, exitCode: 5 },
  method_not_allowed: {
    status: 405,
    title: 'The path does not take this method',
    retryable: false,
    exitCode: 2,
  },
  conflict: { status: 409, title: 'The request conflicts with what is there', retryable: false, exitCode: 6 },
  precondition_failed: {
    status: 412,
    title: 'The microservice has changed since it was read',
    retryable: false,
    exitCode: 6,
  },
  too_large: { status: 413, title: 'The request is too large', retryable: false, exitCode: 2 },
  unsupported_media_type: {
    status: 415,
    title: 'The body has to be JSON',
    retryable: false,
    exitCode: 2,
  },
  rate_limited: { status: 429, title: 'Too many attempts', retryable: true, exitCode: 8 },
  internal: { status: 500, title: 'ContainerOS has a defect', retryable: false, exitCode: 1 },
  unavailable: {
    status: 503,
    title: 'A part of ContainerOS does not answer now',
    retryable: true,
    exitCode: 8,
  },
  no_capacity: { status: 507, title: 'No node has room', retryable: true, exitCode: 7 },
  image_not_found: { status: 422, title: 'The image does not exist', retryable: false, exitCode: 9 },
  pull_failed: { status: 502, title: 'The image could not be pulled', retryable: true, exitCode: 9 },
  start_failed: { status: 422, title: 'A container could not be started', retryable: false, exitCode: 9 },
  command_not_executable: {
    status: 422,
    title: 'The command cannot be run in the container',
    retryable: false,
    exitCode: 126,
  },
  command_not_found: {
    status: 422,
    title: 'The command is not in the container',
    retryable: false,
    exitCode: 127,
  },
  unhealthy: { status: 422, title: 'The release did not become healthy', retryable: false, exitCode: 9 },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

export const isErrorCode = (text: unknown): text is ErrorCode =>
  typeof text === 'string' && Object.hasOwn(ERROR_TABLE, text);

/** One thing wrong with a request, with the place of it. */
export interface Problem {
  /** Path in the document, as a JSON pointer (RFC 6901); '' is the whole document. */
  readonly path: string;
  readonly message: string;
}

/**
 * A mistake or a state that people can do something about. Anything else that is thrown is a defect.
 *
 * @param code row of the error table
 * @param message what happened, why, and what to do next
 * @param problems every single problem, when there are several places to mend
 */
export class ContainerOsError extends Error {
  override readonly name = 'ContainerOsError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly problems: readonly Problem[] = [],
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
  }
}
