/** The edge of activities: what people or time can mend becomes a failure whose `type` is its code; a defect stays raw. */

import { ApplicationFailure } from '@temporalio/activity';

import { ContainerOsError, ERROR_TABLE } from '../domain/errors';

/** @returns what an activity throws for this error */
export const toFailure = (error: unknown): unknown => {
  if (!(error instanceof ContainerOsError)) return error;
  return ApplicationFailure.create({
    type: error.code,
    message: error.message,
    nonRetryable: !ERROR_TABLE[error.code].retryable,
    ...(error.cause instanceof Error ? { cause: error.cause } : {}),
  });
};

/** The same activities, each of which throws what `toFailure` makes of its errors. */
export const throwingFailures = <T extends object>(activities: T): T =>
  Object.fromEntries(
    Object.entries(activities).map(([name, run]) => [
      name,
      async (...input: readonly unknown[]): Promise<unknown> => {
        try {
          return await (run as (...input: readonly unknown[]) => Promise<unknown>)(...input);
        } catch (error) {
          throw toFailure(error);
        }
      },
    ]),
  ) as T;
