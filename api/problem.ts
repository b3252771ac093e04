/**
 * Errors to answers: problem+json of RFC 9457, from the error table.
 *
 * Invariants: every error answer of the API is made here; what people can mend is told whole; a defect is told only
 * by an id, under which the log has the rest.
 */

import { randomUUID } from 'node:crypto';

import { ContainerOsError, ERROR_TABLE, type ErrorCode } from '../domain/errors';
import type { OperationView, ProblemBody } from '../openapi/schemas';

export const PROBLEM_JSON = 'application/problem+json';

/** Ends what does not end by itself: some problems are told as a question. */
export const sentence = (text: string): string => (/[.?!]$/.test(text) ? text : `${text}.`);

export interface ProblemExtras {
  readonly operation?: OperationView;
  readonly allowed?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
}

/** An error whose answer holds more than its words. */
export class ProblemError extends ContainerOsError {
  constructor(
    code: ErrorCode,
    message: string,
    readonly extras: ProblemExtras,
  ) {
    super(code, message);
  }
}

export interface ProblemAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ProblemBody;
  /** Set when the error is a defect: to be logged together with this id. */
  readonly errorId?: string;
}

/** Tells the errors of Express's own parts (a path that cannot be decoded) from defects. */
const isClientError = (error: unknown): error is Error =>
  error instanceof Error &&
  'status' in error &&
  typeof error.status === 'number' &&
  error.status >= 400 &&
  error.status < 500;

const describe = (
  code: ErrorCode,
  detail: string,
  requestId: string,
): ProblemBody & { readonly code: ErrorCode } => {
  const { status, title, retryable } = ERROR_TABLE[code];
  return { type: `urn:containeros:error:${code}`, title, status, detail, code, retryable, requestId };
};

/** Turns whatever was thrown into an answer. */
export const toProblem = (error: unknown, requestId: string): ProblemAnswer => {
  if (error instanceof ContainerOsError && error.code !== 'internal') {
    const extras: ProblemExtras = error instanceof ProblemError ? error.extras : {};
    const { status, retryable } = ERROR_TABLE[error.code];
    return {
      status,
      headers: {
        ...(error.code === 'unauthenticated'
          ? { 'www-authenticate': 'Basic realm="ContainerOS", charset="UTF-8"' }
          : {}),
        ...(extras.allowed === undefined ? {} : { allow: extras.allowed.join(', ') }),
        ...(status === 503 && retryable ? { 'retry-after': '1' } : {}),
        ...extras.headers,
      },
      body: {
        ...describe(error.code, error.message, requestId),
        ...(error.problems.length === 0
          ? {}
          : { problems: error.problems.map((problem) => ({ ...problem })) }),
        ...(extras.allowed === undefined ? {} : { allowed: [...extras.allowed] }),
        ...(extras.operation === undefined ? {} : { operation: extras.operation }),
      },
    };
  }
  if (isClientError(error)) {
    return { status: 400, headers: {}, body: describe('invalid', sentence(error.message), requestId) };
  }
  // A failed operation may carry `internal` as its own code, and then has something to show.
  const extras: ProblemExtras = error instanceof ProblemError ? error.extras : {};
  const errorId = randomUUID();
  return {
    status: ERROR_TABLE.internal.status,
    headers: {},
    errorId,
    body: {
      ...describe(
        'internal',
        extras.operation === undefined
          ? `Something went wrong that should not have. The log of ContainerOS tells more under ${errorId}.`
          : (error as Error).message,
        requestId,
      ),
      errorId,
      ...(extras.operation === undefined ? {} : { operation: extras.operation }),
    },
  };
};
