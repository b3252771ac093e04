/** Reads problem documents (RFC 7807) of authorities, which may say anything. */

import {
  IssueError,
  failureOf,
  type AcmeProblem,
  type ProblemContext,
} from '../../domain/certificates/acme-problem';

/** Texts of others are shown to people: they are kept short, and in one line. */
const MAX_DETAIL = 500;

const textOf = (value: unknown): string | undefined =>
  // eslint-disable-next-line no-control-regex
  typeof value === 'string' ? value.replace(/[\u0000-\u001f\u007f]+/g, ' ').slice(0, MAX_DETAIL) : undefined;

/** @returns undefined when it is none */
export const readProblem = (value: unknown): AcmeProblem | undefined => {
  if (typeof value !== 'object' || value === null) return undefined;
  const { type, detail, status, subproblems } = value as Readonly<Record<string, unknown>>;
  if (typeof type !== 'string' && typeof detail !== 'string') return undefined;
  const parts = Array.isArray(subproblems) ? subproblems.map(readProblem) : [];
  return {
    type: textOf(type) ?? 'about:blank',
    detail: textOf(detail) ?? '',
    ...(typeof status === 'number' ? { status } : {}),
    ...(parts.length === 0 ? {} : { subproblems: parts.filter((one) => one !== undefined) }),
  };
};

/** An answer that is a problem, before it is known what was asked. */
export class ProblemAnswer extends Error {
  override readonly name = 'ProblemAnswer';

  constructor(
    readonly problem: AcmeProblem,
    readonly retryAtMs: number | undefined,
  ) {
    super(problem.detail);
  }

  toIssueError(context: Omit<ProblemContext, 'retryAtMs'>): IssueError {
    return new IssueError(
      failureOf(this.problem, {
        ...context,
        ...(this.retryAtMs === undefined ? {} : { retryAtMs: this.retryAtMs }),
      }),
      { cause: this },
    );
  }
}
